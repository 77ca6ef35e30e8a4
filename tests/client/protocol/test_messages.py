"""Messages keep the values put into them."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from negserve import CorruptedBatch, EpochConfig, InvalidRequestError, SamplerConfig
from negserve._protocol import messages
from negserve._protocol.sampler_answers import BatchReader, Columns
from negserve.sampling import expand
from negserve.types.config import SLOTS
from negserve.types.corrupted_batch import join_batches
from negserve.types.dataset import Dataset
from negserve.types.dataset import Limits as ClientLimits
from negserve.types.id_set import IdSet
from negserve.v1 import sampler_pb2 as pb
from negserve_server.config.limits import Limits
from negserve_server.errors import InvalidInput
from negserve_server.sampling import ALGORITHM_VERSION
from negserve_server.sampling.sampler import in_version
from negserve_server.service import messages as server_messages

LIMITS = Limits()


@given(
    rows=st.lists(
        st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
        max_size=20,
    ),
    num_entities=st.integers(1, 2**32),
)
def test_triples_arrive_even_where_they_are_out_of_range(rows, num_entities):  # type: ignore[no-untyped-def]
    triples = np.array(rows, dtype=np.int64).reshape(-1, 3)
    message = messages.encode_triples(triples, num_entities, 5)
    np.testing.assert_array_equal(server_messages.decode_triples(message, LIMITS), triples)


@given(st.integers(1, 2**32))
def test_ids_travel_in_the_narrowest_width(num_ids: int):
    message = messages.encode_ids(np.array([num_ids - 1]), num_ids)
    assert message.width == (1 if num_ids <= 2**8 else 2 if num_ids <= 2**16 else 4)


SIMPLE_KINDS = ["basic", "bernoulli", "pseudotyped", "typed", "degree"]
IDS = st.integers(0, 2**32 - 1)


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Draw any legal configuration, each option at its default or not."""
    kind = draw(st.sampled_from([*SIMPLE_KINDS, "mixture"]))
    kinds = draw(st.lists(st.sampled_from(SIMPLE_KINDS), min_size=1, unique=True))
    parts = kinds if kind == "mixture" else [kind]
    with_relation = all(part in ("basic", "degree") for part in parts)
    shared = kind in ("basic", "bernoulli", "degree") and draw(st.booleans())
    schemes = [("head",), ("tail",), ("head", "tail")]
    if with_relation:
        schemes += [("relation",)] if shared else [("relation",), ("head", "relation", "tail")]
    splits = draw(st.sets(st.sampled_from(["training", "validation", "testing"])))
    distinct = kind not in ("degree", "mixture") and draw(st.booleans())
    drawn = {
        "kind": kind,
        "mixture": tuple(
            (part, draw(st.integers(1, 2**16))) for part in parts if kind == "mixture"
        ),
        "alpha": draw(st.floats(0, 4)) if "degree" in parts else 0.75,
        "num_negs_per_pos": draw(st.integers(1, 2**16)),
        "corruption_scheme": draw(st.sampled_from(schemes)),
        "candidates": draw(st.none() | st.lists(IDS, min_size=1, max_size=9).map(tuple)),
        "filter_splits": tuple(splits),
        "filter_mode": "mask" if splits and (shared or draw(st.booleans())) else "exact",
        "distinct": distinct,
        "chunk_size": draw(st.integers(2, 2**20)) if shared else 1,
        "log_q": not distinct and draw(st.booleans()),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "algorithm_version": draw(st.sampled_from([0, ALGORITHM_VERSION])),
    }
    assert set(drawn) == {field.name for field in fields(SamplerConfig)}
    return drawn


@given(options())
def test_configurations_arrive(options: dict[str, Any]):
    message = messages.encode_config(SamplerConfig(**options))
    decoded = server_messages.decode_config(message, LIMITS)
    assert decoded == SamplerConfig(**options)
    assert SamplerConfig(**options).masked == decoded.masked
    echo = server_messages.encode_config(in_version(decoded))
    assert not echo.HasField("candidates")
    again = server_messages.decode_config(echo, LIMITS)
    assert replace(again, candidates=decoded.candidates) == in_version(decoded)
    told = {field.name for field, _ in echo.ListFields()}
    assert {"algorithm_version", "chunk_size", "corruption_scheme", "filter_mode"} <= told
    assert ("alpha" in told) == ("degree" in dict(decoded.parts))


