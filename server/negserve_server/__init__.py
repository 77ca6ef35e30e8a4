"""negserve's server: the graph, the filter index, the samplers and the gRPC service."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("negserve")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
