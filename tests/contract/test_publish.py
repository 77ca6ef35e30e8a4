"""A published graph equals the graph that the client holds, whoever publishes it, at any time."""

from __future__ import annotations

import asyncio
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchkge.data_structures import KnowledgeGraph

from negserve import Client, EpochConfig, FingerprintMismatchError, SamplerConfig, aio
from negserve.sampling import TypedNegativeSampler
from negserve_server import graph
from tests.contract.cases import CASES
from tests.contract.conftest import ALL_SPLITS
from tests.support import preloaded
from tests.support.graphs import GRAPHS, REPOSITORY, load
from tests.support.server_process import server_process

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # PyG itself uses torch.jit.script
    from torch_geometric.data import Data


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's log."""
    return tmp_path_factory.mktemp("publish") / "log"


@pytest.fixture(scope="module")
def publisher(log: Path) -> Iterator[Client]:
    """A client of a server that accepts published graphs and has only those."""
    with (
        server_process("--allow-publish", "--threads", "2", log=log) as server,
        Client(server.target) as client,
    ):
        yield client


def uploads(log: Path, name: str) -> int:
    """Count how often a graph was uploaded and built."""
    return len(re.findall(rf": published {re.escape(name)}: ", log.read_text()))


def without_types(name: str) -> graph.TriplesFactory:
    """Return a graph without labels and type constraints."""
    loaded = load(name)
    return graph.TriplesFactory(
        loaded.splits, num_entities=loaded.num_entities, num_relations=loaded.num_relations
    )


