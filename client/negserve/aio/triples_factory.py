"""A dataset of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve._calls.dataset import RemoteDataset
from negserve._protocol.descriptions import DatasetDescription
from negserve.aio.epoch_stream import EpochStream
from negserve.aio.remote_sampler import RemoteSampler
from negserve.aio.transport import AsyncTransport
from negserve.types.answers.known_values import KnownValues
from negserve.types.answers.relation_statistics import RelationStatistics
from negserve.types.checks.leakage import warn_of_leakage
from negserve.types.config import SamplerConfig, Slot


class RemoteTriplesFactory(RemoteDataset[AsyncTransport, EpochStream]):
    """Counts, vocabularies, statistics and samplers of a dataset, over RPC.

    Made by :meth:`Client.triples_factory`. Methods that call the
    server are coroutines here. What does not change is fetched once.
    """

    _stream_class = EpochStream

    def __init__(self, transport: AsyncTransport, description: DatasetDescription) -> None:
        super().__init__(transport, description)
        self._vocabularies: tuple[dict[str, int], dict[str, int]] | None = None
        self._relation_statistics: RelationStatistics | None = None

    async def entity_to_id(self) -> Mapping[str, int]:
        """Map entity labels to ids; empty for a dataset without labels."""
        return (await self._fetch_vocabularies())[0]

    async def relation_to_id(self) -> Mapping[str, int]:
        """Map relation labels to ids; empty for a dataset without labels."""
        return (await self._fetch_vocabularies())[1]

    async def entity_labels(self) -> Sequence[str]:
        """Entity labels in the order of their ids."""
        return list(await self.entity_to_id())

    async def relation_labels(self) -> Sequence[str]:
        """Relation labels in the order of their ids."""
        return list(await self.relation_to_id())

    async def _fetch_vocabularies(self) -> tuple[dict[str, int], dict[str, int]]:
        if self._vocabularies is None:
            self._vocabularies = await self._read_vocabularies()
        return self._vocabularies

    async def relation_statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        if self._relation_statistics is None:
            self._relation_statistics = await self._ask_relation_statistics()
        return self._relation_statistics

    async def num_positives(self, relations: Sequence[int] | None = None) -> int:
        """Return the number of positives of an epoch: training triples of these relations.

        Parameters and errors as of :meth:`negserve.RemoteTriplesFactory.num_positives`.
        """
        return await self._ask_num_positives(relations)

    async def open_sampler(self, **options: Any) -> RemoteSampler:
        """Open a sampler.

        :param options: fields of :class:`negserve.SamplerConfig`
        :raises LeakageWarning: where Python is told to raise it, for a filter over validation or
            testing triples; for evaluation ignore it
        :raises NegserveError: as the server's status says
        """
        config = SamplerConfig(**options)
        warn_of_leakage(config.filter_splits)
        sampler = RemoteSampler(self._transport, self._dataset, config)
        await sampler.open()
        return sampler

    async def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for each triple whether it is in one of the splits, exactly.

        Parameters, result and errors as of :meth:`negserve.RemoteTriplesFactory.contains`.
        """
        return await self._look_up(triples, splits)

    async def known(self, pairs: ArrayLike, slot: Slot, splits: Sequence[str]) -> KnownValues:
        """Give the known values of a slot for each pair of ids of the other two slots, exactly.

        Parameters, result and errors as of :meth:`negserve.RemoteTriplesFactory.known`.
        """
        return await self._find_known(pairs, slot, splits)
