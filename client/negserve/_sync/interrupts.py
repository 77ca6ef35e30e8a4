"""Exceptions of signal handlers, such as KeyboardInterrupt, are deferred while gRPC is in use.

Python runs signal handlers in the main thread, between any two of its instructions. A handler that
raises inside gRPC, or inside a condition of :mod:`threading`, would leave a lock taken for ever. So
the main thread uses them only in a :class:`held` block. There, a handler runs at once if the thread
waits and holds no lock, and otherwise as soon as it does. Its exception ends the wait under way,
and is raised at the end of the block.

This covers handlers installed before the block begins, and those that a handler installs. In other
threads, where no handlers run, a block does nothing.
"""

from __future__ import annotations

import _thread
import inspect
import os
import signal
import threading
import time
import traceback

# Those of signal make enumerations of what they give, which takes fifty times as long.
from _signal import getsignal  # type: ignore[import-not-found]
from _signal import signal as set_handler
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Handler = Callable[[int, FrameType | None], object]

#: Makes the main thread run pending handlers; ignored when none are pending.
_REMINDER = getattr(signal, "SIGURG", None)
_PAUSE_SECONDS = 0.005
#: Signals that programs install handlers for.
_NUMBERS = tuple(
    int(number)
    for number in signal.Signals
    if number.name not in {"SIGKILL", "SIGSTOP", "SIGURG", "SIGRTMIN", "SIGRTMAX"}
)
_WAIT = threading.Condition.wait.__code__

#: The outermost block that the main thread is in.
_block: held | None = None
#: Handlers that :func:`_handle` replaces for now, by signal.
_handlers: dict[int, _Handler] = {}


class held:  # noqa: N801
    """Defers the exceptions of signal handlers to the end of the block.

    May be nested; the outermost block counts.

    :ivar noted: signals whose handlers are pending
    :ivar raised: the exception of the last handler that raised one
    :ivar end_wait: ends the wait under way; called in another thread
    """

    __slots__ = ("_is_outermost", "_replaced", "end_wait", "noted", "raised")

    #: Whether handlers run in the block.
    runs_handlers = True

    def __enter__(self) -> None:
        self._is_outermost = _block is None and _is_main_thread()
        if self._is_outermost:
            self.noted: list[int] = []
            self.raised: BaseException | None = None
            self.end_wait: Callable[[], object] | None = None
            self.take_over()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._is_outermost:
            return
        self.end_wait = None
        if self.noted:
            self.run_handlers()
        if self.raised is not None:
            # Frames hold calls, which are to be let go while the block lasts.
            traceback.clear_frames(trace)
        try:
            self.let_go()
        finally:
            raised = self.raised
            if raised is not None:
                raised.__traceback__ = raised.__context__ = None
                if raised is not error:
                    del kind, error, trace
                    try:
                        raise raised
                    finally:
                        raised.__context__ = None

    def take_over(self) -> None:
        """Replace all handlers."""
        global _block  # noqa: PLW0603
        self._replaced: list[int] = []
        try:
            self._replace()
        except BaseException:
            self._restore()
            raise
        _block = self

    def let_go(self) -> None:
        """Put the handlers back."""
        global _block  # noqa: PLW0603
        _block = None
        while self.noted:  # by a signal just before that line
            _block = self
            self.run_handlers()
            _block = None
        try:
            self._restore()
        finally:
            self._restore()

    def _replace(self) -> None:
        for number in _NUMBERS:
            handler = getsignal(number)
            if callable(handler) and handler is not _handle:
                self._replaced.append(number)
                _handlers[number] = handler
                set_handler(number, _handle)

    def _restore(self) -> None:
        while self._replaced:
            number = self._replaced[-1]
            if _is_ours(number):
                set_handler(number, _handlers[number])
            self._replaced.pop()

    def run_handlers(self) -> None:
        """Run pending handlers, keep their exception, and let it end the wait."""
        global _block  # noqa: PLW0603
        while self.noted:
            number = self.noted.pop(0)
            try:
                _block = None  # handlers may use the client, and be interrupted
                _handlers[number](number, inspect.currentframe())
                _block = self
            except BaseException as error:
                _block = self
                self._keep(error)
            self._replace()  # what the handler installed
        if self.raised is not None and self.end_wait is not None:
            _start_thread(self.end_wait)

    def _keep(self, error: BaseException) -> None:
        trace = error.__traceback__
        if trace is not None and trace.tb_next is not None and isinstance(error, Exception):
            error.add_note("In a signal handler:\n" + "".join(traceback.format_tb(trace.tb_next)))
        error.__traceback__ = None
        self.raised = error

    def check(self) -> None:
        """Run pending handlers.

        :raises BaseException: their exception
        """
        if self.noted and self.runs_handlers:
            self.run_handlers()
        if self.raised is not None:
            raise self.raised

    def remind(self) -> None:
        """Run pending handlers soon, if the thread waits by then."""
        if _REMINDER is None or (before := getsignal(_REMINDER)) is None:
            if self.end_wait is not None:
                _start_thread(self.end_wait)  # then the end of the block comes
            return
        if before is not _look:
            _handlers[_REMINDER] = before
            self._replaced.append(_REMINDER)
            set_handler(_REMINDER, _look)
        _start_thread(self._send_reminders)

    def _send_reminders(self) -> None:
        while True:
            time.sleep(_PAUSE_SECONDS)
            if _block is not self or not self.noted:
                return
            _send(signal.SIGURG)


