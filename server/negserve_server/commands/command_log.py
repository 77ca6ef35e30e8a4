"""The log of a command."""

from __future__ import annotations

import logging

import click

from negserve.terminal.variables import mistyped_variables
from negserve_server.logs import log_handler
from negserve_server.logs.formatters import LogFormat

logger = logging.getLogger(__name__)


def start_logging(level: str, log_format: LogFormat = "text") -> None:
    """Set up logging, and warn of misspelt environment variables."""
    log_handler.set_up(level, log_format)
    program = click.get_current_context().find_root().command
    commands = program.commands if isinstance(program, click.Group) else {}
    options = {
        f"NEGSERVE_{command.upper()}_{(option.name or '').upper()}"
        for command, each in commands.items()
        for option in each.params
        if isinstance(option, click.Option)
    }
    for warning in mistyped_variables(options, "NEGSERVE_SERVE_"):
        logger.warning("%s", warning)
