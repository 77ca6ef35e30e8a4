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

from negserve_server.compiled import compiled
from negserve_server.index.kernels import find_pair, lower_bound, pair_key
from negserve_server.index.rank_directory import HEADER, SHORT_LIST
from negserve_server.sampling.philox import fill_words, redraw

_ONE = np.uint64(1)
_32 = np.uint64(32)
_2_32 = np.uint64(2**32)
_NO_SKIP = np.uint32(0xFFFFFFFF)

# Columns of the plan of a slot.
_START, _LENGTH, _FIRST_CANDIDATE, _NUM_LEGAL, _SKIP = range(5)


@nb.njit(inline="always")
def plan_slot(
    plan: NDArray[np.int64],
    slot: int,
    original: int,
    first: int,
    second: int,
    relation: int,
    table: NDArray[np.uint64],
    known: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    candidates: NDArray[np.uint32],
    num_ids: int,
) -> None:
    """Find the legal values of one slot of one positive and note them in ``plan[slot]``.

    Values are ranks among the slot's candidates (the ids themselves where every id is a
    candidate: ``offsets`` is empty). ``_SKIP`` is the rank, among the values that are not
    known, of an original that is not known itself; ``_NO_SKIP`` if there is none.

    :param original: the value that is replaced
    :param first: the pair that stays: the other two slots in the order head, relation, tail
    :param second: likewise
    """
    num_candidates = np.int64(num_ids)
    first_candidate = np.int64(-1)
    is_candidate = True
    if offsets.shape[0] > 0:
        first_candidate = offsets[np.uint64(relation)]
        num_candidates = offsets[np.uint64(relation + 1)] - first_candidate
        rank = lower_bound(candidates, first_candidate, num_candidates, original)
        is_candidate = rank < num_candidates and candidates[first_candidate + rank] == original
        original = rank

    start, length = find_pair(table, pair_key(first, second))
    skip = np.int64(_NO_SKIP)
    num_legal = num_candidates - length
    if is_candidate:
        below = lower_bound(known, start, length, original)
        if below == length or known[start + below] != original:
            skip = original - below
            num_legal -= 1
    plan[slot, _START] = start
    plan[slot, _LENGTH] = length
    plan[slot, _FIRST_CANDIDATE] = first_candidate
    plan[slot, _NUM_LEGAL] = num_legal
    plan[slot, _SKIP] = skip


@nb.njit(inline="always")
def draw_legal(
    draws: NDArray[np.uint32],
    begin: int,
    end: int,
    num_legal: int,
    skip: int,
    position: int,
    seed: int,
) -> None:
    """Turn words into the ranks of legal values, without bias, in ``draws[begin:end]``.

    A draw from 0 .. num_legal - 1, moved past ``skip``.
    """
    wide = np.uint64(num_legal)
    incomplete = np.uint32((_2_32 - wide) % wide)
    rejected = np.uint32(0)
    for j in range(begin, end):
        rejected |= np.uint32(np.uint32(np.uint64(draws[j]) * wide) < incomplete)
    if rejected == 0:
        for j in range(begin, end):
            draw = np.uint32((np.uint64(draws[j]) * wide) >> _32)
            draws[j] = draw + np.uint32(draw >= skip)
        return
    for j in range(begin, end):
        product = np.uint64(draws[j]) * wide
        if np.uint32(product) < incomplete:
            draw = np.uint32(redraw(j, num_legal, position, seed))
        else:
            draw = np.uint32(product >> _32)
        draws[j] = draw + np.uint32(draw >= skip)


