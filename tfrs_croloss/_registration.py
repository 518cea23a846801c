"""Registration of the losses and their parts, so that saved models find them again."""

import sys
import types

import keras

PACKAGE = "tfrs_croloss"


def register(cls):
    """Registers a class in Keras 3, and in tf_keras where that is loaded.

    Under `TF_USE_LEGACY_KERAS=1` it is: Keras 3 itself loads it with its TensorFlow backend.
    """
    keras.saving.register_keras_serializable(package=PACKAGE)(cls)
    tf_keras = sys.modules.get("tf_keras")
    if tf_keras is not None:
        tf_keras.saving.register_keras_serializable(package=PACKAGE)(cls)
    return cls


def resolve(part, base, by_name):
    """An instance of `base` from its name, class or config; all else as it came."""
    if isinstance(part, dict):
        part = keras.saving.deserialize_keras_object(part)
    elif isinstance(part, str):
        part = by_name.get(part, part)
    return part() if isinstance(part, type) and issubclass(part, base) else part


def serialize(part):
    """The config of a kernel, a rank weight, or a function of the user's own.

    Raises:
        ValueError: If a saved model could not find it again.
    """
    named = part if isinstance(part, types.FunctionType) else type(part)
    name = keras.saving.get_registered_name(named)
    is_known = (
        keras.saving.get_registered_object(name) is named
        or named.__module__.partition(".")[0] == "keras"
    )
    if not is_known:
        raise ValueError(
            f"{part!r} cannot be saved: nothing would find it again. Decorate the "
            f"{'function' if part is named else 'class'} with "
            '@keras.saving.register_keras_serializable(package="…")'
        )
    return keras.saving.serialize_keras_object(part)
