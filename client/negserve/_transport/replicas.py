"""Replicas: their addresses, which of them were lost, and which one a stream begins at."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from negserve._transport.names import name_in
from negserve._transport.targets import checked_targets
from negserve.types.checks.address import Address

#: Without a new look at a name for so long, the next stream looks.
_FRESH_SECONDS = 5.0
#: How long a lost replica is not asked, while there are others; doubled each time up to the second.
_FIRST_SECONDS = 5.0
_LONGEST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class _Loss:
    """The last loss of a replica.

    :ivar number: losses of all replicas before it
    :ivar until: when it may be tried again
    :ivar seconds: how long it is not asked
    """

    number: int
    until: float
    seconds: float


class Replicas:
    """Addresses of servers with the same data.

    Streams of ranks begin at the replicas in turn; all else goes to the replica in use. Does no
    I/O. Threads may share it: each attribute is replaced as a whole.

    :param spread: False lets all streams begin at the first target that was not lost
    :ivar targets: as they were given
    :ivar names: the targets that are names of servers, with host and port
    :ivar members: addresses of the replicas, sorted, each once. A name that was not looked up, or
        that may be the name of a single server, is an address
    :ivar next_look: when the names have to be looked up again
    :ivar target: the replica in use
    :raises InvalidRequestError: as :func:`checked_targets`
    """

    def __init__(self, target: str | Sequence[str], *, spread: bool = True) -> None:
        self.targets = checked_targets(target)
        self._spread = spread
        self.names: dict[str, Address] = {
            each: name for each in self.targets if (name := name_in(each)) is not None
        }
        self._found: dict[str, tuple[str, ...]] = {}
        self.members = tuple(sorted(set(self.targets)))
        self.next_look = 0.0 if self.names else float("inf")
        self.target = self.targets[0]
        self._losses: dict[str, _Loss] = {}
        self._num_losses = 0

    def begin_look(self) -> None:
        """Note that the names are being looked up: other streams go on with what is known."""
        self.next_look = time.monotonic() + _FRESH_SECONDS

    def note(self, answers: Mapping[str, tuple[str, ...]]) -> None:
        """Note what names stand for; others keep their addresses.

        :param answers: addresses by name; none for a name that gRPC resolves
        """
        found = {**self._found, **answers}
        members = {address for target in self.targets for address in found.get(target) or (target,)}
        self._found, self.members = found, tuple(sorted(members))
        self._losses = {key: loss for key, loss in self._losses.items() if key in members}
        if self.target not in members:
            # Any, so that programs that are no ranks of a training are spread, too.
            self.target = self._at_hand(random.randrange(len(members)))

    def name_of(self, address: str) -> str | None:
        """Return the name whose look-up gave an address; None for a target."""
        if address in self.targets:
            return None
        return next((name for name, found in self._found.items() if address in found), None)

    def choose(self, number: int | None) -> str:
        """Choose the replica of a stream.

        That is the replica ``number`` modulo the number of replicas, in the order of their
        addresses; or, if it was lost, the next that was not. If all were lost, it is the one whose
        loss is longest ago. Without spreading, it is the first that was not lost, as targets were
        given.

        :param number: of the stream; None for the replica in use
        """
        if not self._spread:
            self.target = self._at_hand(0)  # the first one again, once it is back
        elif number is not None:
            return self._at_hand(number)
        return self.target

    def _at_hand(self, number: int) -> str:
        members, now = self.members, time.monotonic()
        if not self._spread:
            members, number = self._as_given(), 0
        first = number % len(members)
        ordered = members[first:] + members[:first]
        losses = self._losses
        for address in ordered:
            if address not in losses or losses[address].until <= now:
                return address
        return min(ordered, key=lambda address: losses[address].number)

    def _as_given(self) -> tuple[str, ...]:
        found = self._found
        return tuple(
            dict.fromkeys(
                address for each in self.targets for address in found.get(each) or (each,)
            )
        )

    def leave(self, address: str) -> None:
        """Note the loss of a replica: streams are opened at others for some time."""
        now, before = time.monotonic(), self._losses.get(address)
        self._num_losses += 1
        if before is None or now > before.until + before.seconds:  # it worked since
            loss = _Loss(self._num_losses, now + _FIRST_SECONDS, _FIRST_SECONDS)
        elif now < before.until:  # another stream of the same loss
            loss = replace(before, number=self._num_losses)
        else:
            seconds = min(2 * before.seconds, _LONGEST_SECONDS)
            loss = _Loss(self._num_losses, now + seconds, seconds)
        self._losses = {**self._losses, address: loss}
        if address == self.target and address in self.members:
            self.target = self._at_hand(self.members.index(address) + 1)

    def num_losses(self, address: str) -> int:
        """Return a number that changes whenever a replica is lost."""
        loss = self._losses.get(address)
        return 0 if loss is None else loss.number

    def only(self, address: str) -> Replicas:
        """Return one of the replicas on its own, under the same name."""
        one = Replicas(self.name_of(address) or address)
        if address not in one.targets:
            one.note({one.targets[0]: (address,)})
        one.next_look = float("inf")
        return one
