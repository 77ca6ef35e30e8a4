"""The tokens of callers: a file, which may change while the server runs."""

from __future__ import annotations

import hmac
import logging
import os
import time
from pathlib import Path

from negserve_server.errors import MalformedFile

logger = logging.getLogger(__name__)

#: Shorter tokens could be guessed.
MIN_CHARACTERS = 16
#: Shortest interval between checks of the file.
_CHECK_SECONDS = 1.0


class Tokens:
    """The tokens of a file.

    One a line; blank lines and those that begin with ``#`` are ignored. A change of the file takes
    effect within a second. If it can't be read then, the previous tokens stay valid, and an error
    is logged.

    :param path: the file
    :raises MalformedFile: naming file, line and limit, never a token
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _state(path)
        self._tokens = _read(path)
        self._checked_at = time.monotonic()

    def __repr__(self) -> str:
        return f"Tokens({str(self._path)!r}, {len(self._tokens)} of them)"

    def has(self, token: bytes) -> bool:
        """Tell whether a token is valid, in constant time."""
        self._reload_if_changed()
        found = [hmac.compare_digest(token, each) for each in self._tokens]
        return any(found)

    def read(self) -> None:
        """Read the file again now, changed or not.

        :raises MalformedFile: as the constructor; the previous tokens stay valid then
        """
        self._seen = _state(self._path)
        self._tokens = _read(self._path)

    def _reload_if_changed(self) -> None:
        now = time.monotonic()
        if now - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = now
        # Taken before the file is read, so that a change meanwhile is noticed next time.
        state = _state(self._path)
        if state == self._seen:
            return
        self._seen = state
        try:
            self._tokens = _read(self._path)
        except MalformedFile as error:
            logger.error("the previous tokens stay valid: %s", error)
        else:
            logger.info("%d tokens read again from %s", len(self._tokens), self._path)


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes with a file; empty if it can't be read."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise MalformedFile(
            path, None, f"can't read the tokens: {error.strerror}; give a file that the server's "
            f"user may read",
        ) from error  # fmt: skip
    tokens = []
    for number, line in enumerate(lines, start=1):
        token = line.strip()
        if not token or token.startswith(b"#"):
            continue
        if not all(0x21 <= byte <= 0x7E for byte in token):
            raise MalformedFile(
                path, number, "a token has a character that is not printable ASCII, or a blank; "
                "make one with: openssl rand -hex 32",
            )  # fmt: skip
        if len(token) < MIN_CHARACTERS:
            raise MalformedFile(
                path, number, f"a token has {len(token)} characters, the minimum is "
                f"{MIN_CHARACTERS}; make one with: openssl rand -hex 32",
            )  # fmt: skip
        tokens.append(token)
    if not tokens:
        raise MalformedFile(
            path, None, "holds no token; give one a line, made with: openssl rand -hex 32"
        )
    return tuple(tokens)
