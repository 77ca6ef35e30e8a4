"""RDF: N-Triples, Turtle, RDF/XML and their kind, read by pyoxigraph."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from negserve.terminal.extras import needing
from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.formats.columns import Table
from negserve_server.graph.readers.formats.compression import read_bytes
from negserve_server.graph.readers.formats.options import COLUMNS, ReadOptions

logger = logging.getLogger(__name__)

#: Names of pyoxigraph's formats by the ending of a file.
FORMATS = {
    "nt": "N_TRIPLES",
    "nq": "N_QUADS",
    "ttl": "TURTLE",
    "trig": "TRIG",
    "rdf": "RDF_XML",
    "owl": "RDF_XML",
    "xml": "RDF_XML",
}
#: Formats whose files have no statements that could be left out one by one.
_WHOLE = frozenset({"RDF_XML"})
_CHUNK = 1 << 18


def read_rdf(path: Path, ending: str, options: ReadOptions) -> Table:
    """Read the triples whose object is a resource; literals are left out and counted.

    An IRI is a label as it is, a blank node one as ``_:name``. Nodes without a name of their own
    are named in the order of the file.

    :param ending: of the file's name, a key of :data:`FORMATS`
    :raises MalformedFile: naming file, line and reason
    :raises MissingLibraryError: without the extra ``rdf``
    """
    with needing(f"a file of RDF ({path.name})", "negserve[server,rdf]"):
        import pyoxigraph
    labels = _Labels(pyoxigraph, is_line_format=ending in {"nt", "nq"})
    rows: list[tuple[str, str, str]] = []
    frames: list[pl.DataFrame] = []
    form = FORMATS[ending]
    quads = pyoxigraph.parse(read_bytes(path), format=getattr(pyoxigraph.RdfFormat, form))
    for quad in _statements(path, quads, may_skip=options.skip_bad and form not in _WHOLE):
        head, tail = labels.of(quad.subject), labels.of(quad.object)
        if head is not None and tail is not None:
            rows.append((head, quad.predicate.value, tail))
            if len(rows) == _CHUNK:
                frames.append(_frame(rows))
                rows = []
    frame = pl.concat([*frames, _frame(rows)])
    for kind, count in labels.left_out.items():
        logger.info("%s: %d %s%s left out", path, count, kind, "" if count == 1 else "s")
    if frame.is_empty():
        raise MalformedFile(path, None, "holds no triples between resources")
    return Table(path, frame, is_order_known=True)


def _statements(path: Path, quads: Iterator[Any], *, may_skip: bool) -> Iterator[Any]:
    """Give the statements of a file; bad ones are refused, or left out and counted.

    The parser goes on after the line (N-Triples, N-Quads) or the statement (Turtle, TriG).

    :raises MalformedFile: naming file, line and reason
    """
    num_bad, example = 0, ""
    while True:
        try:
            quad = next(quads, None)
        except SyntaxError as error:
            if not may_skip:
                why = "give absolute IRIs, or a base" if "scheme" in error.msg else "mend the file"
                raise MalformedFile(path, error.lineno, f"{error.msg}; {why}") from error
            num_bad += 1
            example = example or error.msg
            continue
        if quad is None:
            break
        yield quad
    if num_bad:
        logger.warning("%s: %d bad statements left out, such as: %s", path, num_bad, example)


class _Labels:
    """Labels of the terms of one file."""

    def __init__(self, library: Any, *, is_line_format: bool) -> None:
        self._node, self._blank, self._literal = (
            library.NamedNode,
            library.BlankNode,
            library.Literal,
        )
        self._keeps_names = is_line_format
        self._blanks: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()

    def of(self, term: Any) -> str | None:
        """Give the label of a term; None for one that is no entity."""
        if isinstance(term, self._node):
            iri: str = term.value
            return iri
        if isinstance(term, self._blank):
            if self._keeps_names:
                return f"_:{term.value}"
            # The parser makes up another name for an unnamed node at each reading.
            return self._blanks.setdefault(term.value, f"_:b{len(self._blanks)}")
        self.left_out["literal" if isinstance(term, self._literal) else "quoted triple"] += 1
        return None


def _frame(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    columns = list(zip(*rows, strict=True)) or [()] * 3
    return pl.DataFrame(
        {
            name: pl.Series(column, dtype=pl.String)
            for name, column in zip(COLUMNS, columns, strict=True)
        }
    )
