"""The command-line program ``negserve``: a command a module."""

from __future__ import annotations

from negserve.terminal.ending import ending_at_once

_importing = ending_at_once()  # Ctrl-C during the imports, which take a moment
_importing.__enter__()

from negserve.terminal.extras import needing_or_exit

with needing_or_exit("the command negserve", "negserve[cli]"):
    import click

    from negserve.cli.bench.command import bench
    from negserve.cli.evaluation_set import evaluation_set
    from negserve.cli.info import info
    from negserve.cli.pull import pull
    from negserve.cli.sample import sample
    from negserve.cli.top import top
    from negserve.terminal.command import Commands
    from negserve.terminal.variables import mistyped_variables

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"show_default": True})
@click.version_option(package_name="negserve")
def main() -> None:
    """Describe or watch a negserve server, draw negatives, download a dataset, or measure.

    Credentials come from the environment. NEGSERVE_TOKEN or NEGSERVE_TOKEN_FILE: the token, for
    servers that require one. NEGSERVE_CA_FILE (certificate authorities, PEM) or NEGSERVE_TLS=1
    (public authorities): use TLS. NEGSERVE_CERT_FILE and NEGSERVE_KEY_FILE: a client certificate.
    """
    for warning in mistyped_variables():
        click.echo(f"Warning: {warning}", err=True)


for _command in (info, sample, pull, evaluation_set, bench, top):
    main.add_command(_command)
_importing.__exit__(None, None, None)
