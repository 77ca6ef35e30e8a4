"""``python -m negserve.conformance TARGET [-- COMMAND ARGUMENT...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from negserve.conformance.client_check import check_client
from negserve.conformance.report import Report
from negserve.conformance.server_check import check_server
from negserve.errors import NegserveError

_DESCRIPTION = """\
Check the server at TARGET against the golden files of the protocol. With a COMMAND after --, check
a client in any language instead, against that server's answers: the command reads tasks, one JSON
object a line, from standard input and writes one line of JSON for each; docs/clients.md describes
both. The exit status is 0 if nothing failed, 1 if something failed, 2 if nothing could be
checked.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the checks and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m negserve.conformance", description=_DESCRIPTION
    )
    parser.add_argument("target", help="HOST:PORT or unix:PATH of a server")
    parser.add_argument(
        "--publish", action="store_true", help="publish the graphs toy and wide, for more cases"
    )
    parser.add_argument("command", nargs="*", help="the client program and its arguments")
    options = parser.parse_args(arguments)
    report = Report()
    try:
        if options.command:
            check_client(options.target, options.command, report, publish=options.publish)
        else:
            check_server(options.target, report, publish=options.publish)
    except NegserveError as error:
        print(error, file=sys.stderr)
        return 2
    report.print_table()
    if report.num_failed:
        return 1
    return 0 if report.num_passed else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
