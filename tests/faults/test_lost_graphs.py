"""Replicas that lost a published graph: clients that hold it publish it again, others fail over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from negserve import (
    Client,
    EpochConfig,
    LimitExceededError,
    RemoteTriplesFactory,
    SamplerConfig,
    UnknownDatasetError,
    aio,
)
from negserve.integrations.pykeen import RemoteBernoulliNegativeSampler, RemoteFilterer
from negserve_server.graph import TriplesFactory
from tests.faults.conftest import Servers
from tests.support.server_process import ServerProcess

TRIPLES = np.unique(np.random.default_rng(5).integers(0, 300, (6000, 3)) % [300, 9, 300], axis=0)
SIZES = {"num_entities": 300, "num_relations": 9}
LOCAL = TriplesFactory({"training": TRIPLES}, **SIZES)
#: Many messages an epoch.
SAMPLER = SamplerConfig(num_negs_per_pos=2000, filter_splits=("training",), seed=3)
CONFIG = EpochConfig(batch_size=64)


def restarted(servers: Servers, server: ServerProcess, *options: str) -> ServerProcess:
    """Restart a server at its address, without its published graphs."""
    server.kill()
    return servers.start(*options, listen=server.target)


def expected(position: int) -> Any:
    return LOCAL.open_sampler(
        num_negs_per_pos=4, filter_splits=("training",), seed=3
    ).sample(TRIPLES[:500], position).replaced  # fmt: skip


def digest_of(target: str) -> str | None:
    with Client(target) as client:
        stream = client.publish("g", TRIPLES, **SIZES).epochs(SAMPLER, CONFIG, digest=True)
        for _ in stream:
            pass
        return stream.digest


def test_an_epoch_goes_on_when_the_server_has_lost_its_graph(servers: Servers):
    server = servers.start("--allow-publish")
    wanted = digest_of(server.target)
    with Client(server.target) as client:
        stream = client.publish("g", TRIPLES, **SIZES).epochs(
            SAMPLER, CONFIG, prefetch=1, digest=True
        )
        for i, _ in enumerate(stream):
            if i == 5:
                server = restarted(servers, server, "--allow-publish")
        assert stream.digest == wanted


CALLS = {
    "sample": lambda f, s: s.sample(TRIPLES[:500], 7).replaced.tolist(),
    "contains": lambda f, s: f.contains(TRIPLES[:, [2, 1, 0]], ("training",)).tolist(),
    "known": lambda f, s: f.known(TRIPLES[:, :2], "tail", ("training",)).values.tolist(),
    "statistics": lambda f, s: f.relation_statistics.head_probability.tolist(),
    "num_positives": lambda f, s: f.num_positives((1, 2)),
    "open_sampler": lambda f, s: f.open_sampler(num_negs_per_pos=3).config.num_negs_per_pos,
}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_finds_the_graph_again(servers: Servers, name: str):
    server = servers.start("--allow-publish")
    with Client(server.target) as client:
        wanted = CALLS[name](*opened(client.publish("f", TRIPLES, **SIZES)))
        factory, sampler = opened(client.publish("g", TRIPLES, **SIZES))
        restarted(servers, server, "--allow-publish")
        assert CALLS[name](factory, sampler) == wanted


def opened(factory: RemoteTriplesFactory) -> tuple[RemoteTriplesFactory, Any]:
    return factory, factory.open_sampler(
        num_negs_per_pos=4, filter_splits=("training",), seed=3
    )  # fmt: skip


def test_type_constraints_and_labels_are_published_again(servers: Servers):
    whole: dict[str, Any] = {
        "type_constraints": {"head": [(0, 5), (0, 6)], "tail": TRIPLES[:, 1:]},
        "entity_to_id": {f"entity {i}": i for i in range(300)},
        "relation_to_id": {f"relation {i}": i for i in range(9)},
    }
    server = servers.start("--allow-publish")
    with Client(server.target) as client:
        factory = client.publish("g", TRIPLES, **SIZES, **whole)
        sampler = factory.open_sampler(kind="typed", num_negs_per_pos=4)
        wanted = sampler.sample(TRIPLES[:500], 7).replaced.tolist()
        restarted(servers, server, "--allow-publish")
        assert sampler.sample(TRIPLES[:500], 7).replaced.tolist() == wanted
        assert factory.relation_to_id == whole["relation_to_id"]
        assert client.triples_factory("g").fingerprint == factory.fingerprint


def test_asyncio_finds_the_graph_again(servers: Servers):
    server = servers.start("--allow-publish")

    async def draw() -> None:
        async with aio.Client(server.target) as client:
            factory = await client.publish("g", TRIPLES, **SIZES)
            sampler = await factory.open_sampler(
                num_negs_per_pos=4, filter_splits=("training",), seed=3
            )
            await sampler.sample(TRIPLES[:500], 0)
            await asyncio.to_thread(restarted, servers, server, "--allow-publish")
            batch = await sampler.sample(TRIPLES[:500], 9)
            np.testing.assert_array_equal(batch.replaced, expected(9))

    asyncio.run(draw())


def test_a_rolling_restart_of_all_replicas_is_not_noticed(servers: Servers):
    replicas = [servers.start("--allow-publish") for _ in range(2)]
    with Client([it.target for it in replicas]) as client:
        sampler = opened(client.publish("g", TRIPLES, **SIZES))[1]
        for turn in range(4):
            batch = sampler.sample(TRIPLES[:500], turn)
            np.testing.assert_array_equal(batch.replaced, expected(turn))
            replicas[turn % 2] = restarted(servers, replicas[turn % 2], "--allow-publish")
        np.testing.assert_array_equal(sampler.sample(TRIPLES[:500], 4).replaced, expected(4))


@pytest.mark.parametrize("has_graph", [True, False])
def test_a_replica_that_has_the_graph_is_asked(servers: Servers, has_graph: bool):
    """The server in use restarts empty and accepts no graphs; the other replica still has it."""
    one, other = (servers.start("--allow-publish") for _ in range(2))
    with Client([one.target, other.target]) as publisher:
        factory = publisher.publish("g", TRIPLES, **SIZES)
        with Client([one.target, other.target]) as client:
            sampler = opened(factory if has_graph else client.triples_factory("g"))[1]
            sampler.sample(TRIPLES[:500], 0)
            restarted(servers, one)
            np.testing.assert_array_equal(sampler.sample(TRIPLES[:500], 1).replaced, expected(1))
        with Client([one.target, other.target]) as newcomer:
            assert newcomer.triples_factory("g").fingerprint == LOCAL.fingerprint


def test_a_graph_that_no_replica_has_or_takes_is_refused(servers: Servers):
    one, other = (servers.start("--allow-publish") for _ in range(2))
    with Client([one.target, other.target, one.target]) as client:
        sampler = opened(client.publish("g", TRIPLES, **SIZES))[1]
        for server in (one, other):
            restarted(servers, server)
        with pytest.raises(UnknownDatasetError, match="'g'"):
            sampler.sample(TRIPLES[:500], 0)


def test_pykeens_samplers_and_filterer_find_the_graph_again(servers: Servers):
    server = servers.start("--allow-publish")
    triples = torch.from_numpy(TRIPLES)
    sampler = RemoteBernoulliNegativeSampler(
        mapped_triples=triples, **SIZES, num_negs_per_pos=4, filtered=True, target=server.target
    )
    filterer = RemoteFilterer(triples, target=server.target)
    before = sampler.sample(triples[:500], position=5)[0]
    flipped = triples[:, [2, 1, 0]]
    known = filterer.contains(flipped)
    for _ in range(2):
        server = restarted(servers, server, "--allow-publish")
        assert torch.equal(sampler.sample(triples[:500], position=5)[0], before)
        server = restarted(servers, server, "--allow-publish")
        assert torch.equal(filterer.contains(flipped), known)


def files(folder: Path) -> list[str]:
    return sorted(it.name for it in folder.iterdir() if it.name != ".lock")


def publish(client: Client, name: str) -> RemoteTriplesFactory:
    return client.publish(name, TRIPLES[ord(name) :], **SIZES)


def test_idle_graphs_give_way_and_come_back(servers: Servers, tmp_path: Path):
    options = ("--max-publish-graphs", "2", "--publish-keep-seconds", "0")
    server = servers.start("--allow-publish", "--publish-dir", str(tmp_path), *options)
    with Client(server.target) as client:
        factories = {name: publish(client, name) for name in "ab"}
        sampler = opened(factories["a"])[1]
        wanted = sampler.sample(TRIPLES[:500], 3).replaced
        # A stream is about the older one, so the other one gives way.
        factories["c"] = publish(client, "c")
        assert client.list_datasets() == ["world", "a", "c"]
        sampler.close()
        factories["c"].contains(TRIPLES, ("training",))
        factories["d"] = publish(client, "d")
        assert client.list_datasets() == ["world", "c", "d"]
        # Who holds a graph does not notice that it was away.
        np.testing.assert_array_equal(sampler.sample(TRIPLES[:500], 3).replaced, wanted)
        assert client.list_datasets() == ["world", "d", "a"]
        assert files(tmp_path) == ["a", "d"]
    server.terminate()
    again = servers.start("--publish-dir", str(tmp_path))
    with Client(again.target) as client:
        assert set(client.list_datasets()) == {"world", "a", "d"}


def test_graphs_in_use_a_moment_ago_do_not_give_way(servers: Servers):
    server = servers.start("--allow-publish", "--max-publish-graphs", "1")
    with Client(server.target) as client:
        publish(client, "a")
        with pytest.raises(LimitExceededError, match=r"within 30 seconds.*--max-publish-graphs"):
            publish(client, "b")
        assert client.list_datasets() == ["world", "a"]


def test_a_study_of_more_splits_than_fit_continues(servers: Servers):
    options = ("--max-publish-graphs", "3", "--publish-keep-seconds", "0.5")
    server = servers.start("--allow-publish", *options)
    for trial in range(10):
        triples = torch.from_numpy(TRIPLES[trial:])
        sampler = RemoteBernoulliNegativeSampler(
            mapped_triples=triples, **SIZES, filtered=True, target=server.target
        )
        while True:
            try:
                sampler.sample(triples[:50])
                break
            except LimitExceededError:  # the others were used less than half a second ago
                assert trial >= 3
        del sampler


def test_a_graph_that_is_too_large_evicts_none(servers: Servers):
    options = ("--max-publish-triples", "8000", "--publish-keep-seconds", "0")
    server = servers.start("--allow-publish", *options)
    with Client(server.target) as client:
        publish(client, "a")
        large = np.arange(27_000)[:, None] // [90, 10, 1] % [300, 9, 10]
        with pytest.raises(LimitExceededError, match="triples is 27000"):
            client.publish("large", large, num_entities=300, num_relations=9)
        assert client.list_datasets() == ["world", "a"]