@nb.njit(inline="always")
def pass_known(
    draws: NDArray[np.uint32],
    begin: int,
    end: int,
    known: NDArray[np.uint32],
    directory: NDArray[np.uint32],
    start: int,
    length: int,
) -> None:
    """Move draws past the known values: u becomes the u-th smallest value that is not known."""
    first = np.uint64(start)
    if length <= SHORT_LIST:
        for i in range(first, first + np.uint64(length)):
            value = known[i]
            for j in range(begin, end):
                draws[j] += np.uint32(draws[j] >= value)
        return
    place = np.uint64(known[first + np.uint64(length)])
    shift = directory[place]
    steps = np.int64(directory[place + _ONE])
    last = directory[place + np.uint64(2)]
    buckets = place + np.uint64(HEADER)
    for j in range(begin, end):
        draw = np.uint64(draws[j])
        bucket = buckets + min(draw >> np.uint64(shift), np.uint64(last))
        low = np.uint64(directory[bucket])
        high = np.uint64(directory[bucket + _ONE])
        for _ in range(steps):
            # Branch-free: whether the middle one lies before the draw is a coin toss.
            middle = (low + high) >> _ONE
            is_before = (middle < high) & (np.uint64(known[first + middle]) <= draw + middle)
            low = middle + _ONE if is_before else low
            high = high if is_before else middle
        draws[j] = np.uint32(draw + low)


@nb.njit(inline="always")
def draw_slot(
    row: int,
    begin: int,
    end: int,
    draws: NDArray[np.uint32],
    plan: NDArray[np.int64],
    slot: int,
    known: NDArray[np.uint32],
    directory: NDArray[np.uint32],
    candidates: NDArray[np.uint32],
    position: int,
    seed: int,
    replaced: NDArray[np.unsignedinteger],
) -> None:
    """Draw the negatives ``begin:end`` of a row, which replace one slot, as planned."""
    # Unsigned indices: with signed ones, the check for negative ones keeps loops from SIMD.
    first, last = np.uint64(begin), np.uint64(end)
    draw_legal(
        draws, first, last, plan[slot, _NUM_LEGAL], np.uint32(plan[slot, _SKIP]), position, seed
    )
    length = plan[slot, _LENGTH]
    if length > 0:
        pass_known(draws, first, last, known, directory, plan[slot, _START], length)
    i = np.uint64(row)
    if plan[slot, _FIRST_CANDIDATE] >= 0:
        first_candidate = np.uint64(plan[slot, _FIRST_CANDIDATE])
        for j in range(first, last):
            replaced[i, j] = candidates[first_candidate + np.uint64(draws[j])]
    else:
        for j in range(first, last):
            replaced[i, j] = draws[j]


