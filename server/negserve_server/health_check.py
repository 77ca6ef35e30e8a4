"""The health check of a container: asks a server whether it serves.

``python -m negserve_server.health_check [TARGET [SERVICE]]`` exits 0 if the answer to the RPC
``grpc.health.v1.Health/Check`` is SERVING, else 1, with the reason. It has no TLS: let a server
with TLS also listen on a unix socket, and check there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from negserve.terminal.extras import needing_or_exit

with needing_or_exit("the health check", "negserve[server]"):
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from negserve._transport.targets import checked_targets
    from negserve.errors import InvalidRequestError
    from negserve.types.checks.text import printable

DEFAULT_TARGET = "127.0.0.1:7733"


def check(target: str, service: str, timeout: float) -> str:
    """Call ``Check`` once.

    :param target: ``HOST:PORT`` or ``unix:PATH``
    :param service: a service or a dataset; empty for the server as a whole
    :param timeout: seconds until the answer, connecting included
    :return: ``SERVING``, ``NOT_SERVING`` or another name of the health protocol
    :raises grpc.RpcError: if there was no answer
    """
    # A proxy set in the environment is for other machines, not for a server beside this process.
    with grpc.insecure_channel(target, options=(("grpc.enable_http_proxy", 0),)) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=timeout
        )
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the status.

    :param arguments: None for those of the process
    :return: the exit status, 0 for SERVING
    """
    parser = argparse.ArgumentParser(
        prog="python -m negserve_server.health_check",
        description="Exit 0 if the server answers SERVING, else 1. A server with TLS is asked at a "
        "unix socket, where it has none: let it listen at one, too.",
    )
    parser.add_argument(
        "target",
        nargs="?",
        default=os.environ.get("NEGSERVE_HEALTH_TARGET") or DEFAULT_TARGET,
        help=f"HOST:PORT or unix:PATH (default: $NEGSERVE_HEALTH_TARGET, else {DEFAULT_TARGET})",
    )
    parser.add_argument(
        "service",
        nargs="?",
        default="",
        help="a service or a dataset (default: the server as a whole)",
    )
    parser.add_argument(
        "--timeout", type=float, default=2.0, metavar="SECONDS", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    if arguments is None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        checked_targets(options.target)
        status = check(options.target, options.service, options.timeout)
    except grpc.RpcError as error:
        print(f"{options.target}: {error.code().name}: {printable(error.details() or '')}")
        return 1
    except InvalidRequestError as error:
        print(error)
        return 1
    print(f"{options.target}: {status}")
    return 0 if status == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main())
