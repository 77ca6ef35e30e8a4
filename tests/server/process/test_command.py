"""The thread that ends a command on Ctrl-C is gone before the process forks."""

from __future__ import annotations

import subprocess
import sys

#: Imports as the command does, then runs it; each time looks which threads and pipes are left.
PROGRAM = """
import os, sys, threading
from negserve_server.process.command import Commands, ending_at_once, stop_watching

def left():
    pipes = [each for each in os.listdir("/proc/self/fd") if is_pipe(each)]
    return len(threading.enumerate()), len(pipes)

def is_pipe(number):
    try:
        return int(number) > 2 and os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")
    except FileNotFoundError:
        return False

with ending_at_once():
    inside = left()
print(inside, left())

def serve():
    stop_watching()
    stop_watching()
    print(left())

import click
commands = Commands("program", callback=serve, invoke_without_command=True)
sys.argv = ["program"]
commands.main()
"""


def test_no_thread_and_no_pipe_is_left_where_the_process_forks():
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "(2, 2) (1, 0)\n(1, 0)\n"
