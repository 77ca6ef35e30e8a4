"""A DataLoader that knows how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from negserve._sync.interrupts import held
from negserve.data.reader import Reader, find_reader
from negserve.data.triple_batch import TripleBatch
from negserve.data.triple_stream import TripleStream
from negserve.errors import InvalidRequestError


class TripleLoader:
    """Iterates over a stream's epochs with workers, and brings the batches to a device.

    Each pass gives what is left of an epoch, and the next pass the next one, with or without
    workers, persistent or not. The state is always behind the last batch that was taken, whatever
    the workers have read ahead, so :meth:`state_dict` can be kept with a checkpoint at any time.

    With a stream of form ``compact``, batches travel between processes and to the device in
    compact form, and are expanded on the device.

    :param stream: of form ``batch`` or ``compact``
    :param device: where the batches are to be; None leaves them on the CPU
    :param options: of :class:`torch.utils.data.DataLoader`, as ``num_workers``, ``pin_memory``,
        ``persistent_workers``, ``multiprocessing_context``
    :raises InvalidRequestError: for a stream of tuples, whose progress can't be seen; for
        ``in_order=False`` with several workers, as no state would say which batches were taken
    """

    def __init__(
        self, stream: TripleStream, *, device: torch.device | str | None = None, **options: Any
    ) -> None:
        if stream.form == "tuple":
            raise InvalidRequestError("form='tuple'; give a stream of form batch or compact")
        if not options.get("in_order", True) and options.get("num_workers", 0) > 1:
            raise InvalidRequestError("in_order=False; give True, or at most one worker")
        self.stream = stream
        self.device = None if device is None else torch.device(device)
        self._loader: DataLoader[Any] = DataLoader(stream, batch_size=None, **options)

    def __iter__(self) -> Iterator[TripleBatch]:
        """Iterate over what is left of the epoch.

        :raises NegserveError: as :meth:`negserve.EpochStream.__iter__`
        """
        stream, reader = self.stream, find_reader() or Reader()
        stream.check_begin(reader)
        epoch, _ = place = stream.place
        is_over = False
        stream.begin_pass(reads_ahead=reader.reads_ahead)
        try:
            with held():  # Python forgets an interrupt while it forks
                batches = iter(self._loader)
            for batch in batches:
                stream.check_place(place)
                after = batch.state["epoch"], batch.state["start"]
                if self.device is not None:
                    batch = batch.to(self.device, non_blocking=True)  # noqa: PLW2901
                whole = batch.expand()
                # Before the batch is given: who keeps the state has seen the batch. An interrupt
                # comes before both or after both, as nothing is called in between.
                place = stream.place = after
                yield whole
            is_over = True
            if stream.epoch == epoch:
                stream.place = epoch + 1, 0  # there was nothing left
        finally:
            stream.end_pass(is_over=is_over)

    def __len__(self) -> int:
        """Tell how many batches a whole epoch has; a pass that goes on within one has fewer."""
        return len(self.stream)

    def state_dict(self) -> dict[str, int]:
        """Give ``epoch`` and ``start``: where the next pass begins."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on from a state. Not to be called during a pass.

        :param state: of :meth:`state_dict`, or of a batch
        :raises InvalidRequestError: if the state is none
        """
        self.stream.load_state_dict(state)
