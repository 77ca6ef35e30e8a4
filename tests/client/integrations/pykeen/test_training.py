"""PyKEEN's pipeline, HPO and DataLoader workers with negatives from a server."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from pykeen.hpo import hpo_pipeline
from pykeen.pipeline import PipelineResult, pipeline

import negserve.integrations.pykeen  # noqa: F401  (PyKEEN then knows the names)
from negserve import UnknownDatasetError
from tests.support import preloaded
from tests.support.server_process import ServerProcess

pytestmark = [
    # PyKEEN's training loop asks its own instances for what they warn about.
    pytest.mark.filterwarnings("ignore:Training instances are always shuffled:DeprecationWarning"),
    # It asks for pinned memory also where there is no accelerator.
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
]


def train(sampler: str, target: str | None = None, **options: Any) -> PipelineResult:
    kwargs = {"num_negs_per_pos": 4, **options.pop("negative_sampler_kwargs", {})}
    if target is not None:
        kwargs["target"] = target
    training = {"num_epochs": 3, "batch_size": 256, "use_tqdm": False}
    return pipeline(
        dataset="nations",
        model="transe",
        model_kwargs={"embedding_dim": 16},
        optimizer_kwargs={"lr": 0.05},
        negative_sampler=sampler,
        negative_sampler_kwargs=kwargs,
        training_kwargs={**training, **options.pop("training_kwargs", {})},
        evaluator_kwargs={"batch_size": 256},
        evaluation_kwargs={"use_tqdm": False},
        **{"random_seed": 1, **options},
    )


@pytest.mark.parametrize(
    ("sampler", "filters"),
    [
        ("remotebasic", {"filtered": True}),
        ("remotebernoulli", {"filterer": "bloom"}),
        ("remotebernoulli", {}),
        ("remotepseudotyped", {}),
    ],
    ids=str,
)
def test_the_pipeline_trains(publisher: ServerProcess, sampler: str, filters: dict[str, Any]):
    """Each sampler, and each filter: the server draws the one, PyKEEN's classes hand on the other.

    Samplers with filters draw what they should in test_filterer and test_negative_samplers.
    """
    result = train(sampler, publisher.target, negative_sampler_kwargs=filters)
    assert result.losses[-1] < result.losses[0]
    again = train(sampler, publisher.target, negative_sampler_kwargs=filters)
    assert again.losses == result.losses, "the random seed decides"
    other = train(sampler, publisher.target, negative_sampler_kwargs=filters, random_seed=2)
    assert other.losses != result.losses


@pytest.mark.parametrize("loss", ["marginranking", "nssa", "bcewithlogits"])
def test_losses_take_the_mask(publisher: ServerProcess, loss: str):
    filters = {"filtered": True, "filterer": "python-set"}
    result = train("remotebasic", publisher.target, loss=loss, negative_sampler_kwargs=filters)
    assert result.losses[-1] < result.losses[0]


def test_inverse_triples_train(publisher: ServerProcess):
    result = train(
        "remotebernoulli",
        publisher.target,
        dataset_kwargs={"create_inverse_triples": True},
        negative_sampler_kwargs={"filtered": True},
    )
    assert result.losses[-1] < result.losses[0]


def test_early_stopping_evaluates_in_between(publisher: ServerProcess):
    result = train(
        "remotebernoulli",
        publisher.target,
        training_kwargs={"num_epochs": 60},
        stopper="early",
        stopper_kwargs={"frequency": 2, "patience": 2, "relative_delta": 0.05},
        negative_sampler_kwargs={"filtered": True},
    )
    assert len(result.stopper.results) >= 2
    assert result.stopper.stopped
    assert len(result.losses) < 60


def test_a_server_without_the_graph_ends_the_pipeline(server: ServerProcess):
    with pytest.raises(UnknownDatasetError, match="--allow-publish"):
        train("remotebasic", server.target)


def test_hpo_tunes_the_exponent_of_degrees(publisher: ServerProcess):
    result = hpo_pipeline(
        dataset="nations",
        model="transe",
        model_kwargs={"embedding_dim": 8},
        training_kwargs={"num_epochs": 1, "batch_size": 512, "use_tqdm": False},
        evaluation_kwargs={"use_tqdm": False},
        negative_sampler="remotedegree",
        negative_sampler_kwargs={"target": publisher.target},
        n_trials=2,
    )
    alphas = [trial.params["negative_sampler.alpha"] for trial in result.study.trials]
    assert len(set(alphas)) == 2
    assert all(0 <= alpha <= 1 for alpha in alphas)


def test_hpo_tunes_what_a_sampler_takes(publisher: ServerProcess):
    result = hpo_pipeline(
        dataset="nations",
        model="transe",
        model_kwargs={"embedding_dim": 8},
        training_kwargs={"num_epochs": 1, "batch_size": 512, "use_tqdm": False},
        evaluation_kwargs={"use_tqdm": False},
        negative_sampler="remotebernoulli",
        negative_sampler_kwargs={"target": publisher.target},
        negative_sampler_kwargs_ranges={
            "filtered": {"type": "categorical", "choices": [True, False]},
            "seed": {"type": int, "low": 0, "high": 9},
        },
        n_trials=2,
    )
    assert [trial.state.name for trial in result.study.trials] == ["COMPLETE", "COMPLETE"]
    names = set(result.study.best_params)
    assert {f"negative_sampler.{it}" for it in ("num_negs_per_pos", "filtered", "seed")} <= names
    assert result.study.user_attrs["negative_sampler"] == "remotebernoulli"


def test_the_mrr_is_that_of_pykeens_own_sampler(publisher: ServerProcess):
    """Trained models are as good as with PyKEEN's sampler, up to the variance of seeds."""

    def scores(sampler: str, target: str | None = None) -> list[float]:
        return [
            train(
                sampler, target, random_seed=seed, training_kwargs={"num_epochs": 20}
            ).get_metric("mrr")
            for seed in range(3)
        ]  # fmt: skip

    for name in ("basic", "bernoulli"):
        theirs, ours = scores(name), scores(f"remote{name}", publisher.target)
        difference = statistics.mean(ours) - statistics.mean(theirs)
        spread = statistics.stdev([*ours, *theirs])
        assert abs(difference) < spread, (ours, theirs)
        assert min(ours) > 0.4, "untrained models have 0.24"


