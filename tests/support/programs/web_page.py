"""A page as a browser reads it: its tags, its text, and the negatives that it shows."""

from __future__ import annotations

import http.client
import time
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit


class WebPage(HTMLParser):
    """A page that was answered.

    :ivar status: of HTTP
    :ivar headers: of the answer
    :ivar tags: names of the elements, and their attributes, in order
    :ivar text: without tags, blanks joined
    :ivar negatives: triples of ids, and whether each is struck out
    :ivar rows: cells of the table, as text
    :ivar code: the program that it shows
    """

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: str) -> None:
        super().__init__()
        self.status = status
        self.headers = headers
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.negatives: list[tuple[tuple[int, ...], bool]] = []
        self.rows: list[list[str]] = []
        self.code = ""
        self._pieces: list[str] = []
        self._open: list[str] = []
        self._ids: list[int] = []
        self._is_struck = False
        self.feed(body)
        self.close()
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        self.text = " ".join("".join(self._pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the beginning of an element."""
        found = dict(attrs)
        self.tags.append((tag, found))
        self._open.append(tag)
        if tag == "li":
            self._ids, self._is_struck = [], False
        elif tag == "data":
            self._ids.append(int(found["value"] or ""))
        elif tag == "del":
            self._is_struck = True
        elif tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Note the end of an element."""
        while self._open and self._open.pop() != tag:
            pass
        if tag == "dt":
            self._pieces.append(" ")
        if tag == "li" and "ol" in self._open:
            self.negatives.append((tuple(self._ids), self._is_struck))

    def handle_data(self, data: str) -> None:
        """Take text."""
        if "style" in self._open:
            return
        self._pieces.append(data)
        if "td" in self._open:
            self.rows[-1][-1] += data
        if "pre" in self._open:
            self.code += data


def open_page(url: str, path: str, method: str = "GET", **fields: object) -> WebPage:
    """Ask for a page; again, for a while, if visitors draw too often at present.

    :param url: any URL of the server
    :param fields: of the query
    """
    place = urlsplit(url)
    query = urlencode(fields)
    until = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        connection.request(method, f"{path}?{query}" if query else path)
        answer = connection.getresponse()
        page = WebPage(answer.status, answer.headers, answer.read().decode())
        connection.close()
        if page.status != 429 or time.monotonic() > until:
            return page
        time.sleep(float(page.headers["Retry-After"]))
