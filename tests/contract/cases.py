"""Every sampler and every option, as cases that contract tests run on every graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

from negserve.sampling import (
    BasicNegativeSampler,
    BernoulliNegativeSampler,
    DegreeNegativeSampler,
    MixtureNegativeSampler,
    NegativeSampler,
    PseudoTypedNegativeSampler,
    TriplesFactory,
    TypedNegativeSampler,
)
from negserve.types.kinds import KINDS, Kind
from negserve_server import graph
from tests.support.graphs import has_type_constraints, triples_of

ENTITY_SLOTS = ("head", "tail")
ALL_SLOTS = ("head", "relation", "tail")
COLUMNS = {slot: column for column, slot in enumerate(ALL_SLOTS)}


@dataclass(frozen=True)
class Case:
    """A sampler with some of its options.

    :ivar cls: the sampler
    :ivar options: keyword arguments; but ``candidates`` is a step, for every such entity
    """

    cls: type[NegativeSampler]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Kind, ...]:
        """The kinds that the case draws from."""
        return tuple(self.options.get("mixture", (self.cls.kind,)))

    @property
    def scheme(self) -> tuple[str, ...]:
        return tuple(self.options.get("corruption_scheme", ENTITY_SLOTS))

    @property
    def chunk_size(self) -> int:
        return int(self.options.get("chunk_size", 1))

    @property
    def distinct(self) -> bool:
        return bool(self.options.get("distinct", False))

    def fits(self, graph_name: str) -> bool:
        """Tell whether the case has a meaning on a graph of ``GRAPHS``."""
        needs_types = any(KINDS[part].needs_type_constraints for part in self.parts)
        return not needs_types or has_type_constraints(graph_name)

    def open(
        self,
        of: graph.TriplesFactory,
        factory: TriplesFactory,
        num_negs_per_pos: int | None,
        filtered: bool = False,
        **options: Any,
    ) -> NegativeSampler:
        """Open the sampler on a factory of a graph."""
        options = {**self.options, **options}
        if "candidates" in options:
            options["candidates"] = range(0, of.num_entities, options["candidates"])
        return self.cls(factory, num_negs_per_pos, filtered, **options)

    def drawable(self, of: graph.TriplesFactory, relation: int, column: int) -> frozenset[int]:
        """Return the ids that may be drawn in a column of a relation, by any part."""
        step = self.options.get("candidates", 1) if column != 1 else 1
        if all(KINDS[part].takes_chunks for part in self.parts):
            relation = 0  # candidates are the same for all
        return _drawable(of, self.parts, step, relation, column)

    def legal(
        self, of: graph.TriplesFactory, triple: tuple[int, int, int], splits: tuple[str, ...]
    ) -> dict[int, frozenset[int]]:
        """Return the legal values of a triple by column of the scheme."""
        result = {}
        for column in (COLUMNS[slot] for slot in self.scheme):
            known = _known_values(of, splits, triple, column)
            result[column] = self.drawable(of, triple[1], column) - {triple[column]} - known
        return result


def _known_values(
    of: graph.TriplesFactory, splits: tuple[str, ...], triple: tuple[int, int, int], column: int
) -> set[int]:
    """Find the known values of a column, without the filter index."""
    first, second = (other for other in range(3) if other != column)
    known = set[int]()
    for rows in (triples_of(of, split) for split in splits if split in of.columns):
        same = (rows[:, first] == triple[first]) & (rows[:, second] == triple[second])
        known.update(rows[same, column].tolist())
    return known


@cache
def _drawable(
    of: graph.TriplesFactory, parts: tuple[Kind, ...], step: int, relation: int, column: int
) -> frozenset[int]:
    ids = frozenset[int]().union(*(_candidates(of, part, relation, column) for part in parts))
    return frozenset(value for value in ids if value % step == 0)


@cache
def _candidates(of: graph.TriplesFactory, kind: Kind, relation: int, column: int) -> set[int]:
    everything = set(range(of.num_relations if column == 1 else of.num_entities))
    training = triples_of(of)
    if kind == "pseudotyped":
        return set(training[training[:, 1] == relation][:, column].tolist())
    if kind == "typed":
        constraints = of.type_constraints
        assert constraints is not None
        pairs = constraints.heads if column == 0 else constraints.tails
        # A relation without pairs is not constrained.
        return set(pairs[pairs[:, 0] == relation][:, 1].tolist()) or everything
    if kind == "degree":
        return set(training[:, column].tolist())
    return everything


_THIRDS = {"candidates": 3}
_CHUNKS = {"chunk_size": 7}
_RELATIONS = {"corruption_scheme": ALL_SLOTS}
_PARTS = {"mixture": {"bernoulli": 3, "pseudotyped": 1}}
_TYPED_PARTS = {"mixture": {"typed": 2, "degree": 1, "basic": 4}, "alpha": 1.0}

#: One plain case per sampler.
SAMPLERS: Mapping[str, Case] = MappingProxyType(
    {
        "basic": Case(BasicNegativeSampler),
        "bernoulli": Case(BernoulliNegativeSampler),
        "pseudotyped": Case(PseudoTypedNegativeSampler),
        "typed": Case(TypedNegativeSampler),
        "degree": Case(DegreeNegativeSampler),
        "mixture": Case(MixtureNegativeSampler, _PARTS),
    }
)

#: Values of each positive's own, drawn with repetition.
OWN: Mapping[str, Case] = MappingProxyType(
    {
        **SAMPLERS,
        "basic relations": Case(BasicNegativeSampler, _RELATIONS),
        "degree relations": Case(DegreeNegativeSampler, {**_RELATIONS, "alpha": 0.5}),
        "typed mixture": Case(MixtureNegativeSampler, _TYPED_PARTS),
        "relation mixture": Case(
            MixtureNegativeSampler, {**_RELATIONS, "mixture": {"degree": 1, "basic": 1}}
        ),
        "basic candidates": Case(BasicNegativeSampler, {**_RELATIONS, **_THIRDS}),
        "bernoulli candidates": Case(BernoulliNegativeSampler, _THIRDS),
        "pseudotyped candidates": Case(PseudoTypedNegativeSampler, _THIRDS),
        "typed candidates": Case(TypedNegativeSampler, _THIRDS),
        "degree candidates": Case(DegreeNegativeSampler, _THIRDS),
        "mixture candidates": Case(MixtureNegativeSampler, {**_PARTS, **_THIRDS}),
    }
)

#: Values of each positive's own, pairwise different.
DISTINCT: Mapping[str, Case] = MappingProxyType(
    {
        f"distinct {name}": Case(case.cls, {**case.options, "distinct": True})
        for name, case in OWN.items()
        if not KINDS[case.cls.kind].distinct_refusal
    }
)

#: Values that the positives of a chunk share.
CHUNKS: Mapping[str, Case] = MappingProxyType(
    {
        "basic chunks": Case(BasicNegativeSampler, _CHUNKS),
        "relation chunks": Case(
            BasicNegativeSampler, {**_CHUNKS, "corruption_scheme": ("relation",)}
        ),
        "bernoulli chunks": Case(BernoulliNegativeSampler, _CHUNKS),
        "degree chunks": Case(DegreeNegativeSampler, _CHUNKS),
        "candidate chunks": Case(BasicNegativeSampler, {**_CHUNKS, **_THIRDS}),
        "distinct chunks": Case(BernoulliNegativeSampler, {**_CHUNKS, "distinct": True}),
    }
)

CASES: Mapping[str, Case] = MappingProxyType({**OWN, **DISTINCT, **CHUNKS})
