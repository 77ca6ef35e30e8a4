"""What an administrator sees of one process, and does to all its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from negserve.types.checks.text import quoted
from negserve_server.administration.server_status import ServerStatus
from negserve_server.administration.status_reader import StatusReader
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.errors import InvalidInput


class Controlled(Protocol):
    """A server whose status is read, and that is drained: one process, or all workers together."""

    async def status(self) -> ServerStatus:
        """Read the status."""
        ...

    async def drain(self) -> int:
        """Take it out of service; gives the number of streams that end for it."""
        ...

    async def resume(self) -> bool:
        """Take it back into service; tells whether it was out of it."""
        ...


class ServerControl:
    """Reads the status of one process, and drains it.

    :param reader: reads the status
    :param admission: has the calls
    :param announce: called when the process goes out of service, or comes back
    """

    def __init__(
        self, reader: StatusReader, admission: AdmissionControl, announce: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._admission = admission
        self._announce = announce

    async def status(self) -> ServerStatus:
        """Read the status."""
        return await self._reader.read()

    async def drain(self) -> int:
        """Take the process out of service; gives the number of streams that end for it."""
        return self.set_drained(True)

    async def resume(self) -> bool:
        """Take the process back into service; tells whether it was out of it."""
        was_drained = self._admission.is_drained
        self.set_drained(False)
        return was_drained

    def set_drained(self, is_drained: bool) -> int:
        """Take the process out of service, or back; gives the number of streams that end for it."""
        num_streams = self._admission.set_drained(is_drained)
        self._announce()
        return num_streams


class UnloadedStreams:
    """The open calls that use a dataset that is not served any more.

    :param admission: has the calls
    """

    def __init__(self, admission: AdmissionControl) -> None:
        self._admission = admission

    def __call__(self, dataset: str, end: bool) -> int:
        """Count them, and end them after their current answer if that is asked for."""
        streams = self._admission.streams_of(dataset)
        for stream in streams if end else ():
            stream.end(
                InvalidInput(
                    f"dataset {quoted(dataset)} was unloaded by an administrator, who has ended "
                    f"its streams; use another dataset, or ask the operator",
                    reason="UNKNOWN_DATASET",
                    value=dataset,
                )
            )
        return len(streams)
