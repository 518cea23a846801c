"""Training a run: the loop, checkpoints, callbacks, strategy, and workers on this machine."""
