"""The control of several workers: their supervisor has the state, and they do the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any

from negserve_server.administration.process_memory import resident_bytes
from negserve_server.administration.server_control import ServerControl
from negserve_server.administration.server_status import ServerStatus, merge_statuses
from negserve_server.administration.shared_datasets import FollowedDatasets, SharedDatasets
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.process.orders import Order


class SharedControl:
    """Decides what the workers of a supervisor do together.

    :param datasets: changes their datasets
    :param admission: that of the supervisor, which workers begin with; it admits nobody itself
    :param started_at: when the server was started, of the monotonic clock
    """

    def __init__(
        self, datasets: SharedDatasets, admission: AdmissionControl, started_at: float
    ) -> None:
        self._datasets = datasets
        self._admission = admission
        self._started_at = started_at
        self._num_restarts = 0

    def note_restart(self) -> None:
        """Note that a worker has ended and another takes its place."""
        self._num_restarts += 1

    def handle(self, request: Any) -> Order:
        """Do what a worker asks for; say what all are told about it."""
        what = request[0]
        if what == "status":
            return Order({"status": True}, self._status)
        if what == "drain":
            self._admission.is_drained = True
            return Order({"drained": True}, sum)
        if what == "resume":
            was_drained, self._admission.is_drained = self._admission.is_drained, False
            return Order({"drained": False}, lambda _: was_drained)
        return self._datasets.handle(request)

    def reload(self) -> Order | None:
        """Load the repository again, for SIGHUP."""
        return self._datasets.reload()

    def _status(self, answers: list[Any]) -> Any:
        own = ServerStatus(
            uptime_seconds=time.monotonic() - self._started_at,
            is_drained=self._admission.is_drained,
            num_workers=0,
            num_worker_restarts=self._num_restarts,
            resident_bytes=resident_bytes(is_shared=True),
            ahead_bytes=0,
            max_ahead_bytes=0,
            max_table_bytes=0,
            num_calls=0,
            num_queued=0,
            datasets=(),
            peers=(),
            rpcs={},
        )
        return asdict(merge_statuses([own, *map(ServerStatus.of, answers)]))


class FollowedControl:
    """The control of one worker, which asks its supervisor, and does what all do.

    :param control: of the worker alone
    :param datasets: those of the worker
    :param ask: asks the supervisor, and gives its answer once all workers have followed
    """

    def __init__(
        self,
        control: ServerControl,
        datasets: FollowedDatasets,
        ask: Callable[[Any], Coroutine[Any, Any, Any]],
    ) -> None:
        self._control = control
        self._datasets = datasets
        self._ask = ask

    async def status(self) -> ServerStatus:
        """Read the status of all workers."""
        return ServerStatus.of(await self._ask(("status",)))

    async def drain(self) -> int:
        """Take all workers out of service; gives the number of streams that end for it."""
        num_streams: int = await self._ask(("drain",))
        return num_streams

    async def resume(self) -> bool:
        """Take all workers back into service; tells whether they were out of it."""
        was_drained: bool = await self._ask(("resume",))
        return was_drained

    async def follow(self, message: Any) -> Any:
        """Do what all workers do; give what the supervisor is answered.

        :raises MalformedSnapshot: if a snapshot is another one by now
        """
        if "status" in message:
            return asdict(await self._control.status())
        if "drained" in message:
            return self._control.set_drained(message["drained"])
        return await self._datasets.follow(message)
