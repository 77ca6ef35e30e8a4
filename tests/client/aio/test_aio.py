"""The asyncio client gives the blocking one's results, and cancels calls that nobody awaits."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import inspect
import pickle
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negserve import (
    Client,
    ClosedError,
    EpochConfig,
    EpochStream,
    FingerprintMismatchError,
    InvalidRequestError,
    LimitExceededError,
    NotAllowedError,
    OverloadedError,
    RelationStatistics,
    RemoteSampler,
    RemoteTriplesFactory,
    SamplerConfig,
    StalledError,
    UnavailableError,
    UnknownDatasetError,
    aio,
)
from negserve._protocol.epoch_progress import EpochProgress
from tests.contract.test_promises import assert_same
from tests.support.graphs import load
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess, server_process

WORLD = load("world")
POSITIVES = WORLD.mapped_triples
SAMPLER = SamplerConfig(
    kind="bernoulli", num_negs_per_pos=5, filter_splits=("training",), log_q=True, seed=3
)
SECONDS = 60


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine; check that it leaves no task running and no exception unretrieved."""
    told: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with asyncio.timeout(SECONDS):
            await main()
        deadline = time.monotonic() + 5
        while len(asyncio.all_tasks()) > 1:
            assert time.monotonic() < deadline, asyncio.all_tasks()
            await asyncio.sleep(0.01)

    asyncio.run(watched(), debug=True)
    gc.collect()
    assert told == []


@pytest.fixture
def factory(client: Client) -> RemoteTriplesFactory:
    return client.triples_factory("world")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (aio.Client, Client),
        (aio.RemoteTriplesFactory, RemoteTriplesFactory),
        (aio.RemoteSampler, RemoteSampler),
        (aio.EpochStream, EpochStream),
    ],
)
def test_the_same_surface(ours: type, theirs: type):
    def public(of: type) -> dict[str, list[str]]:
        """Return the parameters of each public method; None for attributes."""
        return {
            name: list(inspect.signature(member).parameters) if callable(member) else ["self"]
            for name, member in inspect.getmembers(of)
            if not name.startswith("_") and name != "open"  # awaited, where theirs is made open
        }

    assert public(ours) == public(theirs)


def test_a_client_has_the_same_arguments():
    assert inspect.signature(aio.Client) == inspect.signature(Client)


def test_dataset_details_of_a_server(
    server: ServerProcess, client: Client, factory: RemoteTriplesFactory
):
    async def main() -> None:
        async with aio.Client(server.target) as ours:
            assert await ours.list_datasets() == client.list_datasets()
            found = await ours.triples_factory("world")
            for name in (
                "name",
                "num_entities",
                "num_relations",
                "num_triples",
                "num_triples_per_split",
                "num_unseen",
                "fingerprint",
                "split_fingerprints",
                "type_constraints_fingerprint",
                "limits",
            ):
                assert getattr(found, name) == getattr(factory, name)
            assert await found.entity_to_id() == factory.entity_to_id
            assert await found.relation_to_id() == factory.relation_to_id
            assert await found.entity_labels() == factory.entity_labels
            assert await found.relation_labels() == factory.relation_labels
            assert await found.num_positives((3, 11)) == factory.num_positives((3, 11))
            assert await found.num_positives() == factory.num_positives() == 5408
            statistics = await found.relation_statistics()
            for name in RelationStatistics.__slots__:
                np.testing.assert_array_equal(
                    getattr(statistics, name), getattr(factory.relation_statistics, name)
                )
            assert await found.relation_statistics() is statistics

    run(main)


def test_relations_of_an_epoch_are_counted(factory: RemoteTriplesFactory):
    wanted = int(np.isin(POSITIVES[:, 1], (3, 11)).sum())
    assert factory.num_positives((3, 11)) == wanted


def test_negatives_are_equal(server: ServerProcess, factory: RemoteTriplesFactory):
    async def main() -> None:
        async with aio.Client(server.target) as client:
            found = await client.triples_factory("world")
            options = {"num_negs_per_pos": 1000, "filter_splits": ("training",), "seed": 7}
            sampler = await found.open_sampler(**options)
            wanted = factory.open_sampler(**options)
            for count in (0, 1, len(POSITIVES)):  # the last ones in 11 messages
                batch = await sampler.sample(POSITIVES[:count], 99)
                assert_same(batch, wanted.sample(POSITIVES[:count], 99))
            await sampler.close()
            assert_same(await sampler.sample(POSITIVES[:5], 0), wanted.sample(POSITIVES[:5], 0))

    run(main)


