"""Epochs as a dataset for PyTorch's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Self

from torch.utils.data import IterableDataset, get_worker_info

from negserve._calls.process_rank import distributed_rank
from negserve._local.triples_factory import LocalTriplesFactory
from negserve._protocol.epoch_progress import epoch_and_start
from negserve._sync.client import Client
from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve.data.epoch_source import EpochSource, Form, Item
from negserve.data.pass_board import PassBoard
from negserve.data.reader import Reader, find_reader
from negserve.data.share import check_reader, num_batches, share_of
from negserve.data.worker_progress import WorkerProgress
from negserve.errors import InvalidRequestError
from negserve.sampling.positions import MAX_NUM_WORKERS
from negserve.sampling.ranks import find_rank
from negserve.types.checks.leakage import warn_of_leakage
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig, Tail

_NOT_THIS_RANK = "accelerate's dispatcher reads on rank 0 only; this is another rank"


class TripleStream(IterableDataset[Item]):
    """The training triples of a dataset with their negatives, one epoch a pass.

    ``DataLoader(stream, batch_size=None, num_workers=W)`` gives the same batches in the same order
    for any W, forked or spawned: worker i takes every W-th batch, from batch i on. Each process
    opens a connection of its own when it first iterates.

    A pass gives the rest of the current epoch. Without workers, the next pass gives the next
    epoch. With workers, the training process sees their progress only through
    :class:`negserve.data.TripleLoader`; with a plain DataLoader call :meth:`set_epoch` or
    :meth:`load_state_dict` before each pass, as a pass that would repeat an earlier one is refused.

    A stream detects loaders of accelerate, torchdata, Lightning and Ray that shard it again, read
    ahead of the training or keep states; ``docs/training.md`` says how to use each. A use that
    would lose or repeat triples is refused.

    Checkpoints keep ``batch.state`` of the last batch trained on. Training may resume with another
    batch size, world size or number of workers. Picklable.

    :ivar place: epoch and start of the next pass, even while a reader is ahead; set by loaders
    :param source: address of the server or addresses of its replicas, a client, or a client's
        dataset
    :param dataset: the dataset's name; not needed if ``source`` is a dataset
    :param sampler: configuration of the negatives; its seed also draws the order
    :param batch_size: b, positives of one batch of one rank
    :param rank: this rank; None for torch.distributed's, or 0 without torch.distributed
    :param world_size: number of ranks that share the epoch; None for torch.distributed's, or 1
    :param tail: how to treat an epoch's last positions, see :class:`negserve.EpochConfig`
    :param shuffle: whether seed and epoch draw the order
    :param relations: only triples of these relations; None for all
    :param weights: whether each positive comes with its subsampling weight
    :param form: ``batch`` gives :class:`TripleBatch`; ``columns`` gives the same with negatives
        that lie in memory by column, for models that look up heads, relations and tails apart;
        ``compact`` gives :class:`CompactTripleBatch`, to be moved to a device and expanded there;
        ``tuple`` gives the tensors (positives, negatives), then those requested of mask, weights
        and log_q
    :param prefetch: batches read ahead in each worker, at least 1; those of a message are read
        together
    :raises InvalidRequestError: if only one of rank and world_size is given, if torch.distributed
        has several ranks but is not initialised yet, or if an address is malformed
    :raises LeakageWarning: for a filter over validation or testing triples, where Python turns
        warnings into errors
    """

    def __init__(
        self,
        source: str | Sequence[str] | Client | RemoteTriplesFactory | LocalTriplesFactory,
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
        # accelerate must not divide a share that the caller chose.
        self._has_own_rank = rank is None and world_size is None
        rank, world_size = _ranks(rank, world_size)
        self.config = EpochConfig(
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            tail=tail,
            shuffle=shuffle,
            relations=None if relations is None else tuple(relations),
            weights=weights,
        )
        self._source = EpochSource(
            source,
            dataset,
            relations=self.config.relations,
            form=form,
            prefetch=prefetch,
        )
        self.sampler = sampler or SamplerConfig()
        warn_of_leakage(self.sampler.filter_splits)
        self.place = (0, 0)
        self._is_loaded = False  # and no pass has begun since
        self._is_noted = False  # by a loader, which sees the workers' batches
        self._is_read_ahead = False
        self._board = PassBoard()
        self._board.publish(0, 0)
        # Used in workers only.
        self._progress: WorkerProgress | None = None
        self._handed_to: Reader | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker can't see its reader on the stack: pickling happens where it can be seen.
        return {**self.__dict__, "_handed_to": find_reader()}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if (find_reader() or Reader()).copies:
            # A pipe would read a fresh copy, and so the same epoch, in each pass; on this error it
            # uses the stream itself.
            raise TypeError("a stream in a data pipe is not copied, as copies repeat each other")
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(deepcopy(self.__getstate__(), memo))
        return copied

    def __iter__(self) -> Iterator[Item]:
        """Iterate over the rest of the epoch, or over a worker's part of it.

        :raises InvalidRequestError: in a worker, for a pass that would repeat an earlier one; for
            a loader of another library that would lose or repeat batches
        :raises NegserveError: as :meth:`negserve.EpochStream.__iter__`
        """
        info = get_worker_info()
        if info is not None:
            try:
                return self._begin_in_worker(info.id, info.num_workers)
            except InvalidRequestError as error:
                # Raised at the first batch, not now: some loaders end workers that can't begin.
                return _refused(error)
        reader = find_reader() or Reader()
        self._check(reader)
        if reader.num_ranks > 1:
            self._share(reader, self.place[1])  # so that all ranks report the error
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
        return share_of(reader, self.config, self._source.num_positives, start)

    def _pass_here(self) -> Iterator[Item]:
        # Read late: a loader may ask for its state, and load another one, before it reads.
        reader = find_reader() or Reader()
        self._check(reader)
        self.check_begin(reader)
        epoch, start = place = self.place
        config, end = self._share(reader, start)
        self._is_read_ahead, self._is_loaded = reader.reads_ahead, False
        is_followed = self._board.is_by_loader  # that loader sets the place itself
        for item, after in self._source.read(self.sampler, config, epoch, start, end):
            if not is_followed:
                self.check_place(place)
                self._is_noted = False
                self._board.publish(*after)
                # Before the yield: whoever saves the state has seen the batch. An interrupt comes
                # before both statements or after both, as nothing is called in between.
                place = self.place = after
            yield item
        if not is_followed and self.place == place and place[0] == epoch:
            self._go_to(epoch + 1, 0)  # nothing was left
        self._is_read_ahead = False

    def _begin_in_worker(self, worker: int, num_workers: int) -> Iterator[Item]:
        """Begin a worker's pass: from the state that its loader gave, or from the shared place."""
        reader = find_reader() or self._handed_to or Reader()
        self._check(reader)
        if num_workers > MAX_NUM_WORKERS:
            raise InvalidRequestError(f"num_workers={num_workers}; give at most {MAX_NUM_WORKERS}")
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
        place = progress.epoch, progress.start
        for item, _ in self._source.read(self.sampler, config, *place, end):
            now = self._board.place
            if now.version != told.version and now[:2] != told[:2]:
                raise InvalidRequestError(
                    f"set_epoch or load_state_dict moved the stream to epoch={now.epoch}, "
                    f"start={now.start} after workers had begun; call it before the pass, and "
                    f"before a loader that reads ahead is made"
                )
            progress.advance()
            yield item

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch of one rank; asks the server once."""
        return num_batches(find_reader() or Reader(), self.config, self._source.num_positives)

    @property
    def form(self) -> Form:
        """What the items are: ``batch``, ``columns``, ``compact`` or ``tuple``."""
        return self._source.form

    @property
    def epoch(self) -> int:
        """The epoch of the next pass."""
        return self.place[0]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass. Do not call it during a pass.

        The pass begins where a loaded state of this epoch says, else at the epoch's beginning.

        :raises InvalidRequestError: if a state of another epoch was loaded and not used yet; for a
            loader of another library that would lose or repeat batches
        """
        self._check(find_reader() or Reader())
        if self._is_loaded and not self._board.is_read and self.place != (epoch, 0):
            if self.place[0] != epoch:
                raise InvalidRequestError(
                    f"set_epoch({epoch}), but the loaded state is of epoch={self.place[0]}, "
                    f"start={self.place[1]}; call set_epoch({self.place[0]}) of the loader to "
                    f"resume it, or load_state_dict({{'epoch': {epoch}, 'start': 0}}) to drop it"
                )
            return
        self._go_to(*epoch_and_start({"epoch": epoch, "start": 0}))
        self._is_read_ahead = False

    def state_dict(self) -> dict[str, int]:
        """Return ``epoch`` and ``start`` of the next pass.

        Without workers, or with :class:`TripleLoader`, this is the place after the last batch that
        was taken. In a worker it is the state of the worker's part, which a loader with states
        (torchdata's) keeps.

        :raises InvalidRequestError: where the training process can't know the place: for a
            DataLoader with workers, or within a pass of a loader that reads ahead. Use ``state`` of
            the last batch there.
        """
        info = get_worker_info()
        if info is not None:
            return self._state_in_worker(info.id, info.num_workers)
        if self._is_read_ahead:
            reader = find_reader() or Reader()
            # accelerate asks before it reads ahead, and keeps that answer.
            if not (reader.is_stateful and reader.epoch is not None):
                raise InvalidRequestError(
                    "the loader of this stream (accelerate's, Ray's or Lightning's) has read past "
                    "the batch that is trained on; keep that batch's state, use "
                    "negserve.data.TripleLoader, or ask after the epoch"
                )
        elif self._board.is_read and not self._is_noted:
            raise InvalidRequestError(
                "workers read this stream, and the training process can't see their progress; keep "
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
        """Resume the next pass from a state. Do not call it during a pass.

        :param state: of a batch, of :meth:`state_dict`, or of a :class:`negserve.EpochStream`
        :raises InvalidRequestError: if it is not such a state; in the training process for a
            worker's state; in a worker for one of another loader; if the loader counts another
            epoch
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
        """Refuse to continue a pass if the stream has left the pass's place.

        :raises InvalidRequestError: in that case
        """
        if self.place != place:
            raise InvalidRequestError(
                f"this pass was at epoch={place[0]}, start={place[1]}, but another pass, "
                f"set_epoch or load_state_dict moved the stream to epoch={self.place[0]}, "
                f"start={self.place[1]}; iterate over it once at a time, or make two streams"
            )

    def check_begin(self, reader: Reader) -> None:
        """For loaders: refuse to start from the beginning where the reader resumes a training.

        :raises InvalidRequestError: in that case
        """
        if reader.resumes and self._board.place.version == 1:
            raise InvalidRequestError(
                "Lightning resumes a training, or recreates its loaders, but this stream is at its "
                "beginning; return negserve.data.TripleLoader from train_dataloader, whose state "
                "Lightning keeps, or call set_epoch or load_state_dict of the stream"
            )

    def begin_pass(self, *, reads_ahead: bool) -> None:
        """For loaders: publish the place of the next pass to the workers."""
        self._board.set_by_loader(True)
        self._board.publish(*self.place)
        self._is_loaded, self._is_noted, self._is_read_ahead = False, True, reads_ahead

    def end_pass(self, *, is_over: bool) -> None:
        """For loaders: tell workers that passes are no longer managed by a loader."""
        self._board.set_by_loader(False)
        self._is_read_ahead = self._is_read_ahead and not is_over


def _refused(error: InvalidRequestError) -> Iterator[Item]:
    raise error
    yield


def _ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Find the ranks that share an epoch.

    :raises InvalidRequestError: if only a launcher's variables for any kind of program (MPI,
        SLURM) name a rank: whether its processes train together is unknown
    """
    found = find_rank(rank, world_size)
    if found.source not in {"", "arguments", "torch.distributed", "RANK"}:
        raise InvalidRequestError(
            f"{found.source} says rank {found.rank} of {found.world_size}, but torch.distributed "
            f"is not initialised: call init_process_group first, or give rank and world_size; 0 "
            f"and 1 for a process that trains on its own"
        )
    return found.rank, found.world_size
