"""Membership of a value in a pair's known values: the hash set against Python's."""

from __future__ import annotations

import numba as nb
import numpy as np
from hypothesis import example, given

from negserve_server.index import PairIndex
from negserve_server.index.kernels import find_pair
from negserve_server.index.members import BUCKET, is_member, members_bytes
from tests.server.index.test_pair_index import (
    LARGEST_ID,
    LARGEST_TRIPLE,
    Triple,
    as_array,
    patient,
    triple_lists,
)


@nb.njit
def _look_up(table, mask, members, num_buckets, keys, values, out):
    for i in range(len(keys)):
        start, _ = find_pair(table, mask, keys[i])
        out[i] = is_member(members, num_buckets, start, np.uint64(values[i]))


def look_up(index: PairIndex, triples: np.ndarray) -> list[bool]:
    keys = triples[:, 0].astype(np.uint64) << np.uint64(32) | triples[:, 1].astype(np.uint64)
    out = np.empty(len(triples), dtype=np.bool_)
    table, members = index.table, index.members()
    _look_up(
        np.uint64(table.ctypes.data),
        np.uint64(len(table) - 1),
        np.uint64(members.ctypes.data),
        np.uint64(len(members)),
        keys,
        np.ascontiguousarray(triples[:, 2]),
        out,
    )
    return out.tolist()


@patient
@given(triple_lists)
@example([])
@example([(0, 0, 0)])
@example([LARGEST_TRIPLE])
@example([(0, 0, value) for value in range(300)] + [(0, 1, value) for value in range(0, 90, 3)])
def test_the_set_holds_exactly_the_known_values(triples: list[Triple]) -> None:
    index = PairIndex.build(as_array(triples), LARGEST_ID + 1)
    near = [
        (first, second, value + step)
        for first, second, value in triples
        for step in (-1, 1)
        if 0 <= value + step <= LARGEST_ID
    ]
    swapped = [(second, first, value) for first, second, value in triples]
    # Pairs without values, with the values that mark empty places.
    absent = [(5, 7, 0), (LARGEST_ID, 1, LARGEST_ID), (1, LARGEST_ID, LARGEST_ID)]
    asked = triples + near + swapped + absent
    assert look_up(index, as_array(asked)) == [triple in set(triples) for triple in asked]


def test_full_buckets_hand_over_to_the_next_one() -> None:
    rng = np.random.default_rng(3)
    triples = np.unique(rng.integers(0, 60, (60_000, 3)), axis=0)
    index = PairIndex.build(triples, 60)
    is_full = (index.members() != np.uint64(2**64 - 1)).all(axis=1)
    assert 0.05 < is_full.mean() < 0.5  # else this shows nothing
    everything = np.stack(np.unravel_index(np.arange(60**3), (60, 60, 60)), axis=1)
    known = np.zeros((60, 60, 60), dtype=np.bool_)
    known[tuple(triples.T)] = True
    assert look_up(index, everything) == known.ravel().tolist()


def test_its_memory_is_known_before_it_is_made() -> None:
    triples = np.random.default_rng(1).integers(0, 300, (5_000, 3))
    index = PairIndex.build(triples, 300)
    members = index.members()
    assert members.ctypes.data % (8 * BUCKET) == 0  # a bucket is one cache line
    assert index.num_values == len(np.unique(triples, axis=0))
    assert members.nbytes == members_bytes(index.num_values) < 14 * index.num_values + 64
