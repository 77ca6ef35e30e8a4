"""Answers of an honest server, for test servers that compute nothing."""

from __future__ import annotations

from negserve import SamplerConfig
from negserve.types.fingerprint import graph_fingerprint
from negserve.v1 import sampler_pb2 as pb
from negserve_server.service import messages
from tests.support.epochs import server_config

_SPLIT = "5" * 64


def described(name: str, num_triples: int) -> pb.GetDatasetResponse:
    """Describe a graph of nine entities and relations."""
    return pb.GetDatasetResponse(
        dataset=pb.Dataset(
            name=name,
            fingerprint=graph_fingerprint({"training": _SPLIT}),
            num_entities=9,
            num_relations=9,
            splits=[
                pb.SplitSummary(
                    split=pb.SPLIT_TRAINING, num_triples=num_triples, fingerprint=_SPLIT
                )
            ],
        ),
        limits=pb.Limits(
            max_negatives_per_positive=99,
            max_negatives_per_message=99,
            max_triples_per_message=99,
            max_unanswered_messages=99,
            max_unanswered_bytes=2**24,
        ),
    )


def filled_in(config: SamplerConfig) -> pb.SamplerConfig:
    """Encode a configuration as servers echo it."""
    return messages.encode_config(server_config(config))
