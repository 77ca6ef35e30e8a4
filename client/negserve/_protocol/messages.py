"""Between protobuf messages and numpy: encoding, and decoding of what was checked first.

Checks raise :class:`negserve.InvalidAnswerError` with the field, its value and what was expected.
Callers that know the replica and the RPC add them with :func:`answer_from`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from negserve.errors import InvalidAnswerError, InvalidRequestError
from negserve.types.config import SamplerConfig
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

_WIDTHS = (1, 2, 4, 8)
#: Characters of a value that an error repeats.
_MOST_CHARACTERS = 80
_HEXADECIMAL = frozenset("0123456789abcdef")

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


# What arrived is checked before it is used.


def invalid(field: str, value: object, expected: object) -> InvalidAnswerError:
    """Make the error for a field of an answer.

    :param value: what the answer has
    :param expected: what is legal
    """
    texts = [str(each) for each in (value, expected)]
    came, limit = (
        text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."
        for text in texts
    )
    return InvalidAnswerError(
        f"{field} is {came}, expected {limit}",
        metadata={"field": field, "value": came, "limit": limit},
    )


def answer_error(error: InvalidAnswerError, target: str, rpc: str) -> InvalidAnswerError:
    """Add the replica and the RPC to the error for a field of an answer."""
    return InvalidAnswerError(
        f"{target}: the answer to {rpc} is invalid: {error}; the server, or a proxy before it, is "
        f"at fault",
        metadata={"rpc": rpc, **error.metadata},
        target=target,
    )


@contextmanager
def answer_from(target: str, rpc: str) -> Iterator[None]:
    """Add the replica and the RPC to an :class:`negserve.InvalidAnswerError` of the block."""
    try:
        yield
    except InvalidAnswerError as error:
        if error.target:
            raise
        raise answer_error(error, target, rpc) from None


def check_equal(field: str, value: object, expected: object) -> None:
    """Check that a field has the one legal value."""
    if value != expected:
        raise invalid(field, value, expected)


def check_range(field: str, value: float, lowest: float, highest: float) -> None:
    """Check that a number is at least lowest and at most highest, and not NaN."""
    if not lowest <= value <= highest:
        raise invalid(field, value, f"{lowest} to {highest}")


def check_fingerprint(field: str, text: str) -> None:
    """Check that a text is a SHA-256 in hexadecimal."""
    if len(text) != 64 or not _HEXADECIMAL.issuperset(text):
        raise invalid(field, repr(text), "64 hexadecimal digits in lower case")


def check_member(field: str, message: object, *expected: str) -> str:
    """Return the name of a message's alternative, which is one of those expected."""
    found = message.WhichOneof("message")  # type: ignore[attr-defined]
    if found not in expected:
        raise invalid(field, found or "nothing that this client knows", " or ".join(expected))
    return str(found)


def check_flags(field: str, data: bytes, count: int) -> None:
    """Check that there are so many flags, 8 a byte, and that unused bits are 0."""
    check_equal(f"{field}, bytes", len(data), (count + 7) // 8)
    if count % 8 and data[-1] >> count % 8:
        raise invalid(f"{field}, unused bits of the last byte", data[-1] >> count % 8, 0)


def join_ids(
    field: str, tensors: Sequence[pb.Ids], lengths: Sequence[int]
) -> NDArray[np.unsignedinteger]:
    """Check and decode tensors of ids, and concatenate them; read-only.

    :param lengths: the number of ids that each must have
    :return: shape (sum of lengths,), in the width of the tensors, or in the largest of them
    """
    pieces: list[bytes] = []
    widths: list[int] = []
    for tensor, length in zip(tensors, lengths, strict=True):
        data, width = tensor.data, tensor.width
        if width not in _WIDTHS and (data or width):
            raise invalid(f"{field}.width", width, "1, 2, 4 or 8")
        if len(data) != length * (width or 1):
            raise invalid(f"{field}.data, bytes", len(data), f"{length} ids of width {width}")
        if data:
            pieces.append(data)
            widths.append(width)
    if not pieces:
        return np.empty(0, dtype=f"<u{tensors[0].width or 1}" if tensors else np.uint8)
    if len(set(widths)) == 1:
        return np.frombuffer(
            pieces[0] if len(pieces) == 1 else b"".join(pieces), dtype=f"<u{widths[0]}"
        )
    return np.concatenate(
        [
            np.frombuffer(piece, dtype=f"<u{width}")
            for piece, width in zip(pieces, widths, strict=True)
        ]
    )


def check_ids(field: str, ids: NDArray[np.unsignedinteger], num_ids: int) -> None:
    """Check that ids are below a number."""
    if ids.size and num_ids < 1 << 8 * ids.itemsize:
        largest = int(ids.max())
        if largest >= num_ids:
            raise invalid(field, largest, f"below {num_ids}")
