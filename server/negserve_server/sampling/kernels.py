"""The sampling function, compiled: positives and their positions in, negatives out.

`docs/sampling.md` states the same function in prose and formulas. In short, per positive at
position p, with words w0, w1, ... of the generator (see :mod:`.philox`):

1. w0 divides the k negatives among the slots (systematic sampling, so that every count is
   the expectation rounded up or down): slot i ends at ``(k * ends[i] + w0) >> 32``.
2. Negative j takes ``u = (w[1 + j] * m) >> 32`` of the m legal values of its slot, without
   bias (Lemire 2019: a draw in the incomplete last interval is drawn again).
3. Its value is the u-th smallest legal one: not the original, and not known.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from negserve_server.addresses import (
    NOWHERE,
    load_int64,
    load_uint32,
    store_uint32,
)
from negserve_server.compiled import compiled
from negserve_server.index.kernels import find_pair, is_at, lower_bound, pair_key
from negserve_server.index.rank_directory import HEADER, SHORT_LIST
from negserve_server.sampling.philox import fill_words, redraw

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_32 = np.uint64(32)
_2_32 = np.uint64(2**32)
_NO_SKIP = np.uint64(0xFFFFFFFF)
_ALL_IDS = np.uint64(0xFFFFFFFFFFFFFFFF)

# Columns of `places`: addresses of a slot's arrays (uint64 table, uint32 known values, uint32
# directories of the long ones, int64 offsets and uint32 ids of the candidates), and sizes.
_TABLE, _MASK, _KNOWN, _DIRECTORY, _OFFSETS, _CANDIDATES, _NUM_IDS = range(7)

# Columns of `plan`: what a slot of the positive at hand has to offer.
_START, _LENGTH, _FIRST_CANDIDATE, _NUM_LEGAL, _SKIP = range(5)


@nb.njit(inline="always")
def plan_slot(
    original: int, first: int, second: int, relation: int, place: NDArray[np.uint64]
) -> tuple[int, int, int, int, int]:
    """Find the legal values of one slot of one positive.

    Values are ranks among the slot's candidates (the ids themselves where every id is one:
    there are no offsets).

    :param original: the value that is replaced
    :param first: the pair that stays: the other two slots in the order head, relation, tail
    :param second: likewise
    :param place: the slot's row of ``places``
    :return: start and length of the known values; first candidate, or ``_ALL_IDS``; how many
        values are legal; the rank, among the values that are not known, of an original that
        is not known itself, else ``_NO_SKIP``
    """
    num_candidates = place[_NUM_IDS]
    first_candidate = _ALL_IDS
    value = np.uint64(original)
    is_candidate = True
    if place[_OFFSETS] != NOWHERE:
        at = np.uint64(relation)
        first_candidate = np.uint64(load_int64(place[_OFFSETS], at))
        num_candidates = np.uint64(load_int64(place[_OFFSETS], at + _ONE)) - first_candidate
        candidates = place[_CANDIDATES]
        rank = lower_bound(candidates, first_candidate, num_candidates, value)
        is_candidate = is_at(candidates, first_candidate, num_candidates, rank, value)
        value = rank

    start, length = find_pair(place[_TABLE], place[_MASK], pair_key(first, second))
    skip = _NO_SKIP
    num_legal = num_candidates - length
    if is_candidate:
        below = lower_bound(place[_KNOWN], start, length, value)
        if not is_at(place[_KNOWN], start, length, below, value):
            skip = value - below
            num_legal -= _ONE
    return start, length, first_candidate, num_legal, skip


@nb.njit(inline="always")
def draw_legal(
    draws: int, begin: int, end: int, num_legal: int, skip: int, position: int, seed: int
) -> None:
    """Turn words into the ranks of legal values, without bias: ``draws[begin:end]``.

    A draw from 0 .. num_legal - 1, moved past ``skip``.
    """
    wide = np.uint64(num_legal)
    narrow_skip = np.uint32(skip)
    incomplete = np.uint32((_2_32 - wide) % wide)
    rejected = np.uint32(0)
    for j in range(begin, end):
        product = np.uint64(load_uint32(draws, j)) * wide
        rejected |= np.uint32(np.uint32(product) < incomplete)
    if rejected == 0:
        for j in range(begin, end):
            draw = np.uint32((np.uint64(load_uint32(draws, j)) * wide) >> _32)
            store_uint32(draws, j, np.uint32(draw + np.uint32(draw >= narrow_skip)))
        return
    for j in range(begin, end):
        product = np.uint64(load_uint32(draws, j)) * wide
        draw = np.uint32(product >> _32)
        if np.uint32(product) < incomplete:
            draw = np.uint32(redraw(j, num_legal, position, seed))
        store_uint32(draws, j, np.uint32(draw + np.uint32(draw >= narrow_skip)))


@nb.njit(inline="always")
def pass_known(
    draws: int, begin: int, end: int, known: int, directory: int, start: int, length: int
) -> None:
    """Move draws past the known values: u becomes the u-th smallest value that is not known."""
    if length <= np.uint64(SHORT_LIST):
        for i in range(start, start + length):
            value = load_uint32(known, i)
            for j in range(begin, end):
                draw = load_uint32(draws, j)
                store_uint32(draws, j, np.uint32(draw + np.uint32(draw >= value)))
        return
    place = np.uint64(load_uint32(known, start + length))
    shift = np.uint64(load_uint32(directory, place))
    steps = np.int64(load_uint32(directory, place + _ONE))
    last = np.uint64(load_uint32(directory, place + np.uint64(2)))
    buckets = place + np.uint64(HEADER)
    for j in range(begin, end):
        draw = np.uint64(load_uint32(draws, j))
        bucket = buckets + min(draw >> shift, last)
        low = np.uint64(load_uint32(directory, bucket))
        high = np.uint64(load_uint32(directory, bucket + _ONE))
        for _ in range(steps):
            # Branch-free: whether the middle one lies before the draw is a coin toss.
            middle = (low + high) >> _ONE
            is_before = (middle < high) & (
                np.uint64(load_uint32(known, start + middle)) <= draw + middle
            )
            low = middle + _ONE if is_before else low
            high = high if is_before else middle
        store_uint32(draws, j, np.uint32(draw + low))


@compiled
def corrupt(
    positives: NDArray[np.int64],
    position: int,
    seed: int,
    slot_ends: NDArray[np.uint64],
    scheme: tuple[bool, bool, bool],
    places: NDArray[np.uint64],
    replaced: NDArray[np.unsignedinteger],
    counts: NDArray[np.uint32],
    saturated: NDArray[np.bool_],
) -> bool:
    """Corrupt a batch.

    :param positives: shape (n, 3)
    :param position: uint64 position of the first positive; the i-th has ``position + i``
    :param seed: uint64 key of the generator
    :param slot_ends: per relation, where head and relation end among all slots, as shares in
        2^-32, shape (num_relations, 2)
    :param scheme: which slots may be replaced
    :param places: where each slot's arrays are, shape (3, 7); the caller keeps them alive
    :param replaced: written, shape (n, k), any unsigned dtype that holds the ids
    :param counts: written, negatives per slot of each positive, shape (3, n)
    :param saturated: written, where no slot had a legal value, shape (n,)
    :return: False, with nothing of use written, if an id is outside its id space
    """
    k = np.uint64(replaced.shape[1])
    num_words = replaced.shape[1] + 1
    words = np.empty(4 * ((num_words + 3) // 4), dtype=np.uint32)
    words_address = np.uint64(words.ctypes.data)
    draws = words_address + np.uint64(4)  # behind the first word, which divides the slots
    plan = np.empty((3, 5), dtype=np.uint64)
    count = np.empty(3, dtype=np.uint64)
    num_entities, num_relations = np.int64(places[0, _NUM_IDS]), np.int64(places[1, _NUM_IDS])

    for i in range(positives.shape[0]):
        head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
        if not (
            0 <= head < num_entities and 0 <= relation < num_relations and 0 <= tail < num_entities
        ):
            return False
        at = np.uint64(position) + np.uint64(i)
        fill_words(words_address, num_words, at, seed)

        first_word = np.uint64(words[0])
        head_end = (k * slot_ends[relation, 0] + first_word) >> _32
        relation_end = (k * slot_ends[relation, 1] + first_word) >> _32
        count[0] = head_end
        count[1] = relation_end - head_end
        count[2] = k - relation_end

        homeless = _ZERO
        with_all = False
        while True:
            # First the slots that have negatives; all of the scheme if one is saturated.
            for slot in range(3):
                if count[slot] > _ZERO or (with_all and scheme[slot]):
                    original, first, second = head, relation, tail
                    if slot == 1:
                        original, first, second = relation, head, tail
                    elif slot == 2:
                        original, first, second = tail, head, relation
                    start, length, first_candidate, num_legal, skip = plan_slot(
                        original, first, second, relation, places[slot]
                    )
                    plan[slot, _START] = start
                    plan[slot, _LENGTH] = length
                    plan[slot, _FIRST_CANDIDATE] = first_candidate
                    plan[slot, _NUM_LEGAL] = num_legal
                    plan[slot, _SKIP] = skip
                    if num_legal == _ZERO and not with_all:
                        homeless += count[slot]
            if with_all or homeless == _ZERO:
                break
            with_all = True

        saturated[i] = False
        if homeless > _ZERO:
            # A saturated slot falls to the first slot of the scheme that is not.
            shelter = -1
            for slot in range(3):
                if shelter < 0 and scheme[slot] and plan[slot, _NUM_LEGAL] > _ZERO:
                    shelter = slot
            if shelter >= 0:
                for slot in range(3):
                    if count[slot] > _ZERO and plan[slot, _NUM_LEGAL] == _ZERO:
                        count[slot] = _ZERO
                count[shelter] += homeless
            else:
                # Nothing is legal: any id but the original, and the caller masks it.
                saturated[i] = True
                for slot in range(3):
                    plan[slot, _LENGTH] = _ZERO
                    plan[slot, _FIRST_CANDIDATE] = _ALL_IDS
                    plan[slot, _NUM_LEGAL] = places[slot, _NUM_IDS] - _ONE
                    plan[slot, _SKIP] = np.uint64(positives[i, slot])

        begin = _ZERO
        for slot in range(3):
            counts[slot, i] = count[slot]
            end = begin + count[slot]
            if end > begin:
                draw_legal(
                    draws, begin, end, plan[slot, _NUM_LEGAL], plan[slot, _SKIP], at, seed
                )  # fmt: skip
                if plan[slot, _LENGTH] > _ZERO:
                    pass_known(
                        draws, begin, end, places[slot, _KNOWN], places[slot, _DIRECTORY],
                        plan[slot, _START], plan[slot, _LENGTH],
                    )  # fmt: skip
                if plan[slot, _FIRST_CANDIDATE] != _ALL_IDS:
                    ranked = plan[slot, _FIRST_CANDIDATE]
                    ids = places[slot, _CANDIDATES]
                    for j in range(begin, end):
                        rank = np.uint64(load_uint32(draws, j))
                        store_uint32(draws, j, load_uint32(ids, ranked + rank))
            begin = end
        # Unsigned indices: with signed ones, a check for negative ones keeps loops from SIMD.
        row = np.uint64(i)
        for j in range(k):
            replaced[row, j] = words[j + _ONE]
    return True
