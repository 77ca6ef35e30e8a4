"""Evaluations of score functions and modules, against a naive loop over all candidates."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from negserve import InvalidRequestError, KnownValues, UnknownPositivesWarning
from negserve.evaluation import EvaluationReport, evaluate
from negserve.types.config import SLOTS, Slot
from negserve_server.graph import TriplesFactory
from tests.client.evaluation.naive import naive_ranks
from tests.support.graphs import load

ALL_SPLITS = ("training", "validation", "testing")


def num_ids(graph: Any, slot: Slot) -> int:
    return int(graph.num_relations if slot == "relation" else graph.num_entities)


class TiedScores:
    """Scores from few values, a function of the ids alone."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def __call__(self, pairs: Tensor, slot: Slot, /) -> Tensor:
        ids = torch.arange(num_ids(self.graph, slot), device=pairs.device)
        mixed = pairs[:, :1] * 31 + pairs[:, 1:] * 17 + ids * 7 + SLOTS.index(slot)
        return ((mixed * mixed) % 101 // 4).float()


def expected_report(
    graph: TriplesFactory,
    triples: NDArray[np.int64],
    slots: tuple[Slot, ...],
    splits: tuple[str, ...],
) -> list[tuple[int, int, int]]:
    """Rank every query in a loop over all candidates, with the known triples as a set."""
    known = {tuple(row) for split in splits for row in graph.splits[split].tolist()}
    score = TiedScores(graph)
    found = []
    for slot in slots:
        column = SLOTS.index(slot)
        kept = [each for each in range(3) if each != column]
        for row in triples.tolist():
            others = set()
            for candidate in range(num_ids(graph, slot)):
                triple = [*row]
                triple[column] = candidate
                if candidate != row[column] and tuple(triple) not in known:
                    others.add(candidate)
            scores = score(torch.tensor([[row[each] for each in kept]]), slot)[0].tolist()
            found.append(naive_ranks(scores, scores[row[column]], others))
    return found


def ranks_of(report: EvaluationReport) -> list[tuple[int, int, int]]:
    columns = (report.optimistic, report.pessimistic, report.num_candidates)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("batch_size", [None, 1, 7, 1000])
def test_ranks_are_those_of_a_loop_over_all_candidates(batch_size: int | None):
    graph = load("world")
    triples = graph.splits["testing"][:90].copy()
    triples[80:] = triples[:10]  # may repeat
    slots: tuple[Slot, ...] = ("head", "relation", "tail")
    report = evaluate(TiedScores(graph), graph, triples, slots=slots, batch_size=batch_size)
    assert ranks_of(report) == expected_report(graph, triples, slots, ALL_SPLITS)
    assert report.slots.tolist() == [0] * 90 + [1] * 90 + [2] * 90
    assert report.relations.tolist() == triples[:, 1].tolist() * 3
    assert report.fingerprint == graph.fingerprint
    assert report.filter_splits == ALL_SPLITS


@pytest.mark.parametrize("splits", [(), ("training",), ("validation", "testing")])
def test_what_is_known_is_what_the_splits_hold(splits: tuple[str, ...]):
    graph = load("world")
    triples = graph.splits["testing"][:60]
    report = evaluate_quietly(TiedScores(graph), graph, triples, filter_splits=splits)
    assert ranks_of(report) == expected_report(graph, triples, ("head", "tail"), splits)
    if not splits:
        assert (report.num_candidates == graph.num_entities).all()


def evaluate_quietly(*arguments: Any, **options: Any) -> EvaluationReport:
    """Evaluate test triples, which a filter by the training triples does not know."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownPositivesWarning)
        return evaluate(*arguments, **options)


def test_the_filter_of_all_splits_is_no_leakage():
    import warnings

    graph = load("world")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = evaluate(TiedScores(graph), graph, split="validation")
    assert len(report) == 2 * len(graph.splits["validation"])


def test_triples_may_be_a_tensor_and_their_order_is_kept():
    graph = load("world")
    triples = graph.splits["testing"][40:10:-1]
    report = evaluate(TiedScores(graph), graph, torch.from_numpy(triples.copy()))
    assert ranks_of(report) == expected_report(graph, triples, ("head", "tail"), ALL_SPLITS)


class Counting:
    """A graph that counts the look-ups, and lets none end before it may."""

    def __init__(self, graph: TriplesFactory) -> None:
        self.graph = graph
        self.num_asked = 0
        self.has_changed = threading.Condition()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.graph, name)

    def known(self, pairs: ArrayLike, slot: Slot, splits: tuple[str, ...]) -> KnownValues:
        with self.has_changed:
            self.num_asked += 1
            self.has_changed.notify_all()
        return self.graph.known(pairs, slot, splits)

    def wait_for(self, num_asked: int) -> bool:
        with self.has_changed:
            return self.has_changed.wait_for(lambda: self.num_asked >= num_asked, timeout=60)


def test_known_values_are_read_while_the_model_scores_but_not_all_at_once():
    graph = Counting(load("world"))
    score, scored = TiedScores(graph), []

    def slow(pairs: Tensor, slot: Slot, /) -> Tensor:
        scored.append(len(pairs))
        # Two further batches are asked for meanwhile.
        assert graph.wait_for(min(len(scored) + 2, num_batches))
        assert graph.num_asked <= len(scored) + 2
        return score(pairs, slot)

    triples = graph.splits["testing"][:100]
    num_batches = 20
    evaluate(slow, graph, triples, batch_size=10)
    assert scored == [10] * num_batches


def test_an_error_of_the_model_ends_the_look_ups():
    graph = Counting(load("world"))

    def broken(pairs: Tensor, slot: Slot, /) -> Tensor:
        raise ZeroDivisionError("of the model")

    with pytest.raises(ZeroDivisionError, match="of the model"):
        evaluate(broken, graph, graph.splits["testing"], batch_size=1)
    assert graph.num_asked <= 3


class Module(nn.Module):
    """Scores, and notes in which mode and dtype."""

    def __init__(self, graph: TriplesFactory) -> None:
        super().__init__()
        self.score = TiedScores(graph)
        self.frozen = nn.Dropout()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.bfloat16))
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, pairs: Tensor, slot: Slot) -> Tensor:
        self.modes.add((self.training, torch.is_grad_enabled()))
        return self.score(pairs, slot).bfloat16() * self.weight


def test_a_module_is_in_evaluation_mode_only_meanwhile():
    graph = load("world")
    module = Module(graph)
    module.frozen.eval()
    triples = graph.splits["testing"][:20]
    report = evaluate(module, graph, triples)
    assert module.modes == {(False, False)}
    assert module.training
    assert not module.frozen.training
    assert ranks_of(report) == expected_report(graph, triples, ("head", "tail"), ALL_SPLITS)


def test_a_module_that_fails_is_back_in_its_mode():
    graph = load("world")
    module = Module(graph)
    module.score = lambda pairs, slot: None  # type: ignore[assignment]
    module.frozen.eval()
    with pytest.raises(AttributeError):
        evaluate(module, graph, graph.splits["testing"][:20])
    assert module.training
    assert not module.frozen.training
    assert torch.is_grad_enabled()


def test_triples_of_another_id_space_are_told():
    graph = load("world")
    order = np.random.default_rng(0).permutation(graph.num_entities)
    foreign = graph.splits["testing"].copy()
    foreign[:, [0, 2]] = order[foreign[:, [0, 2]]]
    with pytest.warns(UnknownPositivesWarning, match="known answers are wrong"):
        evaluate(TiedScores(graph), graph, foreign)


class Asyncio:
    """A graph of the asyncio client."""

    num_entities = num_relations = 1

    async def known(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"triples": None}, "either a split or triples"),
        ({"split": "testing"}, "either a split or triples"),
        ({"triples": None, "split": "test"}, "split='test' is not legal: choose from training,"),
        ({"triples": np.empty((0, 3), dtype=np.int64)}, "no triples"),
        ({"triples": [[0, 0, 9999]]}, "tail id 9999 of row 0 is out of range: there are"),
        ({"triples": [[0, 0, 0], [0, -1, 0]]}, "relation id -1 of row 1"),
        ({"triples": [[0, 0]]}, "(n, 3)"),
        ({"slots": ()}, "slots=()"),
        ({"slots": "tail"}, "slots='tail'"),
        ({"slots": ("tail", "tail")}, "each once"),
        ({"slots": ("object",)}, "slots=('object',)"),
        ({"filter_splits": "training"}, "give a sequence: ('training',)"),
        ({"filter_splits": ("train",)}, "choose from training, validation, testing"),
        ({"batch_size": 0}, "batch_size=0 is not legal"),
        ({"model": 3}, "a int can't score"),
        ({"model": lambda pairs, slot: pairs.float()}, "return a floating number for each id"),
        ({"model": lambda pairs, slot: [0.0]}, "returned a list"),
        ({"graph": Asyncio()}, "negserve.Client"),
    ],
)
def test_what_can_not_be_evaluated_is_refused(changes: dict[str, Any], words: str):
    graph = load("world")
    arguments: dict[str, Any] = {
        "model": TiedScores(graph), "graph": graph, "triples": graph.splits["testing"][:5]
    }  # fmt: skip
    with pytest.raises(InvalidRequestError) as refused:
        evaluate(**{**arguments, **changes})
    assert words in str(refused.value)
