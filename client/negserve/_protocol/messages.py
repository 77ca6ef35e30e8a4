"""Between protobuf messages and numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from negserve.errors import InvalidRequestError
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.epoch import EpochConfig
from negserve.types.invalid import invalid_configuration
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

#: Fields of a configuration that the message has likewise.
_SCALARS = (
    "num_negs_per_pos",
    "seed",
    "algorithm_version",
    "alpha",
    "distinct",
    "chunk_size",
    "log_q",
)
TAILS = {
    "short": pb.TAIL_RULE_SHORT,
    "drop": pb.TAIL_RULE_DROP,
    "wrap": pb.TAIL_RULE_WRAP,
}

_Value = TypeVar("_Value")


def encode_ids(column: NDArray[np.integer[Any]], num_ids: int) -> pb.Ids:
    """Encode ids in the narrowest width of their id space, or wider if some are outside it.

    A negative id wraps to a huge one, which the server refuses like any other outside.
    """
    if len(column) == 0:
        return pb.Ids()
    width = np.min_scalar_type(max(num_ids - 1, 0)).itemsize
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
    return [_look_up(SPLITS, name, "split") for name in splits]


def encode_config(config: SamplerConfig) -> pb.SamplerConfig:
    """Encode a sampler configuration.

    :raises InvalidRequestError: for a name, or a number, that the message can't hold
    """
    message = pb.SamplerConfig(
        kind=_look_up(KINDS, config.kind, "kind"),
        corruption_scheme=[
            _look_up(SLOTS, s, "corruption_scheme") for s in config.corruption_scheme
        ],
        filter_splits=encode_splits(config.filter_splits),
        filter_mode=_look_up(FILTER_MODES, config.filter_mode, "filter_mode"),
        candidates=None if config.candidates is None else _encode_candidates(config.candidates),
    )
    if config.chunk_size == 0:
        # On the wire it stands for 1; here it is refused, as it is in process.
        raise invalid_configuration("chunk_size", 0, "give a number from 1 on")
    for field in _SCALARS:
        value = getattr(config, field)
        try:
            setattr(message, field, value)
        except (ValueError, TypeError) as error:
            raise invalid_configuration(field, value, str(error)) from error
    try:
        for kind, shares in config.mixture:
            message.mixture.add(kind=_look_up(KINDS, kind, "mixture"), shares=shares)
    except (ValueError, TypeError) as error:
        if isinstance(error, InvalidRequestError):
            raise
        raise invalid_configuration(
            "mixture", config.mixture, "give pairs of a kind and its shares"
        ) from error
    return message


def _encode_candidates(candidates: Sequence[int]) -> pb.Ids:
    ids = np.asarray(candidates)
    if ids.ndim != 1 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise invalid_configuration("candidates", candidates, "give entity ids, at least one")
    if int(ids.min()) < 0:
        raise invalid_configuration("candidates", int(ids.min()), "give ids of the graph")
    return encode_ids(ids, int(ids.max()) + 1)


def _look_up(values: Mapping[str, _Value], name: str, field: str) -> _Value:
    if name not in values:
        names = tuple(values)
        raise invalid_configuration(field, name, f"choose from {', '.join(names)}", limit=names)
    return values[name]


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

    :raises InvalidRequestError: for a name, or a number, that the message can't hold
    """
    try:
        request = pb.SampleEpochRequest(
            dataset=dataset,
            expected_fingerprint=fingerprint,
            sampler=encode_config(sampler),
            epoch=epoch,
            batch_size=config.batch_size,
            rank=config.rank,
            world_size=config.world_size,
            start=start,
            tail=_look_up(TAILS, config.tail, "tail"),
            keep_order=not config.shuffle,
            weights=config.weights,
            worker=config.worker,
            num_workers=config.num_workers,
        )
        if config.relations is not None:
            ids = np.asarray(config.relations, dtype="<u8")
            request.relations.CopyFrom(pb.Ids(data=ids.tobytes(), width=8))
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, InvalidRequestError):
            raise
        raise InvalidRequestError(
            f"{config} does not fit the message: {error}", reason="INVALID_CONFIGURATION"
        ) from error
    return request


def concatenate(batches: list[CorruptedBatch]) -> CorruptedBatch:
    """Put consecutive batches of one sampler together; at least one."""
    first = batches[0]
    if len(batches) == 1:
        return first
    rows: list[NDArray[np.unsignedinteger]] = []
    for batch in batches:
        # A batch that begins within a chunk repeats the row that the one before ended with.
        within = batch.position % batch.chunk_size > 0 and batch.position > first.position
        rows.append(batch.replaced[1:] if within else batch.replaced)
    masks = [batch.mask for batch in batches if batch.mask is not None]
    log_qs = [batch.log_q for batch in batches if batch.log_q is not None]
    return CorruptedBatch(
        position=first.position,
        replaced=np.concatenate(rows),
        head_counts=np.concatenate([batch.head_counts for batch in batches]),
        relation_counts=np.concatenate([batch.relation_counts for batch in batches]),
        mask=np.concatenate(masks) if masks else None,
        num_saturated=sum(batch.num_saturated for batch in batches),
        chunk_size=first.chunk_size,
        log_q=np.concatenate(log_qs) if log_qs else None,
    )
