"""Entry points that PyKEEN finds without an import: samplers, and a server's labelled triples."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from pykeen.triples import TriplesFactory

from negserve import Client, InvalidRequestError, UnknownDatasetError
from negserve.integrations.pykeen import negserve
from negserve_server.graph import TriplesFactory as ServedFactory
from tests.support import preloaded
from tests.support.graphs import REPOSITORY
from tests.support.server_process import ServerProcess

_PROGRAM = """
from pykeen.pipeline import pipeline
from pykeen.sampling import negative_sampler_resolver
from pykeen.sampling.filtering import filterer_resolver
from pykeen.triples import TriplesFactory
from pykeen.triples.utils import load_triples

training = TriplesFactory.from_labeled_triples(load_triples("negserve:world"))
testing = training.clone_and_exchange_triples(training.mapped_triples[:50])
result = pipeline(
    training=training, testing=testing, model="transe", model_kwargs={"embedding_dim": 4},
    negative_sampler="remotebernoulli", negative_sampler_kwargs={"filtered": True},
    training_kwargs={"num_epochs": 1, "use_tqdm": False, "batch_size": 1024},
    evaluator="remoterankbased",
    evaluation_kwargs={"use_tqdm": False}, random_seed=1,
)
print(len(result.losses), training.num_triples)
print(filterer_resolver.lookup("remote").__name__, 0 < result.get_metric("mrr") < 1)
"""
#: PyKEEN imports us in the middle of its own import, which begins in another place here.
_EVALUATION_FIRST = """
from pykeen.evaluation import evaluator_resolver
import pykeen.pipeline
print(evaluator_resolver.lookup("remoterankbased").__name__)
print(evaluator_resolver.lookup("remotesampledrankbased").__name__)
"""
_EVALUATORS_FIRST = "from negserve.integrations.pykeen import RemoteRankBasedEvaluator"
#: Libraries that take most of its import; not PyKEEN, nor what of ours it imports.
_IMPORTED_BY_PYKEEN = ("pandas", "scipy.stats", "sklearn", "torch._dynamo", "torch_geometric")


def test_pykeen_imports_it_by_itself(publisher: ServerProcess, tmp_path: Path):
    """The entry points are those of pyproject.toml, as in an installation."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    information = tmp_path / "negserve-0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: negserve\nVersion: 0\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (information / "entry_points.txt").write_text("\n".join(lines))
    for program, printed in (
        (_PROGRAM, ["1 5408", "RemoteFilterer True"]),
        (_EVALUATION_FIRST, ["RemoteRankBasedEvaluator", "RemoteSampledRankBasedEvaluator"]),
        (
            f"{_EVALUATORS_FIRST}{_EVALUATION_FIRST}",
            ["RemoteRankBasedEvaluator", "RemoteSampledRankBasedEvaluator"],
        ),
    ):
        result = preloaded.run(
            ["-c", program],
            timeout=150, cwd=tmp_path, imports=_IMPORTED_BY_PYKEEN,
            env={
                **os.environ,
                "PYTHONPATH": str(tmp_path),
                "PYKEEN_HOME": str(tmp_path),
                "NEGSERVE_TARGET": publisher.target,
            },
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "could not load" not in result.stderr
        assert result.stdout.splitlines() == printed


def test_the_graph_is_loaded_with_the_servers_ids(
    publisher: ServerProcess, world_file: TriplesFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEGSERVE_TARGET", publisher.target)
    labels = negserve("world")
    assert labels.shape == (5408, 3)
    factory = TriplesFactory.from_labeled_triples(labels)
    assert factory.entity_to_id == world_file.entity_to_id
    assert factory.relation_to_id == world_file.relation_to_id
    with Client(publisher.target) as client:
        assert factory.entity_to_id == client.triples_factory("world").entity_to_id
    assert torch.equal(
        factory.mapped_triples.unique(dim=0), world_file.mapped_triples.unique(dim=0)
    )


def test_a_graph_without_labels_or_name(publisher: ServerProcess, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEGSERVE_TARGET", publisher.target)
    with Client(publisher.target) as client:
        client.publish("unlabelled", torch.tensor([[0, 0, 1], [1, 0, 0]]))
    with pytest.raises(InvalidRequestError, match="no labels"):
        negserve("unlabelled")
    with pytest.raises(UnknownDatasetError):
        negserve("nowhere")


def test_the_server_reads_what_pykeen_wrote(tmp_path: Path):
    labels = [("b", "likes", "a"), ("a", "knows", "c"), ("c", "likes", "b")]
    written = TriplesFactory.from_labeled_triples(np.array(labels))
    written.to_path_binary(tmp_path)
    read = ServedFactory.from_path(tmp_path)
    assert read.entity_to_id == written.entity_to_id
    assert read.relation_to_id == written.relation_to_id
    assert sorted(read.mapped_triples.tolist()) == sorted(written.mapped_triples.tolist())
