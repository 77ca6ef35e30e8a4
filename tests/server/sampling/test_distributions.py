"""Draws follow the enumerated distribution, and the test detects draws that do not.

Every kind and mode is drawn from at many positions and compared with its :class:`Law`, which is
the definition of ``docs/sampling.md`` in rationals. The same check is then given samplers that
make the classic mistakes, at the same sample size, and must refuse each: so to be accepted means
something.

Seeds are fixed: a test passes once and for all, or never. Between the level at which the sampler
is accepted and the one at which a mistake is refused lie four orders of magnitude.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from negserve_server.graph import TriplesFactory, TypeConstraints
from negserve_server.sampling import CorruptedBatch, SamplerConfig
from tests.support.distributions import (
    SLOTS,
    Draws,
    Floats,
    Ints,
    Law,
    Triple,
    candidate_weights,
    check,
    draws_of,
    excluded_values,
    goodness,
    known_values,
    slot_shares,
    verdict,
)
from tests.support.graphs import load

#: A right sampler of a new stream falls below this in one case of a hundred thousand.
LEVEL = 1e-5
#: What is wrong falls below this.
REFUSED = 1e-9
POSITIONS = 20_000
ENTITIES = {"tight": 6, "wide": 30}
BOTH = ("training", "validation")


def triples(rows: list[Any]) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(len(rows), -1)


@cache
def small_graph(name: str) -> TriplesFactory:
    """Make a graph of few entities with one-to-many, many-to-one, sparse and unseen relations."""
    n = ENTITIES[name]
    rng = np.random.default_rng(n)
    constraints = {
        "heads": [(0, 0), (0, 1), (0, n - 1), *((1, h) for h in range(0, n, 2))],
        "tails": [*((0, t) for t in range(1, n, 2)), *((2, t) for t in range(n // 2))],
    }
    return TriplesFactory(
        {
            "training": triples(
                [
                    *((0, 0, t) for t in range(1, n - 1) if t % 3),
                    *((h, 1, n - 1) for h in range(n) if h % 3 != 2),
                    (1, 0, 1),
                    (2, 1, 0),
                    *zip(*rng.integers(0, (n, 3, n), (n, 3)).T.tolist(), strict=True),
                ]
            ),
            "validation": triples([(2, 3, 4), (0, 3, 4), (0, 0, n - 1), (3, 1, 2)]),
        },
        num_entities=n,
        num_relations=4,
        type_constraints=TypeConstraints(
            heads=triples(constraints["heads"]), tails=triples(constraints["tails"])
        ),
    )


def positives(graph: TriplesFactory) -> dict[str, Triple]:
    """Return positives of all sorts."""
    return {
        "known": (0, 0, 2),
        "unknown": (0, 0, 3),  # between values that are known
        "last": (1, 1, graph.num_entities - 1),
        "unseen": (2, 3, 4),  # in validation only, as all of its relation
    }


def sample(
    graph: TriplesFactory, config: SamplerConfig, each: Mapping[str, Triple], num_positions: int
) -> CorruptedBatch:
    """Draw for several positives in turn, so that leftovers of one would reach the next."""
    return graph.sampler(config).sample(np.tile(triples([*each.values()]), (num_positions, 1)), 0)


def assert_follows(
    graph: TriplesFactory, config: SamplerConfig, each: Mapping[str, Triple], num_positions: int
) -> None:
    """Compare the draws for some positives with their laws."""
    batch = sample(graph, config, each, num_positions)
    num_saturated = 0
    for i, (name, triple) in enumerate(each.items()):
        law = Law(graph, config, triple)
        report = check(law, draws_of(batch, slice(i, None, len(each))))
        assert verdict(report) > LEVEL, (name, triple, report)
        num_saturated += num_positions * (law.homeless > 0)
    assert batch.num_saturated == num_saturated


# --- Every kind and mode ---

RELATIONS = {"corruption_scheme": SLOTS}
KINDS: dict[str, dict[str, Any]] = {
    "basic": {"kind": "basic"},
    "basic of tails": {"kind": "basic", "corruption_scheme": ("tail",)},
    "basic of relations": {"kind": "basic", "corruption_scheme": ("relation",)},
    "basic of all slots": {"kind": "basic", **RELATIONS},
    "bernoulli": {"kind": "bernoulli"},
    "bernoulli of heads": {"kind": "bernoulli", "corruption_scheme": ("head",)},
    "pseudotyped": {"kind": "pseudotyped"},
    "typed": {"kind": "typed"},
    "degree": {"kind": "degree"},
    "degree to the 0": {"kind": "degree", "alpha": 0.0},
    "degree to the 1": {"kind": "degree", "alpha": 1.0},
    "degree of all slots": {"kind": "degree", **RELATIONS},
    "mixture": {"kind": "mixture", "mixture": (("bernoulli", 3), ("pseudotyped", 1))},
    "mixture of many": {
        "kind": "mixture",
        "mixture": (("typed", 2), ("degree", 1), ("basic", 4)),
        "alpha": 1.0,
    },
    "mixture of all slots": {
        "kind": "mixture",
        "mixture": (("degree", 1), ("basic", 2)),
        **RELATIONS,
    },
}
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "exact": {"filter_splits": ("training",)},
    "exact for all": {"filter_splits": BOTH},
    "mask": {"filter_splits": BOTH, "filter_mode": "mask"},
    "candidates": {"candidates": (0, 1, 2, 4)},
    "candidates, exact": {"candidates": (0, 1, 2, 4, 5), "filter_splits": BOTH},
    "distinct": {"distinct": True},
    "distinct, exact": {"distinct": True, "filter_splits": BOTH},
    "distinct, mask": {"distinct": True, "filter_splits": BOTH, "filter_mode": "mask"},
    # Of the four positives in turn, each chunk has different ones, and each only once.
    "chunks": {"chunk_size": 3},
    "chunks, mask": {"chunk_size": 3, "filter_splits": BOTH, "filter_mode": "mask"},
    "chunks, distinct": {"chunk_size": 3, "distinct": True},
}


def is_refused(options: Mapping[str, Any]) -> bool:
    """Return whether options are among those refused by the page."""
    kind, chunked = options["kind"], "chunk_size" in options
    return (
        ("distinct" in options and kind in {"degree", "mixture"})
        or (chunked and kind in {"pseudotyped", "typed", "mixture"})
        or (chunked and options.get("corruption_scheme") == SLOTS)
    )


CONFIGURATIONS = {
    f"{kind}, {mode}": {**KINDS[kind], **MODES[mode]}
    for kind in KINDS
    for mode in MODES
    if not is_refused({**KINDS[kind], **MODES[mode]})
}


@pytest.mark.parametrize(("name", "k"), [("tight", 4), ("wide", 1)])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_negatives_follow_the_enumerated_distribution(
    configuration: str, name: str, k: int
) -> None:
    graph = small_graph(name)
    options = CONFIGURATIONS[configuration]
    config = SamplerConfig(
        **options, num_negs_per_pos=k, seed=100 + k, log_q=not options.get("distinct", False)
    )
    assert_follows(graph, config, positives(graph), POSITIONS)


@pytest.mark.parametrize("k", [2, 3, 7, 64])
@pytest.mark.parametrize("kind", ["basic of all slots", "bernoulli", "typed", "degree", "mixture"])
def test_any_number_of_negatives_follows_it(kind: str, k: int) -> None:
    graph = small_graph("wide")
    config = SamplerConfig(**KINDS[kind], filter_splits=BOTH, num_negs_per_pos=k, seed=k)
    assert_follows(graph, config, positives(graph), 40_000 // k)


@pytest.mark.parametrize("position", [2**32 - POSITIONS // 2, 2**64 - POSITIONS])
def test_far_positions_follow_the_law(position: int) -> None:
    graph = small_graph("wide")
    config = SamplerConfig(kind="bernoulli", filter_splits=BOTH, num_negs_per_pos=3, seed=1)
    triple = positives(graph)["known"]
    batch = graph.sampler(config).sample(np.tile(triples([triple]), (POSITIONS, 1)), position)
    report = check(Law(graph, config, triple), draws_of(batch))
    assert verdict(report) > LEVEL, report


# --- Hubs of benchmarks: long lists of known values, many candidates ---


@cache
def benchmark(name: str) -> TriplesFactory:
    """Return a benchmark graph; its constraints are the values seen in its first two splits."""
    graph = load(name)
    rows = np.concatenate([graph.splits[split] for split in BOTH])
    # Every other relation is left free.
    rows = rows[rows[:, 1] % 2 == 0]
    return TriplesFactory(
        graph.splits,
        num_entities=graph.num_entities,
        num_relations=graph.num_relations,
        type_constraints=TypeConstraints(heads=rows[:, [1, 0]], tails=rows[:, [1, 2]]),
    )


def hubs(graph: TriplesFactory) -> dict[str, Triple]:
    """Find positives for which most values are known."""
    result = {}
    training = graph.mapped_triples
    for slot in (0, 2):
        pairs = training[:, 1] * graph.num_entities + training[:, 2 - slot]
        different, counts = np.unique(pairs, return_counts=True)
        rows = training[pairs == different[counts.argmax()]]
        result[f"hub of {SLOTS[slot]}s"] = tuple(rows[len(rows) // 2].tolist())
    # The same hub, and as the tail what is not known of it and has known ids around it.
    head, relation, tail = result["hub of tails"]
    known = known_values(graph, tuple(graph.splits), (head, relation, tail), 2)
    unknown = np.setdiff1d(np.arange(known[0], known[-1]), known)
    result["unknown of a hub"] = (head, relation, int(unknown[len(unknown) // 2]))
    return result


HUB_MODES = {mode: MODES[mode] for mode in ("exact for all", "mask", "distinct, exact")}


@pytest.mark.parametrize("mode", HUB_MODES)
@pytest.mark.parametrize(
    "kind",
    ["basic", "basic of all slots", "bernoulli", "pseudotyped", "typed", "degree", "mixture"],
)
def test_hubs_of_codex_follow_it(kind: str, mode: str) -> None:
    options = {**KINDS[kind], **HUB_MODES[mode]}
    if is_refused(options):
        options = {**KINDS[kind], **MODES["plain"]}
    graph = benchmark("codex-s")
    log_q = not options.get("distinct", False)
    config = SamplerConfig(**options, num_negs_per_pos=100, seed=5, log_q=log_q)
    assert_follows(graph, config, hubs(graph), 1_500)


@pytest.mark.parametrize("kind", ["basic", "bernoulli", "degree", "degree to the 1"])
def test_hubs_of_fb15k_237_follow_it(kind: str) -> None:
    graph = load("fb15k-237")
    config = SamplerConfig(**KINDS[kind], filter_splits=BOTH, num_negs_per_pos=300, seed=6)
    assert_follows(graph, config, hubs(graph), 1_500)


# --- Distinct values, in which order ---


@pytest.mark.parametrize("known", [1, 2, 3, 4])
@pytest.mark.parametrize("distinct_of", ["own values", "chunks"])
def test_every_ordered_selection_is_equally_likely(known: int, distinct_of: str) -> None:
    # Own values: of six, the original and the first ones known are not legal.
    graph = TriplesFactory(
        {"training": triples([(0, 0, t) for t in range(known)])}, num_entities=6, num_relations=1
    )
    options: dict[str, Any] = {"corruption_scheme": ("tail",), "filter_splits": ("training",)}
    if distinct_of == "chunks":
        options = {"chunk_size": 2, "candidates": tuple(range(known, 6))}
    legal = sorted(set(range(known, 6)) - (set() if distinct_of == "chunks" else {5}))
    for k in range(1, len(legal) + 1):
        config = SamplerConfig(distinct=True, num_negs_per_pos=k, seed=k, **options)
        rows = graph.sampler(config).sample(np.full((24_000, 3), (0, 0, 5)), 0).replaced
        outcomes = {each: i for i, each in enumerate(permutations(legal, k))}
        counts = Counter(map(tuple, rows.tolist()))
        assert set(counts) <= set(outcomes)
        observed = np.array([counts[each] for each in outcomes])
        assert goodness(observed, np.full(len(outcomes), 1 / len(outcomes))) > LEVEL, (k, counts)


# --- The check itself ---


@pytest.mark.parametrize("mode", ["exact", "distinct, exact"])
def test_p_values_of_a_right_sampler_are_uniform(mode: str) -> None:
    # A check that is too kind would have p values too near 1, and little power.
    graph = small_graph("wide")
    triple = positives(graph)["known"]
    config = SamplerConfig(kind="bernoulli", **MODES[mode], num_negs_per_pos=4)
    law = Law(graph, config, triple)
    rows = np.tile(triples([triple]), (5_000, 1))
    found: dict[str, list[float]] = {}
    for seed in range(100):
        batch = graph.sampler(replace(config, seed=seed)).sample(rows, 0)
        for name, p in check(law, draws_of(batch)).items():
            found.setdefault(name, []).append(p)
    for name, ps in found.items():
        if max(ps) == min(ps) == 1:
            continue  # what is not random
        assert stats.kstest(ps, "uniform").pvalue > LEVEL, (name, ps)
    random = [name for name, ps in found.items() if min(ps) < 1]
    assert {"values of heads", "values of tails", "negative 0", "negatives 0 and 1"} <= set(random)


class Textbook:
    """A correct sampler, as plain as possible: distinct values for one positive, from random words.

    Each classic mistake is a subclass that does one step wrongly.
    """

    def __init__(self, graph: TriplesFactory, config: SamplerConfig, triple: Triple) -> None:
        self.graph, self.config, self.triple = graph, config, triple
        self.k = config.num_negs_per_pos
        self.rng = np.random.default_rng(99)

    def head_share(self) -> float:
        return float(slot_shares(self.graph, self.config, self.config.kind, self.triple[1])[0])

    def head_counts(self, words: NDArray[np.uint64]) -> Ints:
        expected = self.k * self.head_share()
        return np.floor(expected + words / 2**32 + 1e-12).astype(np.int64)

    def slots(self, words: NDArray[np.uint64]) -> Ints:
        return np.where(np.arange(self.k) < self.head_counts(words)[:, None], 0, 2)

    def excluded(self, slot: int) -> set[int]:
        return excluded_values(self.graph, self.config, self.triple, slot)

    def weights(self, slot: int) -> dict[int, int]:
        relation = self.triple[1]
        of = candidate_weights(self.graph, self.config, self.config.kind, slot, relation)
        return {value: int(weight) for value, weight in of.items()}

    def units(self, slot: int) -> Ints:
        """The values, each repeated by its weight."""
        weights = self.weights(slot)
        return np.repeat(list(weights), list(weights.values()))

    def legal_units(self, slot: int) -> Ints:
        units = self.units(slot)
        return units[~np.isin(units, list(self.excluded(slot)))]

    def draw(self, words: NDArray[np.uint64], num: int) -> Ints:
        # Without a second draw: the bias of so few values is no matter.
        return (words * np.uint64(num) >> np.uint64(32)).astype(np.int64)

    def pick(self, slot: int, words: NDArray[np.uint64]) -> Ints:
        units = self.legal_units(slot)
        return units[self.draw(words, len(units))]

    def values(self, slots: Ints, words: NDArray[np.uint64]) -> Ints:
        return np.where(slots == 0, self.pick(0, words), self.pick(2, words))

    def valid(self, slot: int, values: Ints) -> NDArray[np.bool_]:
        known = known_values(self.graph, self.config.filter_splits, self.triple, slot)
        is_own = (self.config.chunk_size > 1) & (values == self.triple[slot])
        return ~np.isin(values, known) & ~is_own

    def q(self, slot: int, values: Ints) -> Floats:
        units = self.legal_units(slot)
        share = self.head_share() if slot == 0 else 1 - self.head_share()
        return share * np.bincount(units, minlength=self.graph.num_entities)[values] / len(units)

    def sample(self, num_positions: int) -> Draws:
        words = self.rng.integers(2**32, size=(num_positions, self.k + 1), dtype=np.uint64)
        slots = self.slots(words[:, 0])
        values = self.values(slots, words[:, 1:])
        config = self.config
        mask = log_q = None
        if config.masked:
            mask = np.where(slots == 0, self.valid(0, values), self.valid(2, values))
        if config.log_q:
            with np.errstate(divide="ignore"):
                log_q = np.log(np.where(slots == 0, self.q(0, values), self.q(2, values)))
        return Draws(slots, values, mask, log_q)


class OriginalIsDrawn(Textbook):
    def excluded(self, slot: int) -> set[int]:
        return super().excluded(slot) - {self.triple[slot]}


class LastIsNeverDrawn(Textbook):
    """Subtracts one for the original, and another one for a wrong upper end."""

    def draw(self, words: NDArray[np.uint64], num: int) -> Ints:
        return super().draw(words, num - 1)


class FirstHalfOfBatchIsHeads(Textbook):
    """Divides the batch into one piece per slot, in the order of its rows."""

    def slots(self, words: NDArray[np.uint64]) -> Ints:
        flat = np.arange(len(words) * self.k) * 2 // (len(words) * self.k)
        return 2 * flat.reshape(len(words), self.k)


class SlotsTakeTurns(Textbook):
    """Every other positive has its head replaced."""

    def slots(self, words: NDArray[np.uint64]) -> Ints:
        return np.where(np.arange(len(words)) % 2, 2, 0)[:, None].repeat(self.k, axis=1)


class FirstHalfIsHeads(Textbook):
    """Half of the negatives of each positive, rounded down."""

    def head_counts(self, words: NDArray[np.uint64]) -> Ints:
        return np.full(len(words), self.k // 2)


class SlotsAreIndependentTrials(Textbook):
    def head_counts(self, words: NDArray[np.uint64]) -> Ints:
        return self.rng.binomial(self.k, self.head_share(), len(words))


class SidesAreSwapped(Textbook):
    def head_share(self) -> float:
        return 1 - super().head_share()


class SlotsAreEven(Textbook):
    def head_share(self) -> float:
        return 0.5


class ShiftBeforeFilter(Textbook):
    """Shifts past the original, and then past the known values."""

    def pick(self, slot: int, words: NDArray[np.uint64]) -> Ints:
        original = self.triple[slot]
        known = sorted(self.excluded(slot) - {original})
        values = self.draw(words, self.graph.num_entities - 1 - len(known))
        values += values >= original
        for value in known:
            values += values >= value
        return values


class FilterBeforeShift(ShiftBeforeFilter):
    """Shifts past the known values, and then past the original."""

    def pick(self, slot: int, words: NDArray[np.uint64]) -> Ints:
        original = self.triple[slot]
        known = sorted(self.excluded(slot) - {original})
        values = self.draw(words, self.graph.num_entities - 1 - len(known))
        for value in known:
            values += values >= value
        return values + (values >= original)


class StandInIsShared(Textbook):
    """Numbers the excluded values without the original, which so shares another's stand-in."""

    def pick(self, slot: int, words: NDArray[np.uint64]) -> Ints:
        legal = self.legal_units(slot)
        excluded = np.array(sorted(self.excluded(slot)))
        known = excluded[excluded != self.triple[slot]]
        u = self.draw(words, len(legal))
        beyond = legal[legal >= len(legal)]
        place = np.minimum(np.searchsorted(known, u), len(beyond) - 1)
        return np.where(np.isin(u, excluded), beyond[place], u)