def test_membership_is_equal(server: ServerProcess, factory: RemoteTriplesFactory):
    triples = np.tile(POSITIVES, (40, 1))
    triples[::3, 2] = 5

    async def main() -> None:
        async with aio.Client(server.target) as client:
            found = await client.triples_factory("world")
            np.testing.assert_array_equal(
                await found.contains(triples, ("training", "testing")),
                factory.contains(triples, ("training", "testing")),
            )
            assert (await found.contains(triples[:0], ("training",))).shape == (0,)

    run(main)


@pytest.mark.parametrize(
    "config",
    [
        EpochConfig(batch_size=100),
        EpochConfig(batch_size=300, rank=2, world_size=4, weights=True),
        EpochConfig(batch_size=300, rank=3, world_size=4, tail="wrap"),
        EpochConfig(batch_size=64, relations=(3, 11), worker=1, num_workers=3),
    ],
)
def test_epochs_are_equal(
    server: ServerProcess, factory: RemoteTriplesFactory, config: EpochConfig
):
    wanted = factory.epochs(SAMPLER, config, digest=True)

    async def main() -> None:
        async with aio.Client(server.target) as client:
            found = await client.triples_factory("world")
            stream = found.epochs(SAMPLER, config, digest=True)
            for _ in range(2):
                wanted_batches = list(wanted)
                batches = [batch async for batch in stream]
                assert len(batches) == len(wanted_batches)
                for ours, theirs in zip(batches, wanted_batches, strict=True):
                    np.testing.assert_array_equal(ours.positives, theirs.positives)
                    assert_same(ours.negatives, theirs.negatives)
                assert stream.digest == wanted.digest
                assert stream.state_dict() == wanted.state_dict()
            # Within an epoch, from the other client's state.
            first = next(iter(wanted))
            stream.load_state_dict(wanted.state_dict())
            second = await anext(aiter(stream))
            assert second.next_start > first.next_start

    run(main)


def test_fifty_streams_and_samplers_at_once(server: ServerProcess, factory: RemoteTriplesFactory):
    config = EpochConfig(batch_size=64)
    wanted = {}
    for seed in range(5):
        stream = factory.epochs(SamplerConfig(seed=seed), config, digest=True)
        list(stream)
        wanted[seed] = stream.digest
    drawn = factory.open_sampler(seed=1)
    expected = [drawn.sample(POSITIVES[:200], position) for position in range(50)]

    async def main() -> None:
        async with aio.Client(server.target) as client:
            found = await client.triples_factory("world")
            streams = [
                found.epochs(SamplerConfig(seed=i % 5), config, digest=True) for i in range(50)
            ]

            async def read(stream: aio.EpochStream) -> int:
                return len([batch async for batch in stream])

            sampler = await found.open_sampler(seed=1)
            counts, batches = await asyncio.gather(
                asyncio.gather(*(read(stream) for stream in streams)),
                asyncio.gather(*(sampler.sample(POSITIVES[:200], p) for p in range(50))),
            )
            assert counts == [85] * 50
            assert [stream.digest for stream in streams] == [wanted[i % 5] for i in range(50)]
            for batch, want in zip(batches, expected, strict=True):
                assert_same(batch, want)

    run(main)


@pytest.fixture(scope="module")
def narrow() -> Iterator[ServerProcess]:
    """A server with places for three streams."""
    with server_process("--max-streams", "3", "--threads", "1") as running:
        yield running


async def assert_places_are_free(target: str) -> None:
    """Check that all places of the server become free."""
    begin = time.monotonic()
    async with aio.Client(target, patience=5) as client:
        found = await client.triples_factory("world")
        await asyncio.gather(*(found.open_sampler() for _ in range(3)))
    assert time.monotonic() - begin < 3


#: 43 MB an epoch: the server is always in the middle of it.
LARGE = SamplerConfig(num_negs_per_pos=4000)


@pytest.mark.parametrize("way", ["task", "timeout", "break", "error", "aclose"])
def test_an_epoch_that_is_left_gives_its_place_back(narrow: ServerProcess, way: str):
    async def main() -> None:
        async with aio.Client(narrow.target) as client:
            found = await client.triples_factory("world")
            got = asyncio.Event()

            async def read() -> None:
                async for _ in found.epochs(LARGE, EpochConfig(batch_size=32), prefetch=1):
                    got.set()
                    if way == "break":
                        break
                    if way == "error":
                        raise RuntimeError("the trainer failed")
                    await asyncio.sleep(0 if way == "aclose" else 10)

            async def read_and_close() -> None:
                stream = found.epochs(LARGE, EpochConfig(batch_size=32), prefetch=1)
                async with aclosing(aiter(stream)) as batches:  # type: ignore[type-var]
                    await anext(batches)

            for _ in range(4):  # more than there are places
                got.clear()
                if way == "break":
                    await read()
                elif way == "aclose":
                    await read_and_close()
                elif way == "error":
                    with pytest.raises(RuntimeError):
                        await read()
                elif way == "timeout":
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.3):
                            await read()
                else:
                    task = asyncio.create_task(read())
                    await got.wait()
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
            await assert_places_are_free(narrow.target)

    run(main)


