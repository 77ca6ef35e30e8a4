"""Between protobuf messages and the engine's types: decode, validate the form, encode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from negserve.types import kinds
from negserve.types.checks.invalid import invalid_configuration
from negserve.types.config import FilterMode, SamplerConfig, Slot, Split
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.epoch import EpochConfig, Tail
from negserve.types.kinds import Kind
from negserve.types.triples import narrowest_dtype
from negserve.v1 import sampler_pb2 as pb
from negserve_server.config.limits import MAX_REQUEST_BYTES, MAX_REQUEST_VALUES, Limits, check_limit
from negserve_server.errors import IdOutOfRange, InvalidInput
from negserve_server.sampling import Sampler

SLOTS: dict[int, Slot] = {pb.SLOT_HEAD: "head", pb.SLOT_RELATION: "relation", pb.SLOT_TAIL: "tail"}
SPLITS: dict[int, Split] = {
    pb.SPLIT_TRAINING: "training",
    pb.SPLIT_VALIDATION: "validation",
    pb.SPLIT_TESTING: "testing",
}
_KIND_NAMES = {
    value: name.removeprefix("SAMPLER_KIND_").replace("_", "").lower()
    for name, value in pb.SamplerKind.items()
}
#: The kinds by value, whose names are alike: ``SAMPLER_KIND_PSEUDO_TYPED`` is ``pseudotyped``.
KINDS: dict[int, Kind] = {
    value: kind for value, name in _KIND_NAMES.items() for kind in kinds.KINDS if kind == name
}
FILTER_MODES: dict[int, FilterMode] = {
    pb.FILTER_MODE_UNSPECIFIED: "exact",
    pb.FILTER_MODE_EXACT: "exact",
    pb.FILTER_MODE_MASK: "mask",
}
TAILS: dict[int, Tail] = {
    pb.TAIL_RULE_UNSPECIFIED: "short",
    pb.TAIL_RULE_SHORT: "short",
    pb.TAIL_RULE_DROP: "drop",
    pb.TAIL_RULE_WRAP: "wrap",
}
SLOT_VALUES = {name: value for value, name in SLOTS.items()}
SPLIT_VALUES = {name: value for value, name in SPLITS.items()}
KIND_VALUES = {name: value for value, name in KINDS.items()}
FILTER_MODE_VALUES = {name: value for value, name in FILTER_MODES.items()}
_Name = TypeVar("_Name", bound=str)
_WIDTHS = (1, 2, 4, 8)
_DEFAULT_ALPHA = SamplerConfig().alpha
_ID_SPACE = 2**32


def decode_ids(ids: pb.Ids, field: str) -> NDArray[np.unsignedinteger]:
    """Decode a column of triples in its own width, shape (n,).

    :raises InvalidInput: for an unknown width, data that is not a whole number of ids, or an
        id that no id space has
    """
    decoded = _decode_unsigned(ids, field)
    if decoded.itemsize < 8 or not len(decoded):
        return decoded
    row = int(decoded.argmax())
    if int(decoded[row]) >= 2**63:
        slot = field.removesuffix("s")
        raise InvalidInput(
            f"{slot} id {decoded[row]} of row {row} is out of range: an id space has at most 2^32",
            reason="RELATION_ID_OUT_OF_RANGE" if slot == "relation" else "ENTITY_ID_OUT_OF_RANGE",
            row=row,
            slot=slot,
            value=decoded[row],
            limit=_ID_SPACE,
        )
    return decoded


def _decode_unsigned(ids: pb.Ids, field: str) -> NDArray[np.unsignedinteger]:
    """Decode a tensor of ids in its own width, shape (n,).

    :raises InvalidInput: for an unknown width, or data that is not a whole number of ids
    """
    if not ids.data:
        return np.empty(0, dtype=np.uint8)
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
            expected=f"a multiple of {ids.width}",
        )
    return np.frombuffer(ids.data, dtype=f"<u{ids.width}")


def decode_triples(triples: pb.Triples, limits: Limits) -> NDArray[np.int64]:
    """Decode three columns to shape (n, 3).

    :raises InvalidInput: for columns of unequal length, a bad width, or too many triples
    """
    columns = [
        decode_ids(triples.heads, "heads"),
        decode_ids(triples.relations, "relations"),
        decode_ids(triples.tails, "tails"),
    ]
    check_equal_lengths(("heads", "relations", "tails"), columns)
    check_limit(
        "triples",
        len(columns[0]),
        limits.max_triples_per_message,
        "split the batch over several messages",
    )
    result = np.empty((len(columns[0]), 3), dtype=np.int64)
    for index, column in enumerate(columns):
        result[:, index] = column
    return result


def decode_pairs(pairs: pb.Pairs, slot: Slot, limits: Limits) -> NDArray[np.int64]:
    """Decode the ids of the slots other than ``slot`` to shape (n, 2).

    :raises InvalidInput: for columns of unequal length, a bad width, or too many pairs
    """
    names = [f"{name}s" for name in SLOTS.values() if name != slot]
    columns = [
        decode_ids(column, name)
        for column, name in zip((pairs.first, pairs.second), names, strict=True)
    ]
    check_equal_lengths(names, columns)
    check_limit(
        "pairs", len(columns[0]), limits.max_triples_per_message, "send them in several messages"
    )
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


def check_equal_lengths(names: Sequence[str], columns: Sequence[Sized]) -> None:
    """Refuse columns of unequal length.

    :raises InvalidInput: with ``SHAPE_MISMATCH``, and the lengths
    """
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        found = f"{', '.join(map(str, lengths))} ({', '.join(names)})"
        raise InvalidInput(
            f"columns have lengths {found}; give equally many",
            reason="SHAPE_MISMATCH",
            value=found,
            expected="equal lengths",
        )


@contextmanager
def rows_after(num_rows: int) -> Iterator[None]:
    """Count rows of a part of a message from the beginning of the message, in errors."""
    try:
        yield
    except IdOutOfRange as error:
        raise error.after(num_rows) from None


def count_ids(ids: pb.Ids) -> int:
    """Say how many ids a column holds, if it is in order."""
    return len(ids.data) // (ids.width or 1)


def batch_bytes(sampler: Sampler, num_positives: int) -> int:
    """Say how large a message with the negatives of so many positives is at most, about."""
    config = sampler.config
    ids = sampler.tables.dtype.itemsize + (4 if config.log_q else 0)
    return num_positives * (config.num_negs_per_pos * (8 * ids + config.masked) // 8 + 8) + 64


def decode_epoch(request: pb.SampleEpochRequest, limits: Limits) -> EpochConfig:
    """Decode which positives a ``SampleEpoch`` request asks for.

    :raises InvalidRequestError: naming the field, its value and what is legal
    :raises InvalidInput: with ``LIMIT_EXCEEDED`` for a batch that no message holds
    """
    num_negs_per_pos = max(1, request.sampler.num_negs_per_pos)
    most = min(
        limits.negatives_per_message(request.sampler.log_q) // num_negs_per_pos,
        limits.max_triples_per_message,
    )
    if request.batch_size < 1:
        raise invalid_configuration("batch_size", 0, f"give a number from 1 to {most}", limit=most)
    config = EpochConfig(
        batch_size=request.batch_size,
        rank=request.rank,
        world_size=request.world_size or 1,
        worker=request.worker,
        num_workers=request.num_workers or 1,
        tail=look_up(TAILS, request.tail, "tail"),
        shuffle=not request.keep_order,
        relations=(
            _decode_unsigned(request.relations, "relations")  # type: ignore[arg-type]
            if request.HasField("relations")
            else None
        ),
        weights=request.weights,
    )
    check_limit(
        "batch_size",
        config.batch_size,
        most,
        f"with {num_negs_per_pos} negatives each; ask for smaller batches",
    )
    return config


def encode_limits(limits: Limits) -> pb.Limits:
    """Encode what one message may ask for."""
    return pb.Limits(
        max_negatives_per_positive=limits.max_negatives_per_positive,
        max_negatives_per_message=limits.max_negatives_per_message,
        max_triples_per_message=limits.max_triples_per_message,
        max_request_bytes=MAX_REQUEST_BYTES,
        max_unanswered_messages=limits.max_unanswered_messages,
        max_unanswered_bytes=limits.max_unanswered_bytes,
        max_streams=limits.max_streams,
        max_streams_per_connection=limits.max_streams_per_connection,
        max_streams_per_token=limits.max_streams_per_token,
        idle_timeout_seconds=limits.idle_timeout,
        upload_idle_timeout_seconds=limits.upload_idle_timeout,
        max_stream_seconds=limits.max_stream_seconds,
        max_publish_triples=limits.max_publish_triples,
        max_publish_ids=limits.max_publish_ids,
        max_publish_graphs=limits.max_publish_graphs,
        max_values_per_message=MAX_REQUEST_VALUES,
    )


def decode_splits(values: Sequence[int], field: str) -> tuple[Split, ...]:
    """Decode splits.

    :raises InvalidRequestError: for a value that is no split
    """
    _check_count(field, len(values), len(SPLITS))
    return tuple(look_up(SPLITS, value, field) for value in values)


def decode_config(message: pb.SamplerConfig, limits: Limits) -> SamplerConfig:
    """Decode a sampler configuration.

    :raises InvalidRequestError: naming the field, its value and what is legal
    :raises InvalidInput: with ``LIMIT_EXCEEDED`` for a k over the server's limit, or for
        ``candidates`` that are no ids
    """
    _check_count("corruption_scheme", len(message.corruption_scheme), len(SLOTS))
    _check_count("mixture", len(message.mixture), len(KINDS))
    scheme = tuple(look_up(SLOTS, slot, "corruption_scheme") for slot in message.corruption_scheme)
    kind = look_up(KINDS, message.kind, "kind")
    most = limits.negatives_per_positive(message.log_q)
    if message.num_negs_per_pos < 1:
        raise invalid_configuration(
            "num_negs_per_pos", 0, f"give a number from 1 to {most}", limit=most
        )
    check_limit(
        "num_negs_per_pos", message.num_negs_per_pos, most, "ask for fewer negatives per positive"
    )
    return SamplerConfig(
        kind=kind,
        mixture=tuple(
            (look_up(KINDS, part.kind, "mixture"), part.shares) for part in message.mixture
        ),
        alpha=message.alpha if message.HasField("alpha") else _DEFAULT_ALPHA,
        num_negs_per_pos=message.num_negs_per_pos,
        corruption_scheme=scheme or ("head", "tail"),
        candidates=(
            _decode_unsigned(message.candidates, "candidates")  # type: ignore[arg-type]
            if message.HasField("candidates")
            else None
        ),
        filter_splits=decode_splits(message.filter_splits, "filter_splits"),
        filter_mode=look_up(FILTER_MODES, message.filter_mode, "filter_mode"),
        distinct=message.distinct,
        chunk_size=message.chunk_size or 1,
        log_q=message.log_q,
        seed=message.seed,
        algorithm_version=message.algorithm_version,
    )


def _check_count(field: str, count: int, most: int) -> None:
    """Refuse a list with repetitions for sure: an error must not quote a million values."""
    if count > most:
        raise invalid_configuration(field, f"{count} values", "give different ones", limit=most)


def look_up(names: Mapping[int, _Name], value: int, field: str) -> _Name:
    """Return the name of an enum value.

    :raises InvalidRequestError: for a value without a name
    """
    if value not in names:
        numbers = tuple(sorted(names))
        raise invalid_configuration(field, value, f"choose from {list(numbers)}", limit=numbers)
    return names[value]


def encode_config(config: SamplerConfig) -> pb.SamplerConfig:
    """Encode a configuration in full, but for candidates, and an alpha without effect."""
    message = pb.SamplerConfig(
        kind=KIND_VALUES[config.kind],  # type: ignore[arg-type]
        num_negs_per_pos=config.num_negs_per_pos,
        corruption_scheme=[SLOT_VALUES[slot] for slot in config.corruption_scheme],  # type: ignore[misc]
        filter_splits=[SPLIT_VALUES[split] for split in config.filter_splits],  # type: ignore[misc]
        seed=config.seed,
        algorithm_version=config.algorithm_version,
        mixture=[
            pb.MixturePart(kind=KIND_VALUES[kind], shares=shares)  # type: ignore[arg-type]
            for kind, shares in config.mixture
        ],
        filter_mode=FILTER_MODE_VALUES[config.filter_mode],  # type: ignore[arg-type]
        distinct=config.distinct,
        chunk_size=config.chunk_size,
        log_q=config.log_q,
    )
    if config.uses_alpha:
        message.alpha = config.alpha
    return message


def fill_ids(message: pb.Ids, ids: NDArray[np.unsignedinteger]) -> None:
    """Encode ids in their own width, row-major."""
    message.data = ids.astype(ids.dtype.newbyteorder("<"), copy=False).tobytes()
    message.width = ids.dtype.itemsize


def encode_flags(flags: NDArray[np.bool_]) -> bytes:
    """Pack flags 8 a byte, the first in the lowest bit."""
    return np.packbits(flags, bitorder="little").tobytes()


def encode_batch(
    batch: CorruptedBatch, message: pb.CorruptedBatch | None = None
) -> pb.CorruptedBatch:
    """Encode a corrupted batch; what is the same everywhere is left empty.

    :param message: an empty message to fill, where it is a part of another; None for a new one
    """
    count_dtype = narrowest_dtype(batch.replaced.shape[1] + 1)
    message = pb.CorruptedBatch() if message is None else message
    message.position = batch.position
    message.num_positives = len(batch.head_counts)
    message.num_saturated = batch.num_saturated
    fill_ids(message.replaced, batch.replaced)
    if batch.head_counts.any():
        fill_ids(message.head_counts, batch.head_counts.astype(count_dtype))
    if batch.relation_counts.any():
        fill_ids(message.relation_counts, batch.relation_counts.astype(count_dtype))
    if batch.mask is not None and not batch.mask.all():
        message.mask = encode_flags(batch.mask)
    if batch.log_q is not None:
        message.log_q = batch.log_q.astype("<f4", copy=False).tobytes()
    return message
