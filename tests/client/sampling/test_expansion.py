"""Whole triples and columns from compact batches: by numpy, by compiled code, on a device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from negserve import CorruptedBatch, EpochBatch, InvalidRequestError
from negserve.data.triple_batch import compact_batch, triple_batch
from negserve.sampling import compiled_expansion, expand, expand_columns, expansion

DTYPES = (np.uint8, np.uint16, np.uint32)


@pytest.fixture(params=["numba", "no numba"], scope="module", autouse=True)
def numba(request: pytest.FixtureRequest) -> Iterator[str]:
    """With numba, and as if it were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "no numba":
            patch.setitem(sys.modules, "numba", None)
        compiled_expansion._compiled.cache_clear()
        kernel = compiled_expansion._compiled(compiled_expansion._write_triples)
        assert (kernel is None) == (request.param == "no numba")
        yield request.param
    compiled_expansion._compiled.cache_clear()


@st.composite
def batches(draw: st.DrawFn) -> tuple[CorruptedBatch, np.ndarray]:
    """Draw any batch, and positives in any memory layout."""
    n, k = draw(
        st.tuples(st.integers(0, 70), st.sampled_from([1, 2, 7, 8, 64, 300]))
        | st.sampled_from([(2048, 8), (300, 64), (16, 1024)])  # numpy has another way for many
    )
    chunk_size = draw(st.sampled_from([1, 1, 2, 3, 100]))
    position = draw(st.integers(0, 2**64 - 100) | st.integers(0, 10))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    schemes = [(1, 1, 0), (1, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 1, 1)]
    with_head, with_tail, with_relation = draw(st.sampled_from(schemes))
    shares = np.array([with_head, with_relation, with_tail], dtype=float)
    counts = rng.multinomial(k, shares / shares.sum(), size=n) if shares.any() else None
    if counts is None:  # all in one slot
        counts = np.zeros((n, 3), dtype=int)
        counts[:, draw(st.integers(0, 2))] = k
    dtype: Any = draw(st.sampled_from(DTYPES))
    # Counts have the dtype that holds k, or if all are 0 the narrowest one.
    head_counts, relation_counts = (
        of_slot.astype(draw(st.sampled_from(DTYPES[int(of_slot.max(initial=0)) > 255 :])))
        for of_slot in (counts[:, 0], counts[:, 1])
    )
    rows = len({(position + i) // chunk_size for i in range(n)})
    replaced = rng.integers(0, np.iinfo(dtype).max, (rows, k), dtype=dtype, endpoint=True)
    replaced.flags.writeable = draw(st.booleans())  # arrays of a message are not
    positives = rng.integers(0, 2 ** draw(st.sampled_from([7, 8, 16, 32, 62])), (n, 3))
    layouts = [positives, np.asfortranarray(positives), np.repeat(positives, 2, axis=0)[::2]]
    batch = CorruptedBatch(
        position=position,
        replaced=np.asfortranarray(replaced) if draw(st.booleans()) else replaced,
        head_counts=head_counts,
        relation_counts=relation_counts,
        mask=rng.random((n, k)) < 0.5 if draw(st.booleans()) else None,
        num_saturated=0,
        chunk_size=chunk_size,
        log_q=-rng.random((n, k), dtype=np.float32) if draw(st.booleans()) else None,
    )
    return batch, draw(st.sampled_from(layouts))


def plain(batch: CorruptedBatch, positives: np.ndarray) -> np.ndarray:
    """Rebuild triples as the definition says."""
    n, k = batch.num_positives, batch.replaced.shape[1]
    triples = np.empty((n, k, 3), dtype=np.int64)
    for i in range(n):
        row = (batch.position + i) // batch.chunk_size - batch.position // batch.chunk_size
        slots = np.full(k, 2)
        head_end = int(batch.head_counts[i])
        slots[:head_end] = 0
        slots[head_end : head_end + int(batch.relation_counts[i])] = 1
        triples[i] = positives[i]
        triples[i, np.arange(k), slots] = batch.replaced[row]
    return triples


@given(batches())
def test_all_ways_give_the_triples_of_the_definition(drawn: tuple[CorruptedBatch, np.ndarray]):
    batch, positives = drawn
    wanted = plain(batch, positives)
    tensor = torch.from_numpy(positives)
    for triples in (batch.triples(positives), expand(batch, tensor).numpy()):
        assert triples.dtype == np.int64
        assert triples.flags.c_contiguous
        np.testing.assert_array_equal(triples, wanted)
    for columns in (batch.columns(positives), expand_columns(batch, tensor).numpy()):
        assert columns.dtype == np.int64
        assert columns.flags.c_contiguous
        np.testing.assert_array_equal(columns.transpose(1, 2, 0), wanted)


@given(batches())
def test_batches_of_a_stream_have_the_triples_of_the_definition(
    drawn: tuple[CorruptedBatch, np.ndarray],
):
    batch, positives = drawn
    wanted = plain(batch, positives)
    epoch = EpochBatch(0, 0, positives, batch, None)
    largest_id = int(positives.max(initial=0))
    by_row, by_column = (triple_batch(epoch, {}, by_column=flag) for flag in (False, True))
    compact = compact_batch(epoch, largest_id, {})
    for whole in (by_row, by_column, compact.expand()):
        np.testing.assert_array_equal(whole.positives.numpy(), positives)
        np.testing.assert_array_equal(whole.negatives.numpy(), wanted)
        columns = (whole.heads, whole.relations, whole.tails)
        np.testing.assert_array_equal(torch.stack(columns, -1).numpy(), wanted)
        for ours, theirs in ((whole.mask, batch.mask), (whole.log_q, batch.log_q)):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                np.testing.assert_array_equal(ours.numpy(), theirs)
    for column in (by_column.heads, by_column.relations, by_column.tails):
        assert column.is_contiguous()


@given(batches())
def test_devices_rebuild_the_same(drawn: tuple[CorruptedBatch, np.ndarray]):
    """On the CPU, as other devices are not everywhere."""
    batch, positives = drawn
    wanted = plain(batch, positives)
    tensor = torch.from_numpy(positives)
    np.testing.assert_array_equal(expansion._rebuilt(batch, tensor).numpy(), wanted)


def example() -> tuple[CorruptedBatch, np.ndarray]:
    batch = CorruptedBatch(
        position=0,
        replaced=np.arange(300, 340, dtype=np.uint16).reshape(2, 20),
        head_counts=np.array([20, 3], dtype=np.uint8),
        relation_counts=np.zeros(2, dtype=np.uint8),
        mask=None,
        num_saturated=0,
    )
    return batch, np.array([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("number", [0, 1, 3])
def test_positives_of_another_number_are_refused(number: int):
    batch, _ = example()
    positives = np.zeros((number, 3), dtype=np.int64)
    tensor = torch.from_numpy(positives)
    for call in (
        lambda: batch.triples(positives),
        lambda: batch.columns(positives),
        lambda: expand(batch, tensor),
        lambda: expand_columns(batch, tensor),
    ):
        with pytest.raises(InvalidRequestError, match=f"have {number} rows; give 2") as caught:
            call()
        assert caught.value.reason == "SHAPE_MISMATCH"
    with pytest.raises(InvalidRequestError, match=r"give \(2, 3\)"):
        expand(batch, tensor.to("meta"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replaced": np.zeros((1, 20), dtype=np.uint16)}, "replaced have 1 rows; give 2"),
        ({"relation_counts": np.zeros(1, dtype=np.uint8)}, "relation_counts have 1 rows; give 2"),
        ({"chunk_size": 2}, "replaced have 2 rows; give 1"),
    ],
)
def test_a_batch_that_does_not_fit_itself_is_refused(change: dict[str, Any], message: str):
    batch, positives = example()
    with pytest.raises(InvalidRequestError, match=message):
        expand(replace(batch, **change), torch.from_numpy(positives))


def test_counts_above_k_write_nothing_elsewhere():
    batch, positives = example()
    wrong = replace(batch, head_counts=np.array([255, 3], np.uint8))
    for counts in (np.array([0, 0], np.uint8), np.array([200, 255], np.uint8)):
        wrong = replace(wrong, relation_counts=counts)
        triples = expand(wrong, torch.from_numpy(positives)).numpy()
        np.testing.assert_array_equal(triples[0], batch.triples(positives)[0])
        np.testing.assert_array_equal(triples[1, :3], batch.triples(positives)[1, :3])


@pytest.mark.parametrize("with_relation", [False, True])
def test_counts_that_are_all_0_may_be_narrower_than_k(with_relation: bool):
    n, k = 16, 1024  # more than a byte counts
    zeros, all_of_them = np.zeros(n, np.uint8), np.full(n, k, np.uint16)
    batch = CorruptedBatch(
        position=0,
        replaced=np.ones((n, k), np.uint8),
        head_counts=zeros,
        relation_counts=all_of_them if with_relation else zeros,
        mask=None,
        num_saturated=0,
    )
    positives = np.full((n, 3), 7)
    wanted = [7, 1, 7] if with_relation else [7, 7, 1]
    for triples in (batch.triples(positives), expand(batch, torch.from_numpy(positives)).numpy()):
        assert (triples == wanted).all()