@compiled
def corrupt(
    positives: NDArray[np.int64],
    position: int,
    seed: int,
    slot_ends: NDArray[np.uint64],
    scheme: tuple[bool, bool, bool],
    tables: tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]],
    known: tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]],
    directories: tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]],
    offsets: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    candidates: tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]],
    num_ids: tuple[int, int, int],
    replaced: NDArray[np.unsignedinteger],
    counts: NDArray[np.uint32],
    saturated: NDArray[np.bool_],
) -> bool:
    """Corrupt a batch.

    Tuples hold one entry per slot (head, relation, tail).

    :param positives: shape (n, 3)
    :param position: uint64 position of the first positive; the i-th has ``position + i``
    :param seed: uint64 key of the generator
    :param slot_ends: per relation, where head and relation end among all slots, as shares in
        2^-32, shape (num_relations, 2)
    :param scheme: which slots may be replaced
    :param tables: hash tables of the pairs, see :class:`negserve_server.index.PairIndex`
    :param known: their sorted values: ids, or ranks among the candidates
    :param directories: the directories of the long ones
    :param offsets: where the candidates of each relation begin, shape (num_relations + 1,), or
        empty where every id is a candidate
    :param candidates: sorted candidate ids
    :param num_ids: how many ids each slot has
    :param replaced: written, shape (n, k), any unsigned dtype that holds the ids
    :param counts: written, negatives per slot of each positive, shape (3, n)
    :param saturated: written, where no slot had a legal value, shape (n,)
    :return: False, with nothing of use written, if an id is outside its id space
    """
    k = replaced.shape[1]
    num_words = k + 1
    words = np.empty(4 * ((num_words + 3) // 4), dtype=np.uint32)
    draws = words[1:]
    plan = np.empty((3, 5), dtype=np.int64)
    count = np.empty(3, dtype=np.int64)
    # By name, because an entry of a tuple taken by a variable index costs reference counts.
    table_0, table_1, table_2 = tables
    known_0, known_1, known_2 = known
    directory_0, directory_1, directory_2 = directories
    offsets_0, offsets_1, offsets_2 = offsets
    candidates_0, candidates_1, candidates_2 = candidates
    size_0, size_1, size_2 = num_ids

    for i in range(positives.shape[0]):
        head, relation, tail = positives[i, 0], positives[i, 1], positives[i, 2]
        if not (0 <= head < size_0 and 0 <= relation < size_1 and 0 <= tail < size_2):
            return False
        at = np.uint64(position) + np.uint64(i)
        fill_words(words, num_words, at, seed)

        head_end = np.int64((np.uint64(k) * slot_ends[relation, 0] + words[0]) >> _32)
        relation_end = np.int64((np.uint64(k) * slot_ends[relation, 1] + words[0]) >> _32)
        count[0] = head_end
        count[1] = relation_end - head_end
        count[2] = k - relation_end

        homeless = np.int64(0)
        all_planned = False
        while True:
            # First the slots that have negatives; all of the scheme if one is saturated.
            if count[0] > 0 or (all_planned and scheme[0]):
                plan_slot(
                    plan, 0, head, relation, tail, relation,
                    table_0, known_0, offsets_0, candidates_0, size_0,
                )  # fmt: skip
            if count[1] > 0 or (all_planned and scheme[1]):
                plan_slot(
                    plan, 1, relation, head, tail, relation,
                    table_1, known_1, offsets_1, candidates_1, size_1,
                )  # fmt: skip
            if count[2] > 0 or (all_planned and scheme[2]):
                plan_slot(
                    plan, 2, tail, head, relation, relation,
                    table_2, known_2, offsets_2, candidates_2, size_2,
                )  # fmt: skip
            if all_planned:
                break
            for slot in range(3):
                if count[slot] > 0 and plan[slot, _NUM_LEGAL] == 0:
                    homeless += count[slot]
            if homeless == 0:
                break
            all_planned = True

        saturated[i] = False
        if homeless > 0:
            # A saturated slot falls to the first slot of the scheme that is not.
            shelter = -1
            for slot in range(3):
                if shelter < 0 and scheme[slot] and plan[slot, _NUM_LEGAL] > 0:
                    shelter = slot
            if shelter >= 0:
                for slot in range(3):
                    if count[slot] > 0 and plan[slot, _NUM_LEGAL] == 0:
                        count[slot] = 0
                count[shelter] += homeless
            else:
                # Nothing is legal: any id but the original, and the caller masks it.
                saturated[i] = True
                for slot in range(3):
                    plan[slot, _LENGTH] = 0
                    plan[slot, _FIRST_CANDIDATE] = -1
                    plan[slot, _NUM_LEGAL] = num_ids[slot] - 1
                    plan[slot, _SKIP] = positives[i, slot]

        for slot in range(3):
            counts[slot, i] = count[slot]
        end_0 = count[0]
        end_1 = end_0 + count[1]
        if end_0 > 0:
            draw_slot(
                i, 0, end_0, draws, plan, 0,
                known_0, directory_0, candidates_0, at, seed, replaced,
            )  # fmt: skip
        if end_1 > end_0:
            draw_slot(
                i, end_0, end_1, draws, plan, 1,
                known_1, directory_1, candidates_1, at, seed, replaced,
            )  # fmt: skip
        if k > end_1:
            draw_slot(
                i, end_1, k, draws, plan, 2,
                known_2, directory_2, candidates_2, at, seed, replaced,
            )  # fmt: skip
    return True
