"""What does not get as far as the model."""

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse


class Gate:
    """ASGI middleware that bounds bodies and closes KServe's management of models.

    Args:
        app: The application behind it.
        max_body_bytes: The most that a request's body may have.
    """

    def __init__(self, app, max_body_bytes):
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope, receive, send):
        # Anyone could unload the model there; what is served is what the folder holds.
        if scope["type"] == "http" and scope["path"].startswith("/v2/repository"):
            response = JSONResponse({"error": "models come and go with their folder"}, 403)
            await response(scope, receive, send)
            return
        size = 0
        declared = int(dict(scope.get("headers", ())).get(b"content-length", 0))

        async def bounded():
            """The parts of a body as they come, declared or chunked, up to the bound."""
            nonlocal size
            message = await receive() if declared <= self._max_body_bytes else {}
            size += len(message.get("body", b""))
            if max(size, declared) > self._max_body_bytes:
                raise HTTPException(413, f"a body may have {self._max_body_bytes} bytes")
            return message

        await self._app(scope, bounded, send)


async def say(request, error):
    """What is wrong, as KServe and TensorFlow Serving say it."""
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
