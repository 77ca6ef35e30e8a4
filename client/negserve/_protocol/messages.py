"""Between protobuf messages and numpy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig
from negserve.types.invalid import MAX_UINT64, check_integer, check_name
from negserve.types.triples import narrowest_dtype
from negserve.v1 import sampler_pb2 as pb

SLOTS = {"head": pb.SLOT_HEAD, "relation": pb.SLOT_RELATION, "tail": pb.SLOT_TAIL}
SPLITS = {
    "training": pb.SPLIT_TRAINING,
    "validation": pb.SPLIT_VALIDATION,
    "testing": pb.SPLIT_TESTING,
}
#: The kinds by name, which is that of the value: ``pseudotyped`` is ``SAMPLER_KIND_PSEUDO_TYPED``.
KINDS = {
    name.removeprefix("SAMPLER_KIND_").replace("_", "").lower(): value
    for name, value in pb.SamplerKind.items()
    if value != pb.SAMPLER_KIND_UNSPECIFIED
}
FILTER_MODES = {"exact": pb.FILTER_MODE_EXACT, "mask": pb.FILTER_MODE_MASK}

TAILS = {
    "short": pb.TAIL_RULE_SHORT,
    "drop": pb.TAIL_RULE_DROP,
    "wrap": pb.TAIL_RULE_WRAP,
}


def encode_ids(column: NDArray[np.integer[Any]], num_ids: int) -> pb.Ids:
    """Encode ids in the narrowest width of their id space, or wider if some are outside it.

    A negative id wraps to a huge one, which the server refuses like any other outside.
    """
    if len(column) == 0:
        return pb.Ids()
    width = narrowest_dtype(num_ids).itemsize
    if int(column.min()) < 0 or int(column.max()) >= num_ids:
        width = 8
    return pb.Ids(data=column.astype(f"<u{width}").tobytes(), width=width)


def encode_triples(
    triples: NDArray[np.integer[Any]], num_entities: int, num_relations: int
) -> pb.Triples:
    """Encode triples, shape (n, 3), as three columns."""
    return pb.Triples(
        heads=encode_ids(triples[:, 0], num_entities),
        relations=encode_ids(triples[:, 1], num_relations),
        tails=encode_ids(triples[:, 2], num_entities),
    )


def encode_splits(splits: Iterable[str]) -> list[pb.Split.ValueType]:
    """Encode split names.

    :raises InvalidRequestError: for a name that is no split
    """
    encoded = []
    for name in splits:
        check_name("split", name, tuple(SPLITS))
        encoded.append(SPLITS[name])
    return encoded


def encode_config(config: SamplerConfig) -> pb.SamplerConfig:
    """Encode a sampler configuration."""
    candidates = None
    if config.candidate_set is not None:
        ids = config.candidate_set.ids
        candidates = encode_ids(ids, int(ids[-1]) + 1)
    return pb.SamplerConfig(
        kind=KINDS[config.kind],
        mixture=[
            pb.MixturePart(kind=KINDS[kind], shares=shares) for kind, shares in config.mixture
        ],
        alpha=config.alpha,
        num_negs_per_pos=config.num_negs_per_pos,
        corruption_scheme=[SLOTS[slot] for slot in config.corruption_scheme],
        candidates=candidates,
        filter_splits=[SPLITS[split] for split in config.filter_splits],
        filter_mode=FILTER_MODES[config.filter_mode],
        distinct=config.distinct,
        chunk_size=config.chunk_size,
        log_q=config.log_q,
        seed=config.seed,
        algorithm_version=config.algorithm_version,
    )


def decode_ids(ids: pb.Ids) -> NDArray[np.unsignedinteger]:
    """Decode a tensor of ids, shape (n,), in its own width; read-only."""
    return np.frombuffer(ids.data, dtype=f"<u{ids.width or 1}")


def decode_flags(data: bytes, count: int) -> NDArray[np.bool_]:
    """Unpack flags, 8 a byte, the first in the lowest bit; shape (count,)."""
    packed = np.frombuffer(data, dtype=np.uint8)
    return np.unpackbits(packed, count=count, bitorder="little").view(np.bool_)


def encode_epoch_request(
    dataset: str,
    fingerprint: str,
    sampler: SamplerConfig,
    config: EpochConfig,
    epoch: int,
    start: int,
) -> pb.SampleEpochRequest:
    """Encode a request for what an epoch has from a position on.

    :raises InvalidRequestError: for an epoch or a start that is no number from 0 to 2^64 - 1
    """
    check_integer("epoch", epoch, 0, MAX_UINT64)
    check_integer("start", start, 0, MAX_UINT64)
    relations = None
    if config.relation_set is not None:
        relations = pb.Ids(data=config.relation_set.ids.astype("<u8").tobytes(), width=8)
    return pb.SampleEpochRequest(
        dataset=dataset,
        expected_fingerprint=fingerprint,
        sampler=encode_config(sampler),
        epoch=epoch,
        batch_size=config.batch_size,
        rank=config.rank,
        world_size=config.world_size,
        start=start,
        tail=TAILS[config.tail],
        keep_order=not config.shuffle,
        relations=relations,
        weights=config.weights,
        worker=config.worker,
        num_workers=config.num_workers,
    )
