"""The sampler kinds: their names, and which slots and options each of them takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["basic", "bernoulli", "pseudotyped", "typed", "degree", "mixture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerKind:
    """A sampler kind, as configurations, commands and documents know it.

    ``negserve_server.sampling.kinds`` computes the distribution of each.

    :ivar name: of the kind in configurations
    :ivar draws: what is drawn: the row of the kind in ``docs/sampling.md`` and in ``--help``
    :ivar costs: what that costs beyond kind ``basic``
    :ivar takes_relations: whether the relation slot may be replaced
    :ivar takes_chunks: whether positives may share their values: not if candidates depend on the
        relation
    :ivar takes_alpha: whether ``alpha`` has an effect
    :ivar needs_type_constraints: whether a graph without type constraints is refused
    :ivar distinct_refusal: why values can't be distinct; empty if they can
    """

    name: Kind
    draws: str
    costs: str
    takes_relations: bool = False
    takes_chunks: bool = False
    takes_alpha: bool = False
    needs_type_constraints: bool = False
    distinct_refusal: str = ""


_KINDS = (
    SamplerKind(
        name="basic",
        draws="each slot equally likely, values uniform",
        costs="–",
        takes_relations=True,
        takes_chunks=True,
    ),
    SamplerKind(
        name="bernoulli",
        draws="the head with probability tph/(tph+hpt), values uniform",
        costs="nothing more",
        takes_chunks=True,
    ),
    SamplerKind(
        name="pseudotyped",
        draws="candidates: ids seen in training in that slot of that relation",
        costs="a list per relation and slot, an index of ranks",
    ),
    SamplerKind(
        name="typed",
        draws="candidates: the given type constraints; "
        "all ids where a relation has none for the slot",
        costs="a list per relation and slot, an index of ranks",
        needs_type_constraints=True,
    ),
    SamplerKind(
        name="degree",
        draws="weights: training frequency in the slot, to the power alpha",
        costs="a search per draw; 12 bytes an id, 4 bytes more per known triple",
        takes_relations=True,
        takes_chunks=True,
        takes_alpha=True,
        distinct_refusal="distinct values can't follow the weights of kind degree, since the "
        "heaviest would be drawn at most once",
    ),
    SamplerKind(
        name="mixture",
        draws="several of these by share",
        costs="the sum of its parts",
        takes_relations=True,  # if all of its parts do, and likewise for alpha
        takes_alpha=True,
        distinct_refusal="in a mixture, a part would have to know what others drew",
    ),
)

#: All sampler kinds by name, in the order of the protocol.
KINDS: Mapping[Kind, SamplerKind] = MappingProxyType({kind.name: kind for kind in _KINDS})

#: The names of kinds that may be parts of a mixture.
PART_KINDS: tuple[Kind, ...] = tuple(name for name in KINDS if name != "mixture")
