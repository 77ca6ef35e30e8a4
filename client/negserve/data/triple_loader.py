"""A DataLoader that knows its progress."""

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
    """Iterates over a stream's epochs with workers, and moves batches to a device.

    Each pass gives the rest of the current epoch; the next pass starts the next epoch, with or
    without workers, persistent or not. The state always follows the last batch that the loop took,
    however far the workers have read ahead, so :meth:`state_dict` may be saved at any time.

    With a stream of form ``compact``, batches travel between processes and to the device in
    compact form, and are expanded on the device.

    :param stream: of form ``batch`` or ``compact``
    :param device: device of the batches; None leaves them on the CPU
    :param options: options of :class:`torch.utils.data.DataLoader`, such as ``num_workers``,
        ``pin_memory``, ``persistent_workers``, ``multiprocessing_context``
    :raises InvalidRequestError: for a stream of tuples, which carry no state; for
        ``in_order=False`` with several workers, as no state could tell which batches were taken
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
        """Iterate over the rest of the epoch.

        :raises NegserveError: as :meth:`negserve.EpochStream.__iter__`
        """
        stream, reader = self.stream, find_reader() or Reader()
        stream.check_begin(reader)
        epoch, _ = place = stream.place
        is_over = False
        stream.begin_pass(reads_ahead=reader.reads_ahead)
        try:
            with held():  # Python loses an interrupt that arrives while it forks
                batches = iter(self._loader)
            for batch in batches:
                stream.check_place(place)
                after = batch.state["epoch"], batch.state["start"]
                if self.device is not None:
                    batch = batch.to(self.device, non_blocking=True)  # noqa: PLW2901
                whole = batch.expand()
                # Before the yield: whoever saves the state has seen the batch. An interrupt comes
                # before both statements or after both, as nothing is called in between.
                place = stream.place = after
                yield whole
            is_over = True
            if stream.epoch == epoch:
                stream.place = epoch + 1, 0  # nothing was left
        finally:
            stream.end_pass(is_over=is_over)

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch; a resumed pass has fewer."""
        return len(self.stream)

    def state_dict(self) -> dict[str, int]:
        """Return ``epoch`` and ``start`` of the next pass."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume the next pass from a state. Do not call it during a pass.

        :param state: a result of :meth:`state_dict`, or the ``state`` of a batch
        :raises InvalidRequestError: if it is not such a state
        """
        self.stream.load_state_dict(state)
