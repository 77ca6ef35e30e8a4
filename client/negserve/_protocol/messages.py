"""Between protobuf messages and numpy: encoding, and decoding of what was checked first.

Checks raise :class:`negserve.InvalidAnswerError` with the field, its value and what was expected.
Callers that know the replica and the RPC add them with :func:`answer_from`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve.errors import InvalidAnswerError
from negserve.types.checks.invalid import MAX_UINT64, check_integer, check_name
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig
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

_WIDTHS = (1, 2, 4, 8)
#: Characters of a value that an error repeats.
_MOST_CHARACTERS = 80
_HEXADECIMAL = frozenset("0123456789abcdef")


def encode_ids(column: NDArray[np.integer[Any]], num_ids: int) -> pb.Ids:
    """Encode ids in the narrowest width of their id space, or wider if some are outside it.

    A negative id wraps to a huge one, which the server refuses like any other outside.
    """
    if len(column) == 0:
        return pb.Ids()
    width = _width_of(num_ids)
    # Unsigned, a negative id is a huge one: so one pass finds both kinds of ids outside. The method
    # ``max`` takes twice as long for a small batch.
    unsigned = column.astype(np.int64, copy=False).view(np.uint64)
    if int(np.maximum.reduce(unsigned)) >= num_ids:
        width = 8
    return pb.Ids(data=column.astype(f"<u{width}").tobytes(), width=width)


@lru_cache(64)
def _width_of(num_ids: int) -> int:
    return np.min_scalar_type(max(num_ids - 1, 0)).itemsize


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
        if not isinstance(name, str) or name not in SPLITS:
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
    num_epochs: int = 1,
) -> pb.SampleEpochRequest:
    """Encode a request for what an epoch has from a position on, and for those after it.

    :param num_epochs: most epochs of the stream, 1 to 2^32 - 1
    :raises InvalidRequestError: for an epoch or a start that is no number from 0 to 2^64 - 1
    """
    for field, value in (("epoch", epoch), ("start", start)):
        if type(value) is not int or not 0 <= value <= MAX_UINT64:
            check_integer(field, value, 0, MAX_UINT64)
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
        num_epochs=num_epochs,
    )


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
