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
from negserve_server.sampling.philox import fill_words, redraw

#: Known lists up to this length are passed value by value over all draws (SIMD), longer
#: ones searched once per draw.
SHORT_LIST = 24

_32 = np.uint64(32)
_2_32 = np.uint64(2**32)
_NO_SKIP = np.uint32(0xFFFFFFFF)

# Columns of the plan of a slot.
_START, _LENGTH, _FIRST_CANDIDATE, _NUM_LEGAL, _SKIP = range(5)


@nb.njit(inline="always")
def plan_slot(
    plan: NDArray[np.int64],
    slot: int,
    triple: NDArray[np.int64],
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
    """
    if slot == 0:
        original, first, second = triple[0], triple[1], triple[2]
    elif slot == 1:
        original, first, second = triple[1], triple[0], triple[2]
    else:
        original, first, second = triple[2], triple[0], triple[1]

    num_candidates = np.int64(num_ids)
    first_candidate = np.int64(-1)
    is_candidate = True
    if offsets.shape[0] > 0:
        relation = triple[1]
        first_candidate = offsets[relation]
        num_candidates = offsets[relation + 1] - first_candidate
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
    position: int,
    seed: int,
) -> None:
    """Turn words into unbiased draws: ``draws[begin:end]`` from words to 0 .. num_legal - 1."""
    wide = np.uint64(num_legal)
    incomplete = np.uint32((_2_32 - wide) % wide)
    rejected = np.uint32(0)
    for j in range(begin, end):
        product = np.uint64(draws[j]) * wide
        rejected |= np.uint32(np.uint32(product) < incomplete)
    if rejected == 0:
        for j in range(begin, end):
            draws[j] = np.uint32((np.uint64(draws[j]) * wide) >> _32)
        return
    for j in range(begin, end):
        product = np.uint64(draws[j]) * wide
        if np.uint32(product) < incomplete:
            draws[j] = np.uint32(redraw(j, num_legal, position, seed))
        else:
            draws[j] = np.uint32(product >> _32)


@nb.njit(inline="always")
def pass_known(
    draws: NDArray[np.uint32],
    begin: int,
    end: int,
    known: NDArray[np.uint32],
    start: int,
    length: int,
) -> None:
    """Move draws past the known values: u becomes the u-th smallest value that is not known."""
    if length <= SHORT_LIST:
        for i in range(start, start + length):
            value = known[i]
            for j in range(begin, end):
                draws[j] += np.uint32(draws[j] >= value)
        return
    for j in range(begin, end):
        # known[i] - i values below known[i] are not known, so the u-th that is not known lies
        # behind all i with known[i] - i <= u.
        draw = draws[j]
        low = np.int64(0)
        remaining = length
        while remaining > 0:
            half = remaining >> 1
            if np.int64(known[start + low + half]) - (low + half) <= np.int64(draw):
                low += half + 1
                remaining -= half + 1
            else:
                remaining = half
        draws[j] = draw + np.uint32(low)


@compiled
def corrupt(
    positives: NDArray[np.int64],
    position: int,
    seed: int,
    slot_ends: NDArray[np.uint64],
    scheme: tuple[bool, bool, bool],
    tables: tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]],
    known: tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]],
    offsets: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    candidates: tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]],
    num_ids: tuple[int, int, int],
    replaced: NDArray[np.unsignedinteger],
    counts: NDArray[np.uint32],
    saturated: NDArray[np.bool_],
) -> None:
    """Corrupt a batch.

    Tuples hold one entry per slot (head, relation, tail).

    :param positives: shape (n, 3), ids inside the id space
    :param position: uint64 position of the first positive; the i-th has ``position + i``
    :param seed: uint64 key of the generator
    :param slot_ends: per relation, where head and relation end among all slots, as shares in
        2^-32, shape (num_relations, 2)
    :param scheme: which slots may be replaced
    :param tables: hash tables of the pairs, see :class:`negserve_server.index.PairIndex`
    :param known: their sorted values: ids, or ranks among the candidates
    :param offsets: where the candidates of each relation begin, shape (num_relations + 1,), or
        empty where every id is a candidate
    :param candidates: sorted candidate ids
    :param num_ids: how many ids each slot has
    :param replaced: written, shape (n, k), any unsigned dtype that holds the ids
    :param counts: written, negatives per slot of each positive, shape (3, n)
    :param saturated: written, where no slot had a legal value, shape (n,)
    """
    k = replaced.shape[1]
    num_words = k + 1
    words = np.empty(4 * ((num_words + 3) // 4), dtype=np.uint32)
    draws = words[1:]
    plan = np.empty((3, 5), dtype=np.int64)
    count = np.empty(3, dtype=np.int64)
    for i in range(positives.shape[0]):
        triple = positives[i]
        at = np.uint64(position) + np.uint64(i)
        fill_words(words, num_words, at, seed)

        head_end = np.int64((np.uint64(k) * slot_ends[triple[1], 0] + words[0]) >> _32)
        relation_end = np.int64((np.uint64(k) * slot_ends[triple[1], 1] + words[0]) >> _32)
        count[0] = head_end
        count[1] = relation_end - head_end
        count[2] = k - relation_end

        homeless = np.int64(0)
        for slot in range(3):
            if count[slot] > 0:
                plan_slot(
                    plan, slot, triple, tables[slot], known[slot], offsets[slot],
                    candidates[slot], num_ids[slot],
                )  # fmt: skip
                if plan[slot, _NUM_LEGAL] == 0:
                    homeless += count[slot]
        saturated[i] = False
        if homeless > 0:
            # A saturated slot falls to the first slot of the scheme that is not.
            shelter = -1
            for slot in range(3):
                if scheme[slot] and shelter < 0:
                    if count[slot] == 0:
                        plan_slot(
                            plan, slot, triple, tables[slot], known[slot], offsets[slot],
                            candidates[slot], num_ids[slot],
                        )  # fmt: skip
                    if plan[slot, _NUM_LEGAL] > 0:
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
                    plan[slot, _SKIP] = triple[slot]

        row = replaced[i]
        begin = np.int64(0)
        for slot in range(3):
            counts[slot, i] = count[slot]
            end = begin + count[slot]
            if begin == end:
                continue
            draw_legal(draws, begin, end, plan[slot, _NUM_LEGAL], at, seed)
            skip = np.uint32(plan[slot, _SKIP])
            for j in range(begin, end):
                draws[j] += np.uint32(draws[j] >= skip)
            if plan[slot, _LENGTH] > 0:
                pass_known(
                    draws, begin, end, known[slot], plan[slot, _START], plan[slot, _LENGTH]
                )  # fmt: skip
            first_candidate = plan[slot, _FIRST_CANDIDATE]
            if first_candidate >= 0:
                for j in range(begin, end):
                    row[j] = candidates[slot][first_candidate + np.int64(draws[j])]
            else:
                for j in range(begin, end):
                    row[j] = draws[j]
            begin = end
