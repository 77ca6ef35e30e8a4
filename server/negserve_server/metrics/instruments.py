"""The metrics as objects of prometheus_client, in one process or shared by several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negserve_server.metrics.catalogue import BUCKETS, Metric

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram
    from prometheus_client.registry import CollectorRegistry

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Instruments:
    """Counters, gauges and histograms of one process, and the registry that adds workers up.

    prometheus_client is imported here, on use: it decides then, by the environment, whether several
    processes count together.

    Workers count in files of a shared folder, named by the worker and not by its process: one that
    takes the place of another goes on with its counters, and there are no more files with time.

    :param folder: shared by workers; None for a server of one process
    """

    def __init__(self, folder: Path | None) -> None:
        # Of whoever started the server: it is no concern of ours.
        os.environ.pop(_FOLDER.lower(), None)
        os.environ.pop(_FOLDER, None)
        if folder is not None:
            os.environ[_FOLDER] = str(folder)
        import prometheus_client
        from prometheus_client import values

        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._client = prometheus_client
        self._folder = folder
        self._worker = 0
        self.registry: CollectorRegistry = prometheus_client.CollectorRegistry()
        self._target: CollectorRegistry | None = self.registry
        if folder is not None:
            from prometheus_client.multiprocess import MultiProcessCollector

            values.ValueClass = values.MultiProcessValue(lambda: self._worker)  # type: ignore[no-untyped-call]
            MultiProcessCollector(self.registry, path=str(folder))  # type: ignore[no-untyped-call]
            self._target = None

    def become_worker(self, number: int) -> None:
        """Count as another worker from now on; see :meth:`.ServerMetrics.become_worker`."""
        self._worker = number

    def forget_gauges(self, number: int) -> None:
        """Drop the gauges of a worker that has ended."""
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(number, str(self._folder))  # type: ignore[no-untyped-call]

    def counter(self, metric: Metric) -> Counter:
        """Make a counter."""
        return self._client.Counter(metric.name, metric.help, metric.labels, registry=self._target)

    def gauge(self, metric: Metric) -> Gauge:
        """Make a gauge, the sum of all workers that run."""
        return self._client.Gauge(
            metric.name,
            metric.help,
            metric.labels,
            registry=self._target,
            multiprocess_mode="livesum",
        )

    def histogram(self, metric: Metric) -> Histogram:
        """Make a histogram of durations."""
        return self._client.Histogram(
            metric.name, metric.help, metric.labels, registry=self._target, buckets=BUCKETS
        )


def add_many(histogram: Any, counts: Sequence[int], seconds: float) -> None:
    """Add many observations to a histogram at once, which its public methods can't.

    :param histogram: a child, without labels left
    :param counts: by bucket, not cumulated
    :param seconds: their sum
    """
    histogram._sum.inc(seconds)
    for bucket, count in zip(histogram._buckets, counts, strict=True):
        if count:
            bucket.inc(count)
