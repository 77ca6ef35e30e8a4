"""Checks of the fields of configurations, and the error for a value that is not legal."""

from __future__ import annotations

from numbers import Integral

from negserve.errors import InvalidRequestError
from negserve.types.checks.text import limit_text, quoted, shortened

#: Largest position, seed and number of an epoch.
MAX_UINT64 = 2**64 - 1

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


def is_integer(value: object, lowest: int, highest: int) -> bool:
    """Return whether a value is an integer, Python's or numpy's, of a range."""
    return (
        isinstance(value, Integral)
        and not isinstance(value, bool)
        and lowest <= int(value) <= highest
    )


def check_integer(field: str, value: object, lowest: int, highest: int) -> None:
    """Refuse what is no integer from ``lowest`` to ``highest``.

    :raises InvalidRequestError: naming the field, its value and the range
    """
    if not is_integer(value, lowest, highest):
        raise invalid_configuration(
            field, value, f"give a number from {lowest} to {highest}", limit=highest
        )


def check_flag(field: str, value: object) -> None:
    """Refuse what is neither True nor False.

    :raises InvalidRequestError: naming the field and its value
    """
    if not isinstance(value, bool):
        raise invalid_configuration(field, value, "give true or false")


def check_name(field: str, value: object, legal: tuple[str, ...]) -> None:
    """Refuse what is none of some names.

    :raises InvalidRequestError: naming the field, its value and the names
    """
    if not isinstance(value, str) or value not in legal:
        raise invalid_configuration(field, value, f"choose from {', '.join(legal)}", limit=legal)
