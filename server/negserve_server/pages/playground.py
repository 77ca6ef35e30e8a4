"""Some negatives of one positive, drawn by the sampler that RPCs use, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from negserve.types.checks.text import listed, quoted
from negserve.types.config import SPLITS, FilterMode, SamplerConfig
from negserve.types.kinds import KINDS, PART_KINDS, Kind
from negserve_server.graph import TriplesFactory
from negserve_server.pages.query_fields import read_number
from negserve_server.pages.refused_request import RefusedRequest
from negserve_server.pages.shown_labels import ShownId, ShownLabels

_Choice = TypeVar("_Choice", bound=str)

#: Fields of the form, and what they are unless they are given.
DEFAULTS: Mapping[str, str] = {
    "dataset": "",
    "kind": "basic",
    "head": "",
    "relation": "",
    "tail": "",
    "k": "10",
    "filter": "exact",
    "seed": "0",
    "position": "0",
}
MOST_NEGATIVES = 20
#: By filter mode, what the form says of it.
FILTERS: Mapping[FilterMode, str] = {
    "exact": "known triples are never drawn",
    "mask": "known triples are drawn, and struck out",
}
_MOST_UINT64 = 2**64 - 1

_CODE = """\
from negserve import Client

dataset = Client("HOST:PORT").triples_factory({dataset!r})
sampler = dataset.open_sampler(
    kind={kind!r},
    num_negs_per_pos={k},
    filter_splits={splits!r},
    filter_mode={mode!r},
    seed={seed},
)
positive = [{positive}]
negatives = sampler.sample(positive, {position}).triples(positive)[0]
"""


@dataclass(frozen=True, slots=True)
class ShownNegative:
    """A negative.

    :ivar triple: head, relation and tail
    :ivar slot: the one that was replaced, 0, 1 or 2
    :ivar is_valid: whether it is no known triple, and a legal value
    """

    triple: tuple[ShownId, ShownId, ShownId]
    slot: int
    is_valid: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """Negatives of a positive.

    :ivar positive: head, relation and tail
    :ivar is_known: whether it is a known triple
    :ivar negatives: in the order in which an RPC gives them
    :ivar is_saturated: whether it has fewer legal values than needed
    :ivar splits: whose triples are known
    :ivar code: a program that draws the same
    """

    positive: tuple[ShownId, ShownId, ShownId]
    is_known: bool
    negatives: list[ShownNegative]
    is_saturated: bool
    splits: tuple[str, ...]
    code: str


def kinds_for(factory: TriplesFactory) -> list[Kind]:
    """Give the kinds that a graph can serve without further options."""
    has_types = factory.type_constraints is not None
    return [name for name in PART_KINDS if has_types or not KINDS[name].needs_type_constraints]


def example_of(factory: TriplesFactory) -> dict[str, str]:
    """Give the fields of a positive of the training triples."""
    row = factory.num_triples // 2
    columns = factory.columns["training"]
    entities, relations = ShownLabels.of_entities(factory), ShownLabels.of_relations(factory)
    return {
        "head": entities.written(int(columns.heads[row])),
        "relation": relations.written(int(columns.relations[row])),
        "tail": entities.written(int(columns.tails[row])),
    }


def draw(factory: TriplesFactory, fields: Mapping[str, str]) -> Drawing:
    """Draw negatives.

    :param fields: of the form, all of :data:`DEFAULTS`
    :raises RefusedRequest: for a field that is missing or not legal
    :raises InvalidRequestError: if the graph can't serve the configuration
    :raises TablesFull: if there is no room for its tables
    """
    kind = _chosen("kind", fields["kind"], kinds_for(factory))
    mode = _chosen("filter", fields["filter"], list(FILTERS))
    k = read_number("k", fields["k"], 1, MOST_NEGATIVES)
    seed = read_number("seed", fields["seed"], 0, _MOST_UINT64)
    position = read_number("position", fields["position"], 0, _MOST_UINT64)
    entities, relations = ShownLabels.of_entities(factory), ShownLabels.of_relations(factory)
    for name in ("head", "relation", "tail"):
        if not fields[name]:
            raise RefusedRequest("400 Bad Request", f"there is no {name}; give a label or an id")
    ids = (
        entities.find(fields["head"]),
        relations.find(fields["relation"]),
        entities.find(fields["tail"]),
    )
    splits = tuple(split for split in SPLITS if split in factory.columns)
    config = SamplerConfig(
        kind=kind, num_negs_per_pos=k, filter_splits=splits, filter_mode=mode, seed=seed
    )
    positive = np.array([ids], dtype=np.int64)
    batch = factory.sampler(config).sample(positive, position)
    is_valid = np.ones(k, dtype=np.bool_) if batch.mask is None else batch.mask[0]

    def shown(triple: tuple[int, int, int]) -> tuple[ShownId, ShownId, ShownId]:
        head, relation, tail = triple
        return entities.shown(head), relations.shown(relation), entities.shown(tail)

    return Drawing(
        positive=shown(ids),
        is_known=bool(factory.contains(positive, splits)[0]),
        negatives=[
            ShownNegative(shown((head, relation, tail)), slot, valid)
            for (head, relation, tail), slot, valid in zip(
                batch.triples(positive)[0].tolist(),
                batch.slots()[0].tolist(),
                is_valid.tolist(),
                strict=True,
            )
        ],
        is_saturated=batch.num_saturated > 0,
        splits=splits,
        code=_CODE.format(
            dataset=fields["dataset"],
            kind=kind,
            k=k,
            splits=splits,
            mode=mode,
            seed=seed,
            positive=list(ids),
            position=position,
        ),
    )


def _chosen(name: str, text: str, choices: list[_Choice]) -> _Choice:
    for each in choices:
        if text == each:
            return each
    raise RefusedRequest("400 Bad Request", f"{name} is {quoted(text)}; give {listed(choices)}")
