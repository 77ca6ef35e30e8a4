"""The directory of pairs at its edges: wide keys, crowded buckets, parts, far offsets, its size."""

from __future__ import annotations

from collections.abc import Callable

import numba as nb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve_server.graph import TriplesFactory
from negserve_server.index import PairIndex, Pairs, pair_builder
from negserve_server.index.pair_builder import build_pairs
from negserve_server.index.pair_directory import (
    LINE_BUCKETS,
    ONE_WORD_BITS,
    gathered_key,
    pack_layout,
    scattered_key,
)
from negserve_server.index.pair_lookups import contains_values
from negserve_server.jit.addresses import address_of
from tests.server.index.test_pair_index import build, patient

MULTIPLIERS = (0x9E3779B97F4A7C15, 1, 2**64 - 1)


@nb.njit
def _there_and_back(layout, multiplier, first, second):
    key = scattered_key(layout, multiplier, first, second)
    return key, gathered_key(layout, multiplier, key)


@patient
@given(
    st.integers(0, 32), st.integers(0, 32), st.integers(0, 2**32), st.integers(0, 2**32),
    st.sampled_from(MULTIPLIERS),
)  # fmt: skip
def test_a_scattered_key_is_the_pair(
    first_bits: int, second_bits: int, first: int, second: int, multiplier: int
) -> None:
    first, second = first % 2**first_bits, second % 2**second_bits
    key_bits = max(first_bits + second_bits, 1)
    layout = np.uint64(pack_layout(second_bits, key_bits, 0))
    key, back = _there_and_back(layout, np.uint64(multiplier), np.uint64(first), np.uint64(second))
    assert key < 2**key_bits
    assert back == first << second_bits | second


@pytest.mark.parametrize("bits", [1, 2, 9, 16])
def test_scattered_keys_are_a_permutation(bits: int) -> None:
    layout = np.uint64(pack_layout(0, bits, 0))
    keys = [
        int(_there_and_back(layout, np.uint64(MULTIPLIERS[0]), np.uint64(i), np.uint64(0))[0])
        for i in range(2**bits)
    ]
    assert sorted(keys) == list(range(2**bits))


def ask(index: PairIndex, triples: NDArray[np.int64]) -> NDArray[np.bool_]:
    return index.contains(triples[:, 0], triples[:, 1], triples[:, 2])


