"""The metrics of a server that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from negserve_server.metrics import catalogue
from negserve_server.metrics.call_meter import CallMeter, CountingCallMeter
from negserve_server.metrics.draw_meter import (
    CountingDrawMeter,
    DrawMeter,
    DrawTallies,
    StageTimes,
)
from negserve_server.metrics.instruments import Instruments, add_many
from negserve_server.metrics.pages import Site
from negserve_server.metrics.pending import Pending, Tally, Times
from negserve_server.metrics.scrape_server import Place, ScrapeServer
from negserve_server.metrics.server_metrics import ServerMetrics
from negserve_server.metrics.server_state import ServerState
from negserve_server.metrics.state_collector import StateCollector

#: So many datasets have a label of their own: clients may publish ever others.
_MOST_DATASETS = 500
_OTHER_DATASETS = "(others)"


class PrometheusMetrics(ServerMetrics):
    """Counts, and answers scrapers.

    :param places: where scrapers are answered, as :func:`socket.getaddrinfo` gives them
    :param folder: shared by workers; None for a server of one process
    :param build: values of the labels of :data:`.catalogue.BUILD`
    """

    def __init__(self, places: Sequence[Place], folder: Path | None, build: Sequence[str]) -> None:
        self._instruments = made = Instruments(folder)
        self._pending = Pending()
        self._calls = made.counter(catalogue.CALLS)
        self._refusals = made.counter(catalogue.REFUSALS)
        self._authentication_failures = made.counter(catalogue.AUTHENTICATION_FAILURES)
        self._received = made.counter(catalogue.RECEIVED_BYTES)
        self._sent = made.counter(catalogue.SENT_BYTES)
        self._drawn = [
            made.counter(each)
            for each in (
                catalogue.POSITIVES,
                catalogue.NEGATIVES,
                catalogue.SATURATED_POSITIVES,
                catalogue.MASKED_NEGATIVES,
            )
        ]
        seconds = made.histogram(catalogue.STAGE_SECONDS)
        self._times = StageTimes(
            *(
                self._pending.add(
                    Times(catalogue.BUCKETS, partial(add_many, seconds.labels(stage=stage)))
                )
                for stage in StageTimes._fields
            )
        )
        self._open_calls = made.gauge(catalogue.OPEN_CALLS)
        self._waiting = made.gauge(catalogue.WAITING_STREAMS)
        self._queued = made.gauge(catalogue.QUEUED_MESSAGES)
        self._ahead = made.gauge(catalogue.AHEAD_BYTES)
        self._max_ahead = made.gauge(catalogue.AHEAD_LIMIT_BYTES)
        self._tables = made.gauge(catalogue.TABLE_BYTES)
        self._max_tables = made.gauge(catalogue.TABLE_LIMIT_BYTES)
        self._evictions = made.counter(catalogue.TABLE_EVICTIONS)
        self._workers = made.gauge(catalogue.WORKERS)
        self._restarts = made.counter(catalogue.WORKER_RESTARTS)
        self._state = StateCollector(build)
        made.registry.register(self._state)
        self._num_evictions = 0
        self._call_meters: dict[str, CallMeter] = {}
        self._tallies: dict[tuple[str, str], DrawTallies] = {}
        self._labels: set[str] = set()
        self._with_tables: set[str] = set()
        self._scrape_server = ScrapeServer(places, made.registry)

    def calls(self, rpc: str) -> CallMeter:
        """Give the meter of an RPC."""
        meter = self._call_meters.get(rpc)
        if meter is None:
            meter = self._call_meters[rpc] = CountingCallMeter(
                self._pending,
                self._received.labels(rpc=rpc).inc,
                self._sent.labels(rpc=rpc).inc,
                partial(self._count, rpc),
            )
        return meter

    def _count(self, rpc: str, code: str, reason: str) -> None:
        self._calls.labels(rpc=rpc, code=code).inc()
        if reason:
            self._refusals.labels(reason=reason).inc()

    def draws(self, dataset: str, kind: str, k: int, *, is_masked: bool) -> DrawMeter:
        """Give the meter of a stream of negatives."""
        key = (self._label(dataset), kind)
        tallies = self._tallies.get(key)
        if tallies is None:
            tallies = self._tallies[key] = DrawTallies(
                *(self._pending.add(Tally(each.labels(*key).inc)) for each in self._drawn)
            )
        return CountingDrawMeter(self._pending, tallies, self._times, k, is_masked)

    def _label(self, dataset: str) -> str:
        if dataset not in self._labels and len(self._labels) >= _MOST_DATASETS:
            return _OTHER_DATASETS
        self._labels.add(dataset)
        return dataset

    def authentication_failed(self, reason: str) -> None:
        """Count a call that was refused for its credentials."""
        self._authentication_failures.labels(reason=reason).inc()

    def refresh(self, state: ServerState) -> None:
        """Take over what the process holds now."""
        self._workers.set(1)
        self._open_calls.set(state.num_calls)
        self._waiting.set(state.num_waiting)
        self._queued.set(state.num_queued)
        self._ahead.set(state.ahead_bytes)
        self._max_ahead.set(state.max_ahead_bytes)
        self._max_tables.set(state.max_table_bytes)
        if state.num_evictions > self._num_evictions:
            self._evictions.inc(state.num_evictions - self._num_evictions)
            self._num_evictions = state.num_evictions
        table_bytes: dict[str, int] = dict.fromkeys(self._with_tables, 0)
        for dataset, num_bytes in state.table_bytes.items():
            label = self._label(dataset)
            table_bytes[label] = table_bytes.get(label, 0) + num_bytes
        for label, num_bytes in table_bytes.items():
            self._tables.labels(dataset=label).set(num_bytes)
        self._with_tables.update(table_bytes)
        self._state.datasets = tuple(state.datasets)

    def flush(self) -> None:
        """Add what waits to the metrics."""
        self._pending.flush()

    def start(self, site: Site | None) -> None:
        """Answer scrapers from now on, and people, in threads of this process."""
        self._scrape_server.start(site)

    def become_worker(self, number: int) -> None:
        """Count as one of several workers from now on, after a fork."""
        self._instruments.become_worker(number)

    def worker_restarted(self, number: int) -> None:
        """Note, where workers are forked, that one has ended and another takes its place."""
        self._restarts.inc()
        self._instruments.forget_gauges(number)
