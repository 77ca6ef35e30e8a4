"""Between protobuf messages and the engine's types: decode, validate the form, encode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from negserve.v1 import sampler_pb2 as pb
from negserve_server.errors import InvalidConfiguration, InvalidInput
from negserve_server.sampling import CorruptedBatch, SamplerConfig
from negserve_server.sampling.batch import narrowest_dtype
from negserve_server.sampling.config import Kind, Slot, Split
from negserve_server.service.limits import Limits, check_limit

SLOTS: dict[int, Slot] = {pb.SLOT_HEAD: "head", pb.SLOT_RELATION: "relation", pb.SLOT_TAIL: "tail"}
SPLITS: dict[int, Split] = {
    pb.SPLIT_TRAINING: "training",
    pb.SPLIT_VALIDATION: "validation",
    pb.SPLIT_TESTING: "testing",
}
KINDS: dict[int, Kind] = {
    pb.SAMPLER_KIND_BASIC: "basic",
    pb.SAMPLER_KIND_BERNOULLI: "bernoulli",
    pb.SAMPLER_KIND_PSEUDO_TYPED: "pseudotyped",
}
SLOT_VALUES = {name: value for value, name in SLOTS.items()}
SPLIT_VALUES = {name: value for value, name in SPLITS.items()}
KIND_VALUES = {name: value for value, name in KINDS.items()}
_WIDTHS = (1, 2, 4, 8)


def decode_ids(ids: pb.Ids, field: str) -> NDArray[np.int64]:
    """Decode a tensor of ids, shape (n,).

    :raises InvalidInput: for an unknown width, or data that is not a whole number of ids
    """
    if not ids.data:
        return np.empty(0, dtype=np.int64)
    if ids.width not in _WIDTHS:
        raise InvalidInput(
            f"{field}.width is {ids.width}; give one of {_WIDTHS} bytes",
            reason="INVALID_ID_WIDTH",
            field=f"{field}.width",
            value=ids.width,
            limit=_WIDTHS,
        )
    if len(ids.data) % ids.width:
        raise InvalidInput(
            f"{field}.data has {len(ids.data)} bytes, not a multiple of the width {ids.width}",
            reason="INVALID_ID_WIDTH",
            field=f"{field}.data",
            value=len(ids.data),
            limit=f"a multiple of {ids.width}",
        )
    decoded = np.frombuffer(ids.data, dtype=f"<u{ids.width}")
    row = int(decoded.argmax())
    if int(decoded[row]) >= 2**63:
        slot = field.removesuffix("s")
        raise InvalidInput(
            f"{slot} id {decoded[row]} of row {row} is out of range: an id space has at most 2^32",
            reason="RELATION_ID_OUT_OF_RANGE" if slot == "relation" else "ENTITY_ID_OUT_OF_RANGE",
            row=row,
            slot=slot,
            value=decoded[row],
            limit=2**32,
        )
    return decoded.astype(np.int64)


def decode_triples(triples: pb.Triples, limits: Limits) -> NDArray[np.int64]:
    """Decode three columns to shape (n, 3).

    :raises InvalidInput: for columns of unequal length, a bad width, or too many triples
    """
    columns = [
        decode_ids(triples.heads, "heads"),
        decode_ids(triples.relations, "relations"),
        decode_ids(triples.tails, "tails"),
    ]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        found = f"{lengths[0]}, {lengths[1]}, {lengths[2]} (heads, relations, tails)"
        raise InvalidInput(
            f"columns have lengths {found}; give equally many",
            reason="SHAPE_MISMATCH",
            value=found,
            limit="equal lengths",
        )
    check_limit(
        "triples",
        lengths[0],
        limits.max_triples_per_message,
        "split the batch over several messages",
    )
    result = np.empty((lengths[0], 3), dtype=np.int64)
    for index, column in enumerate(columns):
        result[:, index] = column
    return result


def decode_splits(values: Sequence[int], field: str) -> tuple[Split, ...]:
    """Decode splits.

    :raises InvalidConfiguration: for a value that is no split
    """
    for value in values:
        if value not in SPLITS:
            raise InvalidConfiguration(field, value, f"choose from {sorted(SPLITS)}")
    return tuple(SPLITS[value] for value in values)


def decode_config(message: pb.SamplerConfig, limits: Limits) -> SamplerConfig:
    """Decode a sampler configuration.

    :raises InvalidConfiguration: naming the field, its value and what is legal
    :raises InvalidInput: with ``LIMIT_EXCEEDED`` for a k over the server's limit
    """
    if message.kind not in KINDS:
        raise InvalidConfiguration("kind", message.kind, f"choose from {sorted(KINDS)}")
    for slot in message.corruption_scheme:
        if slot not in SLOTS:
            raise InvalidConfiguration("corruption_scheme", slot, f"choose from {sorted(SLOTS)}")
    check_limit(
        "num_negs_per_pos",
        message.num_negs_per_pos,
        limits.max_negatives_per_positive,
        "ask for fewer negatives per positive",
    )
    scheme = tuple(SLOTS[slot] for slot in message.corruption_scheme)
    return SamplerConfig(
        kind=KINDS[message.kind],
        num_negs_per_pos=message.num_negs_per_pos,
        corruption_scheme=scheme or ("head", "tail"),
        filter_splits=decode_splits(message.filter_splits, "filter_splits"),
        seed=message.seed,
        algorithm_version=message.algorithm_version,
    )


def encode_config(config: SamplerConfig) -> pb.SamplerConfig:
    """Encode a configuration in full."""
    return pb.SamplerConfig(
        kind=KIND_VALUES[config.kind],  # type: ignore[arg-type]
        num_negs_per_pos=config.num_negs_per_pos,
        corruption_scheme=[SLOT_VALUES[slot] for slot in config.corruption_scheme],  # type: ignore[misc]
        filter_splits=[SPLIT_VALUES[split] for split in config.filter_splits],  # type: ignore[misc]
        seed=config.seed,
        algorithm_version=config.algorithm_version,
    )


def encode_ids(ids: NDArray[np.unsignedinteger]) -> pb.Ids:
    """Encode ids in their own width, row-major."""
    little_endian = ids.astype(ids.dtype.newbyteorder("<"), copy=False)
    return pb.Ids(data=little_endian.tobytes(), width=ids.dtype.itemsize)


def encode_flags(flags: NDArray[np.bool_]) -> bytes:
    """Pack flags 8 a byte, the first in the lowest bit."""
    return np.packbits(flags, bitorder="little").tobytes()


def encode_batch(batch: CorruptedBatch) -> pb.CorruptedBatch:
    """Encode a corrupted batch; what is the same everywhere is left empty."""
    num_positives, k = batch.replaced.shape
    count_dtype = narrowest_dtype(k + 1)
    message = pb.CorruptedBatch(
        position=batch.position,
        num_positives=num_positives,
        replaced=encode_ids(batch.replaced),
        num_saturated=batch.num_saturated,
    )
    if batch.head_counts.any():
        message.head_counts.CopyFrom(encode_ids(batch.head_counts.astype(count_dtype)))
    if batch.relation_counts.any():
        message.relation_counts.CopyFrom(encode_ids(batch.relation_counts.astype(count_dtype)))
    if batch.mask is not None and batch.num_saturated > 0:
        message.mask = encode_flags(batch.mask)
    return message
