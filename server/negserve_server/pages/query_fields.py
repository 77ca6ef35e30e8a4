"""The fields of a query string, which anybody may have written."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

from negserve.types.checks.text import listed, quoted
from negserve_server.pages.refused_request import RefusedRequest

#: Three labels of some hundred characters each, escaped.
_MOST_CHARACTERS = 4096
_MOST_DIGITS = 20


def read_fields(query: str, names: Collection[str]) -> dict[str, str]:
    """Read the fields; those that are empty are left out.

    :param query: what follows the question mark of the URL
    :param names: of the fields that there are
    :raises RefusedRequest: for a long query, text that is not UTF-8, and unknown or repeated fields
    """
    if len(query) > _MOST_CHARACTERS:
        raise RefusedRequest(
            "414 URI Too Long",
            f"the query has {len(query)} characters, the limit is {_MOST_CHARACTERS}; give ids in "
            f"place of long labels",
        )
    try:
        pairs = parse_qsl(query, errors="strict", max_num_fields=len(names), separator="&")
    except UnicodeDecodeError:
        raise RefusedRequest("400 Bad Request", "the query is not UTF-8; use the form") from None
    except ValueError:
        raise RefusedRequest(
            "400 Bad Request", f"the query has more than {len(names)} fields; use the form"
        ) from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name not in names:
            raise RefusedRequest(
                "400 Bad Request", f"there is no field {quoted(name)}; give {listed(names)}"
            )
        if name in fields:
            raise RefusedRequest("400 Bad Request", f"{name} is given twice; give it once")
        fields[name] = value
    return fields


def read_number(name: str, text: str, least: int, most: int) -> int:
    """Read a whole number.

    :raises RefusedRequest: naming field, value and bounds
    """
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
    if not is_number or not least <= int(text) <= most:
        raise RefusedRequest(
            "400 Bad Request",
            f"{name} is {quoted(text)}; give a whole number from {least} to {most}",
        )
    return int(text)