_WORKERS = """
import sys

import torch
from pykeen.datasets import Nations
from pykeen.pipeline import pipeline
from pykeen.triples.instances import BatchedSLCWAInstances
from torch.utils.data import DataLoader, get_worker_info


class Tagged(BatchedSLCWAInstances):
    def __iter__(self):
        info = get_worker_info()
        for batch in super().__iter__():
            yield (-1 if info is None else info.id), batch


def check(epochs):
    assert all(sum(len(batch["positives"]) for _, batch in epoch) == 1592 for epoch in epochs)
    assert all({worker for worker, _ in epoch} == {0, 1} for epoch in epochs)


def draw_in_forks(options):
    instances = Tagged.from_triples_factory(
        Nations().training, batch_size=100, drop_last=False, **options
    )
    loader = DataLoader(instances, batch_size=None, num_workers=2, timeout=60)
    runs = []
    for _ in range(2):
        torch.manual_seed(4)
        runs.append([list(loader) for _ in range(2)])
        check(runs[-1])
        # Also after the training process has drawn itself.
        assert not instances.negative_sampler.filterer(instances.mapped_triples).any()
    for (_, one), (_, other) in zip(sum(runs[0], []), sum(runs[1], []), strict=True):
        assert torch.equal(one["negatives"], other["negatives"])
    print("each run drew the same")


def main(method, target):
    torch.multiprocessing.set_start_method(method)
    kwargs = {"target": target, "filtered": True, "num_negs_per_pos": 4, "seed": 3}
    options = {"negative_sampler": "remotebernoulli", "negative_sampler_kwargs": kwargs}
    if method == "fork":
        draw_in_forks(options)

    # PyKEEN draws in the training process before it starts the workers.
    result = pipeline(
        dataset="nations", model="transe", model_kwargs={"embedding_dim": 8}, **options,
        training_kwargs={
            # Each spawned worker imports PyKEEN anew, and that of one shows that it can.
            "num_epochs": 1, "batch_size": 256, "use_tqdm": False,
            "num_workers": 2 if method == "fork" else 1,
        },
        evaluation_kwargs={"use_tqdm": False}, random_seed=1, stopper="early",
        stopper_kwargs={"frequency": 1},
    )
    print(f"trained, MRR {result.get_metric('mrr'):.2f}")


if __name__ == "__main__":
    import negserve.integrations.pykeen  # noqa: F401

    main(*sys.argv[1:])
"""


#: What the program imports, and torch once an optimizer is made.
_IMPORTED = ("negserve.integrations.pykeen", "pykeen.pipeline", "torch._dynamo")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_draw_and_train(publisher: ServerProcess, tmp_path: Path, method: str):
    """Samplers in forks with each setting of gRPC are in tests/client/sync/test_forks.py."""
    path = tmp_path / "workers.py"
    path.write_text(_WORKERS)
    said = preloaded.run(
        [path, method, publisher.target],
        timeout=150, cwd=tmp_path, imports=_IMPORTED, check=True,
    ).stdout  # fmt: skip
    if method == "fork":
        assert "each run drew the same" in said
    assert "trained, MRR 0." in said
