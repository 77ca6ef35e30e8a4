"""The order of an epoch is a permutation at any length, and statistically like a shuffle.

Orders are compared with the reference, position by position, and with what is known of uniform
permutations. The same statistics are then given orders that are not random enough, and must
refuse each: so to be accepted means something. Seeds are fixed: a test passes once and for all,
or never.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from negserve_server.sampling import Permutation
from negserve_server.sampling.kernels import philox
from tests.server.sampling.reference import Order, mix
from tests.support.graphs import REPOSITORY

Ints = NDArray[np.int64]
#: Makes the orders of some numbers: (length, seed, numbers) to shape (len(numbers), length).
Make = Callable[[int, int, Iterable[int]], Ints]

#: A right permutation of a new seed falls below this in one test of ten thousand.
LEVEL = 1e-4
#: What is wrong falls below this.
REFUSED = 1e-9
LAST_64 = 2**64 - 1
#: n = 100, seed 7, epoch 3, positions 0 to 9, as in docs/sampling.md.
GOLDEN = [4, 33, 48, 16, 99, 70, 79, 0, 89, 55]
#: Longest lengths, and those between which halves change from odd to even.
HUGE = (
    10**9 + 7,
    2**31,
    65_535**2 - 1,
    65_535**2,
    65_535**2 + 1,
    65_535 * 65_536 + 1,
    2**32 - 1,
    2**32,
)

patient = settings(deadline=None)


def orders(length: int, seed: int, numbers: Iterable[int]) -> Ints:
    """The orders under test."""
    return np.array(
        [Permutation(length, seed=seed, number=number).at(0, length) for number in numbers]
    )


# --- A permutation, and the one of the page ---


def test_every_length_up_to_300_has_each_value_once() -> None:
    for length in range(301):
        for number in (0, 1):
            values = Permutation(length, seed=11, number=number).at(0, length)
            assert values.dtype == np.int64
            assert np.array_equal(np.sort(values), np.arange(length)), length


@pytest.mark.parametrize("length", [999**2, 1000**2, 1001**2, 2**20 + 1, 3_000_017])
def test_long_orders_have_each_value_once(length: int) -> None:
    values = Permutation(length, seed=length, number=5).at(0, length)
    assert values.min() == 0
    assert values.max() == length - 1
    assert (np.bincount(values) == 1).all()


def test_every_length_up_to_150_equals_the_reference() -> None:
    for length in range(1, 151):
        order = Order(length, seed=5, epoch=length)
        assert orders(length, 5, [length])[0].tolist() == list(map(order.at, range(length)))


words64 = st.one_of(
    st.integers(0, 20),
    st.integers(2**32 - 3, 2**32 + 3),
    st.integers(LAST_64 - 3, LAST_64),
    st.integers(0, LAST_64),
)
lengths = st.one_of(
    st.integers(1, 100),
    st.integers(1, 2**32),
    # Around squares: there, the halves change.
    st.builds(
        lambda root, more: min(max(root * root + more, 1), 2**32),
        st.integers(1, 2**16),
        st.integers(-2, 2),
    ),
)


@patient
@given(length=lengths, seed=words64, number=words64, data=st.data())
def test_any_window_equals_the_reference_and_leads_back(
    length: int, seed: int, number: int, data: st.DataObject
) -> None:
    start = data.draw(st.one_of(st.integers(0, length - 1), st.just(max(length - 3, 0))))
    count = min(data.draw(st.integers(0, 6)), length - start)
    values = Permutation(length, seed=seed, number=number).at(start, count).tolist()
    order = Order(length, seed, number)
    assert values == [order.at(start + i) for i in range(count)]
    assert [order.position_of(value) for value in values] == list(range(start, start + count))


@patient
@given(length=st.integers(0, 500), seed=words64, number=words64, data=st.data())
def test_windows_are_slices_of_the_whole(
    length: int, seed: int, number: int, data: st.DataObject
) -> None:
    permutation = Permutation(length, seed=seed, number=number)
    whole = permutation.at(0, length).tolist()
    start = data.draw(st.integers(0, length))
    count = data.draw(st.integers(0, length - start))
    assert permutation.at(start, count).tolist() == whole[start : start + count]


@pytest.mark.parametrize("length", HUGE)
def test_windows_of_huge_orders_have_different_values_that_lead_back(length: int) -> None:
    permutation, order = Permutation(length, seed=1, number=2), Order(length, seed=1, epoch=2)
    assert length <= order.a * order.b < length + 3 * 2**16
    assert order.a * order.b % 2 == 0
    starts = (0, length // 3, 2**29 - 1000, length - 20_000)
    windows = [permutation.at(start, 20_000) for start in starts]
    values = np.concatenate(windows)
    assert values.min() >= 0
    assert values.max() < length
    assert len(np.unique(values)) == len(values)
    for start, window in zip(starts, windows, strict=True):
        for i in (0, 1, 999, 1000, 19_999):
            assert order.position_of(int(window[i])) == start + i


@pytest.mark.parametrize(
    ("length", "start", "count"), [(0, 0, 1), (5, 5, 1), (5, 0, 6), (5, -1, 1), (9, 3, -1)]
)
def test_positions_outside_are_refused(length: int, start: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} positions from {start} on, of {length}"):
        Permutation(length, seed=0, number=0).at(start, count)


def test_golden_vector_is_pinned_and_that_of_the_page() -> None:
    assert Permutation(100, seed=7, number=3).at(0, 10).tolist() == GOLDEN
    page = (REPOSITORY / "docs" / "sampling.md").read_text(encoding="utf-8")
    assert f"\n    {' '.join(map(str, GOLDEN))}\n" in page
    largest = Permutation(2**32, seed=LAST_64, number=LAST_64)
    assert largest.at(2**32 - 3, 3).tolist() == [1195270031, 897636531, 240261116]


def test_mix_is_the_published_one() -> None:
    # lowbias32 of "hash-prospector", computed there for 0, 1, 2^32 - 1: unsigned, wrapping.
    x = np.array([0, 1, 2, 0xDEADBEEF, 2**32 - 1], dtype=np.uint32)
    y = x.copy()
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        y ^= y >> np.uint32(shift)
        y *= np.uint32(factor)
    assert [mix(int(value)) for value in x] == y.tolist()


# --- Statistics: each gives p values, by name ---


def two_sided(z: float) -> float:
    """How rare is what is this many standard deviations off, or more."""
    return float(2 * stats.norm.sf(abs(z)))


def table(rows: Ints, columns: Ints) -> float:
    """Test whether two groupings of the same items, each into equal groups, are independent.

    Pearson's statistic with the mean and variance it has where the margins are given (Haldane
    1940), for any number of items per cell; a table that is too even is refused as well.
    """
    n, r, c = len(rows), int(rows.max()) + 1, int(columns.max()) + 1
    counts = np.bincount(rows * c + columns, minlength=r * c).reshape(r, c)
    assert (counts.sum(0) == n // c).all()
    assert (counts.sum(1) == n // r).all()
    mean = (r - 1) * (c - 1) * n / (n - 1)
    variance = 2 * n / (n - 3) * (r - 1) * (c - 1) * (n - r) * (n - c) / (n - 1) ** 2
    chi_square = float(((counts - n / r / c) ** 2).sum() / (n / r / c))
    # A gamma distribution of these moments: chi-square, but for a little scale.
    fitted = stats.gamma(mean**2 / variance, scale=variance / mean)
    return float(min(1, 2 * min(fitted.cdf(chi_square), fitted.sf(chi_square))))


def inversions(order: Ints) -> float:
    """Kendall: ascending and descending pairs are equally frequent."""
    return float(stats.kendalltau(np.arange(len(order)), order, method="asymptotic").pvalue)


def runs(order: Ints) -> float:
    """Lengths of ascending runs; the item after each is left out, so that they are independent.

    Knuth, The Art of Computer Programming 2, section 3.3.2, exercise 14.
    """
    descents = np.flatnonzero(np.diff(order) < 0)
    lengths, begin = [], 0
    for last in descents.tolist():
        if last >= begin:
            lengths.append(last - begin + 1)
            begin = last + 2
    if not lengths:
        return 0.0
    counts = np.bincount(np.minimum(lengths, 6), minlength=7)[1:]
    shares = [1 / math.factorial(k) - 1 / math.factorial(k + 1) for k in range(1, 6)]
    expected = np.array([*shares, 1 - sum(shares)]) * counts.sum()
    return float(stats.chisquare(counts, expected).pvalue)


def long_checks(order: Ints) -> dict[str, float]:
    """Tests of one order of 10,000 items."""
    n, side = len(order), math.isqrt(len(order))
    assert side * side == n
    positions = np.arange(n)
    centred = order - (n - 1) / 2
    variance = (n * n - 1) / 12
    footrule = float(np.abs(order - positions).sum())
    report = {
        "displacement": two_sided(
            (footrule - (n * n - 1) / 3) / math.sqrt((n + 1) * (2 * n * n + 7) / 45)
        ),
        "correlation": two_sided(
            (centred @ (positions - (n - 1) / 2)) / n / variance * math.sqrt(n - 1)
        ),
        "inversions": inversions(order),
        "ascents": two_sided(((np.diff(order) > 0).sum() - (n - 1) / 2) / math.sqrt((n + 1) / 12)),
        "runs": runs(order),
        "blocks": table(positions * 16 // n, order * 16 // n),
        "fixed points": float(
            2 * min(0.5, stats.poisson.sf(np.count_nonzero(order == positions) - 1, 1))
        ),
    }
    for lag in (1, 2, side - 1, side, side + 1, n // 2 - 1):
        serial = (centred @ np.roll(centred, -lag)) / n / variance
        report[f"serial {lag}"] = two_sided((serial + 1 / (n - 1)) * math.sqrt(n))
    halves = {"left": lambda x: x // side, "right": lambda x: x % side}
    for name, half in halves.items():
        for other, other_half in halves.items():
            report[f"{name} to {other}"] = table(half(positions), other_half(order))
        for lag in (1, side):
            # Neighbours in one half: as often in the same row or column as any two.
            alike = np.count_nonzero(half(order) == half(np.roll(order, -lag)))
            share = (side - 1) / (n - 1)
            spread = math.sqrt(n * share * (1 - share))
            report[f"alike {name} {lag}"] = two_sided((alike - n * share) / spread)
    return report


def parities(many: Ints) -> NDArray[np.bool_]:
    """Whether each order is odd, that is, has an odd number of inversions."""
    n = many.shape[1]
    odd = np.zeros(len(many), dtype=np.bool_)
    for i in range(n):
        for j in range(i):
            odd ^= many[:, j] > many[:, i]
    return odd


def short_checks(many: Ints) -> dict[str, float]:
    """Tests of many orders of few items."""
    m, n = many.shape
    cells = np.array([np.bincount(many[:, i], minlength=n) for i in range(n)])
    statistic = ((cells - m / n) ** 2).sum() / (m / n) * (n - 1) / n
    report = {
        "cells": float(stats.chi2.sf(statistic, (n - 1) ** 2)),
        "parity": float(stats.binomtest(int(parities(many).sum()), m).pvalue),
    }
    for i, j in ((0, 1), (0, n - 1), (n // 2, n - 1)):
        if i != j:
            pairs = np.bincount(many[:, i] * n + many[:, j], minlength=n * n).reshape(n, n)
            report[f"pairs {i}, {j}"] = float(stats.chisquare(pairs[~np.eye(n, dtype=bool)]).pvalue)
    if math.factorial(n) * 5 <= m:
        _, counts = np.unique(many @ n ** np.arange(n), return_counts=True)
        missing = [0] * (math.factorial(n) - len(counts))
        report["orders"] = float(stats.chisquare([*counts, *missing]).pvalue)
    return report


def pair_checks(first: Ints, second: Ints) -> dict[str, float]:
    """Test whether two orders of the same items are independent."""
    n = len(first)
    place = np.empty(n, dtype=np.int64)
    place[first] = np.arange(n)
    # Where the second has an item and where the first has it: again a permutation, and uniform.
    report = long_checks(place[second])
    centre = (n - 1) / 2
    r = ((first - centre) @ (second - centre)) / n / ((n * n - 1) / 12)
    report["values"] = two_sided(r * math.sqrt(n - 1))
    common = np.intersect1d(first[: n // 2], second[: n // 2]).size
    halves = stats.hypergeom(n, n // 2, n // 2)
    report["first halves"] = float(min(1, 2 * min(halves.cdf(common), halves.sf(common - 1))))
    return report


def verdict(reports: Iterable[Mapping[str, float]]) -> float:
    """The least p value, times their number (Bonferroni)."""
    values = [p for report in reports for p in report.values()]
    return min(values) * len(values)


def worst(reports: Iterable[Mapping[str, float]]) -> list[tuple[float, str]]:
    """The lowest values, for the message of a failing test."""
    return sorted((p, name) for report in reports for name, p in report.items())[:3]


# --- What they say of the orders ---

EPOCHS = 26_000
LONG = 10_000
FEW = (2, 3, 4, 5, 6, 7, 8, 9, 24, 25)


@pytest.mark.parametrize("length", FEW)
def test_orders_of_few_items_are_equally_likely(length: int) -> None:
    # All n! orders where there are enough epochs for them, up to 7; beyond, what can be seen.
    report = short_checks(orders(length, 100, range(EPOCHS)))
    assert ("orders" in report) == (length <= 7)
    assert verdict([report]) > LEVEL, worst([report])


@cache
def long_orders(seed: int) -> Ints:
    return orders(LONG, seed, range(6))


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_long_orders_are_like_uniform_ones(seed: int) -> None:
    reports = [long_checks(order) for order in long_orders(seed)]
    assert verdict(reports) > LEVEL, worst(reports)


def test_epochs_and_seeds_are_independent() -> None:
    zero, one, two = long_orders(0), long_orders(1), orders(LONG, 2**32, range(2))
    reports = [
        *(pair_checks(*pair) for pair in pairwise(zero)),
        *(pair_checks(*pair) for pair in zip(zero, one, strict=True)),
        # Seed and number are not added up, nor exchanged.
        *(pair_checks(*pair) for pair in zip(zero[1:], one, strict=False)),
        pair_checks(zero[0], two[0]),
        pair_checks(zero[0], orders(LONG, 0, [2**32])[0]),
        pair_checks(two[0], orders(LONG, 0, [2**32])[0]),
    ]
    assert verdict(reports) > LEVEL, worst(reports)


def test_agreements_of_epochs_are_as_rare_as_those_of_shuffles() -> None:
    many = orders(400, 3, range(2001))
    neighbours = orders(400, 4, range(2001))
    for one, other in ((many[:-1], many[1:]), (many, neighbours), (many, np.arange(400))):
        agreements = (one == other).sum(1)
        counts = np.bincount(np.minimum(agreements, 5), minlength=6)
        shares = [*stats.poisson.pmf(range(5), 1), stats.poisson.sf(4, 1)]
        assert stats.chisquare(counts, np.array(shares) * len(agreements)).pvalue > LEVEL


# --- What they refuse ---


def feistel(
    length: int,
    seed: int,
    numbers: Iterable[int],
    *,
    rounds: int = 16,
    halves: tuple[int, int] | None = None,
) -> Ints:
    """The same permutation, with any number of rounds and width of halves."""
    order = Order(length, seed, 0)
    a, b = halves or (order.a, order.b)
    words = [
        philox.blocks(
            np.array([[i, 2, number, 0] for number in numbers], dtype=np.uint32),
            np.array([[seed, 0] for number in numbers], dtype=np.uint32),
        )
        for i in range(4)
    ]
    keys = np.concatenate(words, 1)[:, :rounds].T[..., np.newaxis]

    def step(other: Ints, key: NDArray[np.uint32], size: int) -> Ints:
        x = other.astype(np.uint32) ^ key
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
        return (x.astype(np.uint64) * np.uint64(size) >> np.uint64(32)).astype(np.int64)

    x = np.tile(np.arange(a * b), (keys.shape[1], 1))
    left, right = x // b, x % b
    for i, key in enumerate(keys):
        if i % 2 == 0:
            left = (left + step(right, key, a)) % a
        else:
            right = (right + step(left, key, b)) % b
    image = left * b + right
    result = image[:, :length]
    while (result >= length).any():
        walked = np.take_along_axis(image, result, 1)
        result = np.where(result >= length, walked, result)
    return result


def affine(length: int, seed: int, numbers: Iterable[int]) -> Ints:
    """Multiply and add: a full period, but points on lines."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in numbers:
        factor = next(f for f in rng.integers(1, length, 1000).tolist() if math.gcd(f, length) == 1)
        made.append((np.arange(length) * factor + rng.integers(length)) % length)
    return np.array(made)