class NextTakesOver(Textbook):
    """Gives the weight of an excluded value to the next legal one, not to all of them."""

    def pick(self, slot: int, words: NDArray[np.uint64]) -> Ints:
        units = self.units(slot)
        legal = np.unique(self.legal_units(slot))
        heirs = legal[np.searchsorted(legal, units) % len(legal)]
        return heirs[self.draw(words, len(units))]


class WeightsAreForgotten(Textbook):
    """Draws uniformly in place of an excluded value."""

    def pick(self, slot: int, words: NDArray[np.uint64]) -> Ints:
        units = self.units(slot)
        values = units[self.draw(words, len(units))]
        legal = np.unique(self.legal_units(slot))
        others = self.rng.choice(legal, values.shape)
        return np.where(np.isin(values, legal), values, others)


class MaskForgetsFilter(Textbook):
    def valid(self, slot: int, values: Ints) -> NDArray[np.bool_]:
        return values != self.triple[slot]


class MaskIsOfOtherSlot(Textbook):
    def valid(self, slot: int, values: Ints) -> NDArray[np.bool_]:
        return super().valid(2 - slot, values)


class LogIsOfAllValues(Textbook):
    """Ignores that the filter leaves fewer values."""

    def q(self, slot: int, values: Ints) -> Floats:
        return super().q(slot, values) * len(self.legal_units(slot)) / self.graph.num_entities


