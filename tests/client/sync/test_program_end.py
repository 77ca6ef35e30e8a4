"""A program ends, whatever of the client it still holds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.server_process import ServerProcess

#: Python destroys what is in a cycle as the very last, when other threads stand still.
_PROGRAM = """
import sys
from negserve import Client, EpochConfig, SamplerConfig

class Holder:
    pass

held = Holder()
held.itself = held
factory = Client(sys.argv[1]).triples_factory("world")
held.batches = iter(factory.epochs(SamplerConfig(num_negs_per_pos=64), EpochConfig(batch_size=32)))
held.sampler = factory.open_sampler(num_negs_per_pos=64)
held.answers = held.sampler.stream((([(0, 0, 0)], n) for n in range(100)))
next(held.batches)
next(held.answers)
print("at its end")
"""


@pytest.mark.parametrize("is_global", [True, False], ids=["global", "cycle"])
def test_a_program_ends_in_the_middle_of_an_epoch(server: ServerProcess, is_global: bool):
    program = _PROGRAM if is_global else f"{_PROGRAM}\ndel held, factory"
    done = subprocess.run(
        [sys.executable, "-c", program, server.target], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "at its end\n", "")
