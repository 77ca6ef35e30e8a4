"""The filter index: whether a triple is known, and the known values of a pair. Draws nothing."""

from negserve.terminal.extras import needing

with needing("negserve_server.index", "negserve[server]"):
    from negserve_server.index.filter_index import FilterIndex
    from negserve_server.index.pair_builder import Pairs
    from negserve_server.index.pair_index import PairIndex

__all__ = ["FilterIndex", "PairIndex", "Pairs"]
