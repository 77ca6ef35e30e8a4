"""PyKEEN trainings that are interrupted and resumed, and trainings that follow each other."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.hpo import hpo_pipeline
from pykeen.models import TransE
from pykeen.pipeline import pipeline
from pykeen.training import SLCWATrainingLoop

from negserve.integrations.pykeen.drawn_positions import DrawnPositions
from tests.support.server_process import ServerProcess

pytestmark = [
    pytest.mark.filterwarnings("ignore:Training instances are always shuffled:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SAMPLERS = ("remotebasic", "remotebernoulli", "remotepseudotyped", "remotedegree", "remote")


class Training:
    """A training as its program makes it, created again after each interruption."""

    def __init__(self, nations: Nations, random_seed: int, sampler: Any, **options: Any) -> None:
        self.factory = nations.training
        self.model = TransE(triples_factory=self.factory, embedding_dim=8, random_seed=random_seed)
        self.loop = SLCWATrainingLoop(
            triples_factory=self.factory,
            model=self.model,
            optimizer=torch.optim.Adam(self.model.parameters(), lr=0.05),
            negative_sampler=sampler,
            negative_sampler_kwargs={"num_negs_per_pos": 3, **options},
        )

    def train(self, num_epochs: int, **options: Any) -> dict[str, torch.Tensor]:
        """Train to the end of an epoch, and return the weights."""
        self.loop.train(
            self.factory, num_epochs=num_epochs, batch_size=400, use_tqdm=False, **options
        )
        return {name: it.detach().clone() for name, it in self.model.state_dict().items()}


CASES = [(name, {}, 0) for name in SAMPLERS]
CASES += [(name, {"seed": 11, "filtered": True}, 0) for name in ("remotebernoulli", "remote")]
CASES += [
    ("basic", {}, 2),  # PyKEEN's own: what is asked of ours
    ("remotebernoulli", {"filterer": "bloom"}, 0),
    ("remotebernoulli", {}, 2),
    ("remotebasic", {"seed": 11, "filtered": True}, 2),
    ("remote", {"seed": 11, "kind": "mixture", "mixture": {"basic": 1, "degree": 2}}, 2),
]


@pytest.mark.parametrize(("sampler", "options", "num_workers"), CASES, ids=str)
def test_two_halves_of_a_training_equal_the_whole(
    nations: Nations, publisher: ServerProcess, tmp_path: Path,
    sampler: str, options: dict[str, Any], num_workers: int,
):  # fmt: skip
    if sampler != "basic":
        options = {"target": publisher.target, **options}
    whole = Training(nations, 1, sampler, **options).train(4, num_workers=num_workers)
    kept = {
        "checkpoint_name": "half.pt",
        "checkpoint_directory": tmp_path,
        "checkpoint_frequency": 0,
    }
    half = Training(nations, 1, sampler, **options).train(2, num_workers=num_workers, **kept)
    resumed = Training(nations, 2, sampler, **options).train(4, num_workers=num_workers, **kept)
    assert whole.keys() == resumed.keys()
    for name, weights in whole.items():
        assert torch.equal(weights, resumed[name]), name
    assert any(not torch.equal(weights, half[name]) for name, weights in whole.items())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_second_training_draws_other_negatives(
    nations: Nations, publisher: ServerProcess, monkeypatch: pytest.MonkeyPatch, num_workers: int
):
    drawn: list[torch.Tensor] = []
    process = SLCWATrainingLoop._process_batch_static

    def noting(model: Any, loss: Any, mode: Any, batch: Any, *rest: Any, **more: Any) -> Any:
        drawn.append(torch.cat([batch["positives"].unsqueeze(1), batch["negatives"]], dim=1))
        return process(model, loss, mode, batch, *rest, **more)

    monkeypatch.setattr(SLCWATrainingLoop, "_process_batch_static", staticmethod(noting))
    training = Training(nations, 1, "remotebasic", target=publisher.target, seed=5)
    rows = []
    for num_epochs in (1, 2):  # PyKEEN counts them from the first training on
        training.train(num_epochs, num_workers=num_workers)
        # Before it, PyKEEN finds out what fits in memory.
        rows.append(torch.cat(drawn)[-nations.training.num_triples :])
        drawn.clear()
    first, second = (
        it[torch.unique(it[:, 0], dim=0, return_inverse=True)[1].argsort()] for it in rows
    )
    assert torch.equal(first[:, 0], second[:, 0]), "each epoch has every positive once"
    # Equal draws of 3 of some 13 entities: by chance, some 0.05 % of the positives.
    share = (first == second).all(dim=-1).all(dim=-1).float().mean()
    assert share < 0.02, share


def test_trials_and_replicates_of_one_seed_draw_at_different_positions(
    publisher: ServerProcess, monkeypatch: pytest.MonkeyPatch
):
    taken: list[tuple[int, int]] = []
    take = DrawnPositions.take

    def noting(self: DrawnPositions, count: int) -> int:
        taken.append((take(self, count), count))
        return taken[-1][0]

    monkeypatch.setattr(DrawnPositions, "take", noting)
    common: dict[str, Any] = {
        "dataset": "nations",
        "model": "transe",
        "training_kwargs": {"num_epochs": 2, "batch_size": 400, "use_tqdm": False},
        "evaluation_kwargs": {"use_tqdm": False},
        "negative_sampler": "remotebasic",
        "negative_sampler_kwargs": {"target": publisher.target, "seed": 5},
    }
    hpo_pipeline(n_trials=2, **common)
    for _ in range(2):  # as replicates are trained
        pipeline(**common)
    assert len(taken) >= 4 * 2 * 4
    assert all(before[0] + before[1] <= after[0] for before, after in pairwise(sorted(taken)))
