"""Graphs: triples factory, type constraints, fingerprint, epochs, the embedded one; never gRPC."""

from negserve.terminal.extras import needing

with needing("negserve_server.graph", "negserve[server]"):
    from negserve_server.graph.triples_factory import TriplesFactory
    from negserve_server.graph.type_constraints import TypeConstraints
    from negserve_server.graph.vocabulary import Vocabulary

__all__ = [
    "TriplesFactory",
    "TypeConstraints",
    "Vocabulary",
]