class LogIsOfValuesOnly(Textbook):
    """Ignores that the slot was drawn, too."""

    def q(self, slot: int, values: Ints) -> Floats:
        return super().q(slot, values) / (self.head_share() if slot == 0 else 1 - self.head_share())


class DistinctTextbook(Textbook):
    """Takes the beginning of a random order of the legal values, in each slot."""

    def order(self, legal: Ints, num_positions: int) -> Ints:
        keys = self.rng.random((num_positions, len(legal)))
        return legal[np.argsort(keys, axis=1)[:, : self.k]]

    def values(self, slots: Ints, words: NDArray[np.uint64]) -> Ints:
        orders = {slot: self.order(self.legal_units(slot), len(words)) for slot in (0, 2)}
        num_heads = (slots == 0).sum(axis=1)[:, None]
        place = np.arange(self.k)[None]
        tails = np.take_along_axis(orders[2], np.maximum(place - num_heads, 0), axis=1)
        return np.where(slots == 0, np.take_along_axis(orders[0], place, axis=1), tails)


class DistinctIsForgotten(DistinctTextbook):
    def order(self, legal: Ints, num_positions: int) -> Ints:
        return self.rng.choice(legal, (num_positions, self.k))


class DistinctIsSorted(DistinctTextbook):
    """Collects the values in a set."""

    def order(self, legal: Ints, num_positions: int) -> Ints:
        return np.sort(super().order(legal, num_positions), axis=1)


