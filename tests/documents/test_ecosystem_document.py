"""docs/ecosystem.md: its programs run, and its claims about the libraries hold."""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import torch
from torchkge.data_structures import KnowledgeGraph
from torchkge.sampling import UniformNegativeSampler

from negserve.integrations.torchkge import RemoteNegativeSampler
from negserve_server.graph import TriplesFactory
from tests.support import preloaded
from tests.support.graphs import REPOSITORY
from tests.support.server_process import ServerProcess

DOCUMENT = (REPOSITORY / "docs" / "ecosystem.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
ADDRESS = "127.0.0.1:7733"


def run(program: str, server: ServerProcess, folder: Path) -> str:
    assert program.count(ADDRESS) == 1
    result = preloaded.run(
        ["-c", program.replace(ADDRESS, server.target)],
        timeout=240, cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", ["RemoteSampling", "RemoteNegativeSampler"])
def test_the_programs_train(server: ServerProcess, tmp_path: Path, name: str):
    (program,) = (each for each in PROGRAMS if f"import {name}\n" in each)
    said = run(program, server, tmp_path)
    losses = [float(loss) for loss in re.findall(r"^epoch \d: loss (\S+)$", said, re.MULTILINE)]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]


def test_the_program_of_edges(server: ServerProcess, tmp_path: Path):
    (program,) = (each for each in PROGRAMS if "import negative_edges\n" in each)
    assert run(program, server, tmp_path).splitlines() == ["(2, 8) (8,)", "True"]


def test_every_program_is_run():
    assert len(PROGRAMS) == 3


def test_the_version_of_torchkge():
    assert f"torchkge=={version('torchkge')}" in DOCUMENT


def test_torchkge_never_draws_entity_0_and_we_do():
    triples = [("a", "b", "r"), ("b", "c", "r"), ("c", "d", "r")]
    kg = KnowledgeGraph(df=pd.DataFrame(triples, columns=["from", "to", "rel"]))
    columns = kg.head_idx[1:].repeat(200), kg.tail_idx[1:].repeat(200), kg.relations[1:].repeat(200)
    graph = TriplesFactory(
        {"training": torch.stack([kg.head_idx, kg.relations, kg.tail_idx], dim=1).numpy()}
    )
    for sampler, zero in (
        (UniformNegativeSampler(kg), False),
        (RemoteNegativeSampler(kg, graph=graph, sampler="basic"), True),
    ):
        heads, tails = sampler.corrupt_batch(*columns)
        assert bool(((heads == 0) | (tails == 0)).any()) == zero


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)[^)]*\)", DOCUMENT))
def test_links_have_targets(link: str):
    assert (REPOSITORY / "docs" / link).exists()
