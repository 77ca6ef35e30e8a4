"""The sampling function again, slow and obvious: Python's integers, sets and lists only.

Written from the documentation of the kernels, the generator and the domain, not from their
code, so that a fault of one is not copied into the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Triple = tuple[int, int, int]

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


def _block(number: int, purpose: int, position: int, seed: int) -> tuple[int, ...]:
    return philox4x32(
        (number, purpose, position % TWO_32, position // TWO_32), (seed % TWO_32, seed // TWO_32)
    )


def word(index: int, position: int, seed: int) -> int:
    """Word ``index`` of a position: four to a block, purpose 0."""
    return _block(index // 4, 0, position, seed)[index % 4]


def redraw(index: int, num_values: int, position: int, seed: int) -> int:
    """The draw of 64 bits in place of negative ``index``'s rejected one: purpose 1."""
    first, second, _, _ = _block(index, 1, position, seed)
    return (first * TWO_32 + second) * num_values // 2**64


@dataclass
class Corrupted:
    """What the function says about a batch, as lists; the fields of ``CorruptedBatch``.

    :ivar num_redraws: how many draws were rejected and drawn again
    """

    replaced: list[list[int]]
    head_counts: list[int]
    relation_counts: list[int]
    mask: list[list[bool]] | None
    num_saturated: int
    num_redraws: int


class Reference:
    """The sampling function of one configuration over one graph.

    :param training: training triples
    :param known: triples that must not be drawn; None for no filter
    """

    def __init__(
        self,
        *,
        kind: str,
        scheme: Iterable[str],
        num_negs_per_pos: int,
        seed: int,
        training: Iterable[Triple],
        known: Iterable[Triple] | None,
        num_entities: int,
        num_relations: int,
    ) -> None:
        self.kind = kind
        self.scheme = [i for i, slot in enumerate(SLOTS) if slot in set(scheme)]
        self.k = num_negs_per_pos
        self.seed = seed
        self.training = set(training)
        self.filtered = known is not None
        self.known = set(known or ())
        self.num_ids = (num_entities, num_relations, num_entities)
        self.num_redraws = 0

    def seen(self, slot: int, relation: int) -> list[int]:
        """The sorted ids that training has in a slot of a relation."""
        return sorted({triple[slot] for triple in self.training if triple[1] == relation})

    def slot_ends(self, relation: int) -> list[int]:
        """Where each slot ends among all, in units of 2^-32."""
        weights = [0, 0, 0]
        if self.kind == "bernoulli" and len(self.scheme) == 2:
            # tph / (tph + hpt) with tph = n / heads and hpt = n / tails; evenly without triples.
            weights[0] = len(self.seen(2, relation)) or 1
            weights[2] = len(self.seen(0, relation)) or 1
        else:
            for slot in self.scheme:
                weights[slot] = len(self.seen(slot, relation)) if self.kind == "pseudotyped" else 1
        if sum(weights) == 0:
            for slot in self.scheme:
                weights[slot] = 1
        return [sum(weights[: slot + 1]) * TWO_32 // sum(weights) for slot in range(3)]

    def legal(self, triple: Triple, slot: int) -> tuple[Sequence[int], set[int]]:
        """The candidates of a slot, and those of them that may not be drawn."""
        relation = triple[1]
        candidates = (
            self.seen(slot, relation) if self.kind == "pseudotyped" else range(self.num_ids[slot])
        )
        excluded = {triple[slot]}
        for other in self.known:
            if all(other[column] == triple[column] for column in range(3) if column != slot):
                excluded.add(other[slot])
        return candidates, {value for value in excluded if value in candidates}

    def draw(self, negative: int, num_values: int, position: int) -> int:
        """Draw from 0 to ``num_values`` - 1 for one negative (Lemire 2019)."""
        product = word(1 + negative, position, self.seed) * num_values
        if product % TWO_32 < TWO_32 % num_values:
            self.num_redraws += 1
            return redraw(negative, num_values, position, self.seed)
        return product // TWO_32

    def corrupt_one(self, triple: Triple, position: int) -> tuple[list[int], list[int], bool]:
        """New values, negatives per slot, and whether no slot had a legal value."""
        w0 = word(0, position, self.seed)
        ends = [(self.k * end + w0) // TWO_32 for end in self.slot_ends(triple[1])]
        counts = [ends[0], ends[1] - ends[0], ends[2] - ends[1]]
        legal = {slot: self.legal(triple, slot) for slot in self.scheme}
        open_slots = [slot for slot, (ids, excluded) in legal.items() if len(ids) > len(excluded)]
        if open_slots:
            for slot in range(3):
                if slot not in open_slots:
                    counts[open_slots[0]] += counts[slot]
                    counts[slot] = 0
        else:
            legal = {slot: (range(self.num_ids[slot]), {triple[slot]}) for slot in self.scheme}
        values: list[int] = []
        for slot in self.scheme:
            ids, excluded = legal[slot]
            for _ in range(counts[slot]):
                u = self.draw(len(values), len(ids) - len(excluded), position)
                values.append(nth_legal(ids, excluded, u))
        return values, counts, not open_slots

    def sample(self, positives: Sequence[Triple], position: int) -> Corrupted:
        """Corrupt positives from a position on."""
        self.num_redraws = 0
        results = [self.corrupt_one(triple, position + i) for i, triple in enumerate(positives)]
        saturated = [result[2] for result in results]
        return Corrupted(
            replaced=[values for values, _, _ in results],
            head_counts=[counts[0] for _, counts, _ in results],
            relation_counts=[counts[1] for _, counts, _ in results],
            mask=[[not each] * self.k for each in saturated] if self.filtered else None,
            num_saturated=sum(saturated),
            num_redraws=self.num_redraws,
        )


def nth_legal(candidates: Sequence[int], excluded: set[int], n: int) -> int:
    """The n-th smallest candidate, from 0, that is not excluded; all excluded are candidates."""
    if len(candidates) <= 1000:
        return [value for value in candidates if value not in excluded][n]
    # Too many to list: step over every excluded one that lies before.
    for value in sorted(excluded):
        if candidates.index(value) <= n:
            n += 1
    return candidates[n]