def test_a_connection_is_kept_when_a_stream_is_left(server: ServerProcess):
    async def main() -> None:
        with tcp_proxy(server.target) as proxy:
            async with aio.Client(proxy.target) as client:
                found = await client.triples_factory("world")
                stream = found.epochs(LARGE, EpochConfig(batch_size=32), prefetch=1)
                async with aclosing(aiter(stream)) as batches:  # type: ignore[type-var]
                    await anext(batches)
                sampler = await found.open_sampler()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await sampler.sample(POSITIVES, 0)
                await sampler.sample(POSITIVES, 0)
                assert proxy.num_connections == 1

    run(main)


def test_a_connection_is_kept_when_a_server_ends_a_silent_stream():
    async def main() -> None:
        with server_process("--idle-timeout", "0.2") as server, tcp_proxy(server.target) as proxy:
            async with aio.Client(proxy.target) as client:
                sampler = await (await client.triples_factory("world")).open_sampler()
                first = await sampler.sample(POSITIVES, 0)
                await asyncio.sleep(1)
                assert_same(await sampler.sample(POSITIVES, 0), first)
                assert proxy.num_connections == 1

    run(main)


def test_a_cancelled_sample_gives_its_place_back_and_the_sampler_goes_on(narrow: ServerProcess):
    expected = WORLD.open_sampler(num_negs_per_pos=8).sample(POSITIVES, 40)

    async def main() -> None:
        async with aio.Client(narrow.target) as client:
            found = await client.triples_factory("world")
            slow = await found.open_sampler(num_negs_per_pos=16_000)
            sampler = await found.open_sampler(num_negs_per_pos=8)
            for _ in range(4):
                task = asyncio.create_task(slow.sample(POSITIVES, 0))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert_same(await sampler.sample(POSITIVES, 40), expected)
            waiting = asyncio.create_task(sampler.sample(POSITIVES, 0))
            await asyncio.sleep(0)
            waiting.cancel()
            assert_same(await sampler.sample(POSITIVES, 40), expected)
            await slow.close()
            await sampler.close()
            await assert_places_are_free(narrow.target)

    run(main)


def test_parts_of_a_large_batch_are_consecutive(narrow: ServerProcess):
    positives = np.resize(POSITIVES, (20_000, 3))

    async def main() -> None:
        async with aio.Client(narrow.target) as client:
            factory = await client.triples_factory("world")
            sampler = await factory.open_sampler(num_negs_per_pos=64)
            whole = await sampler.sample(positives, 5)
            parts = [part async for part in sampler.parts(positives, 5)]
        assert len(parts) > 1
        joined = np.concatenate([part.replaced for part in parts])
        np.testing.assert_array_equal(joined, whole.replaced)
        begins = np.cumsum([5, *(part.num_positives for part in parts)])
        assert [part.position for part in parts] == begins[:-1].tolist()

    run(main)


@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_a_stream_of_batches_is_equal_and_gives_its_place_back(
    narrow: ServerProcess, is_asynchronous: bool
):
    pairs = [(POSITIVES[begin : begin + 70], begin) for begin in range(0, 700, 70)]
    expected = list(WORLD.open_sampler(num_negs_per_pos=8).stream(pairs))

    async def awaited() -> AsyncIterator[tuple[Any, int]]:
        for pair in pairs:
            await asyncio.sleep(0)
            yield pair

    async def main() -> None:
        async with aio.Client(narrow.target) as client:
            sampler = await (await client.triples_factory("world")).open_sampler(num_negs_per_pos=8)
            for _ in range(4):
                batches = awaited() if is_asynchronous else pairs
                received = [batch async for batch in sampler.stream(batches)]
                for batch, wanted in zip(received, expected, strict=True):
                    assert_same(batch, wanted)
            for _ in range(4):
                async with aclosing(sampler.stream(pairs, ahead=2)) as left:
                    assert_same(await anext(left), expected[0])
            assert_same(await sampler.sample(*pairs[0]), expected[0])
            await sampler.close()
            await assert_places_are_free(narrow.target)

    run(main)


