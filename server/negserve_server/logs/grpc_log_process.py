"""What a server starts to read gRPC's log lines: a program of its own, started by its path.

It imports nothing of ours until there is a line: most servers never write one.
"""

import signal
import sys

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the server does
    lines = open(0, "rb", closefd=False)  # noqa: SIM115
    if lines.peek(1):
        from negserve_server.logs.grpc_log import rewrite_lines

        rewrite_lines(lines, *sys.argv[1:])
