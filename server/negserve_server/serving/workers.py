"""A server of several processes: each answers at the same addresses, over the same memory."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from negserve_server.config.server_config import ServerConfig
from negserve_server.listening.event_loop import ServerLoop
from negserve_server.logs import log_handler
from negserve_server.process.control_line import ControlLine
from negserve_server.process.family import Tell
from negserve_server.process.reloading import Reloading
from negserve_server.process.supervisor import Supervisor
from negserve_server.process.worker_line import Post
from negserve_server.serving.server import Server


def run_workers(
    server: Server,
    config: ServerConfig,
    reloading: Reloading,
    on_listening: Callable[[list[str]], None],
) -> int:
    """Fork the workers of a server, and keep them at work until SIGTERM or SIGINT.

    They are forked once graphs are mapped and kernels compiled, so they share both, and one that
    takes the place of another starts at once. This process never starts gRPC nor a thread of
    polars: neither survives a fork.

    :param server: loaded, not serving
    :param on_listening: called with the addresses once all workers listen
    :return: the exit status
    :raises WorkerFailed: if a worker can't start
    """

    def work(number: int, tell: Tell, line: ControlLine) -> None:
        log_handler.set_process(f"worker {number}")
        server.metrics.become_worker(number)

        def announce(addresses: list[str]) -> None:
            tell(" ".join(addresses))

        with asyncio.Runner(loop_factory=ServerLoop) as runner:
            runner.run(server.serve(announce, Post(number, config.workers, line)))

    # Else each worker's first collection would copy all objects.
    gc.collect()
    gc.freeze()
    control = server.shared_control()

    def note_restart(number: int) -> None:
        server.metrics.worker_restarted(number)
        control.note_restart()

    supervisor = Supervisor(
        config.workers,
        work,
        control,
        drain_seconds=config.drain_seconds,
        reloading=reloading,
        on_restart=note_restart,
    )
    try:
        return supervisor.run(lambda told: on_listening(told[0].split(" ")))
    finally:
        server.close()
