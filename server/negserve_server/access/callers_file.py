"""The file of tokens: one token a line, or entries with names, scopes and quotas in TOML."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

from negserve.types.checks.text import quoted
from negserve_server.access.caller import EVERY_DATASET, SCOPES, USUAL_SCOPES, Quotas, Scope
from negserve_server.errors import MalformedFile

#: What a caller is told by: a token, a certificate, or neither.
Kind = Literal["token", "certificate", "anybody"]
#: Name of callers without either.
ANYBODY = "anybody"
#: Shorter tokens could be guessed.
MIN_CHARACTERS = 16
_MAKE = "make one with: openssl rand -hex 32"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_QUOTAS = tuple(each.name for each in fields(Quotas))
_KEYS = ("scopes", "datasets", *_QUOTAS)
_OWN_KEYS: dict[Kind, tuple[str, ...]] = {
    "token": ("name", "token", "sha256"),
    "certificate": ("subject",),
    "anybody": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the file says of one caller.

    :ivar kind: what it is told by
    :ivar name: of the token, or subject of the certificate
    :ivar digest: SHA-256 of the token; empty for other kinds
    """

    kind: Kind
    name: str
    digest: bytes
    scopes: frozenset[Scope] = USUAL_SCOPES
    datasets: tuple[str, ...] = EVERY_DATASET
    quotas: Quotas


def read_callers(path: Path) -> list[Entry]:
    """Read a file: TOML if its first line that says something begins with ``[``.

    :raises MalformedFile: naming file, place and remedy, never a token
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MalformedFile(
            path, None, f"can't read the tokens: {error.strerror}; give a file that the server's "
            f"user may read",
        ) from error  # fmt: skip
    lines = [
        (number, line.strip())
        for number, line in enumerate(content.splitlines(), start=1)
        if line.strip() and not line.strip().startswith(b"#")
    ]
    is_toml = bool(lines) and lines[0][1].startswith(b"[")
    entries = _read_toml(path, content) if is_toml else _read_lines(path, lines)
    if not entries:
        raise MalformedFile(
            path, None, "holds no token; give one a line, made with: openssl rand -hex 32"
        )
    return entries


def _read_lines(path: Path, lines: list[tuple[int, bytes]]) -> list[Entry]:
    entries = []
    for number, token in lines:
        complaint = _complaint(token)
        if complaint:
            raise MalformedFile(path, number, complaint)
        entries.append(
            Entry(kind="token", name=f"line-{number}", digest=_digest(token), quotas=Quotas())
        )
    return entries


def _complaint(token: bytes) -> str:
    """Say what is wrong with a token; empty if nothing is."""
    if not all(0x21 <= byte <= 0x7E for byte in token):
        return f"a token has a character that is not printable ASCII, or a blank; {_MAKE}"
    if len(token) < MIN_CHARACTERS:
        return f"a token has {len(token)} characters, the minimum is {MIN_CHARACTERS}; {_MAKE}"
    return ""


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _read_toml(path: Path, content: bytes) -> list[Entry]:
    try:
        tables = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # What tomllib says of a value could show it; the place does not.
        where = re.search(r"\(at .*\)$", str(error))
        raise MalformedFile(
            path, None, f"is not TOML {where[0] if where else ''}; write entries [[token]] as "
            f"docs/operations.md shows, or give one token a line",
        ) from error  # fmt: skip
    entries: list[Entry] = []
    names: set[str] = set()
    for kind, group in tables.items():
        if kind not in _OWN_KEYS or isinstance(group, list) == (kind == ANYBODY):
            raise MalformedFile(
                path, None, f"has {quoted(kind)}; write entries [[token]] and [[certificate]], "
                f"and at most one [anybody]",
            )  # fmt: skip
        tables_of_kind = group if isinstance(group, list) else [group]
        for number, table in enumerate(tables_of_kind, start=1):
            entry = _EntryReader(path, kind, number, table).read()
            if entry.name in names:
                raise MalformedFile(
                    path, None, f"has two entries {quoted(entry.name)}; give each its own name"
                )
            names.add(entry.name)
            entries.append(entry)
    digests = [entry.digest for entry in entries if entry.digest]
    if len(set(digests)) < len(digests):
        raise MalformedFile(path, None, "has two entries with one token; give each its own")
    return entries


class _EntryReader:
    """Reads one entry.

    :param number: its place among those of its kind, from 1 on
    """

    def __init__(self, path: Path, kind: Kind, number: int, table: Any) -> None:
        self._path = path
        self._kind = kind
        self._what = "[anybody]" if kind == ANYBODY else f"[[{kind}]] {number}"
        self._table: Mapping[str, Any] = table if isinstance(table, dict) else {}

    def read(self) -> Entry:
        legal = (*_OWN_KEYS[self._kind], *_KEYS)
        for key in self._table:
            if key not in legal:
                self._fail(f"has no key {quoted(key)}; give some of {', '.join(legal)}")
        name = self._name()
        scopes = self._texts("scopes")
        for scope in scopes:
            if scope not in SCOPES:
                self._fail(f"has the scope {quoted(scope)}; give some of {', '.join(SCOPES)}")
        return Entry(
            kind=self._kind,
            name=name,
            digest=self._token() if self._kind == "token" else b"",
            scopes=frozenset(scopes),  # type: ignore[arg-type]  # checked above
            datasets=self._texts("datasets") if "datasets" in self._table else EVERY_DATASET,
            quotas=Quotas(**{key: self._count(key) for key in _QUOTAS if key in self._table}),
        )

    def _fail(self, why: str) -> NoReturn:
        raise MalformedFile(self._path, None, f"{self._what} {why}")

    def _text(self, key: str) -> str:
        value = self._table.get(key)
        if not isinstance(value, str) or not value:
            self._fail(f'needs {key} = "..."')
        return value

    def _texts(self, key: str) -> tuple[str, ...]:
        value = self._table.get(key)
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(each, str) and each for each in value)
        ):
            self._fail(f'needs {key} = ["..."] with at least one text')
        return tuple(value)

    def _count(self, key: str) -> int:
        value = self._table[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self._fail(f"needs a whole number of at least 1 as {key}")
        return value

    def _name(self) -> str:
        if self._kind == "anybody":
            return ANYBODY
        if self._kind == "certificate":
            return self._text("subject")
        name = self._text("name")
        if not _NAME.fullmatch(name):
            self._fail(
                f"is named {quoted(name)}; a name has 1 to 100 letters, digits, '.', '_' and '-', "
                f"the first a letter or digit"
            )
        self._what += f" ({name})"
        return name

    def _token(self) -> bytes:
        if ("token" in self._table) == ("sha256" in self._table):
            self._fail(
                'needs either token = "..." or sha256 = "...", which is what '
                'printf %s "$TOKEN" | sha256sum prints'
            )
        if "token" in self._table:
            token = self._text("token").encode()
            complaint = _complaint(token)
            if complaint:
                self._fail(f"is wrong: {complaint}")
            return _digest(token)
        sha256 = self._text("sha256")
        if not _SHA256.fullmatch(sha256):
            self._fail("needs 64 digits 0-9 and a-f as sha256")
        return bytes.fromhex(sha256)
