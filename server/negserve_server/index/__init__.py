"""The filter index: is a triple known, and what is known for a pair. Draws nothing."""

from negserve.terminal.extras import needing

with needing("negserve_server.index", "negserve[server]"):
    from negserve_server.index.filter_index import FilterIndex
    from negserve_server.index.pair_index import PairIndex

__all__ = ["FilterIndex", "PairIndex"]
