"""Errors of values that are not legal, whoever finds them."""

from __future__ import annotations

from negserve.errors import InvalidRequestError
from negserve.types.text import limit_text, quoted, shortened

#: Characters of a message.
_MOST_OF_A_MESSAGE = 900


def invalid_configuration(
    field: str,
    value: object,
    expected: str,
    *,
    limit: float | tuple[object, ...] | None = None,
) -> InvalidRequestError:
    """Make the error for a field of a configuration.

    :param field: its name, as in the proto
    :param expected: what is legal, or why the value is not, for a person
    :param limit: the same for a program: the largest number, or the names to choose from
    """
    metadata = {"field": field, "value": shortened(value), "expected": shortened(expected)}
    if limit is not None:
        metadata["limit"], num_omitted = limit_text(limit)
        if num_omitted:
            metadata["num_omitted"] = str(num_omitted)
    text = quoted(value) if isinstance(value, str) else shortened(value)
    return InvalidRequestError(
        shortened(f"{field}={text} is not legal: {expected}", _MOST_OF_A_MESSAGE),
        reason="INVALID_CONFIGURATION",
        metadata=metadata,
    )
