"""Samplers that users have besides PyKEEN's, as cases to measure; in this process, one thread.

The exact one is that of ULTRA (Galkin et al. 2024), *strict* negative sampling, written anew from
its description: half of a batch corrupts tails, the other half heads; a mask of all entities is
false where the entity is known for the pair, and indices are drawn, with replacement, of those for
which it is true. Known entities are found in arrays that are sorted once. Run as ``python -m
benchmarks.measured.other_samplers``, this checks that it draws all legal entities of UMLS and no
other.
"""

from __future__ import annotations

import itertools
import sys
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.support.graphs import from_data
from benchmarks.support.measuring import Turn, repeated
from benchmarks.support.positives import Positives
from negserve_server.graph import TriplesFactory

STRICT = "strict, as ULTRA's"
NUMPY = "numpy"
PYG = f"torch_geometric {version('torch-geometric')}"
#: System, sampler and filter of each.
OTHERS = ((STRICT, "basic", "exact"), (PYG, "pairs", "any relation"), (NUMPY, "basic", "none"))

#: Most memory of the masks of one batch, with their indices, in bytes.
_MASK_BUDGET = 8 * 2**30
_MASK_BYTES_PER_ENTITY = 1 + 2 * 8
#: Most triples of a graph for PyG, which makes a vector of all of them at each call.
_MOST_PYG_TRIPLES = 2_000_000


class StrictSampler:
    """Draws uniformly from the entities that make no known triple.

    :param triples: shape (n, 3), int64
    """

    def __init__(self, triples: NDArray[np.int64], num_entities: int) -> None:
        self._num_entities = num_entities
        self._num_relations = int(triples[:, 1].max()) + 1
        self._sides = []
        for fixed, drawn in ((0, 2), (2, 0)):
            keys = torch.from_numpy(triples[:, fixed] * self._num_relations + triples[:, 1])
            order = torch.argsort(keys)
            self._sides.append((keys[order], torch.from_numpy(triples[:, drawn].copy())[order]))

    def sample(self, batch: torch.Tensor, k: int) -> torch.Tensor:
        """Corrupt positives.

        :param batch: shape (n, 3), int64
        :return: entities in place of the tails of the first half, and of the heads of the others;
            shape (n, k), int64
        """
        half = len(batch) // 2
        tails = self._draw(0, batch[:half, 0], batch[:half, 1], k)
        return torch.cat([tails, self._draw(1, batch[half:, 2], batch[half:, 1], k)])

    def _draw(
        self, side: int, entities: torch.Tensor, relations: torch.Tensor, k: int
    ) -> torch.Tensor:
        all_keys, values = self._sides[side]
        keys = entities * self._num_relations + relations
        begins = torch.searchsorted(all_keys, keys)
        lengths = torch.searchsorted(all_keys, keys, right=True) - begins
        rows = torch.repeat_interleave(torch.arange(len(keys)), lengths)
        within = torch.arange(len(rows)) - (lengths.cumsum(0) - lengths)[rows]
        mask = torch.ones(len(keys), self._num_entities, dtype=torch.bool)
        mask[rows, values[begins[rows] + within]] = False
        candidates = mask.nonzero()[:, 1]
        counts = mask.sum(1)
        draws = (torch.rand(len(keys), k, dtype=torch.float64) * counts[:, None]).long()
        return candidates[draws + (counts.cumsum(0) - counts)[:, None]]


def other(
    system: str, factory: TriplesFactory, positives: Positives, k: int, *, whole: bool = False
) -> Turn | str:
    """Return a turn of a system of :data:`OTHERS`, or why it can't run.

    :param whole: whether int64 triples are made of what is drawn; else it is left as the system
        gives it
    """
    torch.set_num_threads(1)
    size, num_entities = positives.batch_size, factory.num_entities
    if system == STRICT:
        needed = size // 2 * num_entities * _MASK_BYTES_PER_ENTITY
        if needed > _MASK_BUDGET:
            return f"the masks of half a batch and their indices take {needed / 2**30:.0f} GiB"
        return _strict(factory, positives, k, whole)
    if system == PYG:
        if factory.num_triples > _MOST_PYG_TRIPLES:
            return f"it looks at all {factory.num_triples:,} triples at each call"
        return _pyg(factory, positives, k, whole)
    return _numpy(num_entities, positives, k, whole)


def _strict(factory: TriplesFactory, positives: Positives, k: int, whole: bool) -> Turn:
    sampler = StrictSampler(np.asarray(factory.mapped_triples), factory.num_entities)

    def step() -> int:
        batch = torch.from_numpy(positives.next().copy())
        drawn = sampler.sample(batch, k)
        if whole:
            triples = batch[:, None].repeat(1, k, 1)
            half = len(batch) // 2
            triples[:half, :, 2] = drawn[:half]
            triples[half:, :, 0] = drawn[half:]
        return drawn.numel()

    return repeated(step)


def _pyg(factory: TriplesFactory, positives: Positives, k: int, whole: bool) -> Turn:
    from torch_geometric.utils import negative_sampling

    edges = torch.from_numpy(np.ascontiguousarray(np.asarray(factory.mapped_triples)[:, [0, 2]].T))
    wanted = positives.batch_size * k

    def step() -> int:
        pairs = negative_sampling(edges, factory.num_entities, wanted)
        if whole:
            relations = torch.from_numpy(positives.next()[:, 1].copy()).repeat_interleave(k)
            torch.stack([pairs[0], relations[: pairs.shape[1]], pairs[1]], 1)
        return int(pairs.shape[1])

    return repeated(step)


def _numpy(num_entities: int, positives: Positives, k: int, whole: bool) -> Turn:
    rng = np.random.default_rng(0)
    sides = itertools.cycle([0, 2])

    def step() -> int:
        drawn = rng.integers(num_entities, size=(positives.batch_size, k))
        if whole:
            triples = np.repeat(positives.next()[:, None], k, axis=1)
            triples[:, :, next(sides)] = drawn
        return drawn.size

    return repeated(step)


def check(factory: TriplesFactory) -> None:
    """Check that the exact sampler never draws a known triple, and reaches every other entity."""
    triples = np.asarray(factory.mapped_triples)
    sampler = StrictSampler(triples, factory.num_entities)
    known = set(map(tuple, triples.tolist()))
    batch = torch.from_numpy(triples[:64].copy())
    drawn = sampler.sample(batch, 20 * factory.num_entities)
    for row, (h, r, t) in enumerate(batch.tolist()):
        found = set(drawn[row].tolist())
        legal = {
            entity for entity in range(factory.num_entities)
            if ((h, r, entity) if row < 32 else (entity, r, t)) not in known
        }  # fmt: skip
        assert found == legal, (row, len(found), len(legal))
    print(f"{STRICT}: {len(batch)} positives, all and only legal entities drawn")


if __name__ == "__main__":
    umls = from_data("umls")
    if umls is None:
        sys.exit("umls is not in NEGSERVE_DATA")
    check(umls)
