"""Trackers log a sampler's arguments, but not the token."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pykeen.datasets import Nations
from pykeen.hpo import hpo_pipeline
from pykeen.pipeline import pipeline
from pykeen.trackers import ResultTracker

from negserve import CredentialsError
from negserve.integrations.pykeen import RemoteBernoulliNegativeSampler, RemoteFilterer
from tests.support.server_process import ServerProcess, server_process

TOKEN = "0123456789abcdef-of-nations"

pytestmark = [
    # As for the tests of training.
    pytest.mark.filterwarnings("ignore:Training instances are always shuffled:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
]


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(TOKEN)
    with server_process("--allow-publish", "--token-file", str(tokens)) as running:
        yield running


def options(target: str) -> dict[str, Any]:
    return {
        "dataset": "nations",
        "model": "transe",
        "model_kwargs": {"embedding_dim": 8},
        "negative_sampler": "remotebernoulli",
        "negative_sampler_kwargs": {"target": target, "filtered": True},
        "training_kwargs": {"num_epochs": 1, "batch_size": 512, "use_tqdm": False},
        "evaluation_kwargs": {"use_tqdm": False},
    }


class Tracker(ResultTracker):
    """Records what a tracker is given."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def start_run(self, run_name: str | None = None) -> None:
        self.told.append(run_name)

    def log_params(self, params: Mapping[str, Any], prefix: str | None = None) -> None:
        self.told.append((prefix, dict(params)))

    def log_metrics(
        self, metrics: Mapping[str, float], step: int | None = None, prefix: str | None = None
    ) -> None:
        self.told.append((prefix, step, dict(metrics)))


def test_a_pipeline_logs_and_saves_no_token(
    protected: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEGSERVE_TOKEN", TOKEN)
    tracker = Tracker()
    result = pipeline(
        **options(protected.target), random_seed=1, metadata={"by": "a test"},
        result_tracker=tracker,
    )  # fmt: skip
    assert len(result.losses) == 1
    for told in (repr(tracker.told), repr(result.configuration)):
        assert protected.target in told, "what the sampler is given is there"
        assert TOKEN not in told
    assert TOKEN not in repr(vars(result))
    result.save_to_directory(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"results.json", "metadata.json", "trained_model.pkl"} <= set(files)
    for name, content in files.items():
        assert TOKEN.encode() not in content, name


def test_hpo_stores_no_token(protected: ServerProcess, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEGSERVE_TOKEN", TOKEN)
    result = hpo_pipeline(**options(protected.target), n_trials=1)
    (trial,) = result.study.trials
    assert trial.state.name == "COMPLETE"
    told = repr([vars(trial), result.study.user_attrs, result._get_best_study_config()])
    assert protected.target in told
    assert TOKEN not in told


def test_samplers_and_filterers_hold_no_token(
    protected: ServerProcess, nations: Nations, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEGSERVE_TOKEN", TOKEN)
    triples = nations.training.mapped_triples
    sampler = RemoteBernoulliNegativeSampler(mapped_triples=triples, target=protected.target)
    filterer = RemoteFilterer(triples, target=protected.target)
    assert sampler.sample(triples[:5])[0].shape == (5, 1, 3)
    assert filterer.contains(triples[:5]).all()
    for each in (sampler, filterer):
        assert TOKEN not in repr(each)
        assert TOKEN.encode() not in pickle.dumps(each)
    copy = pickle.loads(pickle.dumps(sampler))
    monkeypatch.delenv("NEGSERVE_TOKEN")
    with pytest.raises(CredentialsError, match="NEGSERVE_TOKEN"):
        copy.sample(triples[:5])
