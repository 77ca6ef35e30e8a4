"""A dataset of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve._calls.dataset import RemoteDataset
from negserve._sync.epoch_stream import EpochStream
from negserve._sync.interrupts import run_sync
from negserve._sync.remote_sampler import RemoteSampler
from negserve._sync.transport import SyncTransport
from negserve.types.answers.known_values import KnownValues
from negserve.types.answers.relation_statistics import RelationStatistics
from negserve.types.checks.leakage import warn_of_leakage
from negserve.types.config import SamplerConfig, Slot


class RemoteTriplesFactory(RemoteDataset[SyncTransport, EpochStream]):
    """Counts, vocabularies, statistics and samplers of a dataset, over RPC.

    Made by :meth:`negserve.Client.triples_factory`. What does not change is fetched once.
    Thread-safe; picklable.
    """

    _stream_class = EpochStream

    @property
    def entity_to_id(self) -> Mapping[str, int]:
        """Map entity labels to ids; empty for a dataset without labels."""
        return self._vocabularies[0]

    @property
    def relation_to_id(self) -> Mapping[str, int]:
        """Map relation labels to ids; empty for a dataset without labels."""
        return self._vocabularies[1]

    @cached_property
    def entity_labels(self) -> Sequence[str]:
        """Entity labels in the order of their ids."""
        return list(self.entity_to_id)

    @cached_property
    def relation_labels(self) -> Sequence[str]:
        """Relation labels in the order of their ids."""
        return list(self.relation_to_id)

    @cached_property
    def _vocabularies(self) -> tuple[dict[str, int], dict[str, int]]:
        return run_sync(self._read_vocabularies)

    @cached_property
    def relation_statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        return run_sync(self._ask_relation_statistics)

    def num_positives(self, relations: Sequence[int] | None = None) -> int:
        """Return the number of positives of an epoch: training triples of these relations.

        :param relations: relation ids; None for all, which needs no call
        :raises NegserveError: as the server's status says
        """
        return run_sync(self._ask_num_positives, relations)

    def open_sampler(self, **options: Any) -> RemoteSampler:
        """Open a sampler.

        :param options: fields of :class:`negserve.SamplerConfig`
        :raises LeakageWarning: where Python is told to raise it, for a filter over validation or
            testing triples; for evaluation ignore it
        :raises NegserveError: as the server's status says
        """
        config = SamplerConfig(**options)
        warn_of_leakage(config.filter_splits)
        return RemoteSampler(self._transport, self._dataset, config)

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for each triple whether it is in one of the splits, exactly.

        :param triples: integer ids, shape (n, 3), any n
        :param splits: names of splits, at least one
        :return: shape (n,)
        :raises NegserveError: as the server's status says
        """
        return run_sync(self._look_up, triples, splits)

    def known(self, pairs: ArrayLike, slot: Slot, splits: Sequence[str]) -> KnownValues:
        """Give the known values of a slot for each pair of ids of the other two slots, exactly.

        :param pairs: integer ids in the order head, relation, tail, shape (n, 2), any n: (head,
            relation) for ``slot="tail"``, (relation, tail) for ``"head"``, (head, tail) for
            ``"relation"``
        :param slot: whose values are asked for
        :param splits: names of the splits whose triples are known, at least one
        :return: the sorted values of each pair
        :raises NegserveError: as the server's status says
        """
        return run_sync(self._find_known, pairs, slot, splits)
