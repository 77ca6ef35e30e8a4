"""The pages at the port for scrapers, as a WSGI application."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

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


class Pages:
    """Answers ``GET /metrics`` and ``GET /``.

    :param registry: of the metrics
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, bytes]] = {}  # by content type

    def __call__(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        """Answer a request."""
        status, content_type, body, extra = self._answer(environ)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), *extra]
        start(status, headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, str, bytes, list[tuple[str, str]]]:
        text = "text/plain; charset=utf-8"
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return "405 Method Not Allowed", text, b"GET only\n", [("Allow", "GET, HEAD")]
        if environ["PATH_INFO"] == METRICS_PATH:
            content_type, body = self._metrics(environ.get("HTTP_ACCEPT", ""))
            return "200 OK", content_type, body, []
        if environ["PATH_INFO"] == "/":
            return "200 OK", "text/html; charset=utf-8", _INDEX.encode(), []
        return "404 Not Found", text, f"there is / and {METRICS_PATH}\n".encode(), []

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
