"""Graphs: triples factory, ingest, fingerprint, and the embedded graph."""

from negserve_server.graph.fingerprint import graph_fingerprint, split_fingerprint
from negserve_server.graph.triples_factory import TriplesFactory
from negserve_server.graph.vocabulary import Vocabulary

__all__ = ["TriplesFactory", "Vocabulary", "graph_fingerprint", "split_fingerprint"]
