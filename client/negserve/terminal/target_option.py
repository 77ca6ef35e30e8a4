"""Options that say which server a command calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

#: Seconds to wait for an unavailable server; short, as a person is waiting.
PATIENCE = 5.0


def target_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a decorator that adds ``--target``, with a default, and ``--timeout``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        return click.option(
            "--target",
            default=default,
            envvar="NEGSERVE_TARGET",
            show_envvar=True,
            help="Address of the server: HOST:PORT or unix:PATH.",
        )(
            click.option(
                "--timeout",
                default=30.0,
                type=click.FloatRange(min=0, min_open=True),
                help="Seconds a call may take.",
            )(command)
        )

    return decorate