class put_off(held):  # noqa: N801
    """Sends the signals of the block again, shortly after it.

    For code whose exceptions Python ignores: before a fork, or when a generator is collected.
    """

    __slots__ = ()

    runs_handlers = False

    def __exit__(self, *raised: object) -> None:
        global _block  # noqa: PLW0603
        if not self._is_outermost:
            return
        _block = None
        if self.noted:
            numbers, self.noted = self.noted, []
            _start_thread(lambda: _send_again(numbers))
        self.let_go()


class ending:  # noqa: N801
    """Ends a wait in a :class:`held` block when a signal handler raises.

    Its own begin and end raise the exception of a handler, too.

    :param end: ends the wait; called in another thread
    """

    __slots__ = ("_block", "_end", "_outer")

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end

    def __enter__(self) -> None:
        block = _block
        self._block = block if block is not None and _is_main_thread() else None
        if self._block is not None:
            self._outer = self._block.end_wait
            self._block.end_wait = self._end
            self._block.check()

    def __exit__(self, *raised: object) -> None:
        if self._block is not None:
            self._block.end_wait = self._outer
            self._block.check()


class released:  # noqa: N801
    """Lets handlers raise within a :class:`held` block, while a function of the user is called."""

    __slots__ = ("_block",)

    def __enter__(self) -> None:
        block = _block
        self._block = block if block is not None and _is_main_thread() else None
        if self._block is not None:
            self._block.check()
            try:
                self._block.let_go()
            except BaseException:
                self._block.take_over()
                raise

    def __exit__(self, *raised: object) -> None:
        if self._block is not None:
            self._block.take_over()


def is_raised() -> bool:
    """Tell whether a handler has raised, so that the wait under way must end."""
    return _block is not None and _block.raised is not None and _is_main_thread()


def run_sync(
    function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Run a coroutine function whose awaits block the thread, and so never suspend.

    Needs no event loop, and may be called where one runs. Exceptions of signal handlers are
    deferred to the end, see :class:`held`.

    :raises RuntimeError: if it suspends all the same
    """
    with held():
        coroutine = function(*args, **kwargs)
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: _T = done.value
            return result
        coroutine.close()
    raise RuntimeError("a coroutine suspended where nothing resumes it")


def _handle(number: int, frame: FrameType | None) -> None:
    """Handle a signal in place of its handler."""
    block = _block
    if block is None:
        _handlers[number](number, frame)  # no block: call it
        return
    block.noted.append(number)
    if block.runs_handlers:
        if _waits(frame):
            block.run_handlers()
        else:
            block.remind()


def _look(number: int, frame: FrameType | None) -> None:
    """Run pending handlers, on a reminder."""
    del number
    block = _block
    if block is not None and block.noted and _waits(frame):
        block.run_handlers()


def _is_ours(number: int) -> bool:
    handler = getsignal(number)
    return handler is _handle or handler is _look


def _waits(frame: FrameType | None) -> bool:
    """Tell whether the thread waits for a condition whose lock it has released."""
    if frame is None or frame.f_code is not _WAIT:
        return False
    condition: Any = frame.f_locals["self"]
    return not condition._is_owned()


def _is_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _start_thread(function: Callable[[], object]) -> None:
    # Not by threading, whose locks the thread may have. Without a thread, timeouts end the wait.
    with suppress(RuntimeError):
        _thread.start_new_thread(function, ())


def _send(number: int) -> None:
    ident = threading.main_thread().ident
    assert ident is not None
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(ident, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


def _send_again(numbers: list[int]) -> None:
    time.sleep(_PAUSE_SECONDS)
    for number in numbers:
        _send(number)


def _forget() -> None:
    """Reset in a forked child: it is in none of its parent's blocks."""
    global _block  # noqa: PLW0603
    _block = None
    for number, handler in _handlers.items():
        if _is_ours(number):
            set_handler(number, handler)


#: During a fork: Python ignores exceptions of the functions that it calls before and after.
_fork = put_off()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_fork.__enter__, after_in_parent=_fork.__exit__, after_in_child=_forget
    )
