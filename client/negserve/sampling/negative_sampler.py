"""The base class of negative samplers, with PyKEEN's API."""

from __future__ import annotations

from abc import ABC
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from inspect import iscoroutinefunction
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from negserve.errors import InvalidRequestError
from negserve.sampling.expansion import expand, expand_into
from negserve.sampling.options import checked_filter_splits
from negserve.sampling.positions import Positions
from negserve.types.checks.leakage import leakage_told, warn_of_leakage
from negserve.types.config import FilterMode, Slot, Split
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.kinds import Kind
from negserve.types.triples_factory import TriplesFactory

_SUFFIX = "NegativeSampler"
#: Negatives of a call above which a server answers in several messages, by default.
_LARGE = 2**19


def _check_factory(triples_factory: object) -> None:
    """Refuse an object that can't draw negatives, such as another library's graph, by its type.

    :raises InvalidRequestError: saying how to bring that graph to a server
    """
    opens = getattr(triples_factory, "open_sampler", None)
    if opens is None or iscoroutinefunction(opens):
        kind = type(triples_factory)
        raise InvalidRequestError(
            f"triples_factory is a {kind.__module__}.{kind.__qualname__}; give a graph of "
            f"negserve: negserve.Client(target).triples_factory(name) for one on a server, or "
            f".publish(name, graph) for one that you have"
        )


