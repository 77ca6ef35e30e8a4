"""Epochs as a dataset for PyTorch's DataLoader."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from torch.utils.data import IterableDataset, get_worker_info

from negserve._calls.epoch_cursor import epoch_and_start
from negserve._calls.leakage import leakage_told, warn_of_leakage
from negserve._sync.client import Client
from negserve._sync.epoch_stream import EpochStream
from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve._transport.targets import checked_targets
from negserve.data.pass_board import PassBoard
from negserve.data.reader import Reader, find_reader
from negserve.data.share import check_reader, num_batches, share_of
from negserve.data.triple_batch import CompactTripleBatch, TripleBatch, compact_batch
from negserve.data.worker_progress import WorkerProgress
from negserve.errors import InvalidRequestError
from negserve.sampling.positions import MAX_NUM_WORKERS
from negserve.sampling.ranks import distributed_rank, find_rank
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig, Tail

Form = Literal["batch", "compact", "tuple"]
Item = TripleBatch | CompactTripleBatch | tuple[torch.Tensor, ...]

_NOT_THIS_RANK = "accelerate's dispatcher reads on the first rank only; this is another"


class TripleStream(IterableDataset[Item]):
    """The training triples of a dataset with their negatives, one epoch a pass.

    ``DataLoader(stream, batch_size=None, num_workers=W)`` gives the same batches in the same order
    for any W, forked or spawned: worker i takes every W-th batch from batch i on. Each process
    opens a connection of its own when it first iterates.

    A pass gives what is left of the current epoch. Without workers the next pass gives the next
    epoch. With workers, only :class:`negserve.data.TripleLoader` sees in the training process how
    far it is; with a plain DataLoader call :meth:`set_epoch`, or :meth:`load_state_dict`, before
    each pass: a pass that would repeat one is refused.

    A stream notices loaders that shard it again, read ahead of the training or keep states, of
    accelerate, torchdata, Lightning and Ray: ``docs/training.md`` says how each is used. What would
    lose or repeat triples is refused.

    A checkpoint keeps ``batch.state`` of the last batch trained on. Any batch size, world size
    and number of workers go on from it. Picklable.

    :ivar place: epoch and start of the next pass, also where a reader is ahead; loaders set it
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
    :raises InvalidRequestError: if ranks are given by halves, torch.distributed has several but is
        not initialised yet, or a target is none
    :raises LeakageWarning: where Python is told to raise it, for a filter over validation or
        testing triples
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
        # A share that was given by the caller is not for accelerate to give.
        self._has_own_rank = rank is None and world_size is None
        rank, world_size = _ranks(rank, world_size)
        self._source = source
        self._dataset = dataset
        self.sampler = sampler or SamplerConfig()
        warn_of_leakage(self.sampler.filter_splits)
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
        self._is_loaded = False  # and no pass has begun since
        self._is_noted = False  # by a loader, which sees what workers give
        self._is_read_ahead = False
        self._board = PassBoard()
        self._board.publish(0, 0)
        # In workers only.
        self._progress: WorkerProgress | None = None
        self._handed_to: Reader | None = None
        self._opened: tuple[int, RemoteTriplesFactory, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker can't see who reads it: this is called for whoever starts it.
        return {**self.__dict__, "_opened": None, "_handed_to": find_reader()}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if (find_reader() or Reader()).copies:
            # It would read a fresh copy in each pass, the same epoch; it takes the stream instead.
            raise TypeError("a stream in a data pipe is not copied, as copies repeat each other")
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(deepcopy(self.__getstate__(), memo))
        return copied

    def __iter__(self) -> Iterator[Item]:
        """Iterate over what is left of the epoch, or over a worker's part of it.

        :raises InvalidRequestError: in a worker, for a pass from where one has begun before; for
            a loader of another library that would lose or repeat batches
        :raises NegserveError: as :meth:`negserve.EpochStream.__iter__`
        """
        info = get_worker_info()
        if info is not None:
            try:
                return self._begin_in_worker(info.id, info.num_workers)
            except InvalidRequestError as error:
                # Said when a batch is asked for: some loaders end workers that can't begin.
                return _refused(error)
        reader = find_reader() or Reader()
        self._check(reader)
        if reader.num_ranks > 1:
            self._share(reader, self.place[1])  # all ranks are told what is wrong
        if reader.is_first:
            return self._pass_here()
        self._is_loaded, self._is_read_ahead = False, True
        return _refused(InvalidRequestError(_NOT_THIS_RANK))

    def _check(self, reader: Reader) -> None:
        now = distributed_rank() if self._has_own_rank else None
        if now is not None and now[:2] != (self.config.rank, self.config.world_size):
            raise InvalidRequestError(
                f"this is rank {now.rank} of {now.world_size}, but was rank={self.config.rank}, "
                f"world_size={self.config.world_size} when the stream was made; make it after "
                f"init_process_group, or give rank and world_size"
            )
        check_reader(reader, self.config, self.form, has_own_rank=self._has_own_rank)

    def _share(self, reader: Reader, start: int) -> tuple[EpochConfig, int]:
        return share_of(reader, self.config, self._open()[1], start)

    def _pass_here(self) -> Iterator[Item]:
        # Only now: a loader may be asked for its state, and be given another, before it reads.
        reader = find_reader() or Reader()
        self._check(reader)
        self.check_begin(reader)
        epoch, start = place = self.place
        config, end = self._share(reader, start)
        self._is_read_ahead, self._is_loaded = reader.reads_ahead, False
        is_followed = self._board.is_by_loader  # who keeps the place itself, behind what it gives
        for item, after in self._read(epoch, start, config, end):
            if not is_followed:
                self.check_place(place)
                self._is_noted = False
                self._board.publish(*after)
                # Before the batch is given: who keeps the state has seen the batch. An interrupt
                # comes before both or after both, as nothing is called in between.
                place = self.place = after
            yield item
        if not is_followed and self.place == place and place[0] == epoch:
            self._go_to(epoch + 1, 0)  # there was nothing left
        self._is_read_ahead = False

    def _begin_in_worker(self, worker: int, num_workers: int) -> Iterator[Item]:
        """Begin a worker's pass: by its loader's state, or as all others do."""
        reader = find_reader() or self._handed_to or Reader()
        self._check(reader)
        if num_workers > MAX_NUM_WORKERS:
            raise InvalidRequestError(
                f"num_workers={num_workers}; at most {MAX_NUM_WORKERS} are possible"
            )
        loaded, self._progress = self._progress, None
        if loaded is None or loaded.has_begun:
            self.check_begin(reader)
            place = self._board.begin(worker)
            loaded = self._worker_progress(
                {"epoch": place.epoch, "start": place.start}, worker, num_workers
            )
        else:
            _, end = self._share(reader, loaded.start)
            self._board.resume(worker, loaded.epoch, loaded.is_over(end))
        loaded.has_begun = True
        self._progress = loaded
        if not reader.is_first:
            return _refused(InvalidRequestError(_NOT_THIS_RANK))
        return self._pass_in_worker(loaded, reader)

    def _worker_progress(
        self, state: Mapping[str, Any], worker: int, num_workers: int
    ) -> WorkerProgress:
        stride = self.config.batch_size * self.config.world_size
        return WorkerProgress.load(state, worker, num_workers, stride)

    def _pass_in_worker(self, progress: WorkerProgress, reader: Reader) -> Iterator[Item]:
        told = self._board.place
        config, end = self._share(reader, progress.start)
        config = replace(config, worker=progress.worker, num_workers=progress.num_workers)
        for item, _ in self._read(progress.epoch, progress.start, config, end):
            now = self._board.place
            if now.version != told.version and now[:2] != told[:2]:
                raise InvalidRequestError(
                    f"set_epoch or load_state_dict took the stream to epoch={now.epoch}, "
                    f"start={now.start} when workers had begun; call it before the pass, and "
                    f"before a loader that reads ahead is made"
                )
            progress.advance()
            yield item

    def _read(
        self, epoch: int, start: int, config: EpochConfig, end: int
    ) -> Iterator[tuple[Item, tuple[int, int]]]:
        """Iterate over batches, with each where it leads to."""
        if start >= end:
            return
        factory = self._open()[0]
        largest_id = max(factory.num_entities, factory.num_relations) - 1
        with leakage_told():
            stream: EpochStream = factory.epochs(self.sampler, config, prefetch=self.prefetch)
        stream.load_state_dict({"epoch": epoch, "start": start})
        for batch in stream:
            if config.tail == "drop" and batch.next_start > end:
                return  # of ranks that share what is read here, not all would get one
            after = (epoch + 1, 0) if batch.next_start >= end else (epoch, batch.next_start)
            compact = compact_batch(batch, largest_id, {"epoch": after[0], "start": after[1]})
            if self.form == "compact":
                yield compact, after
            elif self.form == "batch":
                yield compact.expand(), after
            else:
                yield compact.expand().as_tuple(), after

    def __len__(self) -> int:
        """Tell how many batches a whole epoch has, of one rank; asks the server once."""
        return num_batches(find_reader() or Reader(), self.config, self._open()[1])

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
        """Let the next pass be of an epoch. Not to be called during a pass.

        It begins where a state of this epoch was loaded before, else at the epoch's beginning.

        :raises InvalidRequestError: if a state of another epoch was loaded, and not gone on from;
            for a loader of another library that would lose or repeat batches
        """
        self._check(find_reader() or Reader())
        if self._is_loaded and not self._board.is_read and self.place != (epoch, 0):
            if self.place[0] != epoch:
                raise InvalidRequestError(
                    f"set_epoch({epoch}), but the state that was loaded is of epoch="
                    f"{self.place[0]}, start={self.place[1]}; call set_epoch("
                    f"{self.place[0]}) of the loader to go on from it, or load_state_dict("
                    f"{{'epoch': {epoch}, 'start': 0}}) to drop it"
                )
            return
        self._go_to(*epoch_and_start({"epoch": epoch, "start": 0}))
        self._is_read_ahead = False

    def state_dict(self) -> dict[str, int]:
        """Give ``epoch`` and ``start`` of the next pass.

        Without workers, or with :class:`TripleLoader`, that is behind the last batch that was
        taken. In a worker it is the state of the worker's part, which a loader with states
        (torchdata's) keeps.

        :raises InvalidRequestError: where the training process can't know it: for a DataLoader
            with workers, or within a pass of a loader that reads ahead. ``state`` of the last
            batch tells it there.
        """
        info = get_worker_info()
        if info is not None:
            return self._state_in_worker(info.id, info.num_workers)
        if self._is_read_ahead:
            reader = find_reader() or Reader()
            # accelerate asks before it reads ahead, and keeps the answer.
            if not (reader.is_stateful and reader.epoch is not None):
                raise InvalidRequestError(
                    "the loader that reads this stream (accelerate's, Ray's, Lightning's) is ahead "
                    "of the batch that is trained on; keep that batch's state, use "
                    "negserve.data.TripleLoader, or ask when the epoch is over"
                )
        elif self._board.is_read and not self._is_noted:
            raise InvalidRequestError(
                "workers read this stream, and the training process does not see how far; keep "
                "the state of the last batch trained on, or use negserve.data.TripleLoader"
            )
        return {"epoch": self.place[0], "start": self.place[1]}

    def _state_in_worker(self, worker: int, num_workers: int) -> dict[str, int]:
        progress = self._progress
        if progress is None:
            place = self._board.place
            progress = self._worker_progress(
                {"epoch": place.epoch, "start": place.start}, worker, num_workers
            )
        return progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on from a state. Not to be called during a pass.

        :param state: of a batch, of :meth:`state_dict`, or of a :class:`negserve.EpochStream`
        :raises InvalidRequestError: if the state is none, or of a worker and this is none, or one
            of another loader's; if the loader counts another epoch
        """
        info = get_worker_info()
        if info is not None:
            self._progress = self._worker_progress(state, info.id, info.num_workers)
            return
        epoch, start = epoch_and_start(state)
        if "num_workers" in state:
            raise InvalidRequestError(
                f"{state!r} is the state of a loader's worker; load it with that loader, or give "
                f"a batch's state"
            )
        reader = find_reader() or Reader()
        if reader.is_stateful and reader.epoch not in {None, epoch}:
            raise InvalidRequestError(
                f"the loader's state is of epoch={epoch}, but it counts epoch={reader.epoch}; call "
                f"set_epoch({epoch}) of the loader before this pass"
            )
        self._go_to(epoch, start)
        self._is_loaded, self._is_read_ahead = True, False

    def _go_to(self, epoch: int, start: int) -> None:
        self.place = (epoch, start)
        self._is_loaded = self._is_noted = False
        self._board.publish(epoch, start)

    def check_place(self, place: tuple[int, int]) -> None:
        """Refuse to go on with a pass that was at a place, if the stream is elsewhere now.

        :raises InvalidRequestError: then
        """
        if self.place != place:
            raise InvalidRequestError(
                f"this pass was at epoch={place[0]}, start={place[1]}, but another one, or "
                f"set_epoch or load_state_dict, took the stream to epoch={self.place[0]}, "
                f"start={self.place[1]}; iterate over it once at a time, or make two streams"
            )

    def check_begin(self, reader: Reader) -> None:
        """Refuse to begin at the very beginning what a reader goes on with; for loaders.

        :raises InvalidRequestError: then
        """
        if reader.goes_on and self._board.place.version == 1:
            raise InvalidRequestError(
                "Lightning goes on with a training, or makes its loaders anew, and this stream is "
                "at its beginning; return negserve.data.TripleLoader from train_dataloader, whose "
                "state Lightning keeps, or call set_epoch or load_state_dict of the stream"
            )

    def begin_pass(self, *, reads_ahead: bool) -> None:
        """Tell workers that the next pass begins where the last one was left; for loaders."""
        self._board.set_by_loader(True)
        self._board.publish(*self.place)
        self._is_loaded, self._is_noted, self._is_read_ahead = False, True, reads_ahead

    def end_pass(self, *, is_over: bool) -> None:
        """Tell workers that no loader takes care of passes any more; for loaders."""
        self._board.set_by_loader(False)
        self._is_read_ahead = self._is_read_ahead and not is_over


def _refused(error: InvalidRequestError) -> Iterator[Item]:
    raise error
    yield


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
