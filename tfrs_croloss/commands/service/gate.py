"""What does not get as far as the model."""

import re
import zlib

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

# KServe has more: management, by which anyone could unload the model, and explanations.
_MODEL = "models/[^/]+(/versions/[0-9]{1,18})?"
PATHS = {
    "GET": re.compile(
        f"/|/metrics|/v1/models(/[^/]+)?|/v1/{_MODEL}/metadata"
        f"|/v2(/health/(live|ready)|/models)?|/v2/{_MODEL}(/ready)?"
    ),
    "POST": re.compile(f"/v1/{_MODEL}:predict|/v2/{_MODEL}/infer"),
}
# What says that the process lives and is ready, and nothing else: for probes, which have no key.
OPEN = {"/", "/v2/health/live", "/v2/health/ready"}
# How many bytes of a V2 request are JSON.
JSON_LENGTH = "inference-header-content-length"
# All that KServe gets to see: it stumbles over some CloudEvents and kinds of metrics. Of this
# content it leaves the reading to the model.
HEADERS = [(b"content-type", b"application/octet-stream")]
# Bytes that are unpacked at once.
_PART = 65_536


class Gate:
    """ASGI middleware that lets requests pass that are served here, and bounds their bodies.

    Args:
        app: The application behind it.
        max_body_bytes: The most that a request's body may have, as sent and unpacked.
        keys: The `Keys` of those who may ask, or None for everyone.
    """

    def __init__(self, app, max_body_bytes, keys=None):
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._keys = keys

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            self._check(scope, headers)
            unpack = _UNPACKERS[_encoding(headers)](self._max_body_bytes)
        except HTTPException as error:
            await (await say(None, error))(scope, receive, send)
            return
        size = 0
        declared = int(headers.get(b"content-length", 0))

        async def bounded():
            """The parts of a body as they come, declared or chunked, up to the bound."""
            nonlocal size
            message = await receive() if declared <= self._max_body_bytes else {}
            size += len(message.get("body", b""))
            if max(size, declared) > self._max_body_bytes:
                raise _too_large(self._max_body_bytes)
            if message["type"] != "http.request":
                return message
            is_last = not message.get("more_body", False)
            return message | {"body": unpack(message.get("body", b""), is_last)}

        kept = [(name, headers[name]) for name in (JSON_LENGTH.encode(),) if name in headers]
        await self._app(scope | {"headers": HEADERS + kept}, bounded, send)

    def _check(self, scope, headers):
        """Raises an HTTPException unless this is served, and to whoever asks."""
        is_open = self._keys is None or (scope["method"] == "GET" and scope["path"] in OPEN)
        if not (is_open or self._keys.admit(headers.get(b"authorization", b""))):
            raise HTTPException(
                401,
                "expected a key of this server: Authorization: Bearer <key>",
                headers={"WWW-Authenticate": "Bearer"},
            )
        methods = [method for method, paths in PATHS.items() if paths.fullmatch(scope["path"])]
        if scope["method"] not in methods:
            allowed = {"Allow": ", ".join(methods)}
            raise HTTPException(405, headers=allowed) if methods else HTTPException(404)


async def say(request, error):
    """What is wrong, as KServe and TensorFlow Serving say it."""
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _too_large(max_bytes):
    return HTTPException(413, f"a body may have {max_bytes} bytes")


def _encoding(headers):
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding not in _UNPACKERS:
        raise HTTPException(
            415,
            f"the Content-Encoding of a body must be gzip, or none. Received: {encoding:.100}",
            headers={"Accept-Encoding": "gzip"},
        )
    return encoding


class _Plain:
    """A body as it is."""

    def __init__(self, max_bytes):
        pass

    def __call__(self, part, is_last):
        return part


class _Gzip:
    """Unpacks a body as it comes, and no more of it than the bound.

    Args:
        max_bytes: The most that it may have, unpacked.
    """

    def __init__(self, max_bytes):
        self._max_bytes = max_bytes
        self._size = 0
        self._member = None  # A body may be several, one behind the other.

    def __call__(self, part, is_last):
        unpacked = b"".join(self._unpacked(part))
        if is_last and self._member is not None:
            raise HTTPException(400, "the body is not whole: its gzip ends too early")
        return unpacked

    def _unpacked(self, part):
        while part:
            self._member = self._member or zlib.decompressobj(wbits=31)
            try:
                found = self._member.decompress(part, _PART)
            except zlib.error as error:
                raise HTTPException(400, f"the body is no gzip: {error}") from None
            self._size += len(found)
            if self._size > self._max_bytes:
                raise _too_large(self._max_bytes)
            yield found
            part = self._member.unconsumed_tail
            if self._member.eof:
                part, self._member = self._member.unused_data, None


_UNPACKERS = {"": _Plain, "identity": _Plain, "gzip": _Gzip, "x-gzip": _Gzip}
