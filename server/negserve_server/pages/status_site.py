"""The pages for people: what each URL answers, and what a browser may do with it."""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from negserve.errors import InvalidRequestError
from negserve.types.checks.text import shortened
from negserve.types.kinds import KINDS
from negserve_server.errors import Refusal
from negserve_server.metrics.pages import Answer
from negserve_server.pages import playground
from negserve_server.pages.drawing_turns import DrawingTurns
from negserve_server.pages.query_fields import read_fields
from negserve_server.pages.refused_request import RefusedRequest
from negserve_server.pages.server_numbers import MOST_DATASETS, ServerNumbers
from negserve_server.pages.shown_labels import ShownLabels
from negserve_server.sampling import ALGORITHM_VERSION

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent / "templates"
#: After which a browser asks for the status again.
_REFRESH_SECONDS = 10
_POSITIVE = ("head", "relation", "tail")


class StatusSite:
    """Answers ``/``, the status of the server, and ``/playground``.

    :param numbers: reads the status and the graphs
    """

    def __init__(self, numbers: ServerNumbers) -> None:
        self._numbers = numbers
        self._turns = DrawingTurns()
        templates = Environment(
            loader=FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        templates.filters.update(
            text=shortened, size=size_text, age=age_text, short=number_text, ms=milliseconds_text
        )
        style = (_FOLDER / "style.css").read_text(encoding="utf-8")
        templates.globals.update(
            style=style,
            version=version("negserve"),
            algorithm_version=ALGORITHM_VERSION,
            refresh_seconds=_REFRESH_SECONDS,
        )
        self._status = templates.get_template("status.html")
        self._playground = templates.get_template("playground.html")
        self._refused = templates.get_template("refused.html")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._headers = [
            (
                "Content-Security-Policy",
                f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
                "base-uri 'none'; frame-ancestors 'none'",
            ),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ]

    def answer(self, path: str, query: str) -> Answer | None:
        """Answer a request; None if there is no such page.

        :param path: of the URL
        :param query: what follows its question mark
        """
        pages: dict[str, Callable[[str], tuple[str, str]]] = {
            "/": self._show_status,
            "/playground": self._show_playground,
        }
        page = pages.get(path)
        if page is None:
            return None
        try:
            status, text = page(query)
        except RefusedRequest as refused:
            status, text = refused.status, self._refused.render(page="", message=str(refused))
        except Exception:
            logger.exception("page %s failed", path)
            status = "500 Internal Server Error"
            message = "the page failed; the log of the server says why"
            text = self._refused.render(page="", message=message)
        headers = self._headers
        if status.startswith(("429", "503")):
            headers = [*headers, ("Retry-After", "1")]
        return Answer(status, "text/html; charset=utf-8", text.encode(), headers)

    def _show_status(self, query: str) -> tuple[str, str]:
        is_paused = "pause" in read_fields(query, ("pause",))
        numbers = self._numbers.read()
        rates = [each for each in numbers.negatives_a_second.values() if each is not None]
        return "200 OK", self._status.render(
            page="status",
            is_paused=is_paused,
            now=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            status=numbers.status,
            datasets=numbers.status.datasets[:MOST_DATASETS],
            sizes=numbers.sizes,
            rates=numbers.negatives_a_second,
            means=numbers.message_means,
            rate=sum(rates) if rates else None,
            rate_seconds=numbers.rate_seconds,
            table_bytes=sum(each.table_bytes for each in numbers.status.datasets),
        )

    def _show_playground(self, query: str) -> tuple[str, str]:
        given = read_fields(query, playground.DEFAULTS)
        names = self._numbers.names()
        if not names:
            raise RefusedRequest("404 Not Found", "the server has no dataset; load one first")
        name = given.get("dataset", names[0])
        if name not in names:
            names = [*names, name]
        try:
            factory = self._numbers.find(name)
        except InvalidRequestError as error:
            raise RefusedRequest("404 Not Found", str(error)) from None
        fields = {**playground.DEFAULTS, "dataset": name, **given}
        wants_drawing = any(each in given for each in _POSITIVE)
        if not wants_drawing:
            fields |= playground.example_of(factory)
        shown: dict[str, Any] = {"message": "", "drawing": None}
        status = "200 OK"
        if wants_drawing:
            try:
                shown["drawing"] = self._turns.run(lambda: playground.draw(factory, fields))
            except RefusedRequest as refused:
                status, shown["message"] = refused.status, str(refused)
            except InvalidRequestError as error:
                status, shown["message"] = "400 Bad Request", str(error)
            except Refusal as refusal:
                status, shown["message"] = "503 Service Unavailable", str(refusal)
        return status, self._playground.render(
            page="playground",
            names=names,
            fields=fields,
            kinds={each: KINDS[each].draws for each in playground.kinds_for(factory)},
            filters=playground.FILTERS,
            most=playground.MOST_NEGATIVES,
            entities=ShownLabels.of_entities(factory).suggestions(),
            relations=ShownLabels.of_relations(factory).suggestions(),
            **shown,
        )


def size_text(num_bytes: int) -> str:
    """Write a number of bytes, such as ``1.5 MiB``."""
    power = min(max(num_bytes.bit_length() - 1, 0) // 10, 4)
    size, unit = num_bytes / 1024**power, ("B", "KiB", "MiB", "GiB", "TiB")[power]
    return f"{size:.0f} {unit}" if power == 0 or size >= 100 else f"{size:.1f} {unit}"


def age_text(seconds: float) -> str:
    """Write a duration by its two largest units, such as ``3 h 20 min``."""
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number or (unit == "s" and not parts):
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])


def number_text(number: float | None) -> str:
    """Write a number in groups of three digits; a dash for one that is unknown."""
    if number is None:
        return "–"
    return f"{number:,.1f}" if 0 < number < 10 and number != int(number) else f"{number:,.0f}"


def milliseconds_text(seconds: float) -> str:
    """Write a short duration in milliseconds, with two decimals below ten."""
    milliseconds = 1000 * seconds
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:,.0f}"
