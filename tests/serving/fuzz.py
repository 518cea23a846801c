"""Requests of many shapes to every input of an export, in a process that must outlive them.

`python -m tests.serving.fuzz EXPORT` prints a line a request: its signature, input and shape, and
the shapes of the answer or the error.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

SHAPES = [
    *((), (0,), (1,), (2,), (3,)),
    *((0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (2, 1), (1, 3), (3, 2)),
    *((0, 8), (1, 7), (1, 8), (2, 8), (1, 9)),
    *((0, 0, 0), (1, 1, 1), (2, 0, 1), (2, 1, 3), (1, 1, 8)),
    *((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2)),
]


def in_session(path):
    """Signatures by name, as functions of arrays, in the session that TensorFlow Serving has."""
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        saved = tf.compat.v1.saved_model.load(session, ["serve"], path)
        # Python compares what it feeds with the placeholder, which the session itself does not: of
        # a tensor that is in the session already Python sees no shape.
        sources = {
            dtype: tf.compat.v1.placeholder(dtype)
            for dtype in (tf.int32, tf.int64, tf.float32, tf.string)
        }
        handles = {x: tf.compat.v1.get_session_handle(source) for x, source in sources.items()}

    def call(signature, arrays):
        feeds = {}
        for name, array in arrays.items():
            info = signature.inputs[name]
            dtype = tf.as_dtype(info.dtype)
            handle = session.run(handles[dtype], {sources[dtype]: array})
            feeds[session.graph.get_tensor_by_name(info.name)] = handle
        return session.run({name: x.name for name, x in signature.outputs.items()}, feeds)

    return {
        name: lambda arrays, signature=signature: call(signature, arrays)
        for name, signature in saved.signature_def.items()
    }


def in_python(model):
    """Likewise, as whoever has loaded it in Python asks them."""

    def call(function, arrays):
        found = function(**{name: tf.constant(array) for name, array in arrays.items()})
        return {name: tensor.numpy() for name, tensor in found.items()}

    return {
        name: lambda arrays, function=function: call(function, arrays)
        for name, function in model.signatures.items()
    }


def value(dtype, shape):
    """An array of a shape, whatever it holds."""
    return (
        np.full(shape, "a", object) if dtype == tf.string else np.ones(shape, dtype.as_numpy_dtype)
    )


def main(path):
    description = json.loads(Path(path, "assets.extra", "index.json").read_text())
    if description["search"] == "scann":
        import scann  # noqa: F401  registers the op
    model = tf.saved_model.load(path)
    for functions in (in_session(path), in_python(model)):
        for signature, function in model.signatures.items():
            specs = function.structured_input_signature[1]
            request = {
                name: value(spec.dtype, [1 if size is None else size for size in spec.shape])
                for name, spec in specs.items()
            }
            for name, spec in specs.items():
                for shape in SHAPES:
                    made = request | {name: value(spec.dtype, shape)}
                    try:
                        found = functions[signature](made)
                        result = {key: array.shape for key, array in found.items()}
                    except tf.errors.OpError as error:
                        result = type(error).__name__
                    print(json.dumps([signature, name, shape, result]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
