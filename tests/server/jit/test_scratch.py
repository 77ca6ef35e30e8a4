"""A call allocates only its answer; other memory of kernels belongs to the thread."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from numba.core.runtime import _nrt_python, rtsys

from negserve_server.jit.scratch import scratch
from negserve_server.sampling import CorruptedBatch
from tests.support.graphs import load

SAMPLERS: list[dict[str, Any]] = [
    {"kind": "basic", "num_negs_per_pos": 1},
    {"kind": "bernoulli", "num_negs_per_pos": 1, "filter_mode": "mask"},
    {"kind": "bernoulli", "num_negs_per_pos": 64},
    {"kind": "basic", "num_negs_per_pos": 1000},
    {"kind": "typed", "num_negs_per_pos": 16},
    {"kind": "degree", "num_negs_per_pos": 16, "log_q": True},
    {"kind": "bernoulli", "num_negs_per_pos": 64, "distinct": True},
    {"kind": "basic", "num_negs_per_pos": 64, "chunk_size": 16, "filter_mode": "mask"},
    {"kind": "degree", "num_negs_per_pos": 64, "chunk_size": 16, "filter_mode": "mask"},
]
#: Arrays that Python hands to a kernel: numba makes a handle of some bytes for each.
NUM_ARRAYS = 3
#: Python's objects of a call: arrays' heads, tuples, numbers.
OBJECTS_BYTES = 4096


@pytest.fixture
def numba_counts() -> Iterator[None]:
    was_on = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    yield
    if not was_on:
        _nrt_python.memsys_disable_stats()


def answer_bytes(batch: CorruptedBatch) -> int:
    num_positives = len(batch.head_counts)
    arrays = [batch.replaced, batch.log_q, batch.mask]
    own = sum(a.nbytes for a in arrays if a is not None and 0 not in a.strides)
    # Counts of three slots, and the flags of saturated positives, also as a mask.
    return own + 14 * num_positives


@pytest.mark.usefixtures("numba_counts")
@pytest.mark.parametrize("options", SAMPLERS, ids=str)
def test_a_call_allocates_its_answer_only(options: dict[str, Any]) -> None:
    factory = load("world")
    sampler = factory.open_sampler(filter_splits=("training",), **options)
    positives = factory.mapped_triples.copy()  # one that may not be written to is copied
    sampler.sample(positives, 0)

    before = rtsys.get_allocation_stats()
    batch = sampler.sample(positives, 0)
    assert 1 <= rtsys.get_allocation_stats().alloc - before.alloc <= NUM_ARRAYS

    tracemalloc.start()
    try:
        del batch
        tracemalloc.reset_peak()
        begin, _ = tracemalloc.get_traced_memory()
        batch = sampler.sample(positives, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - begin <= answer_bytes(batch) + OBJECTS_BYTES


def test_scratch_is_kept_grows_and_is_a_threads_own() -> None:
    address = scratch(100)
    assert address % 64 == 0
    assert scratch(50) == address
    larger = scratch(10_000_000)
    assert larger % 64 == 0
    assert scratch(100) == larger

    others = []
    other = threading.Thread(target=lambda: others.append(scratch(100)))
    other.start()
    other.join()
    assert len(others) == 1
    assert others[0] != larger
