"""What a config means: its options, the data and the model, and the folder of a run."""
