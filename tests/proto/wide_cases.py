"""The calls recorded for a graph with a large id space, which is published first."""

from __future__ import annotations

import zlib

import numpy as np
from google.protobuf.message import Message

from negserve.types.fingerprint import graph_fingerprint, split_fingerprint
from negserve.v1 import sampler_pb2 as pb
from tests.proto.case import Case, ids

NAME = "wide"
#: More than 2^16 entities need 4 bytes an id, more than 2^8 relations need 2.
NUM_ENTITIES, NUM_RELATIONS = 70_000, 300
_TRAINING = np.array(
    [(1, 0, 69_999), (3, 256, 65_536), (69_999, 299, 2), (70, 0, 700), (66_000, 299, 68_000)]
)
FINGERPRINT = graph_fingerprint(
    {"training": split_fingerprint(_TRAINING, NUM_ENTITIES, NUM_RELATIONS)}
)
_HEAD, _RELATION, _TAIL = pb.SLOT_HEAD, pb.SLOT_RELATION, pb.SLOT_TAIL


def _triples(width: int = 4) -> pb.Triples:
    columns = (ids(column, width) for column in _TRAINING.T)
    return pb.Triples(**dict(zip(("heads", "relations", "tails"), columns, strict=True)))


def publication() -> Case:
    """Make the case that publishes the graph."""
    triples = _triples()
    checksum = zlib.crc32(triples.heads.data + triples.relations.data + triples.tails.data)
    return Case(
        NAME,
        "five triples in a large id space, for the files with `wide` in their names",
        [
            pb.PublishRequest(
                announcement=pb.PublishAnnouncement(
                    name=NAME,
                    fingerprint=FINGERPRINT,
                    num_entities=NUM_ENTITIES,
                    num_relations=NUM_RELATIONS,
                    splits=[pb.AnnouncedSplit(split=pb.SPLIT_TRAINING, num_triples=len(_TRAINING))],
                )
            ),
            pb.PublishRequest(
                chunk=pb.PublishChunk(split=pb.SPLIT_TRAINING, triples=triples, crc32=checksum)
            ),
        ],
    )


def _sampler(kind: str, k: int, **options: object) -> pb.SamplerConfig:
    value = pb.SamplerKind.Value(f"SAMPLER_KIND_{kind}")
    return pb.SamplerConfig(kind=value, num_negs_per_pos=k, **options)  # type: ignore[arg-type]


def _sampled(name: str, about: str, config: pb.SamplerConfig) -> Case:
    configuration = pb.SampleConfiguration(
        dataset=NAME, expected_fingerprint=FINGERPRINT, sampler=config
    )
    messages: list[Message | bytes] = [
        pb.SampleRequest(configuration=configuration),
        pb.SampleRequest(positives=pb.Positives(position=2**32, triples=_triples())),
    ]
    return Case(name, about, messages)


SAMPLE = [
    _sampled("width 4", "entities", _sampler("BASIC", 4, filter_splits=[pb.SPLIT_TRAINING])),
    _sampled("width 2", "relations alone", _sampler("BASIC", 3, corruption_scheme=[_RELATION])),
    _sampled(
        "width 4 for all slots",
        "the widest of them",
        _sampler("BASIC", 6, corruption_scheme=[_HEAD, _RELATION, _TAIL], seed=1),
    ),
    _sampled("chunks", "rows of width 4", _sampler("BASIC", 3, chunk_size=4, seed=2)),
]


def _epoch(name: str, about: str, config: pb.SamplerConfig) -> Case:
    request = pb.SampleEpochRequest(
        dataset=NAME, expected_fingerprint=FINGERPRINT, sampler=config, batch_size=3
    )
    return Case(name, about, [request])


SAMPLE_EPOCH = [
    _epoch("width 4", "entities of 4 bytes, relations of 2", _sampler("BASIC", 2, seed=4)),
    _epoch(
        "width 2",
        "positives and negatives have widths of their own",
        _sampler("BASIC", 2, corruption_scheme=[_RELATION], seed=5),
    ),
]
