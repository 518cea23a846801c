"""What does not get as far as the model."""

import re

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

# KServe has more: management, by which anyone could unload the model, and explanations, numbered
# versions and V2 inference, which this model does not have.
PATHS = {
    "GET": re.compile(
        "/|/metrics|/v1/models(/[^/]+)?|/v2(/health/(live|ready)|/models(/[^/]+(/ready)?)?)?"
    ),
    "POST": re.compile("/v1/models/[^/]+:predict"),
}
# All that KServe gets to see: it stumbles over some CloudEvents and kinds of metrics. Of this
# content it leaves the reading to the model.
HEADERS = [(b"content-type", b"application/octet-stream")]


class Gate:
    """ASGI middleware that lets requests pass that are served here, and bounds their bodies.

    Args:
        app: The application behind it.
        max_body_bytes: The most that a request's body may have.
    """

    def __init__(self, app, max_body_bytes):
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        methods = [method for method, paths in PATHS.items() if paths.fullmatch(scope["path"])]
        if scope["method"] not in methods:
            error = HTTPException(405, headers={"Allow": ", ".join(methods)})
            response = await say(None, error if methods else HTTPException(404))
            await response(scope, receive, send)
            return
        size = 0
        declared = int(dict(scope["headers"]).get(b"content-length", 0))

        async def bounded():
            """The parts of a body as they come, declared or chunked, up to the bound."""
            nonlocal size
            message = await receive() if declared <= self._max_body_bytes else {}
            size += len(message.get("body", b""))
            if max(size, declared) > self._max_body_bytes:
                raise HTTPException(413, f"a body may have {self._max_body_bytes} bytes")
            return message

        await self._app(scope | {"headers": HEADERS}, bounded, send)


async def say(request, error):
    """What is wrong, as KServe and TensorFlow Serving say it."""
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
