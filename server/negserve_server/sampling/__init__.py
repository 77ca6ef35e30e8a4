"""Samplers: pure functions of (graph, configuration, seed, position of the positive)."""

from negserve.terminal.extras import needing

with needing("negserve_server.sampling", "negserve[server]"):
    from negserve_server.sampling.draw_tables import DrawTables
    from negserve_server.sampling.graph import Graph
    from negserve_server.sampling.permutation import Permutation
    from negserve_server.sampling.relation_counts import RelationCounts
    from negserve_server.sampling.sampler import ALGORITHM_VERSION, Sampler

__all__ = [
    "ALGORITHM_VERSION",
    "DrawTables",
    "Graph",
    "Permutation",
    "RelationCounts",
    "Sampler",
]