def test_a_full_server_is_told_after_patience(narrow: ServerProcess):
    async def main() -> None:
        async with aio.Client(narrow.target, patience=0.5) as client:
            found = await client.triples_factory("world")
            held = [await found.open_sampler() for _ in range(3)]
            with pytest.raises(OverloadedError, match=r"the limit is 3.*given up"):
                await found.open_sampler()
            # They are on a connection that was left, and end all the same.
        with pytest.raises(ClosedError):
            await held[0].sample(POSITIVES, 0)
        await assert_places_are_free(narrow.target)

    run(main)


def test_a_sampler_that_nobody_holds_gives_its_place_back(narrow: ServerProcess):
    async def main() -> None:
        async with aio.Client(narrow.target, patience=5) as client:
            found = await client.triples_factory("world")
            for _ in range(8):
                await found.open_sampler()
            await assert_places_are_free(narrow.target)

    run(main)


def test_a_black_hole_is_a_stall_in_time(server: ServerProcess):
    async def main() -> None:
        with tcp_proxy(server.target) as proxy:
            async with aio.Client(proxy.target, timeout=0.5, patience=1) as client:
                found = await client.triples_factory("world")
                sampler = await found.open_sampler()
                stream = aiter(found.epochs(LARGE, EpochConfig(batch_size=32), prefetch=1))
                await anext(stream)
                proxy.silence()

                async def read() -> None:
                    async for _ in stream:
                        pass

                begin = time.monotonic()
                results = await asyncio.gather(
                    client.list_datasets(),
                    found.entity_to_id(),
                    found.contains(POSITIVES[:3], ("training",)),
                    found.known(POSITIVES[:3, :2], "tail", ("training",)),
                    found.open_sampler(),
                    sampler.sample(POSITIVES[:3], 0),
                    read(),
                    return_exceptions=True,
                )
                assert 1 < time.monotonic() - begin < 4
                for result in results:
                    assert isinstance(result, StalledError), result
                    assert "given up after" in str(result)
                    assert result.target == proxy.target
                # All of them go on when there is somebody again.
                proxy.lead_to(server.target)
                assert (await sampler.sample(POSITIVES[:3], 0)).replaced.shape == (3, 1)

    run(main)


def test_a_silent_replica_is_left_with_default_patience(server: ServerProcess):
    async def main() -> None:
        with tcp_proxy(server.target) as proxy:
            proxy.silence()
            async with aio.Client([proxy.target, server.target], timeout=0.5) as client:
                begin = time.monotonic()
                assert "world" in await client.list_datasets()
                assert time.monotonic() - begin < 3
                assert client.target == server.target

    run(main)


def test_calls_under_way_end_with_their_client(server: ServerProcess):
    async def main() -> None:
        with tcp_proxy(server.target) as proxy:
            client = aio.Client(proxy.target, timeout=30)
            found = await client.triples_factory("world")
            sampler = await found.open_sampler()
            stream = aiter(found.epochs(LARGE, EpochConfig(batch_size=32), prefetch=1))
            await anext(stream)
            proxy.silence()

            async def read() -> None:
                async for _ in stream:
                    pass

            begin = time.monotonic()
            waiting = asyncio.gather(
                client.list_datasets(),
                sampler.sample(POSITIVES, 0),
                found.contains(POSITIVES, ("training",)),
                found.known(POSITIVES[:, :2], "tail", ("training",)),
                read(),
                return_exceptions=True,
            )
            await asyncio.sleep(0.2)
            await client.close()
            for result in await waiting:
                assert isinstance(result, ClosedError), result
            with pytest.raises(ClosedError):
                await client.list_datasets()
            assert time.monotonic() - begin < 3

    run(main)


def test_a_pause_ends_with_its_client():
    async def main() -> None:
        client = aio.Client("127.0.0.1:1", patience=300)
        waiting = asyncio.create_task(client.list_datasets())
        await asyncio.sleep(1)
        begin = time.monotonic()
        await client.close()
        with pytest.raises(ClosedError):
            await waiting
        assert time.monotonic() - begin < 1

    run(main)


