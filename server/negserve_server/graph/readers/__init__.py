"""Files that graphs are read from, a module a format; what could mean two graphs is refused."""

from negserve_server.graph.readers.numbering import ReadGraph, read_graph
from negserve_server.graph.readers.options import ReadOptions

__all__ = ["ReadGraph", "ReadOptions", "read_graph"]
