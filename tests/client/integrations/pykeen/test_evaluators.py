"""Evaluators whose filters come from a server give PyKEEN's own results."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.evaluation import (
    MacroRankBasedEvaluator,
    MetricResults,
    RankBasedEvaluator,
    SampledRankBasedEvaluator,
    evaluator_resolver,
)
from pykeen.models import ComplEx, DistMult, Model, TransE
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.triples import CoreTriplesFactory

from negserve import Client, InvalidRequestError, UnknownDatasetError
from negserve.integrations.pykeen import (
    RemoteMacroRankBasedEvaluator,
    RemoteRankBasedEvaluator,
    RemoteSampledRankBasedEvaluator,
)
from negserve.types.kinds import Kind
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process

pytestmark = [
    pytest.mark.filterwarnings("ignore:Training instances are always shuffled:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
]

MODELS: list[type[Model]] = [ComplEx, DistMult, TransE]


def split_of(name: str, split: str) -> CoreTriplesFactory:
    graph = load(name)
    return CoreTriplesFactory(
        torch.from_numpy(graph.splits[split].copy()),
        num_entities=graph.num_entities,
        num_relations=graph.num_relations,
    )


def rounded(model: Model) -> Model:
    """Make a model whose scores are often equal."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 8).round())
    return model


def evaluate(evaluator: RankBasedEvaluator, model: Model, *factories: Any, **options: Any) -> Any:
    """Evaluate on the triples of the last factory; filter those of all."""
    *others, last = (factory.mapped_triples for factory in factories)
    return evaluator.evaluate(
        model,
        last,
        additional_filter_triples=others,
        **{"batch_size": 256, "use_tqdm": False, **options},
    )


def assert_equal(found: MetricResults[Any], expected: MetricResults[Any]) -> None:
    ours, theirs = found.to_flat_dict(), expected.to_flat_dict()
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 150
    different = {
        key: (ours[key], theirs[key])
        for key in theirs
        if ours[key] != theirs[key] and not (math.isnan(ours[key]) and math.isnan(theirs[key]))
    }
    assert not different


#: All models on small graphs; one on a graph of 2,034 entities, where each takes seconds.
CASES = [(name, model) for name in ("world", "umls") for model in MODELS]
CASES.append(("codex-s", DistMult))


@pytest.mark.parametrize(("name", "model"), CASES)
def test_every_metric_is_that_of_pykeen(publisher: ServerProcess, name: str, model: type[Model]):
    training, validation, testing = (
        split_of(name, split) for split in ("training", "validation", "testing")
    )
    made = rounded(model(triples_factory=training, embedding_dim=4, random_seed=1))
    ours, theirs = RemoteRankBasedEvaluator(target=publisher.target), RankBasedEvaluator()
    for factories in ((training, validation, testing), (training, validation)):
        expected = evaluate(theirs, made, *factories)
        assert_equal(evaluate(ours, made, *factories), expected)
    # PyKEEN 1.11's own evaluator fails without a filter.
    plain = RemoteRankBasedEvaluator(target=publisher.target, filtered=False)
    unfiltered = evaluate(plain, made, validation)
    assert expected.get_metric("mrr") > unfiltered.get_metric("mrr")


def test_other_evaluators_and_options(publisher: ServerProcess, nations: Nations):
    splits = nations.training, nations.validation, nations.testing
    model = rounded(DistMult(triples_factory=nations.training, embedding_dim=4, random_seed=1))
    target = publisher.target
    for ours, theirs in (
        (RemoteMacroRankBasedEvaluator(target=target), MacroRankBasedEvaluator()),
        (
            RemoteRankBasedEvaluator(target=target, metrics=["mrr"], add_defaults=True),
            RankBasedEvaluator(metrics=["mrr"], add_defaults=True),
        ),
        (RemoteRankBasedEvaluator(target=target, batch_size=7), RankBasedEvaluator(batch_size=7)),
    ):
        assert_equal(evaluate(ours, model, *splits), evaluate(theirs, model, *splits))
    ours, theirs = RemoteRankBasedEvaluator(target=target), RankBasedEvaluator()
    for options in (
        {"targets": ("tail",)},
        {"restrict_entities_to": torch.tensor([8, 2, 3, 5]), "pre_filtered_triples": False},
        {"slice_size": 3},
    ):
        found = evaluate(ours, model, *splits, **options)
        assert_equal(found, evaluate(theirs, model, *splits, **options))
    # Some training triples, which are a part of a split.
    part = nations.training.clone_and_exchange_triples(nations.training.mapped_triples[::9])
    found = evaluate(ours, model, nations.training, part)
    assert_equal(found, evaluate(theirs, model, nations.training, part))
    copy = pickle.loads(pickle.dumps(ours))
    assert_equal(evaluate(copy, model, *splits), evaluate(theirs, model, *splits))


@pytest.mark.parametrize("kind", ["basic", "degree"])
def test_sampled_ranks_are_pykeens_for_the_same_candidates(publisher: ServerProcess, kind: Kind):
    training, validation, testing = (
        split_of("world", split) for split in ("training", "validation", "testing")
    )
    model = rounded(DistMult(triples_factory=training, embedding_dim=4, random_seed=1))
    ours = RemoteSampledRankBasedEvaluator(
        target=publisher.target, num_negatives=20, kind=kind, distinct=kind == "basic", seed=5
    )
    found = evaluate(ours, model, training, validation, testing)
    pinned = ours.evaluation_set
    assert pinned is not None
    negatives = {"head": [], "tail": []}
    graph = load("world")
    for batch in pinned.batches(graph):
        negatives[batch.side].append(torch.from_numpy(batch.candidates.astype("int64")))
        assert not graph.contains(batch.triples().reshape(-1, 3), tuple(graph.columns)).any()
    order = testing.clone_and_exchange_triples(torch.from_numpy(pinned.rows(graph).copy()))
    theirs = SampledRankBasedEvaluator(
        order,
        head_negatives=torch.cat(negatives["head"]),
        tail_negatives=torch.cat(negatives["tail"]),
    )
    assert_equal(found, evaluate(theirs, model, training, validation, order))
    # Other triples, without another evaluator; and the first again.
    evaluate(ours, model, training, validation)
    assert ours.evaluation_set != pinned
    evaluate(ours, model, training, validation, testing)
    assert ours.evaluation_set == pinned


