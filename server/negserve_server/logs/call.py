"""The call in which something is logged."""

from __future__ import annotations

import random
from contextvars import ContextVar
from dataclasses import dataclass

from negserve.types.checks.text import MOST_CHARACTERS, shortened


@dataclass(slots=True)
class LoggedCall:
    """A call, as the log names it.

    :ivar id: tells it from all others; the same in each worker that it is passed on to
    :ivar rpc: name of its method
    :ivar peer: address of its client
    :ivar caller: name of who calls; empty if callers are not told apart
    :ivar dataset: name of the dataset that it is about, without its middle if it is long; empty
        until that is known
    """

    id: str
    rpc: str
    peer: str
    caller: str
    dataset: str = ""

    @property
    def asker(self) -> str:
        """Who calls, and from where."""
        return f"{self.caller or 'anybody'} at {self.peer}"


#: The call that the current task answers; None outside of calls.
CALL: ContextVar[LoggedCall | None] = ContextVar("CALL", default=None)
#: The id of its trace; empty without tracing.
TRACE: ContextVar[str] = ContextVar("TRACE", default="")


def new_call_id() -> str:
    """Make the id of a call: 16 hexadecimal digits."""
    return f"{random.getrandbits(64):016x}"


def note_dataset(name: str) -> None:
    """Note the dataset that the current call is about.

    :param name: of any length, as the client sent it
    """
    call = CALL.get()
    if call is not None:
        call.dataset = name if len(name) <= MOST_CHARACTERS else shortened(name)


def asker() -> str:
    """Say who makes the current call, and from where."""
    call = CALL.get()
    return "the server itself" if call is None else call.asker
