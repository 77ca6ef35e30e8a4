"""Files that graphs are read from, a module a format; what could mean two graphs is refused."""

from negserve_server.graph.readers.numbering import BaseIds, ReadGraph, read_graph
from negserve_server.graph.readers.options import ReadOptions

__all__ = ["BaseIds", "ReadGraph", "ReadOptions", "read_graph"]