def test_errors_are_those_of_the_other_client(server: ServerProcess):
    async def main() -> None:
        async with aio.Client(server.target) as client:
            with pytest.raises(UnknownDatasetError, match="'moon'") as unknown:
                await client.triples_factory("moon")
            assert unknown.value.reason == "UNKNOWN_DATASET"
            found = await client.triples_factory("world")
            with pytest.raises(LimitExceededError, match="65536"):
                await found.open_sampler(num_negs_per_pos=2**17)
            with pytest.raises(InvalidRequestError, match="kind='word2vec'"):
                await found.open_sampler(kind="word2vec")
            with pytest.raises(InvalidRequestError, match="batch_size"):
                await anext(aiter(found.epochs(SAMPLER, EpochConfig(batch_size=0))))
            sampler = await found.open_sampler()
            with pytest.raises(InvalidRequestError, match="out of range"):
                await sampler.sample(POSITIVES + 10**6, 0)
            assert len((await sampler.sample(POSITIVES, 0)).replaced) == len(POSITIVES)
        async with aio.Client("127.0.0.1:1", patience=0.2) as lost:
            with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
                await lost.list_datasets()

    run(main)
    with pytest.raises(InvalidRequestError, match="timeout"):
        aio.Client("x", timeout=0)
    assert issubclass(FingerprintMismatchError, Exception)


def test_one_client_serves_several_loops(server: ServerProcess):
    client = aio.Client(server.target)
    results: list[Any] = []

    async def ask() -> None:
        found = await client.triples_factory("world")
        sampler = await found.open_sampler(seed=4)
        results.append((await sampler.sample(POSITIVES[:9], 0)).replaced.tolist())
        await sampler.close()

    for _ in range(2):  # one after the other, then at once
        run(ask)
    threads = [threading.Thread(target=run, args=(ask,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(results) == 6
    assert all(result == results[0] for result in results)
    copy = pickle.loads(pickle.dumps(client))
    assert repr(copy) == repr(client)
    asyncio.run(client.close())


@pytest.mark.parametrize("prefetch", [1, 3])
def test_no_more_is_read_ahead_than_asked_for(
    server: ServerProcess, prefetch: int, monkeypatch: pytest.MonkeyPatch
):
    take, sizes = EpochProgress.take, list[int]()

    def counting(progress: EpochProgress, message: Any) -> Any:
        item = take(progress, message)
        if item is not None:
            sizes.append(len(item[0]))
        return item

    monkeypatch.setattr(EpochProgress, "take", counting)
    sampler = dataclasses.replace(SAMPLER, num_negs_per_pos=5000)  # 18 positives a message

    async def main() -> None:
        async with aio.Client(server.target) as client:
            found = await client.triples_factory("world")
            batches = aiter(found.epochs(sampler, EpochConfig(batch_size=9), prefetch=prefetch))
            for taken in range(1, 10):
                await anext(batches)
                async with asyncio.timeout(SECONDS):
                    while sum(sizes) < taken + prefetch:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                # The message of the batch that was taken, and those in the queue.
                assert sum(sizes) <= taken + prefetch + 2 * max(sizes)
            await batches.aclose()  # type: ignore[attr-defined]

    run(main)


def test_a_graph_is_published(tmp_path: Path):
    options = ("--allow-publish", "--publish-dir", str(tmp_path), "--threads", "1")
    with server_process(*options) as one, server_process("--allow-publish") as other:

        async def main() -> None:
            stages: list[str] = []
            async with aio.Client([one.target, other.target], timeout=10) as client:
                options = {
                    "num_entities": WORLD.num_entities,
                    "num_relations": WORLD.num_relations,
                    "on_progress": lambda progress: stages.append(progress.stage),
                }
                # Either of the two may be the one that uploads.
                found, same = await asyncio.gather(
                    client.publish("mine", WORLD.splits, **options),
                    client.publish("mine", WORLD.splits, **options),
                )
                assert found.fingerprint == same.fingerprint
                assert (await found.contains(POSITIVES, ("training",))).all()
                sampler = await found.open_sampler(seed=5)
                assert_same(
                    await sampler.sample(POSITIVES, 0),
                    WORLD.open_sampler(seed=5).sample(POSITIVES, 0),
                )
                assert set(stages) >= {"uploading"}
                with pytest.raises(FingerprintMismatchError):
                    await client.publish("mine", POSITIVES[:50])
            for target in (one.target, other.target):
                with Client(target) as theirs:
                    assert theirs.list_datasets() == ["world", "mine"]

        run(main)


def test_publishing_that_is_not_allowed_or_cancelled(server: ServerProcess):
    async def main() -> None:
        async with aio.Client(server.target) as client:
            with pytest.raises(NotAllowedError):
                await client.publish("mine", POSITIVES)
        with tcp_proxy(server.target) as proxy:
            proxy.silence()
            async with aio.Client(proxy.target) as client:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await client.publish("mine", POSITIVES)

    run(main)
