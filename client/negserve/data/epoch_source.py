"""The dataset of a stream, opened in each process that reads it, and its batches as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch.utils.data import get_worker_info

from negserve._calls.per_process import PerProcess
from negserve._local.epoch_stream import LocalEpochStream
from negserve._local.triples_factory import LocalTriplesFactory
from negserve._sync.client import Client
from negserve._sync.epoch_stream import EpochStream
from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve._transport.targets import checked_targets
from negserve.data.triple_batch import CompactTripleBatch, TripleBatch, compact_batch, triple_batch
from negserve.errors import InvalidRequestError
from negserve.types.checks.leakage import leakage_told
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig

_Factory = RemoteTriplesFactory | LocalTriplesFactory
_Stream = EpochStream | LocalEpochStream
Form = Literal["batch", "columns", "compact", "tuple"]
Item = TripleBatch | CompactTripleBatch | tuple[torch.Tensor, ...]


class EpochSource:
    """Reads epochs of a dataset. Picklable.

    :param source: address of the server or addresses of its replicas, a client, or a client's
        dataset
    :param dataset: the dataset's name; not needed if ``source`` is a dataset
    :param relations: only triples of these relations; None for all
    :param form: what :class:`negserve.data.TripleStream` gives
    :param prefetch: batches read ahead, at least 1
    :raises InvalidRequestError: for another source or form, a missing name or a malformed address
    """

    def __init__(
        self,
        source: str | Sequence[str] | Client | RemoteTriplesFactory | LocalTriplesFactory,
        dataset: str | None,
        *,
        relations: Sequence[int] | None,
        form: Form,
        prefetch: int,
    ) -> None:
        if form not in get_args(Form):
            raise InvalidRequestError(f"form={form!r}; give batch, columns, compact or tuple")
        if prefetch < 1:
            raise InvalidRequestError(f"prefetch={prefetch}; give at least 1 batch")
        if isinstance(source, RemoteTriplesFactory | LocalTriplesFactory):
            if dataset not in {None, source.name}:
                raise InvalidRequestError(f"dataset={dataset!r}; source is {source.name!r}")
        elif not isinstance(source, Client | Sequence):
            kind = type(source)
            raise InvalidRequestError(
                f"source is a {kind.__module__}.{kind.__qualname__}; give an address, a "
                f"negserve.Client, or its triples_factory(name), or what its publish(name, graph) "
                f"gives for a graph that you hold"
            )
        elif dataset is None:
            raise InvalidRequestError("dataset is missing; name one of the server's")
        elif not isinstance(source, Client):
            checked_targets(source)  # now, not in each worker
        self._source = source
        self._dataset = dataset
        self.form: Form = form
        self._prefetch = prefetch
        self._relations = relations
        #: The dataset and the number of positives of an epoch, once they are asked for.
        self._opened: PerProcess[list[tuple[_Factory, int]]] = PerProcess(list)
        #: The stream of the last pass, which the next one goes on with.
        self._last: PerProcess[list[_Stream]] = PerProcess(list)

    @property
    def num_positives(self) -> int:
        """Number of positives of an epoch of all ranks; asks the server once."""
        return self._open()[1]

    def read(
        self, sampler: SamplerConfig, config: EpochConfig, epoch: int, start: int, end: int
    ) -> Iterator[tuple[Item, tuple[int, int]]]:
        """Iterate over pairs of a batch and the place after it, which is an epoch and a start.

        :param sampler: which negatives
        :param config: which positives
        :param start: position within the epoch at which the first batch begins
        :param end: position at which the epoch ends
        :raises NegserveError: as :meth:`negserve.EpochStream.__iter__`
        """
        if start >= end:
            return
        factory = self._open()[0]
        largest_id = max(factory.num_entities, factory.num_relations) - 1
        stream = self._stream(factory, sampler, config)
        stream.load_state_dict({"epoch": epoch, "start": start})
        for batch in stream:
            if config.tail == "drop" and batch.next_start > end:
                return  # the dispatcher would have no batch for some ranks
            after = (epoch + 1, 0) if batch.next_start >= end else (epoch, batch.next_start)
            state = {"epoch": after[0], "start": after[1]}
            if self.form == "compact":
                yield compact_batch(batch, largest_id, state), after
                continue
            whole = triple_batch(batch, state, by_column=self.form == "columns")
            yield whole.as_tuple() if self.form == "tuple" else whole, after
        self._last.value[:] = [stream]

    def _stream(self, factory: _Factory, sampler: SamplerConfig, config: EpochConfig) -> _Stream:
        """Take the stream of the last pass, if it is of these configurations, or make one."""
        last = self._last.value
        before = last.pop() if last else None
        if before is not None and (before.sampler, before.config) == (sampler, config):
            stream = before
        else:
            with leakage_told():
                stream = factory.epochs(sampler, config, prefetch=self._prefetch)
        if isinstance(stream, EpochStream):
            # Most workers end with their first pass, and would have read ahead for nobody.
            stream.reads_on = before is not None or get_worker_info() is None
        return stream

    def _open(self) -> tuple[_Factory, int]:
        """Return the dataset, opened in this process, and the number of positives of an epoch."""
        opened = self._opened.value
        if not opened:
            if isinstance(self._source, RemoteTriplesFactory | LocalTriplesFactory):
                factory: _Factory = self._source
            else:
                client = self._source if isinstance(self._source, Client) else Client(self._source)
                assert self._dataset is not None
                factory = client.triples_factory(self._dataset)
            opened.append((factory, factory.num_positives(self._relations)))
        return opened[0]
