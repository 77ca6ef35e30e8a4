"""The exact distribution of negatives, enumerated from its definition, and a test of draws.

``docs/sampling.md`` defines for each positive which negatives are drawn how often. :class:`Law`
is that definition in rationals, without words, units, ranks or stand-ins: it knows *what* is
drawn, not *how*. :func:`check` tells how well draws follow a law, as p values.

Nothing here uses the kernels, the index, or the slow reference of the kernels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from negserve_server.graph import TriplesFactory
from negserve_server.sampling import CorruptedBatch, SamplerConfig

Triple = tuple[int, int, int]
Weight = int | Fraction
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLOTS = ("head", "relation", "tail")
#: Draws that a bin of a chi-square test is expected to have at least.
_PER_BIN = 10
#: The same for a cell of a pair of negatives, on average; with fewer, pairs are not tested.
_PER_PAIR = 2


# --- The definition ---


def seen(graph: TriplesFactory, slot: int, relation: int) -> set[int]:
    """Return the ids that training triples of a relation have in a slot."""
    training = graph.mapped_triples
    return set(training[training[:, 1] == relation][:, slot].tolist())


def known_values(graph: TriplesFactory, splits: Sequence[str], triple: Triple, slot: int) -> Ints:
    """Return the values that make a triple of the splits in a slot, ascending."""
    first, second = (column for column in range(3) if column != slot)
    found = [
        rows[(rows[:, first] == triple[first]) & (rows[:, second] == triple[second])][:, slot]
        for rows in (graph.splits[split] for split in splits)
    ]
    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *found]))


def candidate_weights(
    graph: TriplesFactory, config: SamplerConfig, kind: str, slot: int, relation: int
) -> dict[int, Weight]:
    """Return the ids that may be drawn in a slot, with their weights."""
    size = graph.num_relations if slot == 1 else graph.num_entities
    ids: set[int] = set(range(size))
    if slot != 1 and config.candidates is not None:
        ids = set(config.candidates)
    if kind == "pseudotyped":
        ids &= seen(graph, slot, relation)
    if kind == "typed":
        constraints = graph.type_constraints
        assert constraints is not None
        pairs = constraints.heads if slot == 0 else constraints.tails
        allowed = set(pairs[pairs[:, 0] == relation][:, 1].tolist())
        ids &= allowed or ids
    if kind != "degree" or config.alpha == 0:
        return dict.fromkeys(sorted(ids), 1)
    frequency = np.bincount(graph.mapped_triples[:, slot], minlength=size)
    # Powers are right to 53 bits, the sampler's units to fewer.
    power = {int(f): Fraction(float(f) ** config.alpha) for f in np.unique(frequency) if f}
    return {value: power[int(frequency[value])] for value in sorted(ids) if frequency[value]}


def slot_shares(
    graph: TriplesFactory, config: SamplerConfig, kind: str, relation: int
) -> dict[int, Fraction]:
    """Return the probability of each slot of the scheme, before saturation."""
    slots = [SLOTS.index(slot) for slot in config.corruption_scheme]
    weights = dict.fromkeys(slots, 1)
    if kind == "bernoulli" and slots == [0, 2]:
        heads, tails = (len(seen(graph, slot, relation)) for slot in slots)
        if heads:
            # tph = n / heads and hpt = n / tails, and n cancels in tph / (tph + hpt).
            weights = {0: tails, 2: heads}
    if kind in {"pseudotyped", "typed"}:
        sizes = {
            slot: len(candidate_weights(graph, config, kind, slot, relation)) for slot in slots
        }
        weights = sizes if any(sizes.values()) else weights
    return {slot: Fraction(weight, sum(weights.values())) for slot, weight in weights.items()}


def excluded_values(
    graph: TriplesFactory, config: SamplerConfig, triple: Triple, slot: int
) -> set[int]:
    """Return the values that must not be drawn for a positive."""
    if config.chunk_size > 1:
        return set()
    excluded = {triple[slot]}
    if config.filter_mode == "exact":
        excluded |= set(known_values(graph, config.filter_splits, triple, slot).tolist())
    return excluded


@dataclass(frozen=True)
class Cell:
    """A slot of a part: the values that may be drawn there for a positive.

    :ivar share: its part of the negatives, before saturation
    :ivar weights: legal values
    :ivar urn: cells of one urn draw from it without putting back; None for one that does
    """

    slot: int
    share: Fraction
    weights: Mapping[int, Weight]
    urn: int | None = None

    @cached_property
    def probabilities(self) -> dict[int, Fraction]:
        """Probability of each value, given the cell."""
        # Few weights differ, and sums of many fractions take long.
        numbers = Counter(self.weights.values())
        total = sum(weight * number for weight, number in numbers.items())
        part = {weight: Fraction(weight) / total for weight in numbers}
        return {value: part[weight] for value, weight in self.weights.items()}


def house(
    amounts: Sequence[Fraction], rooms: Sequence[Fraction | None], slots: Sequence[int]
) -> tuple[list[Fraction], Fraction]:
    """Leave each cell what it has room for, and move the excess to others, own slot first.

    :param rooms: None for any number
    :return: what each cell has then, and what no cell has room for
    """
    held = [
        amount if room is None else min(amount, room)
        for amount, room in zip(amounts, rooms, strict=True)
    ]
    homeless = Fraction(0)
    for cell, amount in enumerate(amounts):
        excess = max(Fraction(0), amount - (amount if rooms[cell] is None else rooms[cell]))
        others = sorted(range(len(slots)), key=lambda other: slots[other] != slots[cell])
        for other in others:
            room = rooms[other]
            moved = excess if room is None else min(excess, room - held[other])
            held[other] += moved
            excess -= moved
        homeless += excess
    return held, homeless


class Law:
    """All probabilities of the negatives of one positive in one configuration.

    :param triple: the positive
    """

    def __init__(self, graph: TriplesFactory, config: SamplerConfig, triple: Triple) -> None:
        self.config = config
        self.triple = triple
        self.k = config.num_negs_per_pos
        #: A slot and value are the one number slot * width + value.
        self.width = max(graph.num_entities, graph.num_relations)
        relation = triple[1]
        total = sum(shares for _, shares in config.parts)
        cells: list[Cell] = []
        for slot in (SLOTS.index(name) for name in config.corruption_scheme):
            excluded = excluded_values(graph, config, triple, slot)
            for kind, shares in config.parts:
                share = slot_shares(graph, config, kind, relation)[slot]
                weights = candidate_weights(graph, config, kind, slot, relation)
                legal = {value: w for value, w in weights.items() if value not in excluded}
                # A chunk has one urn; else each cell has its own.
                urn = (0 if config.chunk_size > 1 else len(cells)) if config.distinct else None
                cells.append(Cell(slot, share * Fraction(shares, total), legal, urn))
        last = cells[-1].slot
        num_ids = graph.num_relations if last == 1 else graph.num_entities
        refuge = {value: 1 for value in range(num_ids) if value != triple[last]}
        #: The last one takes what no other has room for.
        self.cells = [*cells, Cell(last, Fraction(0), refuge)]
        self.divisions, self.homeless = self._divide()
        self.flagged = self._flagged(graph)

    def _divide(self) -> tuple[list[tuple[Fraction, tuple[int, ...]]], int]:
        """Enumerate the numbers of negatives that the cells get, with their probabilities."""
        cells = self.cells[:-1]
        slots = [cell.slot for cell in cells]
        rooms: list[Fraction | None] = [
            Fraction(len(cell.weights)) if cell.urn is not None or not cell.weights else None
            for cell in cells
        ]
        if self.config.chunk_size > 1:
            rooms = [None for _ in cells]
        ends = [self.k * sum(cell.share for cell in cells[: i + 1]) for i in range(len(cells))]
        # Cell i ends at floor(end + u) for u uniform in [0, 1): it jumps where end + u is whole.
        jumps = sorted({Fraction(0), Fraction(1), *(math.ceil(end) - end for end in ends)})
        chances: dict[tuple[int, ...], Fraction] = {}
        number_homeless = set()
        for u, until in pairwise(jumps):
            places = [0, *(math.floor(end + u) for end in ends)]
            amounts = [Fraction(b - a) for a, b in pairwise(places)]
            held, homeless = house(amounts, rooms, slots)
            numbers = tuple(int(number) for number in (*held, homeless))
            chances[numbers] = chances.get(numbers, Fraction(0)) + until - u
            number_homeless.add(int(homeless))
        assert sum(chances.values()) == 1
        (homeless_per_positive,) = number_homeless
        return [(chance, numbers) for numbers, chance in chances.items()], homeless_per_positive

    def _flagged(self, graph: TriplesFactory) -> NDArray[np.bool_] | None:
        """Return by slot and value what the mask flags if drawn; None without a mask."""
        config = self.config
        if not (config.filter_splits or config.distinct or config.chunk_size > 1):
            return None
        flags = np.zeros(3 * self.width, dtype=np.bool_)
        for slot in range(3):
            if config.filter_splits:
                known = known_values(graph, config.filter_splits, self.triple, slot)
                flags[slot * self.width + known] = True
            if config.chunk_size > 1:
                flags[slot * self.width + self.triple[slot]] = True
        return flags

    @cached_property
    def joint(self) -> dict[tuple[int, int], Fraction]:
        """Probability of each (slot, value), after reallocating the shares of saturated cells."""
        cells = self.cells[:-1]
        rooms = [None if cell.weights else Fraction(0) for cell in cells]
        shares, rest = house([cell.share for cell in cells], rooms, [c.slot for c in cells])
        joint: dict[tuple[int, int], Fraction] = {}
        for cell, share in zip(self.cells, (*shares, rest), strict=True):
            for value, p in cell.probabilities.items() if share else ():
                joint[cell.slot, value] = joint.get((cell.slot, value), Fraction(0)) + share * p
        assert sum(joint.values()) == 1
        return joint

    @cached_property
    def log_q(self) -> Floats:
        """Logarithm of the joint probability; 0 for a saturated positive, NaN for illegal ones."""
        result = np.full(3 * self.width, np.nan)
        for (slot, value), q in self.joint.items():
            result[slot * self.width + value] = 0.0 if self.homeless else math.log(q)
        return result

    @cached_property
    def _of_cell(self) -> list[Floats]:
        """Probability of each slot and value, given the cell."""
        result = []
        for cell in self.cells:
            array = np.zeros(3 * self.width)
            for value, p in cell.probabilities.items():
                array[cell.slot * self.width + value] = float(p)
            result.append(array)
        return result

    def counts(self) -> dict[tuple[int, int, int], Fraction]:
        """Probability of each number of heads, relations and tails among the k negatives."""
        result: dict[tuple[int, int, int], Fraction] = {}
        for chance, numbers in self.divisions:
            by_slot = [0, 0, 0]
            for cell, number in zip(self.cells, numbers, strict=True):
                by_slot[cell.slot] += number
            key = (by_slot[0], by_slot[1], by_slot[2])
            result[key] = result.get(key, Fraction(0)) + chance
        return result

    def in_slot(self, slot: int) -> Floats:
        """Probability of each value among all negatives of a slot."""
        result = np.zeros(3 * self.width)
        for chance, numbers in self.divisions:
            for cell, array, number in zip(self.cells, self._of_cell, numbers, strict=True):
                if cell.slot == slot and number:
                    result += float(chance) * number * array
        return result[slot * self.width : (slot + 1) * self.width] / max(result.sum(), 1e-300)

    def urn_of(self, slot: int) -> int | None:
        """Number of values in the one urn that all negatives of a slot come from; else None."""
        used = {
            i
            for _, numbers in self.divisions
            for i, number in enumerate(numbers)
            if number and self.cells[i].slot == slot
        }
        if len(used) != 1:
            return None
        cell = self.cells[used.pop()]
        return None if cell.urn is None else len(cell.weights)

    def _cell_at(self, numbers: Sequence[int], negative: int) -> int:
        """Index of the cell of a negative: negatives are sorted by slot."""
        order = sorted(range(len(numbers)), key=lambda i: self.cells[i].slot)
        for i in order:
            if negative < numbers[i]:
                return i
            negative -= numbers[i]
        raise AssertionError("a negative beyond the last")

    def at(self, negative: int) -> Floats:
        """Probability of each slot and value for the negative at an index."""
        result = np.zeros(3 * self.width)
        for chance, numbers in self.divisions:
            result += float(chance) * self._of_cell[self._cell_at(numbers, negative)]
        return result

    def pair(self, first: int, second: int, a: Ints, b: Ints) -> Floats:
        """Probability of each two (slot, value) for the negatives at two indices.

        :param a: slots and values of the first that are asked for, as numbers
        :param b: likewise of the second
        """
        result = np.zeros((len(a), len(b)))
        differ = (a % self.width)[:, None] != b % self.width
        for chance, numbers in self.divisions:
            i, j = self._cell_at(numbers, first), self._cell_at(numbers, second)
            both = np.outer(self._of_cell[i][a], self._of_cell[j][b])
            if self.cells[i].urn is not None and self.cells[i].urn == self.cells[j].urn:
                size = len(self.cells[i].weights)
                both *= differ * size / (size - 1)
            result += float(chance) * both
        return result


# --- Draws, and what to think of them ---


@dataclass(frozen=True)
class Draws:
    """The k negatives of one positive at each of many positions.

    :ivar slots: 0 to 2, shape (positions, k)
    :ivar values: likewise
    :ivar mask: likewise; None if there is none
    :ivar log_q: likewise
    """

    slots: Ints
    values: Ints
    mask: NDArray[np.bool_] | None = None
    log_q: Floats | None = None


def draws_of(batch: CorruptedBatch, rows: Ints | slice = slice(None)) -> Draws:
    """Select the negatives of some positives of a batch."""
    places = np.arange(batch.replaced.shape[1])
    positions = np.arange(len(batch.head_counts))[rows]
    heads, relations = batch.head_counts[positions], batch.relation_counts[positions]
    is_behind_heads = places >= heads[:, None]
    is_behind_relations = places >= (heads + relations)[:, None]
    in_replaced = (batch.position % batch.chunk_size + positions) // batch.chunk_size
    return Draws(
        slots=is_behind_heads.astype(np.int64) + is_behind_relations,
        values=batch.replaced[in_replaced].astype(np.int64),
        mask=None if batch.mask is None else batch.mask[positions],
        log_q=None if batch.log_q is None else batch.log_q[positions].astype(np.float64),
    )


def goodness(observed: NDArray[np.integer], chances: Floats, scale: float = 1.0) -> float:
    """Test counts against probabilities by chi-square; outcomes of few expected draws share a bin.

    :param scale: variance of the counts, as a part of a multinomial's
    :return: p value; 0 if something impossible was drawn
    """
    if observed[chances <= 0].any():
        return 0.0
    order = np.flatnonzero(chances > 0)
    # The likely ones have bins of their own, others that of those about as likely.
    order = order[np.argsort(-chances[order], kind="stable")]
    expected = chances[order] / chances.sum() * observed.sum()
    begins = np.flatnonzero(expected >= _PER_BIN).tolist()
    below = np.concatenate([[0.0], np.cumsum(expected)])
    place = len(begins)
    while below[-1] - below[place] >= _PER_BIN:
        begins.append(place)
        place = int(np.searchsorted(below, below[place] + _PER_BIN))
    if len(begins) < 2:
        return 1.0
    # What is too little for a bin of its own joins the last.
    expected = np.add.reduceat(expected, begins)
    counts = np.add.reduceat(observed[order], begins)
    statistic = ((counts - expected) ** 2 / expected).sum()
    if scale < 1e-12:
        return float(statistic < 1e-6)  # an emptied urn: each value as often as any other
    return float(stats.chi2.sf(statistic / scale, len(expected) - 1))


def check(law: Law, draws: Draws) -> dict[str, float]:
    """Test draws against their law.

    :return: p values by the name of what was tested; where there is nothing random, 0 or 1
    """
    num_positions, k = draws.slots.shape
    outcomes = draws.slots * law.width + draws.values
    report: dict[str, float] = {}

    # How many of each slot; in parts of the batch too, since place must not matter.
    rows = 3 * np.arange(num_positions)[:, None]
    by_slot = np.bincount((rows + draws.slots).ravel(), minlength=rows.size * 3).reshape(-1, 3)
    codes = by_slot[:, 0] * (k + 1) + by_slot[:, 1]
    chances = np.zeros((k + 1) ** 2)
    for (heads, relations, _), chance in law.counts().items():
        chances[heads * (k + 1) + relations] += float(chance)
    half = num_positions // 2
    for name, part in (
        ("of the first half", codes[:half]),
        ("of the second half", codes[half:]),
        ("at even places", codes[::2]),
        ("at odd places", codes[1::2]),
    ):
        report[f"counts {name}"] = goodness(np.bincount(part, minlength=len(chances)), chances)
    report["order of slots"] = float((draws.slots[:, 1:] >= draws.slots[:, :-1]).all())

    # Values, given the slot. In a mixture the numbers of the parts vary less than by chance, so
    # that the statistic is too small if anything; of an urn it is known how much.
    of_all = np.bincount(outcomes.ravel(), minlength=3 * law.width).reshape(3, law.width)
    for slot in range(3):
        count = by_slot[:, slot]
        if not count.any():
            continue
        size = law.urn_of(slot)
        scale = 1.0
        if size is not None and size > 1:
            scale = float((count * (size - count)).sum() / (size - 1) / count.sum())
        report[f"values of {SLOTS[slot]}s"] = goodness(of_all[slot], law.in_slot(slot), scale)

    # Slot and value of single negatives, and of pairs: what one position makes of its words.
    for j in sorted({0, k // 2, k - 1}):
        drawn = np.bincount(outcomes[:, j], minlength=3 * law.width)
        report[f"negative {j}"] = goodness(drawn, law.at(j))
    for i, j in sorted({(0, 1), (0, k - 1), (k - 2, k - 1)}) if k > 1 else ():
        ids = [np.flatnonzero(law.at(negative)) for negative in (i, j)]
        if len(ids[0]) * len(ids[1]) * _PER_PAIR > num_positions:
            continue
        places = [np.full(3 * law.width, -1) for _ in ids]
        for place, values in zip(places, ids, strict=True):
            place[values] = np.arange(len(values))
        a, b = places[0][outcomes[:, i]], places[1][outcomes[:, j]]
        chances = law.pair(i, j, *ids).ravel()
        # What one of them can't be at all was told above.
        both = (a * len(ids[1]) + b)[(a >= 0) & (b >= 0)]
        drawn = np.bincount(both, minlength=len(chances))
        report[f"negatives {i} and {j}"] = goodness(drawn, chances)

    # What is said about the negatives is no matter of chance.
    report["mask is there"] = float((draws.mask is not None) == (law.flagged is not None))
    if draws.mask is not None and law.flagged is not None:
        valid = ~law.flagged[outcomes]
        valid[:, k - law.homeless :] = False
        report["mask"] = float(np.array_equal(draws.mask, valid))
    report["log_q is there"] = float((draws.log_q is not None) == law.config.log_q)
    if draws.log_q is not None and law.config.log_q:
        # Floats of 32 bits, of weights that were rounded to whole units, of which there are 2^32.
        tolerance = 1e-5 + 4 * 2.0**-32 / float(min(law.joint.values()))
        difference = np.abs(draws.log_q - law.log_q[outcomes])
        report["log_q"] = float(difference.max() < tolerance)  # False for a NaN
    return report


def verdict(report: Mapping[str, float]) -> float:
    """Bound the p value of a report as a whole (Bonferroni)."""
    return min(1.0, min(report.values()) * len(report))
