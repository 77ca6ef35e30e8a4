"""Errors of values that are not legal, whoever finds them."""

from __future__ import annotations

from negserve.errors import InvalidRequestError
from negserve.types.text import limit_text, quoted, shortened

#: Characters of a message.
MOST_OF_A_MESSAGE = 900


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
    text = quoted(value) if isinstance(value, str) else shortened(value)
    return InvalidRequestError(
        shortened(f"{field}={text} is not legal: {expected}", MOST_OF_A_MESSAGE),
        reason="INVALID_CONFIGURATION",
        metadata=metadata_of(limit, field=field, value=value, expected=expected),
    )


def metadata_of(limit: float | tuple[object, ...] | None, **values: object) -> dict[str, str]:
    """Write the metadata of an error, each value shortened.

    :param limit: what is legal: a number, or names; None for no ``limit``. Names without room are
        left out; ``num_omitted`` counts them
    """
    metadata = {key: shortened(value) for key, value in values.items()}
    if limit is not None:
        metadata["limit"], num_omitted = limit_text(limit)
        if num_omitted:
            metadata["num_omitted"] = str(num_omitted)
    return metadata
