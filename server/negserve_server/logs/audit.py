"""The audit log: who changed what is served, and who was refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Unpack

from negserve.errors import InvalidRequestError
from negserve_server.errors import Refusal
from negserve_server.logs.call import asker
from negserve_server.logs.fields import Event, EventFields

_logger = logging.getLogger("negserve_server.audit")
# Whatever the log level is.
_logger.setLevel(logging.INFO)


def audit(
    event: Event,
    text: str,
    *values: object,
    level: int = logging.INFO,
    **fields: Unpack[EventFields],
) -> None:
    """Log an event, with the current call, if there is one.

    :param text: of the line, with ``%s`` for each value
    :param level: of :mod:`logging`
    :param fields: of the line in JSON; they go before those of the call
    """
    _logger.log(level, text, *values, extra={"event": event, **fields})


@contextmanager
def auditing_refusals(event: Event, what: str) -> Iterator[None]:
    """Log it, too, if the block refuses the current call.

    :param what: what was asked for
    """
    try:
        yield
    except (Refusal, InvalidRequestError) as error:
        audit(event, "%s by %s refused: %s", what, asker(), error, reason=error.reason)
        raise
