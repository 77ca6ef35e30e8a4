"""What the clients have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from negserve._transport.transport import Transport

DEFAULT_TARGET = "127.0.0.1:7733"

_Connection = TypeVar("_Connection", bound=Transport)


class BaseClient(Generic[_Connection]):
    """A connection to a server, not yet open.

    Parameters as of :class:`negserve.Client`.
    """

    _connection_class: type[_Connection]

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        timeout: float = 30.0,
        patience: float | None = None,
    ) -> None:
        self._connection = self._connection_class(target, timeout, patience)

    @property
    def targets(self) -> tuple[str, ...]:
        """The replicas."""
        return self._connection.targets

    @property
    def target(self) -> str:
        """The replica in use."""
        return self._connection.target

    def __repr__(self) -> str:
        return repr(self._connection)
