"""Samplers: pure functions of (graph, configuration, seed, position of the positive)."""

from negserve.terminal.extras import needing
from negserve.types.kinds import KINDS

with needing("negserve_server.sampling", "negserve[server]"):
    from negserve_server.sampling.batch import CorruptedBatch
    from negserve_server.sampling.config import (
        ALGORITHM_VERSION,
        FILTER_MODES,
        MAX_NUM_NEGS_PER_POS,
        SLOTS,
        SPLITS,
        SamplerConfig,
    )
    from negserve_server.sampling.draw_tables import DrawTables
    from negserve_server.sampling.graph import Graph
    from negserve_server.sampling.permutation import Permutation
    from negserve_server.sampling.sampler import Sampler
    from negserve_server.sampling.statistics import RelationStatistics

__all__ = [
    "ALGORITHM_VERSION",
    "FILTER_MODES",
    "KINDS",
    "MAX_NUM_NEGS_PER_POS",
    "SLOTS",
    "SPLITS",
    "CorruptedBatch",
    "DrawTables",
    "Graph",
    "Permutation",
    "RelationStatistics",
    "Sampler",
    "SamplerConfig",
]
