"""What may be drawn: the legal values of every slot, as arrays for the kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.addresses import address_of
from negserve_server.errors import InvalidConfiguration
from negserve_server.index import FilterIndex, PairIndex
from negserve_server.sampling.batch import narrowest_dtype
from negserve_server.sampling.candidates import Candidates
from negserve_server.sampling.config import SLOTS, SamplerConfig
from negserve_server.sampling.statistics import RelationStatistics

_COLUMNS = {"head": 0, "relation": 1, "tail": 2}


class Domain:
    """Candidates, known values and shares of the slots; all that is costly about a sampler.

    Depends on a configuration's kind, corruption scheme and filter splits, not on k or seed,
    so that samplers share it. Immutable; each tuple has one entry per slot.

    :param config: what to draw
    :param training: training triples inside the id space, distinct, shape (n, 3)
    :param filter_index: index over exactly the splits of ``config.filter_splits``; None if
        those are empty
    :param num_entities: size of the entity id space
    :param num_relations: size of the relation id space
    :raises InvalidConfiguration: if a slot of the scheme has fewer than two ids, so that
        nothing could replace the original
    :raises ValueError: if the index does not fit the configuration
    """

    def __init__(
        self,
        config: SamplerConfig,
        *,
        training: NDArray[np.int64],
        filter_index: FilterIndex | None,
        num_entities: int,
        num_relations: int,
    ) -> None:
        if (filter_index is not None) != config.filtered:
            raise ValueError("give filter_index if and only if config has filter_splits")
        self._config = config
        self.num_entities = num_entities
        self.num_relations = num_relations
        self.num_ids = (num_entities, num_relations, num_entities)
        for slot in config.corruption_scheme:
            if self.num_ids[_COLUMNS[slot]] < 2:
                raise InvalidConfiguration(
                    "corruption_scheme",
                    config.corruption_scheme,
                    f"the graph has only one id for the {slot}, so nothing can replace it",
                )
        candidates = [self._candidates_of(slot, training) for slot in SLOTS]
        known = [self._known_of(slot, candidates[_COLUMNS[slot]], filter_index) for slot in SLOTS]
        self.scheme = tuple(slot in config.corruption_scheme for slot in SLOTS)
        self.slot_ends = self._make_slot_ends(training, candidates)
        #: Where the kernel finds each slot's arrays, uint64, shape (3, 7); see :mod:`.kernels`.
        self.places = np.array(
            [
                (
                    address_of(index.table),
                    len(index.table) - 1,
                    address_of(index.values),
                    address_of(index.directory),
                    address_of(each.offsets),
                    address_of(each.ids),
                    num_ids,
                )
                for index, each, num_ids in zip(known, candidates, self.num_ids, strict=True)
            ],
            dtype=np.uint64,
        )
        # Addresses keep nothing alive.
        self._arrays = (known, candidates)
        #: Narrowest dtype of any value that may be drawn.
        self.dtype = narrowest_dtype(
            max(self.num_ids[_COLUMNS[slot]] for slot in config.corruption_scheme)
        )

    def _candidates_of(self, slot: str, training: NDArray[np.int64]) -> Candidates:
        if self._config.kind == "pseudotyped" and slot in self._config.corruption_scheme:
            return Candidates.seen_in(training, _COLUMNS[slot], self.num_relations)
        return Candidates.all_ids()

    def _known_of(
        self, slot: str, candidates: Candidates, filter_index: FilterIndex | None
    ) -> PairIndex:
        if filter_index is None or slot not in self._config.corruption_scheme:
            return PairIndex.empty()
        if len(candidates.offsets) == 0:
            return filter_index.by_slot(slot)
        # Ranks among the candidates take the place of ids; what is no candidate is dropped.
        column = _COLUMNS[slot]
        triples = filter_index.triples
        ranks, found = candidates.ranks(triples[:, 1], triples[:, column])
        first, second = (triples[found, c] for c in range(3) if c != column)
        return PairIndex.build(np.stack([first, second, ranks[found]], axis=1))

    def _make_slot_ends(
        self, training: NDArray[np.int64], candidates: list[Candidates]
    ) -> NDArray[np.uint64]:
        """Where head and relation end among the slots, in 2^-32, shape (num_relations, 2)."""
        config = self._config
        if config.kind == "bernoulli" and len(config.corruption_scheme) == 2:
            share = RelationStatistics.of(training, self.num_relations).head_share
            return np.stack([share, share], axis=1)
        weights = np.zeros((self.num_relations, 3), dtype=np.uint64)
        for slot in config.corruption_scheme:
            column = _COLUMNS[slot]
            if config.kind == "pseudotyped":
                weights[:, column] = candidates[column].counts
            else:
                weights[:, column] = 1
        weights[weights.sum(axis=1) == 0] = self.scheme  # no training triples: slots evenly
        ends = np.cumsum(weights, axis=1)
        return (ends[:, :2] << np.uint64(32)) // ends[:, 2:]
