"""The measured graphs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks.support.measuring import console
from negserve_server.graph import TriplesFactory

_DATA = Path(os.environ.get("NEGSERVE_DATA", Path(__file__).parents[3].joinpath("shared", "data")))

#: Zipf exponents of entities on the flat and on the hub side of a relation.
_FLAT, _HUB, _RELATIONS = 0.5, 1.05, 1.0


def fb15k_237() -> tuple[str, TriplesFactory]:
    """Load FB15k-237 from ``NEGSERVE_DATA``, or generate one of its size; return the name too."""
    if (factory := from_data("fb15k-237")) is not None:
        return "fb15k-237", factory
    rng = np.random.default_rng(0)
    triples = np.stack(
        [
            rng.zipf(1.4, 400_000) % 14_505,
            rng.zipf(1.2, 400_000) % 237,
            rng.zipf(1.4, 400_000) % 14_505,
        ],
        axis=1,
    )
    return "synthetic like fb15k-237", TriplesFactory(
        {"training": triples[:272_115]}, num_entities=14_505, num_relations=237
    )


def from_data(name: str) -> TriplesFactory | None:
    """Load a graph from ``NEGSERVE_DATA``, with its type constraints if it has them.

    The constraints list the values seen in all splits. They are good enough for measuring time,
    and for nothing else: they leak the test split.

    :return: None if the graph is missing
    """
    path = _DATA / name
    if not path.is_dir():
        return None
    constraints = path / "type_constrain.tsv.gz"
    return TriplesFactory.from_path(
        path, type_constraints=constraints if constraints.exists() else None
    )


def zipf_20m() -> tuple[str, TriplesFactory]:
    """Generate a graph like Wikidata5M: 20.9 M triples, 4.6 M entities, 822 relations.

    Some pairs have more than 10^5 known tails, and some as many heads.
    """
    return "zipf-20m", zipf(20_900_000, 4_594_485, 822)


def zipf_5m() -> tuple[str, TriplesFactory]:
    """Generate a graph of the same kind, 4 times smaller."""
    return "zipf-5m", zipf(5_225_000, 1_148_621, 822)


def zipf_1m() -> tuple[str, TriplesFactory]:
    """Generate a graph of the same kind, 20 times smaller."""
    return "zipf-1m", zipf(1_045_000, 229_724, 822)


def zipf(num_triples: int, num_entities: int, num_relations: int) -> TriplesFactory:
    """Generate a graph with Zipf-distributed relations and entities; always the same one.

    Half of the relations lead from rather evenly distributed entities to hubs ("instance of"), the
    other half from hubs back. Repetitions are dropped, so there are slightly fewer triples.
    """
    rng = np.random.default_rng(0)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"graph of {num_triples:,} triples", total=5)
        flat = _draw(rng, num_entities, _FLAT, num_triples)
        progress.advance(task)
        hub = _draw(rng, num_entities, _HUB, num_triples)
        progress.advance(task)
        relation = _draw(rng, num_relations // 2, _RELATIONS, num_triples)
        is_from_hub = rng.integers(0, 2, num_triples, dtype=np.int8)
        progress.advance(task)
        triples = np.empty((num_triples, 3), dtype=np.int64)
        triples[:, 0] = np.where(is_from_hub, hub, flat)
        triples[:, 1] = 2 * relation + is_from_hub
        triples[:, 2] = np.where(is_from_hub, flat, hub)
        del flat, hub, relation, is_from_hub
        progress.advance(task)
        factory = TriplesFactory(
            {"training": triples}, num_entities=num_entities, num_relations=num_relations
        )
        progress.advance(task)
    return factory


def _draw(rng: np.random.Generator, num_ids: int, exponent: float, size: int) -> NDArray[np.int32]:
    """Draw ids whose frequency is a power of their rank; ranks are assigned at random."""
    weights = np.arange(1, num_ids + 1, dtype=np.float64) ** -exponent
    counts = rng.multinomial(size, weights / weights.sum())
    ids = np.repeat(rng.permutation(num_ids).astype(np.int32), counts)
    rng.shuffle(ids)
    return ids


def with_known_tails(
    lengths: Sequence[int], *, num_pairs: int, num_triples: int, num_entities: int
) -> tuple[TriplesFactory, dict[int, NDArray[np.int64]]]:
    """Generate a graph of (head, relation) pairs with exact numbers of known tails.

    :param lengths: numbers of known tails; pairs with 0 are not in the graph
    :param num_pairs: maximum number of pairs of each length
    :param num_triples: maximum number of triples of each length, but at least one pair
    :param num_triples: triples of each length, at most, but one pair at least
    :return: the graph, and the positives of each length, pair after pair
    """
    rng = np.random.default_rng(0)
    positives: dict[int, NDArray[np.int64]] = {}
    head = 0
    for length in lengths:
        lists = []
        for _ in range(max(1, min(num_pairs, num_triples // max(length, 1)))):
            tails = rng.choice(num_entities, max(length, 1), replace=False, shuffle=False)
            lists.append(np.stack([np.full_like(tails, head), np.zeros_like(tails), tails], 1))
            head += 1
        positives[length] = np.concatenate(lists)
    known = [triples for length, triples in positives.items() if length > 0]
    factory = TriplesFactory(
        {"training": np.concatenate(known)}, num_entities=num_entities, num_relations=2
    )
    return factory, positives


def write_triples(factory: TriplesFactory, path: Path) -> None:
    """Write the training triples as a file for servers, of any release: a label for each id."""
    labels = ("e%07d", "r%04d", "e%07d")
    np.savetxt(path, factory.mapped_triples, fmt=labels, delimiter="\t")


def facts_of(factory: TriplesFactory) -> dict[str, object]:
    """Return sizes, and numbers of known values per pair, on which the cost may depend."""
    triples = factory.mapped_triples
    tails = _lengths(triples[:, 0], triples[:, 1])
    heads = _lengths(triples[:, 2], triples[:, 1])
    return {
        "entities": factory.num_entities,
        "relations": factory.num_relations,
        "triples": factory.num_triples,
        "most_known_tails": int(tails.max()),
        "most_known_heads": int(heads.max()),
        # For the pair of a triple, averaged over the triples.
        "mean_known_tails": round(float((tails.astype(np.float64) ** 2).sum() / tails.sum()), 1),
        "mean_known_heads": round(float((heads.astype(np.float64) ** 2).sum() / heads.sum()), 1),
    }


def _lengths(entities: NDArray[np.int64], relations: NDArray[np.int64]) -> NDArray[np.int64]:
    keys = np.sort(entities << 32 | relations)
    at = np.flatnonzero(np.diff(keys, prepend=-1))
    lengths: NDArray[np.int64] = np.diff(at, append=len(keys))
    return lengths
