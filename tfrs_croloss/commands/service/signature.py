"""A signature of a SavedModel, from arrays to arrays."""

import tensorflow as tf


class Signature:
    """Calls a signature by the names of its inputs, with its defaults for what is left out.

    Args:
        model: The SavedModel, which must live as long as its functions.
        function: The signature.
        defaults: `TensorProto` of each input that may be left out, by name.

    Attributes:
        inputs: A `tf.TensorSpec` of each input, by name.
        outputs: Likewise of each output.
        required: Names of the inputs that have no default.
        defaults: A tensor of each input that has one, by name.
    """

    def __init__(self, model, function, defaults):
        self._model = model
        self._function = function
        self.inputs = function.structured_input_signature[1]
        self.outputs = function.structured_outputs
        self.required = [name for name in self.inputs if name not in defaults]
        self.defaults = {
            name: tf.constant(tf.make_ndarray(value)) for name, value in defaults.items()
        }

    def __call__(self, inputs):
        """Arrays of the outputs by name, for arrays of the inputs by name."""
        given = {
            name: tf.constant(value, self.inputs[name].dtype) for name, value in inputs.items()
        }
        found = self._function(**self.defaults | given)
        return {name: tensor.numpy() for name, tensor in found.items()}
