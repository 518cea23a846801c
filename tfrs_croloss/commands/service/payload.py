"""TensorFlow Serving's REST format: from JSON to arrays, and back.

Columns, `{"inputs": {"user_ids": [1, 2], "k": 10}}`, are answered with `{"outputs": …}`, and rows,
`{"instances": [{"user_ids": 1}, {"user_ids": 2}]}`, with `{"predictions": […]}`. Where there is one
input to give, its values alone will do. Three things differ:

- Inputs with a default may be left out.
- Rows of ids may differ in length; they are padded with "" or -1.
- A score of -inf, where fewer than k items are left, is `null`: TensorFlow Serving writes
  `-Infinity`, which is no JSON.
"""

import reprlib

import numpy as np
import orjson
import tensorflow as tf
from kserve.errors import InvalidInput

# What a cell of an input may be, the words for it, and what a short row is padded with.
KINDS = {
    tf.int32: ({int}, "integers", -1),
    tf.int64: ({int}, "integers", -1),
    tf.string: ({str}, "strings", ""),
    tf.float32: ({int, float}, "numbers", None),
}
JSON_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    type(None): "null",
}
KEYS = {"inputs", "instances", "signature_name"}
# A cell is a number or a string of an input, padding and all, or an item of an answer. Without a
# bound, a small request could ask for more memory than there is.
MAX_CELLS = 1_000_000
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100


def answer(body, signatures, max_rows):
    """The JSON that answers a request.

    Args:
        body: The request, as bytes.
        signatures: The `Signature`s by name.
        max_rows: The most users, or histories or embeddings, that it may have.

    Raises:
        InvalidInput: If the request makes no sense.
    """
    request = _read(body)
    signature = signature_of(request, signatures)
    columns = "inputs" in request
    given = _columns(request["inputs"], signature) if columns else _rows(request, signature)
    found = {x: _readable(value) for x, value in computed(given, signature, max_rows).items()}
    if columns:
        content = {"outputs": found if len(found) > 1 else next(iter(found.values()))}
    elif len(found) > 1:
        rows = zip(*found.values(), strict=True)
        content = {"predictions": [dict(zip(found, row, strict=True)) for row in rows]}
    else:
        content = {"predictions": next(iter(found.values()))}
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def signature_of(request, signatures):
    """The signature that a dict names in `signature_name`."""
    name = request.get("signature_name", "serving_default")
    if not isinstance(name, str) or name not in signatures:
        raise InvalidInput(
            f"`signature_name` must be one of {', '.join(sorted(signatures))}. Received: "
            f"{shown(name)}"
        )
    return signatures[name]


def shown(value):
    """The start of a value's `repr`, which alone would recurse as deep as a request is nested."""
    return f"{_REPR.repr(value):.100}"


def computed(given, signature, max_rows):
    """The arrays of the answer by name.

    Args:
        given: The inputs as JSON has them, by name.
        signature: A `Signature`.
        max_rows: As `answer` has it.
    """
    _check_names(given, signature)
    inputs = {x: _array(x, given[x], signature.inputs[x], max_rows) for x in given}
    _check_size(inputs, signature)
    try:
        return signature(inputs)
    except tf.errors.InvalidArgumentError as error:
        # The reason stands between where in the graph it was and which node that is.
        reason = error.message.partition("\n\t [[")[0].rpartition("\n")[2]
        raise InvalidInput(reason) from None


def _read(body):
    try:
        body = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"expected JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidInput(f"expected a JSON object. Received: {_shown(body)}")
    unknown = body.keys() - KEYS
    if unknown or ("inputs" in body) == ("instances" in body):
        raise InvalidInput(
            "expected `inputs` (columns) or `instances` (rows), and maybe `signature_name`. "
            f"Received: {_listed(body)}"
        )
    return body


def _columns(columns, signature):
    return columns if isinstance(columns, dict) else {_only(signature): columns}