@pytest.mark.covers("Publish")
@pytest.mark.parametrize("name", GRAPHS)
def test_it_serves_the_same_negatives_as_the_graph_itself(publisher: Client, name: str):
    loaded = load(name)
    factory = publisher.publish(f"{name}.published", loaded)
    assert factory.fingerprint == loaded.fingerprint
    assert factory.split_fingerprints == loaded.split_fingerprints
    assert factory.num_triples_per_split == {s: len(t) for s, t in loaded.splits.items()}
    assert factory.type_constraints_fingerprint == loaded.type_constraints_fingerprint
    assert (factory.entity_to_id, factory.relation_to_id) == (
        loaded.entity_to_id,
        loaded.relation_to_id,
    )
    triples = torch.from_numpy(loaded.mapped_triples[:: max(1, loaded.num_triples // 500)].copy())
    for case in CASES.values():
        if "typed" in case.parts and loaded.type_constraints is None:
            continue
        ours, theirs = (
            case.open(loaded, place, 5, filtered=True, filter_splits=ALL_SPLITS, seed=9)
            if not case.options.get("chunk_size")
            else case.open(loaded, place, 5, seed=9)
            for place in (loaded, factory)
        )
        for expected, found in zip(
            ours.sample(triples, position=11), theirs.sample(triples, position=11), strict=True
        ):
            assert (expected is None) == (found is None)
            assert expected is None or torch.equal(expected, found)
    np.testing.assert_array_equal(
        factory.relation_statistics.head_probability, loaded.relation_statistics.head_probability
    )
    assert factory.contains(loaded.splits["testing"], ("testing",)).all()


def test_its_epochs_are_those_of_the_graph(publisher: Client):
    loaded = without_types("world")
    factory = publisher.publish("epochs", loaded.splits)
    config = SamplerConfig(num_negs_per_pos=3, filter_splits=("training",), seed=4)
    epoch = iter(factory.epochs(config, EpochConfig(batch_size=700)))
    served = list(epoch)
    assert np.concatenate([batch.positives for batch in served]).shape == (5408, 3)
    sampler = loaded.open_sampler(num_negs_per_pos=3, filter_splits=("training",), seed=4)
    begin = 0
    for batch in served:
        expected = sampler.sample(batch.positives, begin)
        np.testing.assert_array_equal(batch.negatives.replaced, expected.replaced)
        begin += len(batch.positives)


def test_forms_of_one_graph_are_one_graph(publisher: Client, log: Path):
    training = load("world").mapped_triples
    validation = load("world").splits["validation"]
    sizes = {
        "num_entities": load("world").num_entities,
        "num_relations": load("world").num_relations,
    }
    held = SimpleNamespace(mapped_triples=torch.from_numpy(training.copy()), **sizes)
    fingerprints = {
        publisher.publish("forms", factory, **given).fingerprint
        for factory, given in (
            (held, {}),
            (training, sizes),
            (training[::-1].astype(np.int32), sizes),
            (torch.from_numpy(np.concatenate([training, training[:9]])), sizes),
            ({"training": held}, {}),
            ({"training": training.tolist()}, sizes),
        )
    }
    assert len(fingerprints) == 1
    assert uploads(log, "forms") == 1
    with pytest.raises(FingerprintMismatchError, match="forms") as caught:
        publisher.publish("forms", {"training": held, "validation": validation})
    assert caught.value.metadata["limit"] == fingerprints.pop()


def test_type_constraints_and_labels_that_arrays_come_with(publisher: Client):
    """They travel as a factory's do; without them the graph is another one, or has no labels."""
    loaded = load("world")
    types = loaded.type_constraints
    assert types is not None
    sizes = {"num_entities": loaded.num_entities, "num_relations": loaded.num_relations}
    pairs = {"head": types.heads[::-1], "tail": np.concatenate([types.tails, types.tails[:5]])}
    factory = publisher.publish(
        "with-types",
        loaded.splits,
        **sizes,
        type_constraints=pairs,
        entity_to_id=loaded.entity_to_id,
        relation_to_id=loaded.relation_to_id,
    )
    assert factory.fingerprint == loaded.fingerprint
    assert factory.relation_labels == list(loaded.relation_to_id)
    ours, theirs = (
        TypedNegativeSampler(place, 9, filtered=True).sample(torch.tensor([[1055, 8, 623]]))[0]
        for place in (loaded, factory)
    )
    assert torch.equal(ours, theirs)
    # Labels are not in the fingerprint: who comes first gives them.
    unlabelled = publisher.publish("without-labels", loaded.splits, **sizes, type_constraints=types)
    assert unlabelled.fingerprint == loaded.fingerprint
    assert publisher.publish("without-labels", loaded).entity_to_id == {}
    untyped = publisher.publish("without-types", loaded.splits, **sizes)
    assert untyped.fingerprint != loaded.fingerprint
    with pytest.raises(FingerprintMismatchError, match="without-types"):
        publisher.publish("without-types", loaded)


def test_a_graph_of_a_library_is_the_one_that_it_holds(publisher: Client):
    loaded = load("world")
    heads, relations, tails = torch.from_numpy(loaded.mapped_triples.copy()).T
    kg = KnowledgeGraph(
        kg={"heads": heads, "relations": relations, "tails": tails},
        ent2ix=dict(loaded.entity_to_id),
        rel2ix=dict(loaded.relation_to_id),
    )
    data = Data(
        edge_index=torch.stack([heads, tails]), edge_type=relations, num_nodes=loaded.num_entities
    )
    expected = loaded.split_fingerprints["training"]
    for name, held in (("torchkge", kg), ("geometric", data)):
        factory = publisher.publish(name, held)
        assert factory.split_fingerprints["training"] == expected
        assert factory.contains(loaded.mapped_triples, ("training",)).all()
    assert publisher.triples_factory("torchkge").relation_labels == list(loaded.relation_to_id)


def test_asyncio_publishes_them_too(publisher: Client):
    loaded = load("world")

    async def publish() -> tuple[str, object]:
        async with aio.Client(publisher.target) as client:
            factory = await client.publish("by-asyncio", loaded)
            return factory.fingerprint, await factory.relation_labels()

    assert asyncio.run(publish()) == (loaded.fingerprint, list(loaded.relation_to_id))


def test_16_ranks_at_once_cost_one_upload_and_one_build(
    publisher: Client, log: Path, tmp_path: Path
):
    loaded = without_types("fb15k-237")
    sizes = {"num_entities": loaded.num_entities, "num_relations": loaded.num_relations}
    np.savez(tmp_path / "graph.npz", **loaded.splits, **sizes)  # type: ignore[arg-type]
    command = ("-m", "tests.support.children.publishing_ranks", publisher.target, "at-once")
    done = preloaded.run([*command, str(tmp_path / "graph.npz"), "16"], cwd=REPOSITORY, timeout=120)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    sampler = loaded.open_sampler(num_negs_per_pos=4, filter_splits=("training",))
    drawn = sampler.sample(np.array([[1, 2, 3]]), 0).replaced.tolist()
    assert [answer[:2] for answer in answers] == [[loaded.fingerprint, drawn]] * 16
    assert [("uploading" in stages) for _, _, stages in answers].count(True) == 1
    assert any("waiting" in stages for _, _, stages in answers)
    assert uploads(log, "at-once") == 1


def test_a_graph_that_is_served_from_files_is_found(client: Client):
    """Also on a server that accepts no published graphs."""
    loaded = load("umls")
    factory = client.publish("umls", loaded.splits)
    assert factory.entity_to_id == loaded.entity_to_id
    with pytest.raises(FingerprintMismatchError) as caught:
        client.publish("umls", loaded.mapped_triples)
    assert caught.value.metadata["limit"] == loaded.fingerprint


def test_progress_is_told(publisher: Client):
    loaded = load("fb15k-237")
    seen = []
    publisher.publish("progress", loaded.splits, on_progress=seen.append)
    uploading = [progress.num_received for progress in seen if progress.stage == "uploading"]
    assert uploading == sorted(uploading)
    assert len(uploading) > 3
    assert {progress.num_triples for progress in seen} == {310_079}
    assert seen[-1].num_received == 310_079
