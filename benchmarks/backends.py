"""Gradients on the Keras backend that is there: compiled, waited for, and weighed."""

import functools

import keras


class TensorFlow:
    """Graphs of TensorFlow, by XLA under mode "xla", and eager calls."""

    modes = ("graph", "xla", "eager")

    def __init__(self, device):
        import tensorflow as tf

        self.tf = tf
        self.gpu = device == "gpu"
        if self.gpu and not tf.config.list_physical_devices("GPU"):
            raise ValueError("`--device gpu` needs a GPU that TensorFlow sees. Received: none")
        self.name = f"TensorFlow {tf.__version__}"

    def gradients_of(self, function, mode="graph"):
        """A function of two arrays to the gradients of `function` in them."""

        def gradients(*inputs):
            with self.tf.GradientTape() as tape:
                tape.watch(inputs)
                value = function(*inputs)
            return tape.gradient(value, inputs)

        return self.compiled(gradients, mode)

    def compiled(self, function, mode="graph"):
        if mode == "eager":
            return function
        return self.tf.function(function, jit_compile=mode == "xla")

    def wait_for(self, tensors):
        for tensor in self.tf.nest.flatten(tensors):
            self.tf.convert_to_tensor(tensor)[0, 0].numpy()

    def device_name(self):
        (gpu, *_) = self.tf.config.list_physical_devices("GPU")
        return self.tf.config.experimental.get_device_details(gpu)["device_name"]

    def peak_bytes(self):
        """The most memory a GPU held so far, or None."""
        return self.tf.config.experimental.get_memory_info("GPU:0")["peak"] if self.gpu else None


class Jax:
    """`jax.jit`."""

    modes = ("xla",)

    def __init__(self, device):
        import jax

        self.jax = jax
        self.gpu = device == "gpu"
        if self.gpu and jax.default_backend() != "gpu":
            raise ValueError(
                f"`--device gpu` needs a GPU that JAX sees. Received: {jax.default_backend()}"
            )
        self.name = f"JAX {jax.__version__}"

    def gradients_of(self, function, mode="xla"):
        return self.compiled(self.jax.grad(function, argnums=(0, 1)), mode)

    def compiled(self, function, mode="xla"):
        return self.jax.jit(function)

    def wait_for(self, tensors):
        self.jax.block_until_ready(tensors)

    def device_name(self):
        return self.jax.devices()[0].device_kind

    def peak_bytes(self):
        return self.jax.devices()[0].memory_stats()["peak_bytes_in_use"] if self.gpu else None


@functools.cache
def backend(device):
    """The backend that Keras runs on."""
    return {"tensorflow": TensorFlow, "jax": Jax}[keras.backend.backend()](device)
