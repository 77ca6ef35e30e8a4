"""Compiled code is there for processes that are forked at any time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_FORKS_DURING_THE_IMPORT = """
import os, signal, sys, threading, time
import numpy as np
from negserve import CorruptedBatch
from negserve.sampling.compiled_expansion import expanded_triples

is_importing = threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "numba":
            is_importing.set()
            time.sleep(1)

def expand():
    counts = np.zeros(2, np.uint8)
    batch = CorruptedBatch(0, np.ones((2, 3), np.uint8), counts, counts, None, 0)
    assert expanded_triples(batch, np.zeros((2, 3), np.int64))[..., 2].all()

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=expand)
thread.start()
is_importing.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(60)  # a lock that nobody releases
    expand()
    os._exit(0)
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_process_that_is_forked_while_another_thread_imports_numba_expands():
    done = subprocess.run(
        [sys.executable, "-c", _FORKS_DURING_THE_IMPORT],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
