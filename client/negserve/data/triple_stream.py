"""Epochs as a dataset for PyTorch's DataLoader."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch.utils.data import IterableDataset, get_worker_info

from negserve.client import Client
from negserve.config import SamplerConfig
from negserve.data.triple_batch import CompactTripleBatch, TripleBatch, compact_batch
from negserve.epoch import EpochConfig, Tail
from negserve.epoch_cursor import epoch_and_start
from negserve.epoch_stream import EpochStream
from negserve.errors import InvalidRequestError
from negserve.sampling.positions import MAX_NUM_WORKERS
from negserve.sampling.ranks import find_rank
from negserve.triples_factory import RemoteTriplesFactory

Form = Literal["batch", "compact", "tuple"]
Item = TripleBatch | CompactTripleBatch | tuple[torch.Tensor, ...]

# Where the shared tensor has what; behind it, one number per worker.
_EPOCH, _START, _VERSION, _BY_LOADER, _BEGUN = range(5)


class TripleStream(IterableDataset[Item]):
    """The training triples of a dataset with their negatives, one epoch a pass.

    ``DataLoader(stream, batch_size=None, num_workers=W)`` gives the same batches in the same order
    for any W, forked or spawned: worker i takes every W-th batch from batch i on. Each process
    opens a connection of its own when it first iterates.

    A pass gives what is left of the current epoch. Without workers the next pass gives the next
    epoch. With workers, only :class:`negserve.data.TripleLoader` sees in the training process how
    far it is; with a plain DataLoader call :meth:`set_epoch`, or :meth:`load_state_dict`, before
    each pass: a pass that would repeat one is refused.

    A checkpoint keeps ``batch.state`` of the last batch trained on. Any batch size, world size
    and number of workers go on from it. Picklable.

    :param source: address of the server or addresses of its replicas, a client, or a dataset of
        one
    :param dataset: the dataset's name; not needed if ``source`` is a dataset
    :param sampler: which negatives; its seed also draws the order
    :param batch_size: b, positives of one batch of one rank
    :param rank: which rank; None for torch.distributed's, 0 where that is not in use
    :param world_size: how many ranks share the epoch; None likewise, 1 where it is not in use
    :param tail: what becomes of the last positions of an epoch, see :class:`negserve.EpochConfig`
    :param shuffle: whether the order is drawn by seed and epoch
    :param relations: only triples of these relations; None for all
    :param weights: whether each positive comes with its subsampling weight
    :param form: ``batch`` gives :class:`TripleBatch`; ``compact`` gives
        :class:`CompactTripleBatch`, for transfers to a device with the expansion there; ``tuple``
        gives the tensors (positives, negatives), then those asked for of mask, weights and log_q
    :param prefetch: batches read ahead, at least 1, in each worker
    :ivar place: epoch and start of the next pass; loaders set it behind what they give
    :raises InvalidRequestError: if ranks are given by halves, or torch.distributed has several
        but is not initialised yet
    """

    def __init__(
        self,
        source: str | Sequence[str] | Client | RemoteTriplesFactory,
        dataset: str | None = None,
        sampler: SamplerConfig | None = None,
        *,
        batch_size: int = 1024,
        rank: int | None = None,
        world_size: int | None = None,
        tail: Tail = "short",
        shuffle: bool = True,
        relations: Sequence[int] | None = None,
        weights: bool = False,
        form: Form = "batch",
        prefetch: int = 4,
    ) -> None:
        if form not in {"batch", "compact", "tuple"}:
            raise InvalidRequestError(f"form={form!r}; give batch, compact or tuple")
        if prefetch < 1:
            raise InvalidRequestError(f"prefetch={prefetch}; give at least 1 batch")
        if isinstance(source, RemoteTriplesFactory):
            if dataset not in {None, source.name}:
                raise InvalidRequestError(f"dataset={dataset!r}; source is {source.name!r}")
        elif dataset is None:
            raise InvalidRequestError("dataset is missing; name one of the server's")
        rank, world_size = _ranks(rank, world_size)
        self._source = source
        self._dataset = dataset
        self.sampler = sampler or SamplerConfig()
        self.form: Form = form
        self.prefetch = prefetch
        self.config = EpochConfig(
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            tail=tail,
            shuffle=shuffle,
            relations=None if relations is None else tuple(relations),
            weights=weights,
        )
        self.place = (0, 0)
        # How the training process tells its workers where a pass begins, also living ones.
        self._shared = torch.zeros(_BEGUN + MAX_NUM_WORKERS, dtype=torch.int64)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]
        self._tell(*self.place)
        self._opened: tuple[int, RemoteTriplesFactory, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Does nothing in a spawned worker: there it is shared already.
        self._shared.share_memory_()  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[Item]:
        """Iterate over what is left of the epoch, or over a worker's part of it.

        :raises InvalidRequestError: in a worker, for a pass from where one has begun before
        :raises NegserveError: as :meth:`negserve.EpochStream.__iter__`
        """
        info = get_worker_info()
        if info is None:
            # A loader keeps the place itself, behind what it has given.
            is_followed = bool(self._shared[_BY_LOADER])
            return self._pass(*self.place, self.config, is_followed=is_followed)
        if info.num_workers > MAX_NUM_WORKERS:
            raise InvalidRequestError(
                f"num_workers={info.num_workers}; at most {MAX_NUM_WORKERS} are possible"
            )
        config = replace(self.config, worker=info.id, num_workers=info.num_workers)
        epoch, start, version = (int(number) for number in self._shared[:_BY_LOADER])
        # A worker that is slow to start may see the next pass already and begin it twice; what came
        # of the first time is dropped by the loader.
        if self._shared[_BEGUN + info.id] == version and not self._shared[_BY_LOADER]:
            raise InvalidRequestError(
                f"a pass from epoch={epoch}, start={start} has begun before; call set_epoch or "
                f"load_state_dict before each pass over a DataLoader with workers, or use "
                f"negserve.data.TripleLoader"
            )
        self._shared[_BEGUN + info.id] = version
        return self._pass(epoch, start, config, is_followed=True)

    def _pass(
        self, epoch: int, start: int, config: EpochConfig, *, is_followed: bool
    ) -> Iterator[Item]:
        factory, num_positives = self._open()
        largest_id = max(factory.num_entities, factory.num_relations) - 1
        stream: EpochStream = factory.epochs(self.sampler, config, prefetch=self.prefetch)
        stream.load_state_dict({"epoch": epoch, "start": start})
        for batch in stream:
            left = num_positives - batch.next_start
            is_last = left < (config.batch_size * config.world_size if config.tail == "drop" else 1)
            after = (epoch + 1, 0) if is_last else (epoch, batch.next_start)
            compact = compact_batch(batch, largest_id, {"epoch": after[0], "start": after[1]})
            item: Item = compact
            if self.form == "batch":
                item = compact.expand()
            elif self.form == "tuple":
                item = compact.expand().as_tuple()
            if not is_followed:
                # Before the batch is given: who keeps the state has seen the batch. An interrupt
                # comes before both or after both, as nothing is called in between.
                self._tell(*after)
                self.place = after
            yield item
        if not is_followed and self.place[0] == epoch:
            self._go_to(epoch + 1, 0)  # there was nothing left

    def _open(self) -> tuple[RemoteTriplesFactory, int]:
        """Give the dataset in this process, and how many positives its epochs have."""
        if self._opened is None or self._opened[0] != os.getpid():
            if isinstance(self._source, RemoteTriplesFactory):
                factory = self._source
            else:
                client = self._source if isinstance(self._source, Client) else Client(self._source)
                assert self._dataset is not None
                factory = client.triples_factory(self._dataset)
            num_positives = factory.num_positives(self.config.relations)
            self._opened = os.getpid(), factory, num_positives
        return self._opened[1:]

    @property
    def epoch(self) -> int:
        """The epoch that the next pass is of."""
        return self.place[0]

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be an epoch from its beginning. Not to be called during a pass."""
        self.load_state_dict({"epoch": epoch, "start": 0})

    def state_dict(self) -> dict[str, int]:
        """Give ``epoch`` and ``start`` of the next pass.

        Without workers, or with :class:`TripleLoader`, that is behind the last batch that was
        taken. With a plain DataLoader, ``state`` of that batch tells it instead.
        """
        return {"epoch": self.place[0], "start": self.place[1]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on from a state. Not to be called during a pass.

        :param state: of a batch, of :meth:`state_dict`, or of a :class:`negserve.EpochStream`
        :raises InvalidRequestError: if the state is none
        """
        self._go_to(*epoch_and_start(state))

    def _go_to(self, epoch: int, start: int) -> None:
        self.place = (epoch, start)
        self._tell(epoch, start)

    def begin_pass(self) -> None:
        """Tell workers that the next pass begins where the last one was left; for loaders."""
        self._shared[_BY_LOADER] = 1
        self._tell(*self.place)

    def end_pass(self) -> None:
        """Tell workers that no loader takes care of passes any more; for loaders."""
        self._shared[_BY_LOADER] = 0

    def _tell(self, epoch: int, start: int) -> None:
        """Tell workers where a pass begins."""
        self._shared[_EPOCH], self._shared[_START] = epoch, start
        self._shared[_VERSION] += 1


def _ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Find the ranks that share an epoch.

    :raises InvalidRequestError: where a launcher of any processes says so: whether they train
        together, and so share an epoch, is then not known
    """
    found = find_rank(rank, world_size)
    if found.source not in {"", "arguments", "torch.distributed", "RANK"}:
        raise InvalidRequestError(
            f"{found.source} is {found.rank} of {found.world_size}, but torch.distributed is not "
            f"initialised: call init_process_group first, or give rank and world_size; 0 and 1 for "
            f"a process that trains on its own"
        )
    return found.rank, found.world_size
