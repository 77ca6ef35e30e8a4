"""Variables of the environment that nobody reads, as their names are mistyped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

_OURS = "NEGSERVE_"
#: What clients, and the probe of a container, read.
_READ = (
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
    """Give a sentence for each variable that is set and looks like one that is read.

    Values are not shown: a mistyped token is still a token.

    :param options: further variables that are read
    :param prefix: of those all of which are meant for us, also if they look like none
    """
    known = {*_READ, *options}
    for name in sorted(os.environ):
        if not name.startswith(_OURS) or name in known:
            continue
        # Without the beginning, which makes all alike.
        ends = [each.removeprefix(_OURS) for each in known]
        alike = get_close_matches(name.removeprefix(_OURS), ends, n=1, cutoff=0.8)
        if alike:
            yield f"{name} is set, but nothing reads it; did you mean {_OURS}{alike[0]}?"
        elif prefix is not None and name.startswith(prefix):
            yield f"{name} is set, but there is no such option; see --help"
