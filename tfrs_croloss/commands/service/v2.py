"""KServe's V2 protocol, the Open Inference Protocol, as its clients and Triton's speak it.

`{"inputs": [{"name": "user_ids", "datatype": "INT64", "shape": [2], "data": [1, 2]}]}` is answered
with `{"outputs": [{"name": "item_ids", "datatype": …, "shape": …, "data": […]}, …]}`. Tensors may
follow the JSON in binary, and do so in the answer where the request wants it.

- A request for another signature than `serving_default` names it in its parameters:
  `{"parameters": {"signature_name": "by_history"}, "inputs": …}`.
- Inputs with a default may be left out, and `k` may have the shape [] or [1].
- A score of -inf is `null` in JSON, and -inf in binary.
"""

import math

import numpy as np
import orjson
from kserve import InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput
from kserve.utils.numpy_codec import from_np_dtype

from tfrs_croloss.commands.service.payload import computed, shown, signature_of


def answer(body, name, version, max_rows, json_length=None):
    """The answer to a request: bytes, and how many of them are JSON, or None for all.

    Args:
        body: The request, as bytes.
        name: Of the model, for the answer.
        version: The `Version` that answers.
        max_rows: The most users, or histories or embeddings, that the request may have.
        json_length: How many bytes of the body are JSON, before its binary tensors; None for all.

    Raises:
        InvalidInput: If the request makes no sense.
    """
    request = _read(body, len(body) if json_length is None else json_length, name)
    signature = signature_of(request.parameters or {}, version.signatures)
    wanted = {output.name for output in request.request_outputs or ()}
    unknown = wanted - signature.outputs.keys()
    if unknown:
        raise InvalidInput(
            f"`outputs` must be of {', '.join(sorted(signature.outputs))}. Received: "
            f"{shown(unknown.pop())}"
        )
    given = {x.name: _nested(x, signature, max_rows) for x in request.inputs}
    if len(given) < len(request.inputs):
        raise InvalidInput("`inputs` must have each input once")
    found = computed(given, signature, max_rows)
    response = InferResponse(
        response_id=request.id,
        model_name=name,
        model_version=str(version.number),
        infer_outputs=[
            InferOutput(x, list(array.shape), datatype(array.dtype), array)
            for x, array in sorted(found.items())
        ],
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )
    content, length = response.to_rest()
    return (orjson.dumps(content), None) if length is None else (content, length)


def datatype(dtype):
    """A dtype of NumPy in the words of the protocol."""
    return from_np_dtype(np.dtype(dtype))


def _read(body, json_length, name):
    try:
        request = InferRequest.from_bytes(body, json_length, name)
        # It looks at these later, where a fault would be the server's.
        outputs = request.request_outputs or []
        for part in (request, *outputs):
            if not isinstance(part.parameters or {}, dict):
                raise TypeError("`parameters` must be an object")
        if not all(isinstance(x.name, str) for x in (*request.inputs, *outputs)):
            raise TypeError("`name` must be a string")
        if not isinstance(request.id, str | None):
            raise TypeError("`id` must be a string")
        return request
    except InvalidInput as error:
        raise InvalidInput(f"expected a request of the V2 protocol: {error}") from None
    # It takes a request apart as it comes: a missing key is a KeyError, and so on.
    except Exception as error:
        raise InvalidInput(
            f"expected a request of the V2 protocol: {type(error).__name__}: {error}"
        ) from None


def _nested(tensor, signature, max_rows):
    """The data of a tensor as lists in lists, as TensorFlow Serving's JSON has it."""
    name, shape = tensor.name, tensor.shape
    if name not in signature.inputs:
        return tensor.data  # which is refused with the names that there are
    spec = signature.inputs[name]
    data = _flat(tensor.data, spec.shape.rank)
    wanted = datatype(spec.dtype.as_numpy_dtype)
    if tensor.datatype != wanted:
        raise InvalidInput(
            f"`{name}` must have the datatype {wanted}. Received: {shown(tensor.datatype)}"
        )
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        raise InvalidInput(f"`{name}` must have a shape of integers. Received: {shown(shape)}")
    if spec.shape.rank == 0 and shape == [1]:
        shape = []
    if len(shape) != spec.shape.rank or math.prod(shape) != len(data):
        sizes = ["any" if n is None else n for n in spec.shape]
        raise InvalidInput(
            f"`{name}` must have the shape [{', '.join(map(str, sizes))}], and as many data. "
            f"Received: shape {shown(shape)} and {len(data)} data"
        )
    if not shape:
        return data[0]
    if len(shape) == 1:
        return data
    # Of no columns there may be more rows than there is memory for.
    rows = range(min(shape[0], max_rows + 1))
    return [data[row * shape[1] : (row + 1) * shape[1]] for row in rows]


def _flat(data, rank):
    """The cells of lists in lists; what is nested deeper than the rank stays a list."""
    cells = data if isinstance(data, list) else [data]
    for _ in range(rank - 1):
        cells = [x for part in cells for x in (part if isinstance(part, list) else [part])]
    return cells
