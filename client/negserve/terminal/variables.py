"""Environment variables with mistyped names, which nothing reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

_OURS = "NEGSERVE_"
#: Variables that clients, administrators' commands and the health probe of a container read.
_READ = (
    "NEGSERVE_ADMIN_TOKEN_FILE",
    "NEGSERVE_CA_FILE",
    "NEGSERVE_CERT_FILE",
    "NEGSERVE_HEALTH_TARGET",
    "NEGSERVE_KEY_FILE",
    "NEGSERVE_TARGET",
    "NEGSERVE_TLS",
    "NEGSERVE_TOKEN",
    "NEGSERVE_TOKEN_FILE",
)


def mistyped_variables(options: Iterable[str] = (), prefix: str | None = None) -> Iterator[str]:
    """Yield a sentence for each variable that is set and whose name looks mistyped.

    Values are not shown: the value of a mistyped NEGSERVE_TOKEN is still a secret.

    :param options: further variables that are read
    :param prefix: report unread variables with this prefix even if no name is similar
    """
    known = {*_READ, *options}
    for name in sorted(os.environ):
        if not name.startswith(_OURS) or name in known:
            continue
        # Without the common prefix, which would make all names similar.
        ends = [each.removeprefix(_OURS) for each in known]
        alike = get_close_matches(name.removeprefix(_OURS), ends, n=1, cutoff=0.8)
        if alike:
            yield f"{name} is set, but nothing reads it; did you mean {_OURS}{alike[0]}?"
        elif prefix is not None and name.startswith(prefix):
            yield f"{name} is set, but there is no such option; see --help"
