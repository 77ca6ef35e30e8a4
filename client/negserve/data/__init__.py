"""Epochs for PyTorch: a dataset and a loader over :class:`negserve.EpochStream`. Needs torch."""

from negserve.terminal.extras import needing

with needing("negserve.data", "negserve[client]"):
    from negserve.data.triple_batch import CompactTripleBatch, TripleBatch
    from negserve.data.triple_loader import TripleLoader
    from negserve.data.triple_stream import TripleStream

__all__ = ["CompactTripleBatch", "TripleBatch", "TripleLoader", "TripleStream"]
