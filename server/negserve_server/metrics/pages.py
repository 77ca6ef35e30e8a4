"""The pages at the port for scrapers, as a WSGI application."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

METRICS_PATH = "/metrics"
_INDEX = (
    '<!DOCTYPE html>\n<html lang="en"><title>negserve</title>\n'
    f'<h1>negserve</h1>\n<p><a href="{METRICS_PATH}">Metrics</a>, for Prometheus.</p></html>\n'
)
#: Answers so young are given again: many scrapers cost as much as one.
_SECONDS = 0.2
_MOST_KEPT = 4

_Start = Callable[[str, list[tuple[str, str]]], Any]


class Answer(NamedTuple):
    """What a request is answered.

    :ivar status: of HTTP, such as ``200 OK``
    :ivar content_type: of the body
    :ivar body: nothing of it is sent to HEAD
    :ivar headers: further ones
    """

    status: str
    content_type: str
    body: bytes
    headers: Sequence[tuple[str, str]] = ()


class Site(Protocol):
    """Pages for people, besides the metrics."""

    def answer(self, path: str, query: str) -> Answer | None:
        """Answer a request; None if there is no such page."""
        ...


class Pages:
    """Answers ``GET /metrics`` and ``GET /``.

    :param registry: of the metrics
    :ivar site: further pages, or another one at ``/``; None for none
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.site: Site | None = None
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, bytes]] = {}  # by content type

    def __call__(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        """Answer a request."""
        answer = self._answer(environ)
        length = str(len(answer.body))
        headers = [("Content-Type", answer.content_type), ("Content-Length", length)]
        start(answer.status, [*headers, *answer.headers])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        text = "text/plain; charset=utf-8"
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return Answer("405 Method Not Allowed", text, b"GET only\n", [("Allow", "GET, HEAD")])
        path = environ["PATH_INFO"]
        if path == METRICS_PATH:
            content_type, body = self._metrics(environ.get("HTTP_ACCEPT", ""))
            return Answer("200 OK", content_type, body)
        if self.site is not None:
            answer = self.site.answer(path, environ.get("QUERY_STRING", ""))
            if answer is not None:
                return answer
        if path == "/":
            return Answer("200 OK", "text/html; charset=utf-8", _INDEX.encode())
        return Answer("404 Not Found", text, f"there is / and {METRICS_PATH}\n".encode())

    def _metrics(self, accept: str) -> tuple[str, bytes]:
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        with self._lock:
            made_at, body = self._kept.get(content_type, (-_SECONDS, b""))
            if time.monotonic() - made_at >= _SECONDS:
                try:
                    body = encode(self._registry)
                except struct.error:  # a worker has just begun its first file
                    time.sleep(0.01)
                    body = encode(self._registry)
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                self._kept[content_type] = time.monotonic(), body
        return content_type, body
