"""Graphs: triples factory, ingest, type constraints, fingerprint, and the embedded graph."""

from negserve.extras import needing

with needing("negserve_server.graph", "negserve[server]"):
    from negserve_server.graph.false_negatives import FalseNegativeReport, false_negative_report
    from negserve_server.graph.fingerprint import graph_fingerprint, split_fingerprint
    from negserve_server.graph.triples_factory import TriplesFactory
    from negserve_server.graph.type_constraints import TypeConstraints
    from negserve_server.graph.vocabulary import Vocabulary

__all__ = [
    "FalseNegativeReport",
    "TriplesFactory",
    "TypeConstraints",
    "Vocabulary",
    "false_negative_report",
    "graph_fingerprint",
    "split_fingerprint",
]