def random_triples(
    sizes: tuple[int, int, int], num_triples: int, seed: int = 0
) -> NDArray[np.int64]:
    """Distinct triples; half of them have few pairs, so that there are lists of all lengths."""
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, size, num_triples) for size in sizes]
    few = rng.integers(0, max(num_triples // 500, 1), num_triples // 2)
    for column in (0, 1):
        columns[column][: num_triples // 2] = columns[column][few]
    return np.unique(np.stack(columns, axis=1), axis=0)


def assert_exact(index: PairIndex, triples: NDArray[np.int64], sizes: tuple[int, int, int]) -> None:
    """Known triples are known, and others, near and far, are not."""
    known = {tuple(row) for row in triples.tolist()}
    assert ask(index, triples).all()
    rng = np.random.default_rng(1)
    others = [np.stack([rng.integers(0, size, 3_000) for size in sizes], axis=1)]
    for column in range(3):
        near = triples[rng.integers(0, len(triples), 3_000)].copy()
        near[:, column] = (near[:, column] + 1) % sizes[column]
        others.append(near)
    asked = np.concatenate(others)
    assert ask(index, asked).tolist() == [tuple(row) in known for row in asked.tolist()]
    assert index.num_values == len(known)
    assert index.num_pairs == len({row[:2] for row in known})


SIZES = {
    "narrow": (300, 20, 5_000),
    "one id": (1, 1, 60_000),
    "one relation": (40_000, 1, 40_000),
    "headers of two words": (2**32, 2**24, 2**31),
    "widest": (2**32, 2**32, 2**32),
    "many relations": (2_000, 2**16 + 9, 3_000),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_every_width_is_exact(sizes: tuple[int, int, int]) -> None:
    triples = random_triples(sizes, 20_000)
    largest = np.array([[size - 1 for size in sizes]])
    triples = np.unique(np.concatenate([triples, largest]), axis=0)
    index = build(triples, *sizes)
    is_wide = (index.layout >> 16 & 255) > ONE_WORD_BITS
    assert is_wide == (sizes[0] * sizes[1] >= 2**56)
    assert_exact(index, triples, sizes)


@pytest.mark.parametrize("sizes", [SIZES["narrow"], SIZES["widest"]], ids=["narrow", "widest"])
def test_parts_are_the_whole(sizes: tuple[int, int, int]) -> None:
    triples = random_triples(sizes, 20_000)
    shuffled = np.random.default_rng(2).permutation(np.concatenate([triples, triples[:100]]))
    index = build(shuffled, *sizes, part_triples=1_000)
    assert len(index.directory) >= 20, "one part would do"
    assert_exact(index, triples, sizes)
    whole = build(triples, *sizes)
    for first, second in triples[::500, :2].tolist():
        assert index.known(first, second).tolist() == whole.known(first, second).tolist()


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let buckets have more pairs."""

    def use(pairs_per_bucket: float) -> None:
        monkeypatch.setattr(pair_builder, "_PAIRS_PER_BUCKET", pairs_per_bucket)

    return use


@pytest.mark.parametrize("sizes", [SIZES["narrow"], SIZES["widest"]], ids=["narrow", "widest"])
@pytest.mark.parametrize("pairs_per_bucket", [0.1, 4, 16])
def test_buckets_of_any_number_of_pairs_are_exact(
    crowded: Callable[[float], None], sizes: tuple[int, int, int], pairs_per_bucket: float
) -> None:
    crowded(pairs_per_bucket)
    triples = random_triples(sizes, 20_000)
    assert_exact(build(triples, *sizes), triples, sizes)


def test_keys_that_share_a_bucket_are_scattered_otherwise() -> None:
    # Ids that an adversary finds: all of their keys begin with the same bits.
    first_try = build(np.array([[0, 0, 0]]), 2**20, 2**10).multiplier
    layout = np.uint64(pack_layout(10, 30, 0))
    num_pairs = 20_000
    keys = np.arange(num_pairs, dtype=np.uint64)
    pairs = [int(_gather(layout, np.uint64(first_try), key)) for key in keys]
    triples = np.array([[pair >> 10, pair & 1023, 7] for pair in pairs])
    index = build(triples, 2**20, 2**10, 8)
    assert index.multiplier != first_try
    assert ask(index, triples).all()
    assert index.num_pairs == num_pairs


@nb.njit
def _gather(layout, multiplier, key):
    return gathered_key(layout, multiplier, key)


def test_words_beyond_2_to_the_32_are_found() -> None:
    sizes = SIZES["narrow"]
    triples = random_triples(sizes, 20_000)
    first_word = 2**34
    pieces: list[NDArray[np.uint32]] = []

    class Sink:
        append = staticmethod(pieces.append)
        clear = staticmethod(pieces.clear)

    columns = triples[:, 0], triples[:, 1], triples[:, 2]
    pairs = Pairs(*columns, *sizes[:2], num_values=np.array(sizes[2:]))
    built = build_pairs(pairs, Sink(), first_word=first_word, part_triples=4_000)
    words = np.concatenate(pieces)
    assert len(pieces) > 2
    # The address that word 0 would have.
    address = np.uint64((int(address_of(words)) - 4 * first_word) % 2**64)
    asked = np.concatenate([triples, (triples + np.array([0, 0, 1])) % sizes])
    out = np.empty(len(asked), dtype=np.bool_)
    contains_values(
        address_of(built.directory), address, np.uint64(built.layout),
        np.uint64(built.multiplier), *(np.ascontiguousarray(c) for c in asked.T), out,
    )  # fmt: skip
    known = {tuple(row) for row in triples.tolist()}
    assert out.tolist() == [tuple(row) in known for row in asked.tolist()]


def test_too_many_words_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_builder, "MAX_WORDS", 1_000)
    with pytest.raises(ValueError, match="more than 1000 words"):
        build(random_triples(SIZES["narrow"], 20_000), *SIZES["narrow"])


def test_lines_fill_the_directory() -> None:
    triples = random_triples(SIZES["narrow"], 20_000)
    index = build(triples, *SIZES["narrow"])
    num_buckets = 1 << ((index.layout >> 8 & 255) - (index.layout >> 16 & 255))
    assert index.directory.shape == (-(-num_buckets // LINE_BUCKETS), 8)
    assert index.nbytes == index.directory.nbytes + index.lists.nbytes


@pytest.fixture(scope="module")
def hubs() -> TriplesFactory:
    """A graph as large as FB15k-237, with pairs of 1 to 5,000 known values."""
    rng = np.random.default_rng(0)
    sizes = {1.4: 14_505, 1.2: 237, 1.3: 14_505}
    columns = [rng.zipf(exponent, 900_000) % size for exponent, size in sizes.items()]
    return TriplesFactory(
        {"training": np.stack(columns, axis=1)}, num_entities=14_505, num_relations=237
    )


def test_a_graph_takes_few_bytes_a_triple(hubs: TriplesFactory) -> None:
    index = hubs.filter_index(("training",))
    nbytes = sum(index.by_slot(slot).nbytes for slot in ("head", "tail"))
    assert nbytes <= 22 * hubs.num_triples


def test_two_million_random_questions(hubs: TriplesFactory) -> None:
    """Against a search in sorted numbers, which shares no code with the index."""
    rng = np.random.default_rng(3)
    n, num_entities = 2_000_000, hubs.num_entities
    triples = hubs.mapped_triples
    asked = triples[rng.integers(0, len(triples), n)]
    column = rng.integers(0, 3, n)
    sizes = np.array([num_entities, hubs.num_relations, num_entities])
    asked[np.arange(n), column] = rng.integers(0, sizes[column])
    weights = np.array([2**32, 2**20, 1])
    known, questions = triples @ weights, asked @ weights
    at = np.minimum(np.searchsorted(known, questions), len(known) - 1)
    expected = known[at] == questions
    assert 0.01 < expected.mean() < 0.5
    np.testing.assert_array_equal(hubs.contains(asked, ("training",)), expected)
    index = hubs.filter_index(("training",))
    for slot, columns in {"head": (1, 2, 0), "relation": (0, 2, 1)}.items():
        answers = index.by_slot(slot).contains(*(asked[:, column] for column in columns))
        np.testing.assert_array_equal(answers, expected)
