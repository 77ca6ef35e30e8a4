"""A dataset of a server, computed in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve._local.engine import open_graph
from negserve._local.epoch_stream import LocalEpochStream
from negserve._local.sampler import LocalSampler
from negserve.types.answers.known_values import KnownValues
from negserve.types.answers.relation_statistics import RelationStatistics
from negserve.types.checks.leakage import warn_of_leakage
from negserve.types.config import SamplerConfig, Slot
from negserve.types.epoch import EpochConfig


class LocalTriplesFactory:
    """Counts, vocabularies, statistics and samplers of a dataset, computed in this process.

    Made by :meth:`negserve.Client.triples_factory` with ``compute="client"``. All answers are those
    of :class:`negserve.RemoteTriplesFactory`, with equal bytes; no call asks the server. Its arrays
    are mapped, so processes of one machine share their memory. Thread-safe. Pickled as the folder
    of its snapshot and the fingerprint.

    :param name: of the dataset
    :param folder: of the snapshot
    :param fingerprint: of the graph
    :raises FingerprintMismatchError: if another graph is in the folder
    :raises MissingLibraryError: without the extra ``server``
    """

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.folder = folder
        self.fingerprint = fingerprint
        self.graph = open_graph(folder, fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalTriplesFactory, (self.name, self.folder, self.fingerprint)

    def __repr__(self) -> str:
        return (
            f"LocalTriplesFactory({self.name!r} in {self.folder}, "
            f"num_entities={self.num_entities}, num_relations={self.num_relations}, "
            f"num_triples={self.num_triples}, fingerprint={self.fingerprint[:12]}...)"
        )

    @property
    def num_entities(self) -> int:
        """Size of the entity id space."""
        return self.graph.num_entities

    @property
    def num_relations(self) -> int:
        """Size of the relation id space."""
        return self.graph.num_relations

    @property
    def num_triples(self) -> int:
        """Number of distinct training triples."""
        return self.graph.num_triples

    @property
    def num_triples_per_split(self) -> Mapping[str, int]:
        """Distinct triples by split name."""
        return {split: len(columns) for split, columns in self.graph.columns.items()}

    @property
    def splits(self) -> Mapping[str, NDArray[np.int64]]:
        """Distinct triples by split name, sorted, int64, shape (n, 3), read-only.

        Each look-up makes the array anew.
        """
        return self.graph.splits

    @property
    def num_unseen(self) -> Mapping[str, int]:
        """Triples left out for a label unseen in training, by split name."""
        return self.graph.num_unseen

    @property
    def split_fingerprints(self) -> Mapping[str, str]:
        """SHA-256 of id space and triples, by split name."""
        return self.graph.split_fingerprints

    @property
    def type_constraints_fingerprint(self) -> str | None:
        """SHA-256 of id space and type constraints; None for a dataset without them."""
        return self.graph.type_constraints_fingerprint

    @cached_property
    def entity_to_id(self) -> Mapping[str, int]:
        """Map entity labels to ids; empty for a dataset without labels."""
        return self.graph.entity_to_id

    @cached_property
    def relation_to_id(self) -> Mapping[str, int]:
        """Map relation labels to ids; empty for a dataset without labels."""
        return self.graph.relation_to_id

    @cached_property
    def entity_labels(self) -> Sequence[str]:
        """Entity labels in the order of their ids."""
        return list(self.entity_to_id)

    @cached_property
    def relation_labels(self) -> Sequence[str]:
        """Relation labels in the order of their ids."""
        return list(self.relation_to_id)

    @cached_property
    def relation_statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        return self.graph.relation_statistics

    def num_positives(self, relations: Sequence[int] | None = None) -> int:
        """Return the number of positives of an epoch: training triples of these relations.

        :param relations: relation ids; None for all
        :raises InvalidRequestError: for a relation that the graph has not
        """
        if relations is None:
            return self.num_triples
        config = EpochConfig(relations=tuple(relations))
        return self.graph.epoch(SamplerConfig(), config).num_positives

    def open_sampler(self, **options: Any) -> LocalSampler:
        """Open a sampler.

        :param options: fields of :class:`negserve.SamplerConfig`
        :raises LeakageWarning: where Python is told to raise it, for a filter over validation or
            testing triples; for evaluation ignore it
        :raises InvalidRequestError: if the graph can't serve the configuration
        """
        config = SamplerConfig(**options)
        warn_of_leakage(config.filter_splits)
        return LocalSampler(self, config)

    def epochs(
        self,
        sampler: SamplerConfig,
        config: EpochConfig | None = None,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> LocalEpochStream:
        """Stream the training triples with their negatives, epoch after epoch.

        Parameters and errors as of :meth:`negserve.RemoteTriplesFactory.epochs`.
        """
        warn_of_leakage(sampler.filter_splits)
        return LocalEpochStream(self, sampler, config, prefetch=prefetch, digest=digest)

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for each triple whether it is in one of the splits, exactly.

        :param triples: integer ids, shape (n, 3), any n
        :param splits: names of splits, at least one
        :return: shape (n,)
        :raises InvalidRequestError: for ids outside the id space, and a split that the graph has
            not
        """
        return self.graph.contains(triples, splits)

    def known(self, pairs: ArrayLike, slot: Slot, splits: Sequence[str]) -> KnownValues:
        """Give the known values of a slot for each pair of ids of the other two slots, exactly.

        Parameters as of :meth:`negserve.RemoteTriplesFactory.known`.

        :raises InvalidRequestError: for ids outside the id space, another slot, and a split that
            the graph has not
        """
        return self.graph.known(pairs, slot, splits)