class RepeatedGoesToNext(DistinctTextbook):
    """Replaces a repeated value by the next one not drawn yet."""

    def order(self, legal: Ints, num_positions: int) -> Ints:
        result = np.empty((num_positions, self.k), dtype=np.int64)
        rows = np.arange(num_positions)
        used = np.zeros((num_positions, len(legal)), dtype=np.bool_)
        for j in range(self.k):
            place = self.rng.integers(len(legal), size=num_positions)
            while used[rows, place].any():
                place = (place + used[rows, place]) % len(legal)
            used[rows, place] = True
            result[:, j] = legal[place]
        return result


class ShuffleExchangesWithAll(DistinctTextbook):
    """Exchanges each item with any other, not only with later ones."""

    def order(self, legal: Ints, num_positions: int) -> Ints:
        result = np.tile(legal, (num_positions, 1))
        rows = np.arange(num_positions)
        for j in range(len(legal)):
            place = self.rng.integers(len(legal), size=num_positions)
            result[rows, j], result[rows, place] = result[rows, place], result[rows, j].copy()
        return result[:, : self.k]


class ChunkAvoidsOriginal(Textbook):
    def excluded(self, slot: int) -> set[int]:
        return {self.triple[slot]}


#: A mistake; the kind, the mode and the positive where it shows; what of the report tells.
MISTAKES: list[tuple[type[Textbook], str, str, str, str]] = [
    (OriginalIsDrawn, "basic", "plain", "unknown", "values"),
    (OriginalIsDrawn, "basic", "exact", "unknown", "values"),
    (OriginalIsDrawn, "degree to the 1", "exact", "unknown", "values"),
    (LastIsNeverDrawn, "basic", "plain", "known", "values of tails"),
    (LastIsNeverDrawn, "basic", "exact", "known", "values of tails"),
    (FirstHalfOfBatchIsHeads, "basic", "plain", "known", "counts of the first half"),
    (FirstHalfOfBatchIsHeads, "bernoulli", "exact", "known", "counts of the second half"),
    (SlotsTakeTurns, "basic", "plain", "known", "counts at even places"),
    (FirstHalfIsHeads, "basic", "plain", "known", "counts"),
    (FirstHalfIsHeads, "bernoulli", "plain", "known", "counts"),
    (SlotsAreIndependentTrials, "basic", "plain", "known", "counts"),
    (SlotsAreIndependentTrials, "bernoulli", "exact", "known", "counts"),
    (SidesAreSwapped, "bernoulli", "plain", "known", "counts"),
    (SlotsAreEven, "bernoulli", "plain", "known", "counts"),
    (SlotsAreEven, "pseudotyped", "plain", "known", "counts"),
    (SlotsAreEven, "typed", "exact", "known", "counts"),
    (ShiftBeforeFilter, "basic", "exact", "known", "values of tails"),
    (ShiftBeforeFilter, "basic", "exact", "unknown", "values of tails"),
    (FilterBeforeShift, "basic", "exact", "known", "values of tails"),
    (FilterBeforeShift, "basic", "exact", "unknown", "values of tails"),
    (StandInIsShared, "basic", "exact", "unknown", "values of tails"),
    (NextTakesOver, "basic", "plain", "known", "values"),
    (NextTakesOver, "basic", "exact", "known", "values of tails"),
    (NextTakesOver, "degree to the 1", "exact", "known", "values of tails"),
    (WeightsAreForgotten, "degree to the 1", "exact", "known", "values of tails"),
    (MaskForgetsFilter, "basic", "mask", "known", "mask"),
    (MaskIsOfOtherSlot, "basic", "mask", "known", "mask"),
    (LogIsOfAllValues, "basic", "exact", "known", "log_q"),
    (LogIsOfValuesOnly, "bernoulli", "plain", "known", "log_q"),
    (DistinctIsForgotten, "basic", "distinct", "known", "negatives"),
    (DistinctIsSorted, "basic", "distinct", "known", "negative"),
    (RepeatedGoesToNext, "basic", "distinct", "known", "negatives"),
    (ShuffleExchangesWithAll, "basic", "distinct", "known", "negative"),
    (ChunkAvoidsOriginal, "basic", "chunks", "unknown", "values"),
    (MaskForgetsFilter, "basic", "chunks, mask", "unknown", "mask"),
]


