"""Between protobuf messages and numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.config import SamplerConfig
from negserve.corrupted_batch import CorruptedBatch
from negserve.errors import InvalidRequestError
from negserve.v1 import sampler_pb2 as pb

SLOTS = {"head": pb.SLOT_HEAD, "relation": pb.SLOT_RELATION, "tail": pb.SLOT_TAIL}
SPLITS = {
    "training": pb.SPLIT_TRAINING,
    "validation": pb.SPLIT_VALIDATION,
    "testing": pb.SPLIT_TESTING,
}
KINDS = {
    "basic": pb.SAMPLER_KIND_BASIC,
    "bernoulli": pb.SAMPLER_KIND_BERNOULLI,
    "pseudotyped": pb.SAMPLER_KIND_PSEUDO_TYPED,
}


_Value = TypeVar("_Value")


def as_triples(triples: ArrayLike) -> NDArray[np.int64]:
    """Check shape and dtype of triples.

    :return: int64, shape (n, 3)
    :raises InvalidRequestError: for another shape, ids that are not integers, or negative ids
    """
    array = np.asarray(triples)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InvalidRequestError(
            f"triples have shape {array.shape}; give (n, 3): head, relation, tail",
            reason="SHAPE_MISMATCH",
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidRequestError(
            f"triples have dtype {array.dtype}; give integer ids", reason="SHAPE_MISMATCH"
        )
    return array.astype(np.int64, copy=False)


def encode_ids(column: NDArray[np.int64], num_ids: int) -> pb.Ids:
    """Encode ids in the narrowest width of their id space, or wider if some are outside it.

    A negative id wraps to a huge one, which the server refuses like any other outside.
    """
    if len(column) == 0:
        return pb.Ids()
    width = np.min_scalar_type(max(num_ids - 1, 0)).itemsize
    if int(column.min()) < 0 or int(column.max()) >= num_ids:
        width = 8
    return pb.Ids(data=column.astype(f"<u{width}").tobytes(), width=width)


def encode_triples(triples: NDArray[np.int64], num_entities: int, num_relations: int) -> pb.Triples:
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
    return [_look_up(SPLITS, name, "split") for name in splits]


def encode_config(config: SamplerConfig) -> pb.SamplerConfig:
    """Encode a sampler configuration.

    :raises InvalidRequestError: for a name, or a number, that the message can't hold
    """
    try:
        return pb.SamplerConfig(
            kind=_look_up(KINDS, config.kind, "kind"),
            num_negs_per_pos=config.num_negs_per_pos,
            corruption_scheme=[_look_up(SLOTS, s, "slot") for s in config.corruption_scheme],
            filter_splits=encode_splits(config.filter_splits),
            seed=config.seed,
            algorithm_version=config.algorithm_version,
        )
    except (ValueError, TypeError) as error:
        if isinstance(error, InvalidRequestError):
            raise
        raise InvalidRequestError(
            f"{config} does not fit the message: {error}", reason="INVALID_CONFIGURATION"
        ) from error


def _look_up(values: Mapping[str, _Value], name: str, what: str) -> _Value:
    if name not in values:
        raise InvalidRequestError(
            f"{what} {name!r} is unknown; choose from {', '.join(values)}",
            reason="INVALID_CONFIGURATION",
            metadata={"field": what, "value": str(name), "limit": ", ".join(values)},
        )
    return values[name]


def decode_ids(ids: pb.Ids) -> NDArray[np.unsignedinteger]:
    """Decode a tensor of ids, shape (n,), in its own width; read-only."""
    return np.frombuffer(ids.data, dtype=f"<u{ids.width or 1}")


def decode_flags(data: bytes, count: int) -> NDArray[np.bool_]:
    """Unpack flags, 8 a byte, the first in the lowest bit; shape (count,)."""
    packed = np.frombuffer(data, dtype=np.uint8)
    return np.unpackbits(packed, count=count, bitorder="little").view(np.bool_)


def decode_batch(message: pb.CorruptedBatch, config: SamplerConfig) -> CorruptedBatch:
    """Decode a corrupted batch of a sampler of that configuration."""
    n, k = message.num_positives, config.num_negs_per_pos
    zeros = np.zeros(n, dtype=np.uint8)
    mask: NDArray[np.bool_] | None = None
    if config.filter_splits:
        mask = np.ones((n, k), dtype=np.bool_)
        if message.mask:
            mask = decode_flags(message.mask, n * k).reshape(n, k)
    return CorruptedBatch(
        position=message.position,
        replaced=decode_ids(message.replaced).reshape(n, k),
        head_counts=decode_ids(message.head_counts) if message.head_counts.data else zeros,
        relation_counts=(
            decode_ids(message.relation_counts) if message.relation_counts.data else zeros
        ),
        mask=mask,
        num_saturated=message.num_saturated,
    )


def concatenate(batches: list[CorruptedBatch]) -> CorruptedBatch:
    """Put consecutive batches of one sampler together; at least one."""
    first = batches[0]
    if len(batches) == 1:
        return first
    masks = [batch.mask for batch in batches if batch.mask is not None]
    return CorruptedBatch(
        position=first.position,
        replaced=np.concatenate([batch.replaced for batch in batches]),
        head_counts=np.concatenate([batch.head_counts for batch in batches]),
        relation_counts=np.concatenate([batch.relation_counts for batch in batches]),
        mask=np.concatenate(masks) if masks else None,
        num_saturated=sum(batch.num_saturated for batch in batches),
    )
