"""An exported model as KServe serves it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import kserve
from kserve.utils.utils import cpu_count
from starlette.exceptions import HTTPException

from tfrs_croloss.commands.service import payload, v2


class Asked(NamedTuple):
    """A request.

    Attributes:
        body: Its bytes.
        is_v2: Whether it is of the V2 protocol, or else of TensorFlow Serving's REST API.
        version: The version that it wants, or None for that which serves.
        json_length: How many bytes are JSON, or None for all.
    """

    body: bytes
    is_v2: bool
    version: int | None = None
    json_length: int | None = None


class Recommender(kserve.Model):
    """Answers requests with the newest version of a model.

    Args:
        name: In the address of the requests.
        versions: The `Versions` it answers with.
        max_rows: The most rows a request may have.
    """

    def __init__(self, name, versions, max_rows):
        super().__init__(name, return_response_headers=True)
        self._versions = versions
        self._max_rows = max_rows
        # As many requests at once as there are CPUs: more would want more memory. In threads,
        # since TensorFlow would hold up all other requests.
        self.num_threads = cpu_count()
        self._threads = ThreadPoolExecutor(self.num_threads)
        self.ready = True

    def version(self, number=None):
        """The `Version` that serves.

        Args:
            number: The version that is wanted, or None for any.

        Raises:
            HTTPException: If another one serves.
        """
        version = self._versions.serving
        if number not in (None, version.number):
            raise HTTPException(
                404, f"version {number} of {self.name} is not served: {version.number} is"
            )
        return version

    def validate(self, payload):
        return payload  # what answers does

    async def predict(self, asked, headers=None, response_headers=None):
        """The bytes of the answer to an `Asked`, and how many are JSON."""
        version = self.version(asked.version)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._answer, asked, version)

    def _answer(self, asked, version):
        if asked.is_v2:
            return v2.answer(asked.body, self.name, version, self._max_rows, asked.json_length)
        return payload.answer(asked.body, version.signatures, self._max_rows), None

    def get_input_types(self):
        return _types(self.version().signatures["serving_default"].inputs)

    def get_output_types(self):
        return _types(self.version().signatures["serving_default"].outputs)


def _types(specs):
    """Names, types and shapes in the words of KServe."""
    return [
        {
            "name": name,
            "datatype": v2.datatype(spec.dtype.as_numpy_dtype),
            "shape": [-1 if size is None else size for size in spec.shape],
        }
        for name, spec in specs.items()
    ]