def setting(kind: str, mode: str, k: int, which: str) -> tuple[SamplerConfig, Triple]:
    options = {**KINDS[kind], **MODES[mode]}
    config = SamplerConfig(
        **options, num_negs_per_pos=k, seed=8, log_q=not options.get("distinct", False)
    )
    return config, positives(small_graph("wide"))[which]


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(
    ("kind", "mode", "which"), sorted({(kind, mode, which) for _, kind, mode, which, _ in MISTAKES})
)
def test_the_sampler_and_the_textbook_are_accepted(
    kind: str, mode: str, which: str, k: int
) -> None:
    graph = small_graph("wide")
    config, triple = setting(kind, mode, k, which)
    law = Law(graph, config, triple)
    textbook = (DistinctTextbook if config.distinct else Textbook)(graph, config, triple)
    report = check(law, textbook.sample(POSITIONS))
    assert verdict(report) > LEVEL, report
    assert_follows(graph, config, positives(graph), POSITIONS)


@pytest.mark.parametrize(
    ("mistake", "kind", "mode", "which", "telling"),
    MISTAKES,
    ids=[f"{mistake.__name__}-{kind}-{mode}" for mistake, kind, mode, _, _ in MISTAKES],
)
def test_a_classic_mistake_is_refused(
    mistake: type[Textbook], kind: str, mode: str, which: str, telling: str
) -> None:
    graph = small_graph("wide")
    config, triple = setting(kind, mode, 5, which)
    report = check(Law(graph, config, triple), mistake(graph, config, triple).sample(POSITIONS))
    assert verdict(report) < REFUSED, report
    assert any(p < REFUSED for name, p in report.items() if name.startswith(telling)), report


