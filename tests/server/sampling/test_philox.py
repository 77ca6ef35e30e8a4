"""The generator against Random123's published vectors, its layout against plain integers."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from negserve_server.sampling.kernels import philox
from tests.server.sampling import reference

# Random123, tests/kat_vectors, "philox4x32 10": counter, key, words.
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

#: For tests whose first example may wait for the kernels to compile.
patient = settings(deadline=None)

words32 = st.integers(0, 2**32 - 1)
words64 = st.one_of(st.integers(0, 3), st.integers(2**64 - 3, 2**64 - 1), st.integers(0, 2**64 - 1))


def _filled(num_words: int, position: int, seed: int) -> Any:
    num_blocks = (num_words + 3) // 4
    words = np.empty(4 * num_blocks, dtype=np.uint32)
    philox.fill_words(np.uint64(words.ctypes.data), num_blocks, position, seed)
    return words


def _redrawn(index: int, num_values: int, position: int, seed: int) -> Any:
    return philox.redraw(index, num_values, position, seed)


# The generator's functions are inlined into kernels; these are kernels that hold nothing else.
filled = nb.njit(_filled)
redrawn = nb.njit(_redrawn)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_published_vectors_are_reproduced(
    counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]
) -> None:
    made = philox.blocks(np.array([counter], dtype=np.uint32), np.array([key], dtype=np.uint32))
    assert made.tolist() == [list(words)]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_reference_reproduces_the_published_vectors(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    assert reference.philox4x32(counter, key) == words


@patient
@given(st.lists(st.tuples(*[words32] * 6), min_size=1, max_size=5))
def test_every_block_equals_the_reference(inputs: list[tuple[int, ...]]) -> None:
    array = np.array(inputs, dtype=np.uint32)
    made = philox.blocks(array[:, :4].copy(), array[:, 4:].copy())
    for row, words in zip(inputs, made.tolist(), strict=True):
        counter, key = (row[0], row[1], row[2], row[3]), (row[4], row[5])
        assert tuple(words) == reference.philox4x32(counter, key)


@patient
@given(num_words=st.integers(1, 40), position=words64, seed=words64)
@example(num_words=5, position=2**32, seed=1)
@example(num_words=5, position=2**32 - 1, seed=2**32)
@example(num_words=8, position=2**64 - 1, seed=2**64 - 1)
def test_words_of_a_position_equal_the_reference(num_words: int, position: int, seed: int) -> None:
    made = filled(num_words, np.uint64(position), np.uint64(seed)).tolist()
    assert made == [reference.word(i, position, seed) for i in range(len(made))]


@patient
@given(
    index=st.integers(0, 2**20 - 1),
    num_values=st.one_of(st.integers(1, 5), st.integers(1, 2**32), st.just(2**32)),
    position=words64,
    seed=words64,
)
@example(index=0, num_values=2**32 - 1, position=2**64 - 1, seed=2**64 - 1)
def test_a_redraw_equals_the_reference(
    index: int, num_values: int, position: int, seed: int
) -> None:
    made = redrawn(index, num_values, np.uint64(position), np.uint64(seed))
    assert made == reference.redraw(index, num_values, position, seed)
    assert 0 <= made < num_values


def test_words_depend_on_both_halves_of_position_and_seed() -> None:
    streams = {
        tuple(filled(4, np.uint64(position), np.uint64(seed)).tolist())
        for position in (0, 1, 2**32, 2**63)
        for seed in (0, 1, 2**32, 2**63)
    }
    assert len(streams) == 16


def test_draws_and_redraws_do_not_share_blocks() -> None:
    # With 2^32 values a redraw is its first word itself.
    drawn = filled(4, np.uint64(5), np.uint64(6)).tolist()
    assert redrawn(0, 2**32, np.uint64(5), np.uint64(6)) not in drawn
