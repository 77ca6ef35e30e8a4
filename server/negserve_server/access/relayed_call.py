"""What a worker tells another one to which it passes a call on: whose call it is."""

from __future__ import annotations

import hmac
import secrets
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

_KEY = "negserve-relayed"
#: Only workers know it: they are forked from one process, which has chosen it.
_SECRET = secrets.token_hex(16)


class RelayedCall(NamedTuple):
    """A call that another worker passes on.

    :ivar caller: name of the caller, which that worker has checked
    :ivar connection: identifies the client's connection
    :ivar call: its id in the log
    """

    caller: str
    connection: str
    call: str

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Give the metadata of the call."""
        return ((_KEY, f"{_SECRET} {quote(self.caller)} {self.connection} {self.call}"),)


def relayed_call(metadata: Any) -> RelayedCall | None:
    """Read the metadata of a call; None if it is a client's own."""
    for key, value in metadata or ():
        if key == _KEY:
            secret, _, rest = str(value).partition(" ")
            if hmac.compare_digest(secret.encode(), _SECRET.encode()):
                caller, connection, call = rest.split(" ")
                return RelayedCall(unquote(caller), connection, call)
    return None
