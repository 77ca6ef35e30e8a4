"""Exceptions of signal handlers: which arrive, and when."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType

import numpy as np
import pytest

from negserve import Client, ClosedError
from negserve._sync.interrupts import ending, held, put_off, released
from tests.support.graphs import load
from tests.support.server_process import ServerProcess

#: A wait that nothing ends fails the test.
LONG = 60.0


class Raised(Exception):
    """Raised by a handler."""


def raising(number: int, frame: FrameType | None) -> None:
    raise Raised(number)


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """A signal handler of the program, which the test restores."""
    signal.signal(signal.SIGUSR1, raising)
    try:
        yield
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


@pytest.fixture
def silent() -> Iterator[Client]:
    """A client whose server accepts connections and sends nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Client(f"127.0.0.1:{listener.getsockname()[1]}", timeout=LONG) as client,
    ):
        yield client


def after(seconds: float, number: int = signal.SIGUSR1) -> threading.Timer:
    """Send a signal to this process after a delay."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.start()
    return timer


def test_exceptions_are_raised_at_the_end_of_the_block():
    done = []
    with pytest.raises(Raised) as caught, held():
        signal.raise_signal(signal.SIGUSR1)
        with held():
            done.append("all")
        done.append("of it")
    assert done == ["all", "of it"]
    assert caught.value.__context__ is None
    assert signal.getsignal(signal.SIGUSR1) is raising


def test_an_interrupt_takes_the_place_of_another_error():
    with pytest.raises(KeyboardInterrupt) as caught, held():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("of a call that was cancelled")
    assert caught.value.__context__ is None


def test_errors_without_a_signal_are_raised():
    with pytest.raises(ValueError, match="own"), held():
        raise ValueError("own")


@pytest.mark.parametrize("block", [held, put_off])
def test_a_handler_installed_by_a_handler_stays(block: type[held]):
    def another(number: int, frame: FrameType | None) -> None: ...

    def handler(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGUSR1, another)

    signal.signal(signal.SIGUSR1, handler)
    with block():
        signal.raise_signal(signal.SIGUSR1)
    deadline = time.monotonic() + LONG
    while signal.getsignal(signal.SIGUSR1) is not another:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_other_threads_are_left_alone():
    found = []

    def look() -> None:
        with held():
            found.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [raising]


def test_a_wait_ends_at_once():
    condition = threading.Condition()

    def wake() -> None:
        with condition:
            condition.notify()

    timer = after(0.2)
    begin = time.monotonic()
    with pytest.raises(Raised), held(), ending(wake), condition:
        condition.wait(LONG)
    assert time.monotonic() - begin < LONG / 2
    timer.join()


def test_an_interrupt_ends_the_look_up_of_a_name(monkeypatch: pytest.MonkeyPatch):
    goes_on = threading.Event()

    def silent(*arguments: object, **options: object) -> list[object]:
        os.kill(os.getpid(), signal.SIGUSR1)
        goes_on.wait(LONG)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    monkeypatch.setattr("negserve._transport.connector._LOOK_SECONDS", LONG)
    begin = time.monotonic()
    with Client("replicas.test:7733") as client, pytest.raises(Raised):
        client.list_datasets()
    assert time.monotonic() - begin < LONG / 2
    goes_on.set()


def test_a_wait_after_the_signal_does_not_begin():
    with pytest.raises(Raised), held():
        signal.raise_signal(signal.SIGUSR1)
        with ending(lambda: None):
            pytest.fail("it began")


def test_a_handler_without_exception_ends_no_wait():
    """Wherever the signal comes: in the wait, or where a lock is taken just before it."""
    condition = threading.Condition()
    seen = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: seen.set())
    with held(), ending(lambda: pytest.fail("it was ended")), condition:
        timer = after(0.2)
        assert not condition.wait(1)
        assert seen.is_set()
        seen.clear()
        signal.raise_signal(signal.SIGUSR1)
        assert not seen.is_set()
        assert not condition.wait(1)
        assert seen.is_set()
    timer.join()


def test_a_released_block_can_be_interrupted():
    with pytest.raises(Raised), held(), released():
        signal.raise_signal(signal.SIGUSR1)
        pytest.fail("it went on")
    assert signal.getsignal(signal.SIGUSR1) is raising


def test_a_signal_is_deferred():
    with put_off():
        signal.raise_signal(signal.SIGUSR1)
    with pytest.raises(Raised):
        time.sleep(LONG)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_signals_are_deferred_during_a_fork(server: ServerProcess):
    """Python loses exceptions raised while it prepares a fork."""
    with Client(server.target) as client:
        client.list_datasets()
        for delay in np.linspace(0, 0.02, 10):  # more or less every moment of it
            timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGUSR1))
            with pytest.raises(Raised):
                timer.start()
                if os.fork() == 0:
                    os._exit(0)
                time.sleep(LONG)
            timer.join()
        assert "world" in client.list_datasets()


def test_an_alarm_ends_a_call(silent: Client):
    def alarm(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("as the trainer has it")

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeoutError, match="trainer"):
            silent.list_datasets()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_may_close_the_client(silent: Client):
    signal.signal(signal.SIGUSR1, lambda *_: silent.close())
    timer = after(0.3)
    with pytest.raises(ClosedError):
        silent.list_datasets()
    timer.join()


def test_harmless_signals_change_nothing(server: ServerProcess):
    """Such as a profiler's timer: calls continue, and no stream is opened again."""
    ticks = []
    before = signal.signal(signal.SIGALRM, lambda *_: ticks.append(True))
    with Client(server.target) as client:
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=4)
        positives = np.tile(load("world").mapped_triples[:1], (64, 1))
        expected = sampler.sample(positives, 0).replaced
        stream = sampler._opened.value.stream._call
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
            deadline = time.monotonic() + LONG
            while len(ticks) < 100:
                assert time.monotonic() < deadline
                assert np.array_equal(sampler.sample(positives, 0).replaced, expected)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert sampler._opened.value.stream._call is stream
