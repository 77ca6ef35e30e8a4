"""Calls that block the thread: channels of a process, a time limit for each message."""

from __future__ import annotations

import atexit
import queue
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

import grpc

from negserve._calls.per_process import PerProcess
from negserve._sync import interrupts
from negserve._sync.forks import Kept, Living, grpc_in_use, is_open, open_channel
from negserve._transport.channels import open_stub, options_to
from negserve._transport.names import RESOLVER_OPTIONS
from negserve._transport.statuses import closed, stalled
from negserve._transport.transport import ServerCall, Transport
from negserve._transport.worker_pool import WorkerPool
from negserve.errors import NegserveError
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub

_T = TypeVar("_T")

#: How long the end of the program waits for gRPC to end calls.
_LAST_SECONDS = 1.0
_transports: weakref.WeakSet[SyncTransport] = weakref.WeakSet()
#: Without waits for so long, the thread of a stall timer ends; the next wait starts another.
_IDLE_SECONDS = 5.0


class _OpenChannel(NamedTuple):
    """A channel to a replica."""

    target: str
    channel: grpc.Channel
    stub: SamplerServiceStub


class SyncTransport(Transport):
    """Calls over channels that are opened on first use in each process. Thread-safe.

    Its coroutines block the thread and never suspend:
    :func:`negserve._sync.interrupts.run_sync` runs them.

    Parameters as of :class:`negserve._transport.transport.Transport`.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        timeout: float,
        patience: float | None = None,
        *,
        spread: bool = True,
    ) -> None:
        super().__init__(target, timeout, patience, spread=spread)
        self._state = PerProcess(_State)
        _transports.add(self)

    def _pool(self, target: str) -> WorkerPool[_OpenChannel]:
        """Return this process's connections to a replica.

        Users of a channel hold it, also after the replica was left: so the next fork closes it.

        :raises ClosedError: after :meth:`close`
        """
        state = self._state.value
        with state.lock:
            if self.is_closed:
                raise closed(target)
            pool = state.pools.get(target)
            if pool is None or not is_open(pool.first.channel):
                pool = state.pools[target] = WorkerPool(self._connect(target))
            return pool

    def _open_calls(self) -> list[ServerCall]:
        state = self._state.value
        with state.lock:
            calls = list(state.calls)
        return [call for call in calls if call.is_active]

    def _connect(self, target: str) -> _OpenChannel:
        options = options_to(self.replicas.name_of(target))
        return _OpenChannel(target, *open_channel(target, options, open_stub))

    async def _disconnect(self, channel: _OpenChannel) -> None:
        with grpc_in_use():
            channel.channel.close()

    async def _ask(
        self, channel: _OpenChannel, method: str, request: object, seconds: float
    ) -> tuple[str, bytes]:
        try:
            with grpc_in_use():
                # A future, which another thread can cancel.
                call = getattr(channel.stub, method).future(request, timeout=seconds)
                with interrupts.ending(call.cancel):
                    answer: bytes = call.result()
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                failure: NegserveError = stalled(channel.target, seconds)
            else:
                failure = self.error_of(error, channel.target)
            failure.__cause__ = _without_call(error)
        except ValueError as error:  # gRPC's, of a closed channel
            raise self.cut_off(channel.target, "by a fork") from error
        else:
            return channel.target, answer
        raise failure

    def _start(self, channel: _OpenChannel, method: str, request: object) -> SyncCall:
        state = self._state.value
        try:
            call = SyncCall(self, state.stall_timer, channel, method, request)
        except ValueError as error:  # gRPC's, of a closed channel
            raise self.cut_off(channel.target, "by a fork") from error
        with state.lock:
            state.calls.add(call)
        return call

    def _drop(self, target: str) -> None:
        state = self._state.value
        with state.lock:
            pool = state.pools.pop(target, None)
        with grpc_in_use():
            del pool  # which may have the last references to channels

    async def _resolve(self, host: str, port: int, seconds: float) -> Sequence[tuple[Any, ...]]:
        pauses, found = self._state.value.pauses, list[Sequence[tuple[Any, ...]]]()

        def resolve() -> None:
            try:
                with grpc_in_use():  # the resolver of the system has locks, too
                    answers = socket.getaddrinfo(host, port, **RESOLVER_OPTIONS)
            except (OSError, UnicodeError):
                answers = []
            with pauses:
                found.append(answers)
                pauses.notify_all()

        threading.Thread(target=resolve, name="negserve-resolver", daemon=True).start()
        with interrupts.ending(self.wake), pauses:
            pauses.wait_for(lambda: found or self.is_closed or interrupts.is_raised(), seconds)
        return found[0] if found else ()

    async def pause(self, seconds: float, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Wait; less if the client is closed meanwhile.

        :param is_wanted: ends the wait if it returns False, after :meth:`wake`
        """
        pauses = self._state.value.pauses
        with interrupts.ending(self.wake), pauses:
            pauses.wait_for(
                lambda: self.is_closed or not is_wanted() or interrupts.is_raised(), seconds
            )

    async def work(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function that reads or writes files; signal handlers may end it."""
        with interrupts.released():
            return function(*arguments)

    def wake(self) -> None:
        """Make all pauses check whether they are still wanted."""
        pauses = self._state.value.pauses
        with pauses:
            pauses.notify_all()

    async def close(self) -> None:
        """Close the channel; calls under way raise an error."""
        state = self._state.value
        with state.lock:
            self.is_closed = True
            pools, state.pools = state.pools, {}
            calls = list(state.calls)  # also those on channels to replicas that were left
        for call in calls:
            call.close()
        for pool in pools.values():
            for channel in pool.channels:
                await self._disconnect(channel)
        self.wake()


class _State:
    """What a transport has in one process.

    :ivar lock: guards the others
    :ivar pools: connections to each replica that was needed
    :ivar calls: open calls
    :ivar pauses: notified when a pause may end
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pools: dict[str, WorkerPool[_OpenChannel]] = {}
        self.calls: Living[SyncCall] = Living()
        self.pauses = threading.Condition()
        self.stall_timer = StallTimer()


class SyncCall(ServerCall):
    """An open call that blocks the thread while it waits.

    :param transport: makes its errors
    :param channel: to the replica that answers
    :param method: name of the method
    :param request: the only request; None for a method that takes a stream of them
    :raises ValueError: if the channel is closed
    """

    def __init__(
        self,
        transport: SyncTransport,
        stall_timer: StallTimer,
        channel: _OpenChannel,
        method: str,
        request: Any = None,
    ) -> None:
        super().__init__(channel, channel.target, method)  # so that a fork closes the channel
        self._transport = transport
        self._stall_timer = stall_timer
        self._requests: queue.SimpleQueue[Iterable[Any] | None] = queue.SimpleQueue()
        # The end of the call ends gRPC's thread that waits for requests. That thread has the queue
        # and not self, which it would keep from becoming garbage.
        requests = self._requests
        with grpc_in_use():
            start = getattr(channel.stub, method)
            self._call = Kept(start(_flattened(requests) if request is None else request))
            if not self._call().add_callback(lambda: requests.put(None)):
                self._end_requests()

    @property
    def is_active(self) -> bool:
        """Whether the call has not ended."""
        return bool(self._call().is_active())

    def send_all(self, requests: Iterable[Any]) -> None:
        """Queue requests, without waiting; an iterator advances as they are sent."""
        self._requests.put(requests)

    async def _next(self, seconds: float) -> bytes | None:
        call = self._call()
        try:
            with (
                interrupts.ending(call.cancel),
                grpc_in_use(),
                self._stall_timer.limit(call, seconds),
            ):
                message: bytes | None = next(call, None)
        except TimeoutError:
            failure: NegserveError = stalled(self.target, seconds)
        except grpc.RpcError as error:
            failure = self._transport.error_of(error, self.target)
            failure.__cause__ = _without_call(error)
        else:
            return message
        raise failure

    def when_ended(self, function: Callable[[], object]) -> bool:
        """Let a thread of gRPC call a function when the call has ended; False if it has."""
        return bool(self._call().add_callback(function))

    def close(self) -> None:
        """End the call."""
        if sys.is_finalizing():
            return  # a thread of gRPC may have stopped for ever with the call's lock
        self._end_requests()
        with grpc_in_use():
            self._call().cancel()

    def _end_requests(self) -> None:
        self._requests.put(None)


@atexit.register
def _end_calls() -> None:
    """End all calls at the end of the program, while the threads of gRPC still run.

    Later they stand still, some with the lock of a call, and who frees the call waits for it.
    """
    ends = []
    for transport in list(_transports):
        for call in transport._open_calls():
            ended = threading.Event()
            if isinstance(call, SyncCall) and call.when_ended(ended.set):
                ends.append(ended)
            call.close()
    for ended in ends:
        ended.wait(_LAST_SECONDS)


def _without_call(error: grpc.RpcError) -> grpc.RpcError:
    """Copy an error of gRPC, which is the call itself.

    An error that is kept would keep the call, and drop it where signal handlers run, see
    :class:`negserve._sync.forks.Kept`.
    """
    error.__traceback__ = None  # whose frames hold the call
    return grpc.RpcError(str(error))


def _flattened(queued: queue.SimpleQueue[Iterable[Any] | None]) -> Iterator[Any]:
    for requests in iter(queued.get, None):
        yield from requests


class _Cancellable(Protocol):
    def cancel(self) -> object: ...


class StallTimer:
    """Cancels calls whose next message does not arrive in time; one thread for all.

    gRPC has deadlines of whole calls only. A stream lives for hours, and still must not wait for
    ever for a message. A wait costs two dictionary operations, and no thread of its own.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waits: dict[object, tuple[float, _Cancellable]] = {}
        self._expired: set[object] = set()
        self._thread: threading.Thread | None = None
        self._next_check = float("inf")

    @contextmanager
    def limit(self, call: _Cancellable, seconds: float) -> Iterator[None]:
        """Cancel a call unless the block ends in time.

        :raises TimeoutError: in place of the block's exception, if the call was cancelled
        """
        key = object()
        deadline = time.monotonic() + seconds
        with self._condition:
            self._waits[key] = (deadline, call)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="negserve-stall-timer", daemon=True
                )
                self._thread.start()
            if deadline < self._next_check:
                self._condition.notify()
        try:
            yield
        except Exception as error:
            if key in self._expired:
                raise TimeoutError(f"no message for {seconds:g} seconds") from error
            raise
        finally:
            with self._condition:
                self._waits.pop(key, None)
                self._expired.discard(key)

    def _run(self) -> None:
        while True:
            for call in self._expire():
                with grpc_in_use():
                    call.cancel()
            with self._condition:
                now = time.monotonic()
                self._next_check = min(
                    (deadline for deadline, _ in self._waits.values()), default=float("inf")
                )
                was_called = self._condition.wait(min(self._next_check - now, _IDLE_SECONDS))
                if not (was_called or self._waits):
                    self._thread = None
                    return

    def _expire(self) -> list[_Cancellable]:
        with self._condition:
            now = time.monotonic()
            late = [key for key, (deadline, _) in self._waits.items() if deadline <= now]
            self._expired.update(late)
            return [self._waits.pop(key)[1] for key in late]
