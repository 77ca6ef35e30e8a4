"""A connection to a server: one channel per process, deadlines, typed errors."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc

from negserve import forks
from negserve.backoff import tries
from negserve.errors import (
    ClosedError,
    NegserveError,
    StalledError,
    UnavailableError,
    from_rpc_error,
)
from negserve.stall_timer import StallTimer
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            # Sample and SampleEpoch are opened again by who reads them, as long as patience lasts;
            # retries below them would hide what a server said until the stall timer strikes.
            "name": [
                {"service": "negserve.v1.SamplerService", "method": method}
                for method in (
                    "Contains",
                    "GetDataset",
                    "GetRelationStatistics",
                    "GetVocabulary",
                    "ListDatasets",
                )
            ],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A new channel has to be a new connection, see fail_over.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Connection:
    """Thread-safe; opened on first use in each process; pickled as its configuration.

    :param targets: ``HOST:PORT`` or ``unix:PATH`` of replicas, at least one; they are used in
        turn, the next one when :meth:`fail_over` says that one is lost
    :param timeout: seconds that a call, or a stream's next message, may take
    :param patience: seconds that a lost server is waited for, all replicas together
    """

    def __init__(self, targets: Sequence[str], timeout: float, patience: float) -> None:
        self.targets = tuple(targets)
        self.timeout = timeout
        self.patience = patience
        self._set_up()

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._current = 0
        self._process = os.getpid()
        self._channel: grpc.Channel | None = None
        self._closed = False
        self.stall_timer = StallTimer()

    def __getstate__(self) -> dict[str, Any]:
        return {"targets": self.targets, "timeout": self.timeout, "patience": self.patience}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.targets = state["targets"]
        self.timeout, self.patience = state["timeout"], state["patience"]
        self._set_up()

    @property
    def target(self) -> str:
        """The replica in use."""
        return self.targets[self._current % len(self.targets)]

    def stub(self) -> SamplerServiceStub:
        """Give the service's stub on this process's channel.

        :raises ClosedError: after :meth:`close`
        """
        if self._process != os.getpid():
            # A forked child: the parent's locks and timer are not its own.
            closed = self._closed
            self._set_up()
            self._closed = closed
        with self._lock:
            if self._closed:
                raise ClosedError(f"{self.target}: the client was closed; make another")
            if self._channel is None or not forks.is_open(self._channel):
                self._channel = forks.open_channel(self.target, _OPTIONS)
            return SamplerServiceStub(self._channel)

    def fail_over(self, lost: str) -> None:
        """Leave a replica: what comes next asks another, over a connection of its own.

        With one replica only, that is the same one over a new connection: the old one may be
        cut without having noticed. Calls that are under way on it go on.

        :param lost: its target; nothing happens if it is no longer the one in use
        """
        with self._lock:
            if self.target == lost:
                self._current += 1
                self._channel = None

    def call(self, method: str, request: object) -> Any:
        """Call a unary method with the deadline; if there are several replicas, ask them in turn.

        :param method: its name
        :raises NegserveError: typed by what the server said
        """
        last_error: UnavailableError | None = None
        for _ in tries(self.patience):
            target = self.target
            try:
                return getattr(self.stub(), method)(request, timeout=self.timeout)
            except grpc.RpcError as error:
                translated = self.translate(error)
                if len(self.targets) == 1 or not isinstance(translated, UnavailableError):
                    raise translated from error
                last_error = translated
                self.fail_over(target)
        assert last_error is not None
        raise last_error

    def messages(self, call: Any) -> Iterator[Any]:
        """Iterate over a stream's messages, none of which may take longer than the deadline.

        :raises NegserveError: typed by what the server said
        """
        try:
            while (message := self.next_message(call)) is not None:
                yield message
        finally:
            call.cancel()

    def next_message(self, call: Any) -> Any:
        """Wait for a stream's next message, not longer than the deadline; None after the last.

        :raises NegserveError: typed by what the server said
        """
        try:
            with self.stall_timer.limit(call, self.timeout):
                return next(call, None)
        except TimeoutError as error:
            raise StalledError(
                f"{self.target}: {error}; is the server overloaded, or the network cut?"
            ) from error
        except grpc.RpcError as error:
            raise self.translate(error) from error

    def translate(self, error: grpc.RpcError) -> NegserveError:
        """Turn grpc's error into a typed one, naming the target."""
        if self._closed:
            return ClosedError(f"{self.target}: the client was closed during the call")
        if error.code() is grpc.StatusCode.CANCELLED:
            # No caller sees the end of a call that it cancels itself: a server that stops, a
            # balancer in between, or the stall timer at the very last moment did it.
            return UnavailableError(f"{self.target}: the call was ended: {error.details()}")
        return from_rpc_error(error, self.target)

    def close(self) -> None:
        """Close the channel; calls under way end with an error."""
        with self._lock:
            self._closed = True
            if self._channel is not None and self._process == os.getpid():
                self._channel.close()
            self._channel = None
