"""A connection to a server: one channel per process, deadlines, typed errors."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

from negserve.errors import ClosedError, NegserveError, StalledError, from_rpc_error
from negserve.stall_timer import StallTimer
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub

_T = TypeVar("_T")

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "negserve.v1.SamplerService"}],
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
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Connection:
    """Thread-safe; opened on first use in each process; pickled as its configuration.

    :param target: ``HOST:PORT`` or ``unix:PATH``
    :param timeout: seconds that a call, or a stream's next message, may take
    """

    def __init__(self, target: str, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self._set_up()

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._process: int | None = None
        self._channel: grpc.Channel | None = None
        self._closed = False
        self.stall_timer = StallTimer()

    def __getstate__(self) -> dict[str, Any]:
        return {"target": self.target, "timeout": self.timeout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.target, self.timeout = state["target"], state["timeout"]
        self._set_up()

    def stub(self) -> SamplerServiceStub:
        """Give the service's stub on this process's channel.

        :raises ClosedError: after :meth:`close`
        """
        if self._process is not None and self._process != os.getpid():
            # A forked child: the parent's channel, locks and timer are not its own.
            closed = self._closed
            self._set_up()
            self._closed = closed
        with self._lock:
            if self._closed:
                raise ClosedError(f"{self.target}: the client was closed; make another")
            if self._channel is None:
                self._channel = grpc.insecure_channel(self.target, options=_OPTIONS)
                self._process = os.getpid()
            return SamplerServiceStub(self._channel)

    def call(self, method: Callable[..., _T], request: object) -> _T:
        """Call a unary method with the deadline.

        :raises NegserveError: typed by what the server said
        """
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise self.translate(error) from error

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
        return from_rpc_error(error, self.target)

    def close(self) -> None:
        """Close the channel; calls under way end with an error."""
        with self._lock:
            self._closed = True
            if self._channel is not None and self._process == os.getpid():
                self._channel.close()
            self._channel = None
