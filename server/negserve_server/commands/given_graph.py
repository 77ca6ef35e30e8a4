"""The graph that a command is given."""

from __future__ import annotations

from pathlib import Path

import click

from negserve.errors import NegserveError
from negserve.types.checks.text import printable
from negserve_server.errors import NegserveServerError
from negserve_server.graph import TriplesFactory
from negserve_server.graph.readers import ReadOptions


def load_graph(path: Path | None, options: ReadOptions) -> TriplesFactory:
    """Load a graph; the embedded one without a path.

    :raises ClickException: if it can't be loaded
    """
    try:
        return TriplesFactory.world() if path is None else TriplesFactory.from_path(path, options)
    except (NegserveError, NegserveServerError, ValueError) as error:
        raise click.ClickException(printable(str(error))) from error