def shuffled(length: int, seed: int, numbers: Iterable[int]) -> Ints:
    """True shuffles, which must pass."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(length) for _ in numbers])


def buffered(length: int, seed: int, numbers: Iterable[int]) -> Ints:
    """Shuffle within blocks, roughly as streams with a buffer do."""
    rng = np.random.default_rng(seed)
    blocks = np.arange(length).reshape(-1, length // 4)
    return np.array([rng.permuted(blocks, axis=1).ravel() for _ in numbers])


def naive(length: int, seed: int, numbers: Iterable[int]) -> Ints:
    """Exchange each item with any other, instead of a remaining one."""
    rng = np.random.default_rng(seed)
    many = np.tile(np.arange(length), (len(list(numbers)), 1))
    every = np.arange(len(many))
    for i in range(length):
        j = rng.integers(length, size=len(many))
        many[every, i], many[every, j] = many[every, j], many[every, i].copy()
    return many


def rounds_of(rounds: int) -> Make:
    """Make orders with fewer rounds."""
    return lambda length, seed, numbers: feistel(length, seed, numbers, rounds=rounds)


@pytest.mark.parametrize("length", [3, 8, 9, 63, 65, 100, LONG])
def test_the_variant_with_all_rounds_is_the_order_itself(length: int) -> None:
    assert np.array_equal(feistel(length, 5, range(3)), orders(length, 5, range(3)))


def test_shuffles_are_accepted() -> None:
    long = shuffled(LONG, 0, range(6))
    reports = [long_checks(order) for order in long]
    reports += [pair_checks(*pair) for pair in pairwise(long)]
    reports += [short_checks(shuffled(length, length, range(4000))) for length in FEW]
    assert verdict(reports) > LEVEL, worst(reports)


@pytest.mark.parametrize("make", [rounds_of(2), rounds_of(3), affine, buffered])
def test_bad_long_orders_are_refused(make: Make) -> None:
    assert verdict([long_checks(order) for order in make(LONG, 0, range(6))]) < REFUSED


@pytest.mark.parametrize(
    ("length", "make"),
    [
        (5, rounds_of(2)),
        (6, rounds_of(3)),
        (8, rounds_of(2)),
        (25, rounds_of(2)),
        (5, naive),
        (8, naive),
        (5, affine),
        (8, buffered),
    ],
)
def test_bad_orders_of_few_items_are_refused(length: int, make: Make) -> None:
    many = make(length, 100, range(EPOCHS))
    assert (np.sort(many, 1) == np.arange(length)).all()
    assert verdict([short_checks(many)]) < REFUSED


@pytest.mark.parametrize("length", [7, 8, 9, 24, 25])
def test_odd_halves_are_refused_by_parity(length: int) -> None:
    # All that they permute are even: the reason why one half is always even.
    side = math.isqrt(length - 1) + 1
    many = feistel(length, 100, range(4000), halves=(side, side))
    assert short_checks(many)["parity"] < REFUSED


def test_dependent_epochs_are_refused() -> None:
    order = long_orders(0)[0]
    for other in (order, order[::-1], np.roll(order, 1), LONG - 1 - order, (order + 77) % LONG):
        assert verdict([pair_checks(order, other)]) < REFUSED
    # The second half of one epoch comes in the first half of the next, shuffled.
    rng = np.random.default_rng(0)
    ends = [rng.permuted(half) for half in np.split(order, 2)]
    assert verdict([pair_checks(order, np.concatenate(ends[::-1]))]) < REFUSED
