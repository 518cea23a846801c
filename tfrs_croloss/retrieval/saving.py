"""What `model.save` writes of the parts of a model, or why it can't."""

import inspect
from typing import Any

from tfrs_croloss._registration import serialize
from tfrs_croloss.retrieval.negatives import Negatives
from tfrs_croloss.retrieval.requirements import tf, tf_keras
from tfrs_croloss.retrieval.task import Retrieval

# They hand the config to the constructor as it is.
CLASSES: tuple[Any, ...] = (tf_keras.Model, tf_keras.layers.Layer, Retrieval)
HANDING_ON = {cls.from_config.__func__ for cls in CLASSES}
FIX = (
    "Give the class a `get_config` with the arguments of its constructor; or write the weights "
    "alone, `model.save_weights(path)`, and load them into a model made anew; or, to serve it, "
    "`tfrs_croloss.serving.export_model(model, ...)`"
)


def config_of(name, part):
    """The config of a tower, a task or negatives.

    Args:
        name: The model's argument.
        part: What was given.

    Raises:
        ValueError: If it has none that it could be made of again, with what to do instead.
    """
    try:
        if part is None or isinstance(part, Negatives):
            return part and serialize(part)
        config = tf_keras.saving.serialize_keras_object(part)
    except (NotImplementedError, TypeError, ValueError) as error:
        # Keras goes on with an example of a class.
        reason = " ".join(str(error).split()).partition(" Please implement ")[0]
        raise ValueError(f"`{name}` cannot be saved: {reason.rstrip('.')}. {FIX}") from error
    if getattr(type(part).from_config, "__func__", None) in HANDING_ON:
        check_constructor(name, type(part), config["config"])
    return config


def check_constructor(name, cls, config):
    """Raises a ValueError unless the config is what the constructor takes.

    Keras writes an empty one where it does not know better, and says so when it is loaded.
    """
    try:
        inspect.signature(cls.__init__).bind(None, **config)
    except TypeError as error:
        raise ValueError(
            f"`{name}` cannot be saved: no {cls.__name__} can be made of its config, {error}. {FIX}"
        ) from None


def features_config(features):
    """Tensors, in a dict or not, as plain values."""
    if features is None:
        return None
    if isinstance(features, dict):
        return {name: features_config(x) for name, x in features.items()}
    features = tf.convert_to_tensor(features)
    value = features.numpy()
    if features.dtype == tf.string:
        value = [x.decode() for x in value.ravel()]
        return {"strings": value, "shape": features.shape.as_list()}
    return {"values": value.tolist(), "dtype": features.dtype.name}


def features_from(config):
    """The reverse of `features_config`."""
    if config is None:
        return None
    if "strings" in config:
        return tf.constant(config["strings"], tf.string, config["shape"])
    if "values" in config:
        return tf.constant(config["values"], config["dtype"])
    return {name: features_from(x) for name, x in config.items()}


def call_spec(tower):
    """What a tower was called with first, as plain values; None where that is not known."""
    spec = tower.save_spec() if isinstance(tower, tf_keras.Model) else None
    if spec is None:
        return None
    (inputs, *_), _ = spec
    if not all(isinstance(x, tf.TensorSpec) for x in tf.nest.flatten(inputs)):
        return None
    return tf_keras.saving.serialize_keras_object(inputs)


def build(tower, spec):
    """Has a tower make its variables: by a call, as it takes strings, too, where Keras takes none.

    Args:
        tower: A Keras model.
        spec: What `call_spec` gave.
    """

    def zeros(spec):
        return tf.zeros([1 if size is None else size for size in spec.shape], spec.dtype)

    tower(tf.nest.map_structure(zeros, tf_keras.saving.deserialize_keras_object(spec)))
