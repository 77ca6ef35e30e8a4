"""PyKEEN's graphs, and a server that accepts published graphs."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from importlib.resources import files

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that PyKEEN imports, not ours
    import pykeen.pipeline  # noqa: F401
    from pykeen.datasets import Nations
    from pykeen.triples import TriplesFactory

from tests.support.server_process import ServerProcess, server_process


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Freeze imported objects, so that the garbage collection of each PyKEEN epoch is quick."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def nations() -> Nations:
    """14 entities, 55 relations; comes with PyKEEN."""
    return Nations()


@pytest.fixture(scope="session")
def world_file() -> TriplesFactory:
    """The training triples of the embedded graph, with PyKEEN's ids."""
    return TriplesFactory.from_path(str(files("negserve_server.graph") / "world" / "train.txt"))


@pytest.fixture(scope="session")
def publisher() -> Iterator[ServerProcess]:
    """A server with the embedded graph that accepts published graphs."""
    with server_process("--dataset", "world", "--allow-publish") as running:
        yield running
