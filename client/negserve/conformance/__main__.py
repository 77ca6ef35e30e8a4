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
Hold the server at TARGET against the golden files of the protocol; or, with a COMMAND behind --,
hold a client in any language against what that server answers: the command reads tasks from its
standard input, an object of JSON a line, and writes a line of JSON for each. docs/clients.md says
what is in them. The exit status is 0 if nothing failed, 1 if something did, 2 if nothing could be
tried.
"""


def main(arguments: Sequence[str]) -> int:
    """Run, and give the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m negserve.conformance", description=_DESCRIPTION
    )
    parser.add_argument("target", help="HOST:PORT or unix:PATH of a server")
    parser.add_argument(
        "--publish", action="store_true", help="publish the graphs toy and wide for more cases"
    )
    parser.add_argument("command", nargs="*", help="a client's program and its arguments")
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
