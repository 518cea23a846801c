"""An exported model behind HTTP, with TensorFlow and KServe: what `serve` starts."""
