"""Who may ask: those with a key of a file."""

import hashlib
import hmac
from pathlib import Path

from kserve.logging import logger


class Keys:
    """The keys of a file, a line each, any of which will do.

    The file is read again when it changes, so that keys come and go without a restart. What cannot
    be read by then changes nothing: the keys stay as they were.

    Args:
        path: The file. Empty lines are left out.

    Raises:
        ValueError: If it cannot be read, holds no key, or what can be none: a key is printable
            ASCII without spaces.
    """

    def __init__(self, path):
        self._path = Path(path)
        self._state = _state(self._path)
        self._digests = _digests(self._path)

    def admit(self, authorization):
        """Whether the value of a request's `Authorization`, as bytes, is `Bearer` and a key."""
        self._refresh()
        scheme, _, key = authorization.partition(b" ")
        digest = _digest(key.strip())
        # All of them, whichever fits, and all of one length: the time it takes tells nothing.
        fits = [hmac.compare_digest(digest, own) for own in self._digests]
        return scheme.lower() == b"bearer" and any(fits)

    def _refresh(self):
        state = _state(self._path)
        if state == self._state:
            return
        self._state = state
        try:
            self._digests = _digests(self._path)
            logger.info("%s: %d keys", self._path, len(self._digests))
        except ValueError as error:
            logger.error("the keys stay as they were: %s", error)


def _state(path):
    """What changes when the file does."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _digests(path):
    try:
        lines = [line.strip() for line in path.read_bytes().splitlines()]
    except OSError as error:
        raise ValueError(f"--api_key_file {path}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not all(33 <= byte <= 126 for byte in line):
            raise ValueError(
                f"--api_key_file {path}, line {number}: a key must be printable ASCII without "
                "spaces, a line each"
            )
    keys = [line for line in lines if line]
    if not keys:
        raise ValueError(
            f"--api_key_file {path}: expected a key a line, as `openssl rand -hex 32` makes one. "
            "Received: an empty file"
        )
    return [_digest(key) for key in keys]


def _digest(key):
    return hashlib.sha256(key).digest()