def test_fewer_candidates_than_asked_for(publisher: ServerProcess, nations: Nations):
    """Of 14 entities some are known: the others are all candidates, once each."""
    splits = nations.training, nations.validation, nations.testing
    model = rounded(DistMult(triples_factory=nations.training, embedding_dim=4, random_seed=1))
    sampled = RemoteSampledRankBasedEvaluator(target=publisher.target, num_negatives=14)
    found = evaluate(sampled, model, *splits)
    assert_equal(found, evaluate(RankBasedEvaluator(), model, *splits))


def test_illegal_options_of_the_sampled_evaluator(publisher: ServerProcess, nations: Nations):
    with pytest.raises(InvalidRequestError, match="distinct"):
        RemoteSampledRankBasedEvaluator(kind="degree")
    with pytest.raises(InvalidRequestError, match="filtered"):
        RemoteSampledRankBasedEvaluator(filtered=False)
    model = TransE(triples_factory=nations.training, embedding_dim=4)
    with pytest.raises(InvalidRequestError, match="restrict_entities_to"):
        evaluate(
            RemoteSampledRankBasedEvaluator(target=publisher.target),
            model, nations.training, nations.testing,
            restrict_entities_to=torch.arange(5), pre_filtered_triples=False,
        )  # fmt: skip


def train(evaluator: str, nations: Nations, **options: Any) -> PipelineResult:
    return pipeline(
        training=nations.training,
        validation=nations.validation,
        testing=nations.testing,
        model="transe",
        model_kwargs={"embedding_dim": 4},
        training_kwargs={"num_epochs": 4, "use_tqdm": False, "batch_size": 512},
        evaluator=evaluator,
        evaluator_kwargs=options,
        evaluation_kwargs={"use_tqdm": False, "batch_size": 64},
        stopper="early",
        stopper_kwargs={"frequency": 1, "patience": 5, "relative_delta": 0.002},
        random_seed=3,
        device="cpu",
    )


def test_a_pipeline_with_early_stopping(publisher: ServerProcess, nations: Nations):
    ours = train("remoterankbased", nations, target=publisher.target)
    theirs = train("rankbased", nations)
    assert_equal(ours.metric_results, theirs.metric_results)
    assert len(theirs.stopper.results) == 4
    assert ours.stopper.results == theirs.stopper.results


def test_pykeen_finds_them_by_name():
    assert evaluator_resolver.lookup("remoterankbased") is RemoteRankBasedEvaluator
    assert evaluator_resolver.lookup("RemoteMacroRankBased") is RemoteMacroRankBasedEvaluator
    assert evaluator_resolver.lookup("remotesampledrankbased") is RemoteSampledRankBasedEvaluator


def test_triples_that_no_dataset_has(server: ServerProcess, nations: Nations):
    model = TransE(triples_factory=nations.training, embedding_dim=4)
    evaluator = RemoteRankBasedEvaluator(target=server.target)
    with pytest.raises(UnknownDatasetError, match="--allow-publish"):
        evaluate(evaluator, model, nations.training, nations.testing)
    named = RemoteRankBasedEvaluator(target=server.target, dataset="world")
    with pytest.raises(InvalidRequestError, match=r"world.* no splits .* publish"):
        evaluate(named, model, nations.training, nations.testing)
    assert evaluator.filtered, "as before the evaluation that failed"


def test_what_was_evaluated_is_published_once(publisher: ServerProcess, nations: Nations):
    model = TransE(triples_factory=nations.training, embedding_dim=4)
    evaluate(
        RemoteRankBasedEvaluator(target=publisher.target),
        model, nations.training, nations.validation, nations.testing,
    )  # fmt: skip
    with Client(publisher.target) as client:
        before = client.list_datasets()
        evaluate(
            RemoteRankBasedEvaluator(target=publisher.target),
            model, nations.training, nations.validation, nations.testing,
        )  # fmt: skip
        assert client.list_datasets() == before


def test_a_server_that_is_killed_in_the_middle(nations: Nations):
    """Another replica, which has never seen the graph, goes on."""
    splits = nations.training, nations.validation, nations.testing
    model = rounded(TransE(triples_factory=nations.training, embedding_dim=4, random_seed=1))
    with server_process("--allow-publish") as first, server_process("--allow-publish") as second:

        class Interrupted(RemoteRankBasedEvaluator):
            """Kills the server after some batches."""

            num_batches = 0

            def process_scores_(self, *arguments: Any, **options: Any) -> None:
                self.num_batches += 1
                if self.num_batches == 5:
                    first.kill()
                super().process_scores_(*arguments, **options)

        evaluator = Interrupted(target=[first.target, second.target], timeout=20)
        found = evaluate(evaluator, model, *splits, batch_size=16)
        assert evaluator.num_batches > 20
    assert_equal(found, evaluate(RankBasedEvaluator(), model, *splits, batch_size=16))
