"""The command ``negserve-server``."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from negserve.terminal.extras import needing_or_exit

with needing_or_exit("the command negserve-server", "negserve[server]"):
    import click

    from negserve_server.process.command import (
        Commands,
        end_in_order,
        ending_at_once,
    )
    from negserve_server.process.process_limits import check_process_limits

try:
    check_process_limits()  # before the imports that need most of it
except OSError as error:
    sys.exit(f"Error: {error}")

_reading = ending_at_once()  # this file and all that it imports, which takes a second or so
_reading.__enter__()

with needing_or_exit("the command negserve-server", "negserve[server]"):
    from negserve.errors import NegserveError
    from negserve.types.checks.text import printable
    from negserve_server.commands.admin import admin
    from negserve_server.commands.build import build
    from negserve_server.commands.command_log import start_logging
    from negserve_server.commands.inspect import inspect
    from negserve_server.commands.report import report
    from negserve_server.commands.size import size
    from negserve_server.config.command_line import click_options, server_config
    from negserve_server.errors import NegserveServerError
    from negserve_server.listening.event_loop import ServerLoop
    from negserve_server.logs import log_handler
    from negserve_server.logs.grpc_log import GrpcLog
    from negserve_server.logs.log_level import LogLevel
    from negserve_server.process.reloading import Reloading
    from negserve_server.serving.server import Server
    from negserve_server.serving.workers import run_workers


@click.group(
    cls=Commands, context_settings={"auto_envvar_prefix": "NEGSERVE", "show_default": True}
)
@click.version_option(package_name="negserve")
def main() -> None:
    """Serve exact, reproducible negatives of knowledge graphs over gRPC."""


@main.command(params=click_options())
def serve(**options: Any) -> None:
    """Load the graphs and answer until SIGTERM or Ctrl-C.

    Prints one line per address, "listening on ADDR", once it can answer requests.
    On SIGHUP it reads tokens, certificates and a log level in a file again, and the repository.
    Each option can also be set in the environment: NEGSERVE_SERVE_LISTEN and so on. Separate
    several addresses by spaces, several datasets (NEGSERVE_SERVE_DATASET) by colons.

    \b
    Examples:
      negserve-server serve
      negserve-server serve --dataset fb=data/fb15k-237 --dataset world --listen 127.0.0.1:7000
      negserve-server serve --listen unix:/run/negserve.sock
      negserve-server serve --repository graphs --token-file tokens.toml
      negserve-server serve --allow-publish --publish-dir /var/lib/negserve
      negserve-server serve --listen 0.0.0.0:7733 --tls-cert cert.pem --tls-key key.pem \\
        --token-file tokens
    """  # noqa: D301
    try:
        level = LogLevel(options["log_level"])
    except (NegserveError, NegserveServerError) as error:
        raise click.BadParameter(str(error), param_hint="'--log-level'") from error
    start_logging(level.level, options["log_format"])
    reloading = Reloading()
    grpc_log = GrpcLog(level.level, options["log_format"])

    def set_level() -> None:
        log_handler.set_level(level.read())
        grpc_log.set_level(level.level)

    if level.is_in_file:
        reloading.add("log level", set_level)
    # As process 1 of a container, a program without a handler ignores SIGTERM; the server's own
    # handler comes later, with the event loop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        config = server_config(options)
        server = Server(config, reloading)
        if config.workers > 1:
            end_in_order()
        server.load()
        if config.workers > 1:
            sys.exit(run_workers(server, config, reloading, _announce))
        with asyncio.Runner(loop_factory=ServerLoop) as runner:
            runner.run(server.serve(_announce))
    except (NegserveError, NegserveServerError, ValueError, OSError) as error:
        raise click.ClickException(printable(str(error))) from error
    except MemoryError as error:
        raise click.ClickException(
            f"not enough memory{f': {error}' if str(error) else ''}; give the process "
            f"more, or load smaller graphs"
        ) from error


for _command in (build, inspect, report, size, admin):
    main.add_command(_command)


def _announce(addresses: list[str]) -> None:
    for address in addresses:
        click.echo(f"listening on {address}")
    sys.stdout.flush()


_reading.__exit__(None, None, None)

if __name__ == "__main__":
    main()
