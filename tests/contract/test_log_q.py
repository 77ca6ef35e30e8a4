"""The log probability of a negative is the one it was drawn with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from negserve import Client
from negserve.sampling import BasicNegativeSampler, TriplesFactory
from negserve_server import graph
from tests.contract.cases import CASES, CHUNKS, OWN, Case
from tests.contract.conftest import WAYS, Place, served
from tests.support.pairwise import pairwise
from tests.support.server_process import server_process

ENTITIES = "abcdefghijkl"
POSITIVES = [("a", "likes", "b"), ("c", "likes", "c"), ("a", "owns", "b"), ("l", "owns", "k")]
#: A correct sampler fails a test of fixed seed once and for all, or never; this was chosen once.
LEVEL = 1e-3


def lines() -> str:
    """Make a graph in which frequencies, candidates and known values differ by relation."""
    triples = [("a", "likes", tail) for tail in "bcdefg"]
    triples += [(head, "likes", "c") for head in "abcdef"]
    triples += [("a", "owns", "b"), ("a", "owns", "h"), ("i", "owns", "j"), ("k", "owns", "l")]
    triples += [(entity, "is", entity) for entity in ENTITIES]
    return "".join("\t".join(triple) + "\n" for triple in dict.fromkeys(triples))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weighted")
    (path / "train.txt").write_text(lines())
    (path / "type_constraints.txt").write_text(
        "likes\thead\ta\tb\tc\td\te\tf\nlikes\ttail\tb\tc\td\te\tf\tg\th\nowns\ttail\tb\th\tj\tl\n"
    )
    return path


@pytest.fixture(scope="module")
def toy(folder: Path) -> graph.TriplesFactory:
    return graph.TriplesFactory.from_path(folder)


@pytest.fixture(scope="module")
def toy_client(folder: Path) -> Iterator[Client]:
    options = "--dataset", f"toy={folder}", "--cache-dir", f"{folder}.cache", "--allow-pull"
    with server_process(*options) as server, Client(server.target) as client:
        yield client


@pytest.fixture
def factory(
    request: pytest.FixtureRequest, where: str, toy: graph.TriplesFactory
) -> TriplesFactory:
    if where == "in-process":
        return toy
    return served(request.getfixturevalue("toy_client"), where, "toy", request)


def triple(of: graph.TriplesFactory, head: str, relation: str, tail: str) -> tuple[int, int, int]:
    return of.entity_to_id[head], of.relation_to_id[relation], of.entity_to_id[tail]


def probabilities(
    case: Case, toy: graph.TriplesFactory, factory: TriplesFactory, positive: tuple[int, int, int],
    filtered: bool,
) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:  # fmt: skip
    """Draw many times; return counts and log probabilities by slot and value."""
    k = 30_000
    sampler = case.open(toy, factory, k, filtered, log_q=True, seed=6)
    # One positive: in a chunk of seven, the other six have the same values.
    batch = sampler.sample_compact(torch.tensor([positive]))
    assert batch.log_q is not None
    assert batch.log_q.dtype == np.float32
    assert batch.log_q.shape == (1, k)
    counts: dict[tuple[int, int], float] = {}
    log_q: dict[tuple[int, int], float] = {}
    told = zip(batch.slots()[0].tolist(), batch.rows()[0].tolist(), batch.log_q[0], strict=True)
    for slot, value, log in told:
        counts[slot, value] = counts.get((slot, value), 0) + 1
        assert log_q.setdefault((slot, value), float(log)) == float(log)
    return counts, log_q


@pytest.mark.parametrize(
    ("where", "name", "filtered", "positive"),
    pairwise(
        {
            "where": WAYS,
            "name": [name for name in CASES if not CASES[name].distinct],
            "filtered": [False, True],
            "positive": POSITIVES,
        },
        # Chunks have no exact filter.
        allowed=lambda row: not (row["filtered"] and row["name"] in CHUNKS),
    ),
)
def test_probabilities_sum_to_one_and_are_those_of_the_draws(
    toy: graph.TriplesFactory,
    factory: TriplesFactory,
    name: str,
    filtered: bool,
    positive: tuple[str, str, str],
):
    ids = triple(toy, *positive)
    legal = CASES[name].legal(toy, ids, ("training",) if filtered else ())
    counts, log_q = probabilities(CASES[name], toy, factory, ids, filtered)
    if not any(legal.values()):
        assert set(log_q.values()) == {0.0}, "saturated"
        return
    if name not in CHUNKS:
        assert set(log_q) == {(column, value) for column in legal for value in legal[column]}
    total = sum(np.exp(list(log_q.values())))
    assert total == pytest.approx(1, abs=1e-5)
    expected = np.array([np.exp(log_q[key]) for key in counts]) / total * sum(counts.values())
    # Slots are divided evenly, so that counts vary less than independent ones: one side only.
    assert len(counts) == 1 or stats.chisquare(list(counts.values()), expected).pvalue > LEVEL


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.75, 1.0, 2.0])
@pytest.mark.parametrize("filtered", [False, True])
def test_the_weights_of_degree(
    toy: graph.TriplesFactory, factory: TriplesFactory, alpha: float, filtered: bool
):
    case = Case(OWN["degree"].cls, {"alpha": alpha})
    ids = triple(toy, "a", "likes", "b")
    _, log_q = probabilities(case, toy, factory, ids, filtered)
    splits = ("training",) if filtered else ()
    uniform = OWN["basic"].legal(toy, ids, splits)
    for column in (0, 2):
        frequency = np.bincount(toy.mapped_triples[:, column], minlength=len(ENTITIES))
        weights = {
            value: float(frequency[value]) ** alpha
            for value in uniform[column]
            if frequency[value] or alpha == 0
        }
        for value, weight in weights.items():
            expected = np.log(0.5 * weight / sum(weights.values()))
            assert log_q[column, value] == pytest.approx(expected, abs=1e-5)
        assert {value for slot, value in log_q if slot == column} == set(weights)


def test_a_mixture_adds_the_negatives_of_its_parts(
    toy: graph.TriplesFactory, factory: TriplesFactory
):
    ids = triple(toy, "a", "likes", "b")
    mixture = Case(OWN["mixture"].cls, {"mixture": {"basic": 3, "typed": 1}})
    _, mixed = probabilities(mixture, toy, factory, ids, True)
    _, basic = probabilities(OWN["basic"], toy, factory, ids, True)
    _, typed = probabilities(OWN["typed"], toy, factory, ids, True)
    for key, log in mixed.items():
        parts = [np.exp(part.get(key, -np.inf)) for part in (basic, typed)]
        assert np.exp(log) == pytest.approx(0.75 * parts[0] + 0.25 * parts[1], rel=1e-5)


def test_log_q_is_none_unless_requested(world: Place):
    batch = BasicNegativeSampler(world.factory, 5).sample_compact(world.positives(3))
    assert batch.log_q is None
    batch = BasicNegativeSampler(world.factory, 5, log_q=True).sample_compact(world.positives(3))
    assert batch.log_q is not None
    np.testing.assert_allclose(batch.log_q, np.log(0.5 / (world.graph.num_entities - 1)), rtol=1e-6)