@pytest.mark.parametrize(
    "mistake",
    [OriginalIsDrawn, LastIsNeverDrawn, FirstHalfOfBatchIsHeads, SlotsTakeTurns, FirstHalfIsHeads],
)
def test_a_single_negative_tells_as_well(mistake: type[Textbook]) -> None:
    graph = small_graph("wide")
    config, triple = setting("basic", "exact", 1, "unknown")
    report = check(Law(graph, config, triple), mistake(graph, config, triple).sample(POSITIONS))
    assert verdict(report) < REFUSED, report


# --- Bias of draws from a large range ---

NUM_LEGAL = 3 * 2**30  # three quarters of all words: as uneven as it gets


def unevenness(drawn: Ints) -> float:
    """Return p values for the uniformity of draws from a large range: by parts, by remainder."""
    coarse = np.bincount(drawn * 12 // NUM_LEGAL, minlength=12)
    remainders = np.bincount(drawn % 3, minlength=3)
    return 2 * min(goodness(coarse, np.full(12, 1 / 12)), goodness(remainders, np.full(3, 1 / 3)))


def test_large_ranges_have_no_bias() -> None:
    graph = TriplesFactory(
        {"training": triples([(0, 0, 0)])}, num_entities=NUM_LEGAL + 1, num_relations=1
    )
    # The last id is replaced, so that a draw is its own answer.
    for options in ({}, {"distinct": True}):
        config = SamplerConfig(corruption_scheme=("tail",), num_negs_per_pos=100, seed=9, **options)
        batch = graph.sampler(config).sample(np.full((1_000, 3), (0, 0, NUM_LEGAL)), 0)
        assert unevenness(batch.replaced.astype(np.int64).ravel()) > LEVEL


@pytest.mark.parametrize(
    "biased",
    [
        lambda words: words % NUM_LEGAL,
        lambda words: words * NUM_LEGAL >> 32,  # Lemire's product, and nothing drawn again
        lambda words: np.where(words < NUM_LEGAL, words, words % 2**30),
    ],
    ids=["remainder", "product", "folded"],
)
def test_a_biased_draw_is_refused(biased: Callable[[NDArray[np.uint64]], Any]) -> None:
    rng = np.random.default_rng(10)
    words = rng.integers(2**32, size=100_000, dtype=np.uint64)
    assert unevenness(words[words < NUM_LEGAL].astype(np.int64)) > LEVEL
    assert unevenness(biased(words).astype(np.int64)) < REFUSED


# --- Independence ---

#: A seven-entity positive with the same head as tail has six legal values in either slot.
NUM_VALUES = 6
PAIRS = 30_000

#: Gives slots, as 0 and 1, and values, as 0 to 5, each of shape (positions, k), of a seed and a
#: position to begin at.
Stream = Callable[[int, int, int, int], tuple[Ints, Ints]]


def sampled(seed: int, position: int, num_positions: int, k: int) -> tuple[Ints, Ints]:
    """Draw from the sampler."""
    graph = TriplesFactory({"training": triples([(0, 0, 1)])}, num_entities=7, num_relations=1)
    config = SamplerConfig(num_negs_per_pos=k, seed=seed)
    batch = graph.sampler(config).sample(np.full((num_positions, 3), (6, 0, 6)), position)
    draws = draws_of(batch)
    return draws.slots // 2, draws.values


def mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Turn 64 bits into 64 others that look random (splitmix64)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))


