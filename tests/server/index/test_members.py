"""Membership of a value in a pair's known values: the hash set against Python's."""

from __future__ import annotations

import numba as nb
import numpy as np
from hypothesis import example, given
from numpy.typing import NDArray

from negserve.types.config import SamplerConfig
from negserve_server.graph import TriplesFactory
from negserve_server.index import PairIndex
from negserve_server.index.members import LINE, is_member, member_bytes
from negserve_server.index.pair_directory import find_pair
from negserve_server.jit.addresses import address_of
from tests.server.index.test_pair_index import (
    LARGEST_ID,
    Triple,
    as_array,
    build,
    patient,
    triple_lists,
)

EMPTY = 2**32 - 1
#: The most ids of a set that has few keys.
NUM_IDS = 2**20


@nb.njit
def _look_up(directory, lists, layout, multiplier, members, member_layout, triples, out):
    for i in range(len(triples)):
        start, length = find_pair(
            directory, lists, layout, multiplier, triples[i, 0], triples[i, 1]
        )
        value = np.uint64(triples[i, 2])
        out[i] = is_member(members, member_layout, lists, start, length, value)


def look_up(index: PairIndex, triples: NDArray[np.int64]) -> list[bool]:
    out = np.empty(len(triples), dtype=np.bool_)
    members = index.members()
    _look_up(*index.address, address_of(members.lines), np.uint64(members.layout), triples, out)
    return out.tolist()


def fold(triples: list[Triple]) -> list[Triple]:
    """Triples with values below ``NUM_IDS``."""
    return [(first, second, value % NUM_IDS) for first, second, value in triples]


@patient
@given(triple_lists)
@example([])
@example([(0, 0, 0)])
@example([(LARGEST_ID, LARGEST_ID, NUM_IDS - 1)])
@example([(0, 0, value) for value in range(300)] + [(0, 1, value) for value in range(0, 90, 3)])
def test_the_set_holds_exactly_the_known_values(triples: list[Triple]) -> None:
    triples = fold(triples)
    index = build(as_array(triples), num_values=NUM_IDS)
    near = [
        (first, second, value + step)
        for first, second, value in triples
        for step in (-1, 1)
        if 0 <= value + step < NUM_IDS
    ]
    swapped = fold([(second, first, value) for first, second, value in triples])
    absent = [(5, 7, 0), (LARGEST_ID, 1, NUM_IDS - 1), (1, LARGEST_ID, NUM_IDS - 1)]
    asked = triples + near + swapped + absent
    assert look_up(index, as_array(asked)) == [triple in set(triples) for triple in asked]


def test_values_without_room_in_their_line_are_found() -> None:
    rng = np.random.default_rng(3)
    triples = np.unique(rng.integers(0, 60, (60_000, 3)), axis=0)
    # As many as a number of lines takes at most.
    triples = rng.permutation(triples)[: 10 * 2**12]
    index = build(triples, 60, 60, 60)
    lines = index.members().lines
    num_left_out = len(triples) - np.count_nonzero(lines != EMPTY)
    assert num_left_out > 10  # else this shows nothing
    everything = np.stack(np.unravel_index(np.arange(60**3), (60, 60, 60)), axis=1)
    known = np.zeros((60, 60, 60), dtype=np.bool_)
    known[tuple(triples.T)] = True
    assert look_up(index, np.ascontiguousarray(everything)) == known.ravel().tolist()


def test_its_memory_is_known_before_it_is_made() -> None:
    triples = np.random.default_rng(1).integers(0, 300, (5_000, 3))
    index = build(triples, 300, 300, 300)
    members = index.members()
    assert members.lines.ctypes.data % (4 * LINE) == 0  # a line is one cache line
    assert index.member_layout is not None
    assert members.nbytes == member_bytes(index.member_layout) < 13 * index.num_values + 64


def test_the_sampler_does_without_a_set_where_there_are_too_many_ids() -> None:
    triples = np.array([[0, 0, 1], [1, 0, 2**32 - 1]])
    wide = TriplesFactory({"training": triples}, num_entities=2**32)
    assert wide.filter_index(("training",)).by_slot("tail").member_layout is None
    config = SamplerConfig(kind="basic", num_negs_per_pos=1, filter_splits=("training",))
    batch = wide.sampler(config).sample(np.repeat(triples, 500, axis=0), 0)
    assert batch.replaced.max() > 2**31
    # The same negatives as the general kernel draws, of which each is the first of two.
    assert batch.replaced.shape == (1000, 1)
