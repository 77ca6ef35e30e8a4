"""The replicas of a server: which one is in use, and what its errors mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from negserve._transport.budget import Budget
from negserve._transport.statuses import from_rpc_error
from negserve._transport.targets import checked_targets
from negserve.errors import (
    ClosedError,
    InvalidRequestError,
    NegserveError,
    StalledError,
    UnavailableError,
)

CHANNEL_OPTIONS = (
    # Calls are tried again by who makes them, as long as patience lasts; retries below them would
    # hide what a server said.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A new channel has to be a new connection: the one before may be cut without noticing.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Replicas:
    """Addresses that are used in turn, and the limits of waiting for them. Does no I/O.

    :param target: ``HOST:PORT`` or ``unix:PATH``; several for replicas of the same data
    :param timeout: seconds that a call, or a stream's next message, may take
    :param patience: seconds that failures are put up with, see
        :class:`negserve._transport.budget.Budget`;
        None for ``timeout`` times the number of replicas
    :raises InvalidRequestError: if there is no address, one is none, or a time is not positive
    """

    def __init__(
        self, target: str | Sequence[str], timeout: float, patience: float | None = None
    ) -> None:
        for name, seconds in (("timeout", timeout), ("patience", patience)):
            if seconds is not None and seconds <= 0:
                raise InvalidRequestError(f"{name}={seconds}; give a positive number of seconds")
        self.targets = checked_targets(target)
        self.timeout = timeout
        self.patience = timeout * len(self.targets) if patience is None else patience
        self.num_lost = 0
        self.is_closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {"target": self.targets, "timeout": self.timeout, "patience": self.patience}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        targets = self.targets[0] if len(self.targets) == 1 else list(self.targets)
        return f"Client({targets!r}, timeout={self.timeout}, patience={self.patience})"

    @property
    def target(self) -> str:
        """The replica in use."""
        return self.targets[self.num_lost % len(self.targets)]

    def budget(self) -> Budget:
        """Give what a call, or a stream, may spend on failures."""
        return Budget(self.timeout, self.patience, len(self.targets))

    def lose(self, target: str) -> bool:
        """Go on to the next replica, and tell so; not if another one is in use already."""
        is_in_use = self.target == target
        self.num_lost += is_in_use
        return is_in_use

    def translate(self, error: grpc.RpcError, target: str) -> NegserveError:
        """Turn grpc's error into a typed one that names the replica."""
        # No caller sees the end of a call that it cancels itself.
        return self.closed() if self.is_closed else from_rpc_error(error, target)

    def closed(self) -> ClosedError:
        """Give what a call on a closed client ends with."""
        return ClosedError(f"{self.target}: the client was closed; make another")

    def ended(self, target: str, how: str) -> UnavailableError:
        """Give what it means that a replica, or what is before it, ended a call too early."""
        return UnavailableError(f"{target}: the stream was ended {how}", target=target)

    def stalled(self, target: str, seconds: float) -> StalledError:
        """Give what a replica's silence means."""
        return StalledError(
            f"{target}: no message for {seconds:.3g} seconds; is the server overloaded, or the "
            f"network cut?",
            target=target,
        )
