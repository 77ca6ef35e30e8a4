"""Metrics that every process knows of itself, and that are the same in all workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from negserve_server.metrics import catalogue
from negserve_server.metrics.catalogue import Metric
from negserve_server.metrics.server_state import DatasetState

if TYPE_CHECKING:
    from prometheus_client.metrics_core import GaugeMetricFamily


class StateCollector:
    """Gives the datasets, and the build, as prometheus_client asks for them.

    :param build: values of the labels of the build
    :ivar datasets: replaced as a whole, since threads that answer scrapers read it
    """

    def __init__(self, build: Sequence[str]) -> None:
        self._build = build
        self.datasets: Sequence[DatasetState] = ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the metrics."""
        yield _ones(catalogue.BUILD, [self._build])
        yield _ones(
            catalogue.DATASET,
            [
                (
                    each.dataset,
                    each.fingerprint,
                    str(each.serial),
                    each.origin,
                    "yes" if each.is_current else "no",
                )
                for each in self.datasets
            ],
        )


def _ones(metric: Metric, rows: Sequence[Sequence[str]]) -> GaugeMetricFamily:
    from prometheus_client.metrics_core import GaugeMetricFamily

    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for row in rows:
        family.add_metric(row, 1.0)
    return family
