"""A slow, obvious version of the sampling function: Python's integers, sets, lists and decimals.

Written from ``docs/sampling.md``, not from the kernels, so that a fault of one is not copied into
the other. Names and order of steps are those of that page.
"""

from __future__ import annotations

import decimal
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from itertools import accumulate

Triple = tuple[int, int, int]
#: Allowed entities per slot ("head", "tail") and relation; a relation left out allows all.
Constraints = Mapping[str, Mapping[int, set[int]]]

SLOTS = ("head", "relation", "tail")
TWO_32 = 2**32


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """One block of Philox4x32-10 (Salmon et al., SC 2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product_0, product_1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (product_1 // TWO_32) ^ c1 ^ k0,
            product_1 % TWO_32,
            (product_0 // TWO_32) ^ c3 ^ k1,
            product_0 % TWO_32,
        )
        k0, k1 = (k0 + 0x9E3779B9) % TWO_32, (k1 + 0xBB67AE85) % TWO_32
    return c0, c1, c2, c3


@lru_cache(maxsize=4096)
def _block(number: int, purpose: int, position: int, seed: int) -> tuple[int, ...]:
    return philox4x32(
        (number, purpose, position % TWO_32, position // TWO_32), (seed % TWO_32, seed // TWO_32)
    )


def word(index: int, position: int, seed: int) -> int:
    """Word ``index`` of a position: four a block, purpose 0."""
    return _block(index // 4, 0, position, seed)[index % 4]


def redraw(index: int, num_values: int, position: int, seed: int) -> int:
    """The 64-bit draw that replaces a rejected one of negative ``index``: purpose 1."""
    first, second, _, _ = _block(index, 1, position, seed)
    return (first * TWO_32 + second) * num_values // 2**64


class Cell:
    """A slot of a part: its candidates, each with as many consecutive units as its weight.

    :param slot: 0 to 2
    :param ids: the candidates as they are ranked; a range where all ids are candidates, from 0
        on, since there may be too many to list
    :param weights: units of each; None for one each
    """

    def __init__(self, slot: int, ids: Sequence[int], weights: Sequence[int] | None = None) -> None:
        self.slot = slot
        self.ids = ids
        self.weights = weights
        self.rank = {} if isinstance(ids, range) else {ids[rank]: rank for rank in range(len(ids))}
        self.ends = list(accumulate(weights or []))
        self.num_units = len(ids) if weights is None else sum(weights)

    def units(self, value: int) -> range:
        """The units of an id; none if it is not a candidate."""
        rank = value if isinstance(self.ids, range) else self.rank.get(value, -1)
        if not 0 <= rank < len(self.ids):
            return range(0)
        if self.weights is None:
            return range(rank, rank + 1)
        return range(self.ends[rank] - self.weights[rank], self.ends[rank])

    def owner(self, unit: int) -> int:
        """The id that owns a unit."""
        return self.ids[unit if self.weights is None else bisect_right(self.ends, unit)]

    def excluded_units(self, values: Iterable[int]) -> list[range]:
        """The units of some ids, ascending, without empty ones."""
        ranges = [self.units(value) for value in set(values)]
        return sorted((units for units in ranges if units), key=lambda units: units.start)

    def value(self, u: int, excluded: Sequence[range]) -> int:
        """The value of a draw: one-to-one from 0 .. M - 1 to the legal units, then to their ids."""
        place = bisect_right(excluded, u, key=lambda units: units.start) - 1
        if place >= 0 and u in excluded[place]:
            num_legal = self.num_units - sum(map(len, excluded))
            excluded_before = sum(map(len, excluded[:place]))
            u = nth_legal_from(num_legal, excluded, excluded_before + excluded[place].index(u))
        return self.owner(u)


def nth_legal_from(start: int, excluded: Sequence[range], n: int) -> int:
    """The n-th unit, from 0, at or above ``start`` that is in none of the ascending ranges."""
    unit = start + n
    for units in excluded:
        if units.start > unit:
            break
        if units.stop > start:
            unit += units.stop - max(units.start, start)
    return unit


@dataclass
class Corrupted:
    """A batch as lists; the fields of ``CorruptedBatch``.

    :ivar replaced: one row a positive, or one a chunk
    :ivar num_redraws: how many draws were rejected and drawn again
    """

    position: int
    replaced: list[list[int]]
    head_counts: list[int]
    relation_counts: list[int]
    mask: list[list[bool]] | None
    num_saturated: int
    chunk_size: int
    log_q: list[list[float]] | None
    num_redraws: int


@dataclass
class _One:
    """One positive: k values, three counts, k flags, k floats."""

    values: list[int]
    counts: list[int]
    valid: list[bool]
    log_q: list[float]
    saturated: bool


class Reference:
    """The sampling function of one configuration over one graph.

    Options are named like the fields of ``SamplerConfig``, except that ``known`` stands for the
    triples of ``filter_splits``; combinations that a sampler refuses are not looked for.

    :param training: training triples
    :param known: triples of the filter; None for no filter
    :param type_constraints: allowed entities, for kind ``typed``
    """

    def __init__(
        self,
        *,
        training: Iterable[Triple],
        known: Iterable[Triple] | None = None,
        type_constraints: Constraints | None = None,
        num_entities: int,
        num_relations: int,
        kind: str = "basic",
        mixture: Iterable[tuple[str, int]] = (),
        alpha: float = 0.75,
        num_negs_per_pos: int = 1,
        corruption_scheme: Iterable[str] = ("head", "tail"),
        candidates: Iterable[int] | None = None,
        filter_mode: str = "exact",
        distinct: bool = False,
        chunk_size: int = 1,
        log_q: bool = False,
        seed: int = 0,
    ) -> None:
        self.training = sorted(set(training))
        self.filtered = known is not None
        self.known = set(known or ())
        self.constraints = type_constraints or {}
        self.num_ids = (num_entities, num_relations, num_entities)
        self.parts = list(mixture) if kind == "mixture" else [(kind, 1)]
        self.alpha = alpha
        self.k = num_negs_per_pos
        self.scheme = [i for i, slot in enumerate(SLOTS) if slot in set(corruption_scheme)]
        self.candidates = None if candidates is None else sorted(set(candidates))
        self.exact = self.filtered and filter_mode == "exact"
        self.distinct = distinct
        self.chunk_size = chunk_size
        self.log_q = log_q
        self.seed = seed
        self.redrawn: set[tuple[int, int]] = set()
        # Known values by slot and by the triple without it: nothing but a faster way to look.
        self.known_by_rest: dict[tuple[int, ...], set[int]] = {}
        for slot in self.scheme:
            for triple in self.known:
                self.known_by_rest.setdefault(_rest(triple, slot), set()).add(triple[slot])
        self.seen = cache(self._find_seen)
        self.cell = cache(self._make_cell)
        self.cells = cache(self._make_cells)
        self.excluded = cache(self._find_excluded)

    def _find_seen(self, slot: int, relation: int) -> set[int]:
        """The training values of a slot and relation."""
        return {triple[slot] for triple in self.training if triple[1] == relation}

    def ids_of(self, slot: int) -> Sequence[int]:
        """The candidates of a slot that option ``candidates`` allows, ascending."""
        if slot == 1 or self.candidates is None:
            return range(self.num_ids[slot])
        return self.candidates

    def _make_cell(self, kind: str, slot: int, relation: int) -> Cell:
        ids = self.ids_of(slot)
        if kind == "degree":
            weights = self.degree_weights(slot)
            ids = sorted(weights, key=lambda value: (-weights[value], value))
            return Cell(slot, ids, [weights[value] for value in ids])
        if kind == "pseudotyped":
            return Cell(slot, _among(self.seen(slot, relation), ids))
        if kind == "typed":
            allowed = self.constraints.get(SLOTS[slot], {}).get(relation)
            return Cell(slot, ids if allowed is None else _among(allowed, ids))
        return Cell(slot, ids)

    def degree_weights(self, slot: int) -> dict[int, int]:
        """Units of each candidate of a slot, from the frequencies in training.

        Powers have 50 digits; what follows is exact, so that no order of steps matters.
        """
        frequency = Counter(triple[slot] for triple in self.training)
        ids = [v for v in self.ids_of(slot) if v in frequency or self.alpha == 0]
        with decimal.localcontext(decimal.Context(prec=50)):
            powers = {
                f: Fraction(decimal.Decimal(f) ** decimal.Decimal(self.alpha) if self.alpha else 1)
                for f in {frequency[value] for value in ids}
            }
        times = Counter(frequency[value] for value in ids)
        total = sum(powers[f] * number for f, number in times.items())
        units = {
            f: max(1, math.floor(power * (TWO_32 - 1 - len(ids)) / total))
            for f, power in powers.items()
        }
        return {value: units[frequency[value]] for value in ids}

    def slot_ends(self, kind: str, relation: int) -> list[int]:
        """The end of each slot, in units of 2^-32."""
        weights = [0, 0, 0]
        for slot in self.scheme:
            if kind == "bernoulli" and len(self.scheme) == 2:
                # tph / (tph + hpt) with tph = n / heads and hpt = n / tails: tails / (heads +
                # tails), so that a slot goes by the number of the other's; 1 : 1 without triples.
                weights[slot] = len(self.seen(2 - slot, relation)) or 1
            elif kind in ("pseudotyped", "typed"):
                weights[slot] = self.cell(kind, slot, relation).num_units
            else:
                weights[slot] = 1
        if sum(weights) == 0:
            weights = [int(slot in self.scheme) for slot in range(3)]
        return [sum(weights[: slot + 1]) * TWO_32 // sum(weights) for slot in range(3)]

    def _make_cells(self, relation: int) -> tuple[list[Cell], list[int]]:
        """The cells of a relation in their order, and the end of each, in units of 2^-32."""
        cells, weights = [], []
        for slot in self.scheme:
            for kind, shares in self.parts:
                ends = [0, *self.slot_ends(kind, relation)]
                cells.append(self.cell(kind, slot, relation))
                weights.append(shares * (ends[slot + 1] - ends[slot]))
        num_shares = sum(shares for _, shares in self.parts)
        return cells, [end // num_shares for end in accumulate(weights)]

    def _find_excluded(self, cell: Cell, triple: Triple) -> list[range]:
        """The units of a cell that may not be drawn for a positive."""
        if self.chunk_size > 1:
            return []
        values = {triple[cell.slot]}
        if self.exact:
            values |= self.known_by_rest.get(_rest(triple, cell.slot), set())
        return cell.excluded_units(values)

    def draw(self, negative: int, num_values: int, stream: int) -> int:
        """Draw from 0 to ``num_values`` - 1 for one negative (Lemire 2019)."""
        product = word(1 + negative, stream, self.seed) * num_values
        if product % TWO_32 < TWO_32 % num_values:
            self.redrawn.add((stream, negative))
            return redraw(negative, num_values, stream, self.seed)
        return product // TWO_32

    def corrupt_one(self, triple: Triple, position: int) -> _One:
        """New values of one positive, with slots, flags and log probabilities."""
        stream = position // self.chunk_size
        cells, ends = self.cells(triple[1])
        excluded = [self.excluded(cell, triple) for cell in cells]
        num_legal = [
            cell.num_units - sum(map(len, units))
            for cell, units in zip(cells, excluded, strict=True)
        ]
        w0 = word(0, stream, self.seed)
        counts = _lengths([(self.k * end + w0) // TWO_32 for end in ends])
        # A set of distinct values is limited by what is legal, another only if nothing is.
        rooms = [m if self.distinct or m == 0 else self.k for m in num_legal]
        counts, homeless = _overflow(counts, rooms, cells)

        values: list[int] = []
        places: dict[int, int] = {}
        first = 0
        for cell, units, m, count in zip(cells, excluded, num_legal, counts, strict=True):
            if not (self.distinct and self.chunk_size > 1):
                # Each cell has a permutation of its own; a chunk has one for all its cells.
                places, first = {}, len(values)
            for _ in range(count):
                i = len(values) - first if self.distinct else 0
                u = i + self.draw(len(values), m - i, stream)
                if self.distinct:
                    chosen = places.get(u, u)
                    places[i], places[u] = chosen, places.get(i, i)
                    u = chosen
                values.append(cell.value(u, units))

        # What no cell has room for: any id but the original. In chunks, there is always room.
        last = Cell(self.scheme[-1], range(self.num_ids[self.scheme[-1]]))
        original = last.excluded_units([triple[last.slot]])
        for _ in range(homeless):
            u = self.draw(len(values), last.num_units - len(original), stream)
            values.append(last.value(u, original))

        by_slot = [0, 0, 0]
        for cell, count in zip(cells, counts, strict=True):
            by_slot[cell.slot] += count
        by_slot[last.slot] += homeless
        slots = [slot for slot in range(3) for _ in range(by_slot[slot])]
        housed = [j < self.k - homeless for j in range(self.k)]
        known = [self.known_by_rest.get(_rest(triple, slot), set()) for slot in range(3)]
        valid = [
            housed[j] and value != triple[slot] and value not in known[slot]
            for j, (slot, value) in enumerate(zip(slots, values, strict=True))
        ]
        shares, _ = _overflow(_lengths(ends), [TWO_32 if m else 0 for m in num_legal], cells)

        @cache
        def log_q_of(slot: int, num_units: tuple[int, ...]) -> float:
            q = sum(
                Fraction(share, TWO_32) * Fraction(num, m)
                for cell, share, m, num in zip(cells, shares, num_legal, num_units, strict=True)
                if cell.slot == slot and m > 0
            )
            return math.log(q)

        log_q = [0.0] * self.k
        if self.log_q and homeless == 0:
            for j, (slot, value) in enumerate(zip(slots, values, strict=True)):
                log_q[j] = log_q_of(slot, tuple(len(cell.units(value)) for cell in cells))
        return _One(values, by_slot, valid, log_q, homeless > 0)

    def sample(self, positives: Sequence[Triple], position: int) -> Corrupted:
        """Corrupt positives, starting at a position."""
        self.redrawn.clear()
        results = [self.corrupt_one(triple, position + i) for i, triple in enumerate(positives)]
        rows: dict[int, list[int]] = {}
        for i, result in enumerate(results):
            row = rows.setdefault((position + i) // self.chunk_size, result.values)
            assert row == result.values, "the positives of a chunk share their values"
        masked = self.filtered or self.distinct or self.chunk_size > 1
        return Corrupted(
            position=position,
            replaced=list(rows.values()),
            head_counts=[result.counts[0] for result in results],
            relation_counts=[result.counts[1] for result in results],
            mask=[result.valid for result in results] if masked else None,
            num_saturated=sum(result.saturated for result in results),
            chunk_size=self.chunk_size,
            log_q=[result.log_q for result in results] if self.log_q else None,
            num_redraws=len(self.redrawn),
        )


def _rest(triple: Triple, slot: int) -> tuple[int, ...]:
    """A slot, and the two ids of a triple outside it."""
    return (slot, *triple[:slot], *triple[slot + 1 :])


def _among(values: set[int], ids: Sequence[int]) -> list[int]:
    allowed = ids if isinstance(ids, range) else set(ids)
    return [value for value in sorted(values) if value in allowed]


def _lengths(ends: Sequence[int]) -> list[int]:
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _overflow(
    counts: Sequence[int], rooms: Sequence[int], cells: Sequence[Cell]
) -> tuple[list[int], int]:
    """Move the excess of each cell to the first cells with room, those of its own slot first.

    :return: the counts after that, and what no cell has room for
    """
    left = [max(room - count, 0) for count, room in zip(counts, rooms, strict=True)]
    result = [min(count, room) for count, room in zip(counts, rooms, strict=True)]
    homeless = 0
    for cell, count, room in zip(cells, counts, rooms, strict=True):
        excess = max(count - room, 0)
        for own_slot in (True, False):
            for other in range(len(cells)):
                if (cells[other].slot == cell.slot) == own_slot:
                    moved = min(excess, left[other])
                    result[other] += moved
                    left[other] -= moved
                    excess -= moved
        homeless += excess
    return result, homeless


def mix(x: int) -> int:
    """Hash 32 bits to 32 bits."""
    x = (x ^ x >> 16) * 0x7FEB352D % TWO_32
    x = (x ^ x >> 15) * 0x846CA68B % TWO_32
    return x ^ x >> 16


class Order:
    """The order of an epoch: the positive at each position.

    :param num_positives: n
    :param rounds: 16; other numbers make another, worse permutation
    """

    def __init__(self, num_positives: int, seed: int, epoch: int, *, rounds: int = 16) -> None:
        self.n = num_positives
        self.a = max(8, math.isqrt(max(num_positives - 1, 0)) + 1)
        self.b = max(8, -(-num_positives // self.a))
        if self.a % 2 == self.b % 2 == 1:
            self.b += 1
        self.keys = [_block(i // 4, 2, epoch, seed)[i % 4] for i in range(rounds)]

    def at(self, position: int) -> int:
        """Number of the positive at a position."""
        while True:
            left, right = divmod(position, self.b)
            for i, key in enumerate(self.keys):
                if i % 2 == 0:
                    left = (left + mix(right ^ key) * self.a // TWO_32) % self.a
                else:
                    right = (right + mix(left ^ key) * self.b // TWO_32) % self.b
            position = left * self.b + right
            if position < self.n:
                return position

    def position_of(self, number: int) -> int:
        """Position of the positive with a number: the steps in reverse."""
        while True:
            left, right = divmod(number, self.b)
            for i, key in reversed(list(enumerate(self.keys))):
                if i % 2 == 0:
                    left = (left - mix(right ^ key) * self.a // TWO_32) % self.a
                else:
                    right = (right - mix(left ^ key) * self.b // TWO_32) % self.b
            number = left * self.b + right
            if number < self.n:
                return number