def stream(
    word: Callable[[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]], Any],
) -> Stream:
    """Make a stream of a function of seed, position and index that gives 64 random bits."""

    def draw_from(seed: int, position: int, num_positions: int, k: int) -> tuple[Ints, Ints]:
        places = np.uint64(position) + np.arange(num_positions, dtype=np.uint64)[:, None]
        indices = np.arange(k + 1, dtype=np.uint64)[None]
        seeds = np.full((1, 1), seed, dtype=np.uint64)
        words = word(seeds, places, indices) >> np.uint64(32)
        heads = (k * 2**31 + words[:, :1].astype(np.int64)) >> 32
        slots = np.where(np.arange(k) < heads, 0, 1)
        return slots, (words[:, 1:] * np.uint64(NUM_VALUES) >> np.uint64(32)).astype(np.int64)

    return draw_from


def relatives(of: Stream) -> dict[str, tuple[Ints, Ints]]:
    """Draw pairs that must be independent."""
    result: dict[str, tuple[Ints, Ints]] = {}

    def put(name: str, x: tuple[Ints, Ints], y: tuple[Ints, Ints], j: int = 0, i: int = 0) -> None:
        result[f"values of {name}"] = x[1][:, j], y[1][:, i]
        result[f"slots of {name}"] = x[0][:, 0], y[0][:, 0]
        result[f"slot and value of {name}"] = x[0][:, 0], y[1][:, i]

    one = of(1, 0, 2 * PAIRS, 1)
    result["slot and value of a position"] = one[0][:, 0], one[1][:, 0]
    for distance in (1, 2, 4, 32):
        # Each position is in one pair only.
        left = np.flatnonzero(np.arange(2 * PAIRS) // distance % 2 == 0)
        left = left[left + distance < 2 * PAIRS]
        x, y = ((one[0][at], one[1][at]) for at in (left, left + distance))
        put(f"positions p and p + {distance}", x, y)
    put("positions p and p + 2^32", of(1, 0, PAIRS, 1), of(1, 2**32, PAIRS, 1))
    put("seeds s and s + 1", of(1, 0, PAIRS, 1), of(2, 0, PAIRS, 1))
    put("seeds s and s + 2^32", of(1, 0, PAIRS, 1), of(1 + 2**32, 0, PAIRS, 1))
    put("seed s + 1 at p, s at p + 1", of(2, 0, PAIRS, 1), of(1, 1, PAIRS, 1))
    put("seed s at p, s + 2^32 at p + 2^32", of(1, 0, PAIRS, 1), of(1 + 2**32, 2**32, PAIRS, 1))

    slots, values = of(3, 0, PAIRS, 9)
    for distance in (1, 4):
        for j in range(9 - distance):
            result[f"values of negatives {j} and {j + distance}"] = (
                values[:, j],
                values[:, j + distance],
            )
    # There are 4 or 5 heads: the slot of negative 4 is what the word of the slots decides.
    for j in range(9):
        result[f"slot and value of negative {j}"] = slots[:, 4], values[:, j]
    for j, i in ((4, 0), (5, 4)):
        name = f"values of negative {j} at p, and negative {i} at p + 1"
        result[name] = values[0::2, j], values[1::2, i]
    return result


def dependence(name: str, x: Ints, y: Ints) -> float:
    """Test whether two columns are uniform and independent; the p value."""
    num_x = NUM_VALUES if name.startswith("values") else 2
    num_y = 2 if name.startswith("slots") else NUM_VALUES
    observed = np.bincount(x * num_y + y, minlength=num_x * num_y)
    return goodness(observed, np.full(num_x * num_y, 1 / (num_x * num_y)))


def test_positions_negatives_seeds_and_slots_are_independent() -> None:
    found = {name: dependence(name, *pair) for name, pair in relatives(sampled).items()}
    assert verdict(found) > LEVEL, found


INDEPENDENT = stream(lambda seed, position, index: mix(mix(mix(seed) + position) + index))
DEPENDENT: dict[str, tuple[Stream, str]] = {
    "streams overlap": (
        stream(lambda seed, position, index: mix(mix(seed) + position + index)),
        "values of negative 5 at p, and negative 4 at p + 1",
    ),
    "seed and position are added": (
        stream(lambda seed, position, index: mix(mix(seed + position) + index)),
        "values of seed s + 1 at p, s at p + 1",
    ),
    "position is cut": (
        stream(lambda seed, position, index: mix(mix(mix(seed) + position % 2**32) + index)),
        "values of positions p and p + 2^32",
    ),
    "seed is cut": (
        stream(lambda seed, position, index: mix(mix(mix(seed % 2**32) + position) + index)),
        "slots of seeds s and s + 2^32",
    ),
    "words are used twice": (
        stream(lambda seed, position, index: mix(mix(mix(seed) + position) + index // 2)),
        "values of negatives 1 and 2",
    ),
    "slot and value share a word": (
        stream(
            lambda seed, position, index: mix(
                mix(mix(seed) + position) + np.maximum(index, np.uint64(1))
            )
        ),
        "slot and value of a position",
    ),
    "a block is drawn again": (
        stream(lambda seed, position, index: mix(mix(mix(seed) + position) + index % 4)),
        "values of negatives 0 and 4",
    ),
    "positions of a block share": (
        stream(lambda seed, position, index: mix(mix(mix(seed) + position // 2) + index)),
        "slots of positions p and p + 1",
    ),
}


def test_a_stream_of_independent_words_is_accepted() -> None:
    found = {name: dependence(name, *pair) for name, pair in relatives(INDEPENDENT).items()}
    assert verdict(found) > LEVEL, found


@pytest.mark.parametrize("mistake", DEPENDENT)
def test_a_stream_of_dependent_words_is_refused(mistake: str) -> None:
    of, telling = DEPENDENT[mistake]
    assert dependence(telling, *relatives(of)[telling]) < REFUSED
