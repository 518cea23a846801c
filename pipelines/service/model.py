"""An exported model as KServe serves it."""

import asyncio

import kserve
import numpy as np
from kserve.utils.numpy_codec import from_np_dtype

from pipelines.service.payload import answer


class Recommender(kserve.Model):
    """Answers `POST /v1/models/<name>:predict`.

    Args:
        name: In the address of the requests.
        versions: The `Versions` it answers with.
        max_rows: The most rows a request may have.
    """

    def __init__(self, name, versions, max_rows):
        super().__init__(name, return_response_headers=True)
        self._versions = versions
        self._max_rows = max_rows
        self.ready = True

    def validate(self, payload):
        return payload  # `answer` does

    async def predict(self, payload, headers=None, response_headers=None):
        response_headers["content-type"] = "application/json"
        # In a thread: TensorFlow would hold up all other requests.
        signatures = self._versions.signatures
        return await asyncio.to_thread(answer, payload, signatures, self._max_rows)

    def get_input_types(self):
        return _types(self._versions.signatures["serving_default"].inputs)

    def get_output_types(self):
        return _types(self._versions.signatures["serving_default"].outputs)


def _types(specs):
    """Names, types and shapes in the words of KServe."""
    return [
        {
            "name": name,
            "datatype": from_np_dtype(np.dtype(spec.dtype.as_numpy_dtype)),
            "shape": [-1 if size is None else size for size in spec.shape],
        }
        for name, spec in specs.items()
    ]
