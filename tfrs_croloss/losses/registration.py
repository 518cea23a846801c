"""Registration of the losses and their parts, so that saved models find them again."""

import sys

import keras

PACKAGE = "tfrs_croloss"


def register(cls):
    """Registers a class in Keras 3, and in tf_keras where that is loaded.

    Under `TF_USE_LEGACY_KERAS=1` it is: Keras 3 itself loads it with its TensorFlow backend.
    """
    keras.saving.register_keras_serializable(package=PACKAGE)(cls)
    if "tf_keras" in sys.modules:
        sys.modules["tf_keras"].saving.register_keras_serializable(package=PACKAGE)(cls)
    return cls


def serialize_function(function):
    """The config of a function of the user's own.

    Raises:
        ValueError: If a saved model could not find it again.
    """
    name = keras.saving.get_registered_name(function)
    is_known = (
        keras.saving.get_registered_object(name) is function
        or (getattr(function, "__module__", None) or "").partition(".")[0] == "keras"
    )
    if not is_known:
        raise ValueError(
            f"the function {function!r} cannot be saved: nothing would find it again. Decorate it "
            'with @keras.saving.register_keras_serializable(package="…")'
        )
    return keras.saving.serialize_keras_object(function)