def test_absent_fields_have_their_defaults():
    message = pb.SamplerConfig(kind=pb.SAMPLER_KIND_DEGREE, num_negs_per_pos=1)
    assert server_messages.decode_config(message, LIMITS) == SamplerConfig(kind="degree")
    message.alpha = 0
    assert server_messages.decode_config(message, LIMITS).alpha == 0


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_candidates_may_have_any_width(width: int):
    ids = pb.Ids(data=np.array([9, 3, 9], dtype=f"<u{width}").tobytes(), width=width)
    message = pb.SamplerConfig(kind=pb.SAMPLER_KIND_BASIC, num_negs_per_pos=1, candidates=ids)
    assert server_messages.decode_config(message, LIMITS).candidates == IdSet((3, 9))


@st.composite
def batches(draw: st.DrawFn) -> CorruptedBatch:
    """Draw any batch that a server may send; masks and log probabilities are arbitrary."""
    n, k = draw(st.integers(0, 9)), draw(st.sampled_from([1, 2, 3, 7, 255, 256, 300]))
    chunk_size = draw(st.sampled_from([1, 1, 2, 3, 100]))
    position = draw(st.integers(0, 2**64 - 10) | st.integers(0, 10))
    dtype: Any = draw(st.sampled_from([np.uint8, np.uint16, np.uint32]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    heads = rng.integers(0, k + 1, n, dtype=np.uint32)
    rows = len({(position + i) // chunk_size for i in range(n)})
    share_valid = draw(st.sampled_from([0.0, 0.5, 1.0]))
    return CorruptedBatch(
        position=position,
        replaced=rng.integers(0, np.iinfo(dtype).max, (rows, k), dtype=dtype, endpoint=True),
        head_counts=heads,
        relation_counts=rng.integers(0, k + 1 - heads, dtype=np.uint32, size=n)
        * np.uint32(chunk_size == 1),
        mask=rng.random((n, k)) < share_valid if chunk_size > 1 or draw(st.booleans()) else None,
        num_saturated=draw(st.integers(0, n)),
        chunk_size=chunk_size,
        log_q=-rng.random((n, k), dtype=np.float32) if draw(st.booleans()) else None,
    )


def config_of(batch: CorruptedBatch) -> SamplerConfig:
    """A configuration of which the batch may be."""
    masks = batch.mask is not None and batch.chunk_size == 1
    return SamplerConfig(
        num_negs_per_pos=batch.replaced.shape[1],
        corruption_scheme=SLOTS if batch.chunk_size == 1 else ("head", "tail"),
        filter_splits=("training",) if masks else (),
        filter_mode="mask" if masks else "exact",
        chunk_size=batch.chunk_size,
        log_q=batch.log_q is not None,
    )


def read(message: pb.CorruptedBatch, config: SamplerConfig) -> CorruptedBatch:
    """Decode a batch without id spaces, which skips the checks of ids."""
    n = message.num_positives
    dataset = Dataset("x", "", 2**32, 2**32, 1, False, ClientLimits(1, 1, 1, 1, 1))
    positives = Columns(*[np.full(n, 2**40, dtype=np.uint64)] * 3)
    reader = BatchReader(dataset, config)
    (batch,) = reader.read("batch", [message], [(message.position, n)], positives)
    return batch


def assert_equal(received: CorruptedBatch, sent: CorruptedBatch) -> None:
    assert received.position == sent.position
    assert received.num_saturated == sent.num_saturated
    assert received.chunk_size == sent.chunk_size
    assert received.replaced.dtype == sent.replaced.dtype
    for field in ("replaced", "head_counts", "relation_counts"):
        np.testing.assert_array_equal(getattr(received, field), getattr(sent, field))
    for field in ("mask", "log_q"):
        ours, theirs = getattr(received, field), getattr(sent, field)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


@given(batches())
def test_batches_arrive(sent: CorruptedBatch):
    message = server_messages.encode_batch(sent)
    assert bool(message.mask) == (sent.mask is not None and not sent.mask.all())
    assert_equal(read(message, config_of(sent)), sent)


@given(batches(), st.data())
def test_parts_of_a_batch_are_put_together(whole: CorruptedBatch, data: st.DataObject):
    """Chunks may span parts: their row is in both parts, and once in the whole."""
    n, c = len(whole.head_counts), whole.chunk_size
    cuts = [0, *sorted(data.draw(st.sets(st.integers(1, max(n - 1, 1)))) if n > 1 else []), n]
    parts, num_saturated = [], whole.num_saturated
    for begin, end in pairwise(cuts):
        position = whole.position + begin
        row, rows = (at // c - whole.position // c for at in (position, position + end - begin - 1))
        part = replace(
            whole,
            position=position,
            replaced=whole.replaced[row : rows + 1],
            head_counts=whole.head_counts[begin:end],
            relation_counts=whole.relation_counts[begin:end],
            mask=None if whole.mask is None else whole.mask[begin:end],
            log_q=None if whole.log_q is None else whole.log_q[begin:end],
            num_saturated=min(num_saturated, end - begin),
        )
        num_saturated -= part.num_saturated
        parts.append(read(server_messages.encode_batch(part), config_of(whole)))
    together = join_batches(parts)
    assert_equal(together, whole)
    np.testing.assert_array_equal(together.rows(), np.concatenate([part.rows() for part in parts]))


@given(batches())
def test_each_positive_finds_its_row(sent: CorruptedBatch):
    received = read(server_messages.encode_batch(sent), config_of(sent))
    n, c = received.num_positives, sent.chunk_size
    expected = [(sent.position + i) // c - sent.position // c for i in range(n)]
    assert received.row_of_positive().tolist() == expected
    np.testing.assert_array_equal(received.rows(), sent.replaced[expected])
    positives = np.arange(3 * n).reshape(n, 3) + 2**33
    triples, slots = received.triples(positives), received.slots()
    assert ((triples != positives[:, None]).sum(-1) == 1).all()
    for column in range(3):
        at = slots == column
        np.testing.assert_array_equal(triples[..., column][at], received.rows()[at])
    expanded = expand(received, torch.from_numpy(positives))
    np.testing.assert_array_equal(expanded.numpy(), triples)


@given(st.binary(max_size=40), st.integers(0, 2**32 - 1))
def test_any_bytes_and_width_are_ids_or_refused(data: bytes, width: int):
    message = pb.Ids(data=data, width=width)
    try:
        ids = server_messages.decode_ids(message, "heads")
    except InvalidInput as error:
        assert error.reason == "INVALID_ID_WIDTH"
        assert error.metadata["field"].startswith("heads.")
        assert width not in (1, 2, 4, 8) or len(data) % width
    else:
        assert len(ids) * width == len(data) or not data


@pytest.mark.parametrize("field", ["epoch", "start"])
@pytest.mark.parametrize("value", [-1, 2**64, 1.5])
def test_a_place_that_fits_no_message_is_refused(field: str, value: Any):
    place = {"epoch": 0, "start": 0, field: value}
    with pytest.raises(InvalidRequestError, match=f"{field}={value} is not legal") as caught:
        messages.encode_epoch_request("x", "", SamplerConfig(), EpochConfig(), **place)
    assert caught.value.reason == "INVALID_CONFIGURATION"
    assert caught.value.metadata["field"] == field


def test_compact_batches_rebuild_triples():
    batch = CorruptedBatch(
        position=0,
        replaced=np.array([[7, 8, 9], [7, 8, 9]], dtype=np.uint8),
        head_counts=np.array([1, 0], dtype=np.uint8),
        relation_counts=np.array([1, 0], dtype=np.uint8),
        mask=None,
        num_saturated=0,
    )
    assert batch.slots().tolist() == [[0, 1, 2], [2, 2, 2]]
    assert batch.triples(np.array([[1, 2, 3], [4, 5, 6]])).tolist() == [
        [[7, 2, 3], [1, 8, 3], [1, 2, 9]],
        [[4, 5, 7], [4, 5, 8], [4, 5, 9]],
    ]


@pytest.mark.parametrize("split", ["train", 1, ["training"]], ids=str)
def test_a_split_without_its_name_is_refused(split: Any):
    with pytest.raises(InvalidRequestError, match="choose from training, validation, testing"):
        messages.encode_splits([split])
