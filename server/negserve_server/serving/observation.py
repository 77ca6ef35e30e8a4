"""How a server is observed: the address of its metrics, and what it holds from second to second."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Sequence
from importlib.metadata import version

from negserve_server.administration.server_control import Controlled
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.admission.scheduler import Scheduler
from negserve_server.admission.send_budget import SendBudget
from negserve_server.config.limits import Limits
from negserve_server.config.server_config import ServerConfig
from negserve_server.errors import UnusableAddress
from negserve_server.listening.listen_address import (
    ListenAddress,
    parse_listen_address,
    places_of,
)
from negserve_server.listening.reserved_address import ReservedAddress
from negserve_server.metrics.pages import Site
from negserve_server.metrics.server_metrics import NO_METRICS, ServerMetrics
from negserve_server.metrics.server_state import DatasetState, ServerState
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.private_folder import PrivateFolder
from negserve_server.sampling import ALGORITHM_VERSION
from negserve_server.serving.exposure import warn_if_metrics_exposed
from negserve_server.tables import Tables

logger = logging.getLogger(__name__)

_REFRESH_SECONDS = 1.0


class Observation:
    """The metrics of a server, and where they are answered.

    :param config: of the process
    :param addresses: where calls are answered
    :param is_shared: whether workers count together
    :ivar metrics: what counts
    :raises UnusableAddress: if it can't listen for scrapers
    """

    def __init__(
        self, config: ServerConfig, addresses: Sequence[ListenAddress], *, is_shared: bool
    ) -> None:
        self.metrics: ServerMetrics = NO_METRICS
        self._address: ReservedAddress | None = None
        self._folder: PrivateFolder | None = None
        self._has_page = config.status_page
        if config.metrics_listen is None:
            return
        if self._has_page:
            # Before workers are forked, which then share it.
            importlib.import_module("negserve_server.pages.status_site")
        address = parse_listen_address(config.metrics_listen)
        if address.path:
            raise UnusableAddress(
                address.text,
                "Prometheus does not scrape unix sockets; give --metrics-listen HOST:PORT, such as "
                "127.0.0.1:9464",
            )
        for other in addresses:
            if address.overlaps(other):
                raise UnusableAddress(
                    address.text,
                    f"it overlaps with {other.text}; give --metrics-listen a port of its own",
                )
        warn_if_metrics_exposed(address, has_page=config.status_page)
        # Held until the end, so that no other server answers scrapers at the same port.
        self._address = ReservedAddress(address)
        self._folder = PrivateFolder() if is_shared else None
        from negserve_server.metrics.prometheus_metrics import PrometheusMetrics

        self.metrics = PrometheusMetrics(
            [(place[0], place[4]) for place in places_of(self._address.address)],
            None if self._folder is None else self._folder.path,
            (version("negserve"), str(ALGORITHM_VERSION)),
        )

    async def run(self, state: StateReader, control: Controlled, datasets: Datasets) -> None:
        """Answer scrapers, and take over the state from second to second; until cancelled.

        :param control: gives the status, of all workers together
        :param datasets: the graphs
        """
        if self._address is None:
            return
        self.metrics.refresh(state.read())
        site: Site | None = None
        if self._has_page:
            from negserve_server.pages.server_numbers import ServerNumbers
            from negserve_server.pages.status_site import StatusSite

            site = StatusSite(ServerNumbers(asyncio.get_running_loop(), control, datasets))
        self.metrics.start(site)
        logger.info("metrics at http://%s/metrics", self._address.address.text)
        if self._has_page:
            logger.info("status page at http://%s/", self._address.address.text)
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            self.metrics.refresh(state.read())

    def close(self) -> None:
        """Remove what workers share."""
        if self._folder is not None:
            self._folder.close()


class StateReader:
    """Reads what a process holds, on its event loop.

    :param limits: of the process
    :param admission: has the open calls
    :param scheduler: has the messages that wait for a thread
    :param send_budget: has the answers that clients have not taken
    :param tables: of all datasets
    :param datasets: the graphs
    """

    def __init__(
        self,
        limits: Limits,
        admission: AdmissionControl,
        scheduler: Scheduler,
        send_budget: SendBudget,
        tables: Tables,
        datasets: Datasets,
    ) -> None:
        self._limits = limits
        self._admission = admission
        self._scheduler = scheduler
        self._send_budget = send_budget
        self._tables = tables
        self._datasets = datasets

    def read(self) -> ServerState:
        """Read the state."""
        versions = self._datasets.versions()
        table_bytes: dict[str, int] = {}
        for each, _ in versions:
            table_bytes[each.name] = table_bytes.get(each.name, 0) + each.factory.table_bytes
        budget = self._send_budget
        return ServerState(
            num_calls=len(self._admission),
            num_waiting=budget.num_waiting,
            num_queued=self._scheduler.num_waiting,
            ahead_bytes=budget.num_bytes + budget.num_stalled_bytes,
            max_ahead_bytes=self._limits.max_ahead_bytes,
            table_bytes=table_bytes,
            max_table_bytes=self._limits.max_table_bytes,
            num_evictions=self._tables.num_evictions,
            datasets=[
                DatasetState(
                    each.name, each.factory.fingerprint, each.serial, each.origin, is_current
                )
                for each, is_current in versions
            ],
        )
