"""The server's engine in this process: the only module of the client that imports the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from negserve.errors import FingerprintMismatchError, InvalidAnswerError
from negserve.terminal.extras import needing

if TYPE_CHECKING:
    from negserve_server.graph import TriplesFactory
    from negserve_server.graph.first_positives import FirstPositives


def check_engine() -> None:
    """Check that the engine is installed, before anything is downloaded for it.

    :raises MissingLibraryError: naming the package to install
    """
    with needing("computing on the client", "negserve[server]"):
        import negserve_server.graph  # noqa: F401


def first_positives(name: str, graph: TriplesFactory) -> FirstPositives:
    """Make the check of a sampler's first positives."""
    from negserve_server.graph.first_positives import FirstPositives

    return FirstPositives(name, graph)


def open_graph(folder: Path, fingerprint: str) -> TriplesFactory:
    """Map the snapshot of a folder.

    :param fingerprint: that the graph must have
    :raises FingerprintMismatchError: if another graph is there
    :raises InvalidAnswerError: if it is no snapshot that this version of the engine reads
    :raises MissingLibraryError: naming the package to install
    """
    check_engine()
    from negserve_server.errors import MalformedSnapshot
    from negserve_server.graph import TriplesFactory

    try:
        graph = TriplesFactory.from_snapshot(folder)
    except MalformedSnapshot as error:
        raise InvalidAnswerError(
            f"the snapshot can't be used: {error}",
            metadata={"field": "manifest.json", "value": str(error)},
        ) from error
    if graph.fingerprint != fingerprint:
        raise FingerprintMismatchError(
            f"{folder} has a graph with fingerprint {graph.fingerprint}, not {fingerprint}; ask "
            f"the client for the dataset again",
            reason="FINGERPRINT_MISMATCH",
            metadata={"value": fingerprint, "limit": graph.fingerprint},
        )
    return graph
