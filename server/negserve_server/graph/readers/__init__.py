"""Files that graphs are read from; what could mean two graphs is refused."""

from negserve_server.graph.readers.formats.options import ReadOptions
from negserve_server.graph.readers.numbering import BaseIds
from negserve_server.graph.readers.read_graph import ReadGraph, read_graph

__all__ = ["BaseIds", "ReadGraph", "ReadOptions", "read_graph"]
