"""What a server tells about itself: nothing, unless somebody asked for metrics."""

from __future__ import annotations

from negserve_server.metrics.call_meter import NO_CALLS, CallMeter
from negserve_server.metrics.draw_meter import NO_DRAWS, DrawMeter
from negserve_server.metrics.pages import Site
from negserve_server.metrics.server_state import ServerState


class ServerMetrics:
    """The metrics of a server that nobody scrapes: all that is noted is forgotten."""

    def calls(self, rpc: str) -> CallMeter:  # noqa: ARG002
        """Give the meter of an RPC.

        :param rpc: name of the method, such as ``Sample``
        """
        return NO_CALLS

    def draws(
        self,
        dataset: str,  # noqa: ARG002
        kind: str,  # noqa: ARG002
        k: int,  # noqa: ARG002
        *,
        is_masked: bool,  # noqa: ARG002
    ) -> DrawMeter:
        """Give the meter of a stream of negatives.

        :param dataset: name
        :param kind: of the sampler
        :param k: negatives of a positive
        :param is_masked: whether saturated positives have a mask
        """
        return NO_DRAWS

    def authentication_failed(self, reason: str) -> None:
        """Count a call that was refused for its credentials."""

    def refresh(self, state: ServerState) -> None:
        """Take over what the process holds now."""

    def flush(self) -> None:
        """Add what waits to the metrics."""

    def start(self, site: Site | None) -> None:
        """Answer scrapers from now on, and people, in threads of this process.

        :param site: pages for people; None for none
        """

    def become_worker(self, number: int) -> None:
        """Count as one of several workers from now on, after a fork.

        :param number: from 1 on; the process that forks is 0
        """

    def worker_restarted(self, number: int) -> None:
        """Note, where workers are forked, that one has ended and another takes its place."""


#: The metrics of a server that nobody scrapes.
NO_METRICS = ServerMetrics()