def _rows(request, signature):
    """The rows turned into columns."""
    rows = request["instances"]
    if not isinstance(rows, list):
        raise InvalidInput(f"`instances` must be a list. Received: {_shown(rows)}")
    if not rows:
        return {name: [] for name in signature.required}
    if not any(isinstance(row, dict) for row in rows):
        return {_only(signature): rows}
    names = rows[0].keys() if isinstance(rows[0], dict) else None
    if any(not isinstance(row, dict) or row.keys() != names for row in rows):
        raise InvalidInput("the `instances` must have the same inputs, all of them")
    scalars = [name for name in names if _rank(signature, name) == 0]
    if scalars:
        raise InvalidInput(
            f"{_listed(scalars)} is the same for all rows: send columns, as in "
            '{"inputs": {"user_ids": [1, 2], "k": 10}}'
        )
    return {name: [row[name] for row in rows] for name in names}


def _rank(signature, name):
    return signature.inputs[name].shape.rank if name in signature.inputs else None


def _only(signature):
    """The name of the one input that must be given."""
    if len(signature.required) > 1:
        raise InvalidInput(f"name the inputs: {_listed(signature.required)}")
    return signature.required[0]


def _check_names(given, signature):
    unknown = given.keys() - signature.inputs.keys()
    missing = [name for name in signature.required if name not in given]
    if unknown or missing:
        raise InvalidInput(
            f"expected the inputs {_listed(signature.required)}, and maybe "
            f"{_listed(signature.defaults)}. Received: {_listed(given)}"
        )


def _array(name, value, spec, max_rows):
    """A column as an array, with the checks that NumPy would rather mend than make."""
    types, what, padding = KINDS[spec.dtype]
    rank = spec.shape.rank
    rows = value if rank == 2 else [[value]] if rank == 0 else [value]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        shape = "a list of" if rank == 1 else "a list of lists of"
        raise InvalidInput(f"`{name}` must be {shape} {what}. Received: {_shown(value)}")
    # Not isinstance: a boolean is no integer here.
    wrong = {type(cell) for row in rows for cell in row} - types
    if wrong == {float} and any(abs(x) >= 2**63 for row in rows for x in row):
        # What is read of an integer that is too large.
        raise InvalidInput(f"`{name}` must fit {spec.dtype.name}. Received a larger one")
    if wrong:
        names = " and ".join(sorted(JSON_NAMES[kind] for kind in wrong))
        raise InvalidInput(f"`{name}` must hold {what} alone. Received: {names}")
    width = max(map(len, rows), default=0)
    if len(rows if rank == 2 else rows[0]) > max_rows:
        raise InvalidInput(f"`{name}` has more than {max_rows} rows: send them in parts")
    if len(rows) * width > MAX_CELLS:
        raise InvalidInput(f"`{name}` has more than {MAX_CELLS} cells: send its rows in parts")
    if rank == 2 and spec.shape[1] is not None:
        width = spec.shape[1]
        if any(len(row) != width for row in rows):
            raise InvalidInput(f"`{name}` must have rows of length {width}")
    elif padding is not None:
        rows = [row + [padding] * (width - len(row)) for row in rows]
    try:
        dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
        array = np.array(rows, dtype).reshape(len(rows), width)
    except OverflowError:
        raise InvalidInput(f"`{name}` must fit {spec.dtype.name}. Received a larger one") from None
    return array if rank == 2 else array[0] if rank == 1 else array[0, 0]


def _check_size(inputs, signature):
    rows = max(len(inputs[name]) for name in signature.required)
    k = int((signature.defaults | inputs).get("k", 0))
    if k < 0:
        raise InvalidInput(f"`k` must be at least 0. Received: {k}")
    if rows * k > MAX_CELLS:
        raise InvalidInput(
            f"an answer may hold {MAX_CELLS} items. Received: {rows} rows with `k` {k}"
        )
    for name, array in inputs.items():
        # A single row is for all: the graph repeats it for each.
        if array.ndim == 2 and rows * array.shape[1] > MAX_CELLS:
            raise InvalidInput(
                f"`{name}` has more than {MAX_CELLS} cells for {rows} rows: send them in parts"
            )


def _readable(array):
    """An array as orjson takes it: it knows no bytes, and writes NaN and inf as null."""
    if array.dtype != object:
        return array
    return [[x.decode() for x in row] if array.ndim > 1 else row.decode() for row in array]


def _shown(value):
    return JSON_NAMES[type(value)]


def _listed(names):
    return ", ".join(f"`{name}`" for name in sorted(names)) or "nothing"