class NegativeSampler(ABC):
    """Draws negatives of positives: one slot replaced, never by the original value.

    Thread-safe; picklable.

    Without explicit positions, a sampler counts: from 0 in the training process of rank 0, and
    from other, separate positions in each further rank, worker of a DataLoader, epoch of a worker,
    and copy in another process. So no two of them draw at the same position, and every run draws
    the same. Copies within a process share one counter. See ``docs/training.md``, *Positions*.

    :param triples_factory: the graph, remote or in process
    :param num_negs_per_pos: negatives per positive, k; None for 1
    :param filtered: whether to filter known triples, exactly; there are ``num_negs_per_pos``
        negatives in any case
    :param filter_splits: with ``filtered``, the splits whose triples count as known; None for
        ``training``. For training use no other split: see :class:`negserve.LeakageWarning`
    :param filter_mode: with ``filtered``, how to treat known triples: ``exact`` (they are never
        drawn) or ``mask`` (they are drawn, and the mask is False for each of them, as in PyKEEN,
        but exactly)
    :param seed: key of the generator; samplers of one seed draw equal negatives
    :param corruption_scheme: the slots that may be replaced
    :param candidates: the only entity ids that may be drawn, any order, shape (m,); None for all
    :param distinct: whether the values of a positive and slot are pairwise different. Where fewer
        than k legal values exist, other values fill the rest, and the mask is False for these
    :param chunk_size: if above 1, how many consecutive positions share one set of k values, so
        that a model scores few entities. The mask is False where such a value is no negative of a
        positive: its own value, and with ``filtered`` a known triple
    :param log_q: whether :attr:`negserve.CorruptedBatch.log_q` of :meth:`sample_compact` holds
        the log probability of each negative, for the correction of sampled losses
    :param rank: this rank of the training; None for torch.distributed's if initialised, else that
        of the launcher's environment variables (``RANK``, MPI's, SLURM's), else 0
    :param world_size: number of ranks; give it if and only if ``rank`` is given
    :raises ValueError: for an illegal option or a meaningless combination; ``docs/sampling.md``
        lists them
    :raises LeakageWarning: for a filter over validation or testing triples, where Python turns
        warnings into errors; for evaluation ignore it
    """

    #: The default strategy for optimizing the sampler's hyper-parameters.
    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "num_negs_per_pos": {"type": int, "low": 1, "high": 100, "log": True},
    }

    #: The sampler's kind in :class:`negserve.SamplerConfig`.
    kind: ClassVar[Kind]

    def __init__(
        self,
        triples_factory: TriplesFactory,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        *,
        filter_splits: Sequence[Split] | None = None,
        filter_mode: FilterMode = "exact",
        seed: int = 0,
        corruption_scheme: Sequence[Slot] = ("head", "tail"),
        candidates: Sequence[int] | torch.Tensor | None = None,
        distinct: bool = False,
        chunk_size: int = 1,
        log_q: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        _check_factory(triples_factory)
        # Checked before the server is asked.
        self._positions = Positions(chunk_size, rank, world_size)
        self.triples_factory = triples_factory
        self.num_negs_per_pos = 1 if num_negs_per_pos is None else num_negs_per_pos
        self.filtered = filtered
        self.filter_splits = checked_filter_splits(filter_splits, filtered)
        self.filter_mode: FilterMode = filter_mode
        self.seed = seed
        self.corruption_scheme = tuple(corruption_scheme)
        if isinstance(candidates, torch.Tensor):
            candidates = candidates.tolist()
        self.candidates = None if candidates is None else tuple(candidates)
        self.distinct = distinct
        self.chunk_size = chunk_size
        self.log_q = log_q
        known = self.filter_splits if filtered else ()
        warn_of_leakage(known)
        with leakage_told():
            self._sampler = triples_factory.open_sampler(
                kind=self.kind,
                **self._kind_options(),
                num_negs_per_pos=self.num_negs_per_pos,
                corruption_scheme=self.corruption_scheme,
                candidates=self.candidates,
                filter_splits=known,
                filter_mode=filter_mode,
                distinct=distinct,
                chunk_size=chunk_size,
                log_q=log_q,
                seed=seed,
            )

    def _kind_options(self) -> Mapping[str, Any]:
        """Return the kind's own fields of ``SamplerConfig``."""
        return {}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.triples_factory!r}, {self.num_negs_per_pos}, "
            f"filtered={self.filtered}, seed={self.seed})"
        )

    @classmethod
    def get_normalized_name(cls) -> str:
        """Get the normalized name of the sampler, such as ``basic``."""
        return cls.__name__.removesuffix(_SUFFIX).lower()

    @property
    def num_entities(self) -> int:
        """The number of entities to sample from."""
        return self.triples_factory.num_entities

    @property
    def num_relations(self) -> int:
        """The number of relations to sample from."""
        return self.triples_factory.num_relations

    @property
    def position(self) -> int:
        """Position at which the next call without an explicit one begins; may be set."""
        return self._positions.position

    @position.setter
    def position(self, position: int) -> None:
        self._positions.position = position

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler's positions, to be saved with the model's checkpoint.

        Integers and a list of integers. Equal on all ranks that have drawn equally often, so one
        rank may save it for all.

        :raises ValueError: in a worker of a DataLoader
        """
        return self._positions.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state of :meth:`state_dict`, in this process and in workers started later.

        Draws made after that state are repeated, with equal results. Workers start after all passes
        that workers had begun.

        :raises ValueError: if it is not such a state, or in a worker of a DataLoader
        """
        self._positions.load_state_dict(state)

    def sample(
        self, positive_batch: torch.Tensor, position: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        r"""Generate negative samples from the positive batch.

        :param positive_batch: integer ids, shape (\*batch, 3), any device; they need not be
            triples of the graph
        :param position: position of the first positive; None to continue after the last call
            without a position, so that two calls differ
        :return: the negatives, int64, shape (\*batch, k, 3), and a mask, bool, shape
            (\*batch, k): True where valid; both on the device of the batch. The mask is None
            unless the sampler filters, is distinct or shares values by chunks. It is False
            where a positive has too few legal values; with ``filter_mode="mask"`` where the
            negative is known; and with ``chunk_size`` where it is the positive itself.
        :raises ValueError: for another shape, or ids outside the graph
        """
        flat, first = self._take(positive_batch, position)
        shape = positive_batch.shape[:-1]
        if len(flat) * self.num_negs_per_pos > _LARGE:
            return self._assembled(self._sampler.parts(flat.cpu().numpy(), first), flat, shape)
        return self._whole(self._sampler.sample(flat.cpu().numpy(), first), flat, shape)

    def _assembled(
        self,
        parts: Generator[CorruptedBatch, None, None],
        flat: torch.Tensor,
        shape: torch.Size,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Rebuild the negatives of each part while the next ones are drawn, and travel."""
        size, device = (len(flat), self.num_negs_per_pos), flat.device
        if device.type == "cpu":
            # Of numpy, which asks the system for large pages.
            negatives = torch.from_numpy(np.empty((*size, 3), dtype=np.int64))
        else:
            negatives = torch.empty((*size, 3), dtype=torch.int64, device=device)
        mask: torch.Tensor | None = None
        begin = 0
        with closing(parts):
            for part in parts:
                of = slice(begin, begin + part.num_positives)
                expand_into(part, flat[of], negatives[of])
                if part.mask is not None:
                    if mask is None:
                        mask = torch.empty(size, dtype=torch.bool, device=device)
                    mask[of] = torch.from_numpy(part.mask.copy()).to(device)
                begin = of.stop
        size = (*shape, self.num_negs_per_pos)
        return negatives.reshape(*size, 3), None if mask is None else mask.reshape(size)

    def _whole(
        self, batch: CorruptedBatch, flat: torch.Tensor, shape: torch.Size
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        negatives = expand(batch, flat).reshape(*shape, self.num_negs_per_pos, 3)
        if batch.mask is None:
            return negatives, None
        mask = torch.from_numpy(batch.mask.copy()).to(flat.device)
        return negatives, mask.reshape(*shape, self.num_negs_per_pos)

    def stream(
        self,
        positive_batches: Iterable[torch.Tensor],
        position: int | None = None,
        *,
        ahead: int = 4,
    ) -> Generator[tuple[torch.Tensor, torch.Tensor | None], None, None]:
        r"""Generate negative samples from one positive batch after the other.

        As :meth:`sample` of each batch in turn, with equal results; but for a graph on a server
        the next batches are drawn, and travel, while one is used. The iterator has a stream of its
        own to the server; other methods may be called meanwhile. It is not thread-safe.

        :param positive_batches: each as of :meth:`sample`; of any sizes. Read by the thread that
            iterates. A batch may not change until its negatives are yielded
        :param position: position of the first positive of all batches; None to continue after the
            last call without a position. A batch takes its positions when it is read: those of
            batches that were read, and not yielded because the iterator was closed, stay unused
        :param ahead: most batches that are read and whose negatives are not yielded, 1 to 64
        :return: the result of :meth:`sample` for each batch, in order. An exception of
            ``positive_batches`` is raised after the negatives of what was read before
        :raises ValueError: for ``ahead`` outside its range; while iterating, as :meth:`sample`
        """
        read: deque[tuple[torch.Tensor, torch.Size]] = deque()
        batches = self._read(positive_batches, position, read)
        return self._yield_whole(self._sampler.stream(batches, ahead), read)

    def _read(
        self,
        positive_batches: Iterable[torch.Tensor],
        position: int | None,
        read: deque[tuple[torch.Tensor, torch.Size]],
    ) -> Iterator[tuple[NDArray[np.int64], int]]:
        for positive_batch in positive_batches:
            flat = self._flat(positive_batch)
            first = self._positions.take(len(flat)) if position is None else position
            if position is not None:
                position += len(flat)
            read.append((flat, positive_batch.shape[:-1]))
            yield flat.cpu().numpy(), first

    def _yield_whole(
        self,
        answers: Generator[CorruptedBatch, None, None],
        read: deque[tuple[torch.Tensor, torch.Size]],
    ) -> Generator[tuple[torch.Tensor, torch.Tensor | None], None, None]:
        with closing(answers):
            for batch in answers:
                yield self._whole(batch, *read.popleft())

    def sample_compact(
        self, positive_batch: torch.Tensor, position: int | None = None
    ) -> CorruptedBatch:
        r"""Generate the negatives of :meth:`sample` without whole triples.

        The batch holds the new values, and log probabilities if ``log_q`` is set;
        :func:`negserve.sampling.expand` rebuilds the triples.

        :param positive_batch: integer ids, shape (\*batch, 3), flattened to n rows
        :param position: as in :meth:`sample`
        :raises ValueError: as in :meth:`sample`
        """
        flat, first = self._take(positive_batch, position)
        return self._sampler.sample(flat.cpu().numpy(), first)

    def _take(self, positive_batch: torch.Tensor, position: int | None) -> tuple[torch.Tensor, int]:
        """Flatten a batch, and give its first position."""
        flat = self._flat(positive_batch)
        return flat, self._positions.take(len(flat)) if position is None else position

    def _flat(self, positive_batch: torch.Tensor) -> torch.Tensor:
        """Check a batch, and flatten it to int64, shape (n, 3)."""
        if positive_batch.ndim == 0 or positive_batch.shape[-1] != 3:
            raise InvalidRequestError(
                f"positive_batch has shape {tuple(positive_batch.shape)}; give (*batch, 3)",
                reason="SHAPE_MISMATCH",
            )
        if positive_batch.is_floating_point():
            raise InvalidRequestError(
                f"positive_batch has dtype {positive_batch.dtype}; give integer ids",
                reason="SHAPE_MISMATCH",
            )
        return positive_batch.reshape(-1, 3).to(torch.int64)

    def filter_negative_triples(
        self, negative_batch: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Remove known triples from proposed negatives, exactly.

        Only needed for negatives from elsewhere: with ``filtered=True``, :meth:`sample`
        returns no known triple, or masks it.

        :param negative_batch: integer ids, shape (\*batch, 3)
        :return: the triples that are not known, shape (m, 3), and a mask, bool, shape
            (\*batch): True where the triple is kept
        :raises ValueError: for another shape, or ids outside the graph
        """
        if negative_batch.ndim == 0 or negative_batch.shape[-1] != 3:
            raise InvalidRequestError(
                f"negative_batch has shape {tuple(negative_batch.shape)}; give (*batch, 3)",
                reason="SHAPE_MISMATCH",
            )
        rows = negative_batch.reshape(-1, 3).cpu().numpy()
        known = self.triples_factory.contains(rows, self.filter_splits)
        mask = torch.from_numpy(~known).to(negative_batch.device)
        mask = mask.reshape(negative_batch.shape[:-1])
        return negative_batch[mask], mask

    def close(self) -> None:
        """Release the server's resources."""
        self._sampler.close()
