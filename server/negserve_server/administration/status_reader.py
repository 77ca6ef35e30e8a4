"""The status of one process, read on its event loop when somebody asks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from negserve_server.access.usage import Counts
from negserve_server.administration.process_memory import resident_bytes
from negserve_server.administration.server_status import (
    DatasetStatus,
    PeerStatus,
    ServerStatus,
    merge_peers,
)
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.metrics.server_state import DatasetState, ServerState


class StatusReader:
    """Reads what a process holds and has done.

    :param read_state: reads what it holds, for metrics too
    :param admission: has the calls
    :param started_at: when the server was started, of the monotonic clock
    :param is_shared: whether it shares memory with other workers
    """

    def __init__(
        self,
        read_state: Callable[[], ServerState],
        admission: AdmissionControl,
        *,
        started_at: float,
        is_shared: bool,
    ) -> None:
        self._read_state = read_state
        self._admission = admission
        self._started_at = started_at
        self._is_shared = is_shared

    async def read(self) -> ServerStatus:
        """Read the status; only the memory in another thread, as the system may take a while."""
        num_resident = await asyncio.to_thread(resident_bytes, is_shared=self._is_shared)
        state = self._read_state()
        return ServerStatus(
            uptime_seconds=time.monotonic() - self._started_at,
            is_drained=self._admission.is_drained,
            num_workers=1,
            num_worker_restarts=0,
            resident_bytes=num_resident,
            ahead_bytes=state.ahead_bytes,
            max_ahead_bytes=state.max_ahead_bytes,
            max_table_bytes=state.max_table_bytes,
            num_calls=state.num_calls,
            num_queued=state.num_queued,
            datasets=tuple(self._datasets(state)),
            peers=tuple(self._peers()),
            rpcs=self._admission.usage.total().rpcs,
        )

    def _datasets(self, state: ServerState) -> list[DatasetStatus]:
        num_streams: Counter[str] = Counter()
        num_waiting: Counter[str] = Counter()
        for use in self._admission.usage:
            if use.dataset:
                num_streams[use.dataset] += 1
                num_waiting[use.dataset] += use.answers is not None and use.answers.is_waiting
        versions: dict[str, list[DatasetState]] = {}
        for version in state.datasets:
            versions.setdefault(version.dataset, []).append(version)
        counts = self._admission.usage.of_datasets()
        none = Counts()
        return [
            DatasetStatus(
                name=name,
                fingerprint=next((each.fingerprint for each in some if each.is_current), ""),
                versions=tuple(each.serial for each in some),
                table_bytes=state.table_bytes.get(name, 0),
                num_streams=num_streams[name],
                num_waiting=num_waiting[name],
                num_positives=counts.get(name, none).num_positives,
                num_negatives=counts.get(name, none).num_negatives,
                times=counts.get(name, none).times,
                rpcs=counts.get(name, none).rpcs,
            )
            for name, some in versions.items()
        ]

    def _peers(self) -> list[PeerStatus]:
        now, usage = time.monotonic(), self._admission.usage
        gone = [
            PeerStatus(caller=caller, address=address, num_negatives=num_negatives, times=times)
            for (caller, address), (num_negatives, times) in usage.of_peers().items()
        ]
        busy = [
            PeerStatus(
                caller=use.peer[0],
                address=use.peer[1],
                datasets={use.dataset: 1},
                ahead_bytes=0 if use.answers is None else use.answers.held_bytes,
                num_negatives=use.num_negatives,
                times=use.times,
                oldest_stream_seconds=now - use.begun_at,
            )
            for use in usage
            if use.dataset
        ]
        return list(merge_peers([*gone, *busy]))
