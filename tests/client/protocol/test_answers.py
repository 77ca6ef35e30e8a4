"""A replica whose answers can't be true is detected, and other replicas are asked."""

from __future__ import annotations

import asyncio
import resource
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from negserve import Client, EpochConfig, InvalidAnswerError, SamplerConfig, aio
from negserve._graph.mapped_graph import MappedGraph
from negserve._protocol.epoch_progress import chained_digest
from negserve._protocol.publish_dialogue import PublishDialogue
from negserve.v1 import sampler_pb2 as pb
from tests.support.children.lying_server import Lie, LyingServer, change, lying_server, setting
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process

WORLD = load("world")
POSITIVES = WORLD.mapped_triples[:50]
K = 6
OPTIONS: dict[str, Any] = {
    "kind": "bernoulli",
    "num_negs_per_pos": K,
    "filter_splits": ("training",),
    "seed": 4,
}
TRIPLES = np.array([(0, 0, 1), (1, 1, 2), (3, 0, 0)])
SECONDS = 60


@dataclass(frozen=True)
class Question:
    """A request made with both clients, and the part of the answer that is compared.

    :ivar asked: of a client, gives what can be compared; of one for asyncio, likewise awaited
    """

    asked: Callable[[Client], Any]
    awaited: Callable[[aio.Client], Any]


def digest(batch: Any) -> Any:
    parts = (batch.replaced, batch.head_counts, batch.relation_counts, batch.mask, batch.log_q)
    return [None if part is None else part.tobytes() for part in parts]


def sampling(options: dict[str, Any], positives: Any = POSITIVES) -> Question:
    def asked(client: Client) -> Any:
        sampler = client.triples_factory("world").open_sampler(**options)
        batches = [sampler.sample(positives, at) for at in (7, 100)]
        sampler.close()
        return [digest(batch) for batch in batches]

    async def awaited(client: aio.Client) -> Any:
        sampler = await (await client.triples_factory("world")).open_sampler(**options)
        batches = [await sampler.sample(positives, at) for at in (7, 100)]
        await sampler.close()
        return [digest(batch) for batch in batches]

    return Question(asked, awaited)


def streaming(options: dict[str, Any], **config: Any) -> Question:
    sampler = SamplerConfig(**options)
    epoch = EpochConfig(**{"batch_size": 1000, **config})

    def asked(client: Client) -> Any:
        found = ""
        for batch in client.triples_factory("world").epochs(sampler, epoch):
            found = chained_digest(found, batch)
        return found

    async def awaited(client: aio.Client) -> Any:
        found = ""
        async for batch in (await client.triples_factory("world")).epochs(sampler, epoch):
            found = chained_digest(found, batch)
        return found

    return Question(asked, awaited)


def of_factory(blocking: Callable[[Any], Any], awaiting: Callable[[Any], Any]) -> Question:
    async def awaited(client: aio.Client) -> Any:
        return await awaiting(await client.triples_factory("world"))

    return Question(lambda client: blocking(client.triples_factory("world")), awaited)


async def _arrays(statistics: Any) -> Any:
    return _bytes(await statistics)


def _bytes(statistics: Any) -> Any:
    return [statistics.tails_per_head.tobytes(), statistics.head_probability.tobytes()]


SAMPLE = sampling(OPTIONS)
WITH_LOG_Q = sampling({**OPTIONS, "log_q": True})
TAILS = sampling({**OPTIONS, "kind": "basic", "corruption_scheme": ("tail",)})
THREE_SLOTS = sampling(
    {**OPTIONS, "kind": "basic", "corruption_scheme": ("head", "relation", "tail")}
)
UNMASKED = sampling({**OPTIONS, "filter_splits": ()})
EPOCH = streaming(OPTIONS)
SMALL_BATCHES = streaming(OPTIONS, batch_size=10, weights=True)
OF_A_RELATION = streaming(OPTIONS, relations=(1,), batch_size=4)
LIST = Question(lambda client: client.list_datasets(), lambda client: client.list_datasets())
DATASET = of_factory(lambda found: found.fingerprint, lambda found: _value(found.fingerprint))
CONTAINS = of_factory(
    lambda found: found.contains(POSITIVES, ("testing",)).tolist(),
    lambda found: _as_list(found.contains(POSITIVES, ("testing",))),
)
KNOWN = of_factory(
    lambda found: found.known(POSITIVES[:, :2], "tail", ("testing",)).values.tolist(),
    lambda found: _as_values(found.known(POSITIVES[:, :2], "tail", ("testing",))),
)
LABELS = of_factory(lambda found: found.entity_to_id, lambda found: found.entity_to_id())
STATISTICS = of_factory(
    lambda found: _bytes(found.relation_statistics),
    lambda found: _arrays(found.relation_statistics()),
)
COUNT = of_factory(lambda found: found.num_positives([1]), lambda found: found.num_positives([1]))


async def _value(value: Any) -> Any:
    return value


async def _as_values(known: Any) -> Any:
    return (await known).values.tolist()


async def _as_list(array: Any) -> Any:
    return (await array).tolist()


def twice(messages: Iterator[Any]) -> Iterator[Any]:
    """Send every message except the first twice."""
    yield next(messages)
    for message in messages:
        yield message
        yield message


def first_batch_again(messages: Iterator[Any]) -> Iterator[Any]:
    """Send the first batch in place of the second."""
    yield next(messages)
    for message in messages:
        batches = message.batches.batches
        if len(batches) > 1:
            batches[1].CopyFrom(batches[0])
        yield message


def the_positive(message: Any) -> None:
    """Send the positives as their own negatives: all tails of the batch."""
    batch, rows = message.batch, POSITIVES
    batch.head_counts.Clear()
    batch.replaced.data = np.repeat(rows[:, 2], K).astype("<u2").tobytes()


def the_positives(message: Any) -> None:
    """Send the positives of an epoch as their own negatives."""
    for batch in message.batches.batches:
        tails = np.frombuffer(batch.positives.tails.data, "<u2")
        batch.negatives.head_counts.Clear()
        batch.negatives.replaced.data = np.repeat(tails, K).tobytes()


def narrower_replaced(message: Any) -> None:
    message.batch.replaced.width = 1


def beyond_relations(message: Any) -> None:
    """Replace the first replaced relation by an entity id that is too large."""
    batch = message.batch
    ids = np.frombuffer(batch.replaced.data, "<u2").reshape(-1, K).copy()
    ids[0, batch.head_counts.data[0]] = WORLD.num_relations
    batch.replaced.data = ids.tobytes()


def with_nan(message: Any) -> None:
    message.batch.log_q = b"\0\0\xc0\x7f" + message.batch.log_q[4:]


def without_last(field: str) -> Callable[[Any], None]:
    def edit(message: Any) -> None:
        del getattr(message, field)[-1]

    return edit


def one_label_again(message: Any) -> None:
    message.labels[1] = message.labels[0]


def a_gap(message: Any) -> None:
    message.first_id += 1


def ending_early(messages: Iterator[Any]) -> Iterator[Any]:
    yield next(messages)


def nothing_first(messages: Iterator[Any]) -> Iterator[Any]:
    """Send an empty message before all others."""
    yield b""
    yield from messages


def garbage(messages: Iterator[Any]) -> Iterator[Any]:
    yield b"\xff\xff\xff\xff"


def after_the_first(lie: Lie) -> Lie:
    def later(messages: Iterator[Any]) -> Iterator[Any]:
        yield next(messages)
        yield from lie(messages)

    return later


MOST = 2**32 - 1
_BATCH = "batches.batches.0"
#: What is asked, the RPC that lies, how, and the field that the error names.
LIES: dict[str, tuple[Question, str, Lie, str]] = {
    "another fingerprint": (
        SAMPLE, "Sample", setting("configured.fingerprint", "0" * 64), "configured.fingerprint"),
    "another seed": (
        SAMPLE, "Sample", setting("configured.sampler.seed", 5), "configured.sampler.seed"),
    "another kind": (
        SAMPLE, "Sample", setting("configured.sampler.kind", 99), "configured.sampler.kind"),
    "no filter": (
        SAMPLE, "Sample", change(lambda m: m.configured.sampler.ClearField("filter_splits")),
        "configured.sampler.filter_splits"),
    "an alpha without effect": (
        SAMPLE, "Sample", setting("configured.sampler.alpha", 0.75), "configured.sampler.alpha"),
    "no version": (
        SAMPLE, "Sample", setting("configured.sampler.algorithm_version", 0),
        "configured.sampler.algorithm_version"),
    "a batch first": (SAMPLE, "Sample", change(lambda m: m.batch.SetInParent()), "message"),
    "another position": (SAMPLE, "Sample", setting("batch.position", 8, 1), "batch.position"),
    "2^32 - 1 positives": (
        SAMPLE, "Sample", setting("batch.num_positives", MOST, 1), "batch.num_positives"),
    "no positives": (
        SAMPLE, "Sample", change(lambda m: m.batch.ClearField("num_positives"), 1),
        "batch.num_positives"),
    "more saturated than positives": (
        SAMPLE, "Sample", setting("batch.num_saturated", 51, 1), "batch.num_saturated"),
    "saturated without a mask": (
        SAMPLE, "Sample", setting("batch.num_saturated", 1, 1), "batch.num_saturated"),
    "an id beyond the id space": (
        SAMPLE, "Sample", setting("batch.replaced.data", b"\xff\xff" * 50 * K, 1),
        "batch.replaced"),
    "too few ids": (
        SAMPLE, "Sample", setting("batch.replaced.data", b"\1\0", 1), "batch.replaced.data, bytes"),
    "another width": (
        SAMPLE, "Sample", change(narrower_replaced, 1), "batch.replaced.data, bytes"),
    "a width that is none": (
        SAMPLE, "Sample", setting("batch.replaced.width", 3, 1), "batch.replaced.width"),
    "the positives as negatives": (SAMPLE, "Sample", change(the_positive, 1), "batch.replaced"),
    "more heads than k": (
        SAMPLE, "Sample", setting("batch.head_counts.data", bytes([K + 1]) * 50, 1),
        "batch.head_counts"),
    "heads outside the scheme": (
        TAILS, "Sample", change(lambda m: m.batch.head_counts.MergeFrom(
            pb.Ids(data=b"\1" * 50, width=1)), 1), "batch.head_counts"),
    "relations outside the scheme": (
        SAMPLE, "Sample", change(lambda m: m.batch.relation_counts.MergeFrom(
            pb.Ids(data=b"\1" * 50, width=1)), 1), "batch.relation_counts"),
    "more heads and relations than k": (
        THREE_SLOTS, "Sample", setting("batch.head_counts.data", bytes([K]) * 50, 1),
        "batch.head_counts + relation_counts"),
    "an entity as relation": (
        THREE_SLOTS, "Sample", change(beyond_relations, 1), "batch.replaced"),
    "a short mask": (SAMPLE, "Sample", setting("batch.mask", b"\1", 1), "batch.mask, bytes"),
    "a mask where none is": (
        UNMASKED, "Sample", setting("batch.mask", b"\xff" * 38, 1), "batch.mask, bytes"),
    "log probabilities not asked for": (
        SAMPLE, "Sample", setting("batch.log_q", b"\0" * 4 * 50 * K, 1), "batch.log_q, bytes"),
    "a log probability that is no number": (
        WITH_LOG_Q, "Sample", change(with_nan, 1), "batch.log_q"),
    "too few log probabilities": (
        WITH_LOG_Q, "Sample", setting("batch.log_q", b"", 1), "batch.log_q, bytes"),
    "no answer": (SAMPLE, "Sample", nothing_first, "message"),
    "bytes that are no message": (SAMPLE, "Sample", garbage, "message"),
    "bytes that are no batch": (SAMPLE, "Sample", after_the_first(garbage), "message"),
    "an epoch of another graph": (
        EPOCH, "SampleEpoch", setting("configured.fingerprint", "0" * 64),
        "configured.fingerprint"),
    "an epoch of another k": (
        EPOCH, "SampleEpoch", setting("configured.sampler.num_negs_per_pos", 1),
        "configured.sampler.num_negs_per_pos"),
    "an epoch of more positives": (
        EPOCH, "SampleEpoch", setting("configured.num_positives", 2**40),
        "configured.num_positives"),
    "an epoch of more batches": (
        EPOCH, "SampleEpoch", setting("configured.num_batches", 7), "configured.num_batches"),
    "an epoch of no batches": (
        EPOCH, "SampleEpoch", setting("configured.num_batches", 0), "configured.num_batches"),
    "more positives of a relation than triples": (
        OF_A_RELATION, "SampleEpoch", setting("configured.num_positives", 2**40),
        "configured.num_positives"),
    "a count of 2^64 - 1": (
        COUNT, "SampleEpoch", setting("configured.num_positives", 2**64 - 1),
        "configured.num_positives"),
    "a batch twice": (SMALL_BATCHES, "SampleEpoch", first_batch_again, "batches.next_start"),
    "no batches in a message": (
        EPOCH, "SampleEpoch", change(lambda m: m.batches.ClearField("batches"), 1), "batches"),
    "another place to go on": (
        EPOCH, "SampleEpoch", setting(f"{_BATCH}.next_start", 0, 1), "batches.next_start"),
    "a positive beyond the id space": (
        EPOCH, "SampleEpoch", setting(f"{_BATCH}.positives.heads.data", b"\xff" * 2000, 1),
        "batches.positives.heads"),
    "a relation beyond the id space": (
        EPOCH, "SampleEpoch", setting(f"{_BATCH}.positives.relations.data", b"\x1d" * 1000, 1),
        "batches.positives.relations"),
    "a relation that was not asked for": (
        OF_A_RELATION, "SampleEpoch", setting(f"{_BATCH}.positives.relations.data", b"\2" * 4, 1),
        "batches.positives.relations"),
    "too few positives": (
        EPOCH, "SampleEpoch", setting(f"{_BATCH}.positives.tails.data", b"\1\0", 1),
        "batches.positives.tails.data, bytes"),
    "another position in an epoch": (
        EPOCH, "SampleEpoch", setting(f"{_BATCH}.negatives.position", 3, 1),
        "batches.negatives.position"),
    "2^32 - 1 positives in an epoch": (
        EPOCH, "SampleEpoch", setting(f"{_BATCH}.negatives.num_positives", MOST, 1),
        "batches.negatives.num_positives"),
    "the positives as negatives in an epoch": (
        EPOCH, "SampleEpoch", change(the_positives, 1), "batches.negatives.replaced"),
    "weights that are none": (
        SMALL_BATCHES, "SampleEpoch", setting(f"{_BATCH}.weights", b"\xff" * 40, 1),
        "batches.weights"),
    "too few weights": (
        SMALL_BATCHES, "SampleEpoch", setting(f"{_BATCH}.weights", b"", 1),
        "batches.weights, bytes"),
    "configured twice": (
        EPOCH, "SampleEpoch", change(lambda m: m.configured.SetInParent(), 1), "message"),
    "bytes that are no batches": (EPOCH, "SampleEpoch", after_the_first(garbage), "message"),
    "more flags": (CONTAINS, "Contains", setting("num_triples", 51), "num_triples"),
    "2^32 - 1 flags": (CONTAINS, "Contains", setting("num_triples", MOST), "num_triples"),
    "no flags": (CONTAINS, "Contains", setting("known", b""), "known, bytes"),
    "flags of nobody": (
        CONTAINS, "Contains", setting("known", b"\xff" * 7),
        "known, unused bits of the last byte"),
    "labels with a gap": (LABELS, "GetVocabulary", change(a_gap), "first_id"),
    "a label twice": (LABELS, "GetVocabulary", change(one_label_again), "labels"),
    "a label too few": (
        LABELS, "GetVocabulary", change(without_last("labels")), "labels of KIND_ENTITY"),
    "no relation labels": (LABELS, "GetVocabulary", ending_early, "labels of KIND_RELATION"),
    "more labels than ids": (
        LABELS, "GetVocabulary", change(lambda m: m.labels.append("Atlantis")), "labels, number"),
    "labels of nothing": (
        LABELS, "GetVocabulary", setting("kind", 0), "kind"),
    "no labels in a message": (
        LABELS, "GetVocabulary", change(lambda m: m.ClearField("labels")), "labels, number"),
    "no name": (LIST, "ListDatasets", setting("datasets.0.name", ""), "datasets.name"),
    "a name twice": (
        LIST, "ListDatasets", change(lambda m: m.datasets.add().CopyFrom(m.datasets[0])),
        "datasets.name"),
    "a list that is no message": (LIST, "ListDatasets", garbage, "message"),
    "a dataset that is no message": (DATASET, "GetDataset", garbage, "message"),
    "another dataset": (DATASET, "GetDataset", setting("dataset.name", "moon"), "dataset.name"),
    "a fingerprint that is none": (
        DATASET, "GetDataset", setting("dataset.fingerprint", "x" * 64), "dataset.fingerprint"),
    "a fingerprint of other splits": (
        DATASET, "GetDataset", setting("dataset.splits.0.fingerprint", "0" * 64),
        "dataset.fingerprint, by those of its parts"),
    "no entities": (
        DATASET, "GetDataset", setting("dataset.num_entities", 0), "dataset.num_entities"),
    "more relations than ids": (
        DATASET, "GetDataset", setting("dataset.num_relations", 2**32 + 1),
        "dataset.num_relations"),
    "no splits": (
        DATASET, "GetDataset", change(lambda m: m.dataset.ClearField("splits")), "dataset.splits"),
    "more triples than there can be": (
        DATASET, "GetDataset", setting("dataset.splits.0.num_triples", 2**63),
        "dataset.splits.num_triples"),
    "a limit of nothing": (
        DATASET, "GetDataset", setting("limits.max_triples_per_message", 0),
        "limits.max_triples_per_message"),
    "no limits": (
        DATASET, "GetDataset", change(lambda m: m.ClearField("limits")),
        "limits.max_negatives_per_positive"),
    "statistics of fewer relations": (
        STATISTICS, "GetRelationStatistics", change(without_last("heads_per_tail")),
        "heads_per_tail, numbers"),
    "a probability over 1": (
        STATISTICS, "GetRelationStatistics", setting("head_probability.3", 1.5),
        "head_probability[3]"),
    "an endless mean": (
        STATISTICS, "GetRelationStatistics", setting("tails_per_head.3", float("inf")),
        "tails_per_head[3]"),
}  # fmt: skip


@pytest.fixture(scope="module")
def liar(server: ServerProcess) -> Iterator[LyingServer]:
    with lying_server(server.target) as running:
        yield running


@pytest.fixture(scope="module")
def honest_answers(client: Client) -> dict[int, Any]:
    questions = {id(question): question for question, *_ in LIES.values()}
    return {key: question.asked(client) for key, question in questions.items()}


def awaited(question: Question, targets: list[str]) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(SECONDS), aio.Client(targets, timeout=SECONDS) as client:
            return await question.awaited(client)

    return asyncio.run(main())


def asked(question: Question, targets: list[str]) -> Any:
    with Client(targets, timeout=SECONDS) as client:
        return question.asked(client)


@pytest.mark.parametrize("ask", [asked, awaited], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("name", LIES)
def test_a_false_answer_is_logged_and_another_replica_is_asked(
    liar: LyingServer,
    server: ServerProcess,
    honest_answers: dict[int, Any],
    name: str,
    ask: Callable[[Question, list[str]], Any],
):
    question, rpc, lie, field = LIES[name]
    liar.lies = {rpc: lie}
    liar.num_calls.clear()
    begin = time.monotonic()
    with pytest.raises(InvalidAnswerError) as caught:
        ask(question, [liar.target])
    # It is asked again, but not for as long as the client is patient.
    assert time.monotonic() - begin < SECONDS / 2
    assert liar.num_calls[rpc] == 3
    error = caught.value
    assert error.target == liar.target
    assert (error.metadata["rpc"], error.metadata["field"]) == (rpc, field)
    assert error.metadata["value"] != error.metadata["limit"]
    for text in (liar.target, rpc, field, error.metadata["value"], "3 such answers"):
        assert text in str(error)

    assert ask(question, [liar.target, server.last_target]) == honest_answers[id(question)]


@pytest.mark.parametrize("ask", [asked, awaited], ids=["blocking", "asyncio"])
def test_no_memory_is_taken_for_what_is_announced(
    liar: LyingServer, ask: Callable[[Question, list[str]], Any]
):
    """2^32 - 1 positives of 6 negatives would be 26 GB."""
    for rpc, field in (("Sample", "batch"), ("SampleEpoch", f"{_BATCH}.negatives")):
        liar.lies = {rpc: setting(f"{field}.num_positives", MOST, 1)}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tracemalloc.start()
        with pytest.raises(InvalidAnswerError):
            ask(SAMPLE if rpc == "Sample" else EPOCH, [liar.target])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 * 2**20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 2**10  # KiB


@pytest.mark.parametrize("ask", [asked, awaited], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("question", [SAMPLE, EPOCH], ids=["Sample", "SampleEpoch"])
def test_replicas_of_two_versions_are_not_mixed(
    liar: LyingServer,
    server: ServerProcess,
    question: Question,
    ask: Callable[[Question, list[str]], Any],
):
    """The newest version is that of the first answer, also when another replica takes over."""
    broken = False

    def version_7(messages: Iterator[Any]) -> Iterator[Any]:
        nonlocal broken
        for index, message in enumerate(messages):
            if index == 0:
                message.configured.sampler.algorithm_version = 7
            if index == 1 and not broken:
                broken = True
                yield b"\xff"  # the stream is given up, and the other replica asked
            yield message

    rpc = "Sample" if question is SAMPLE else "SampleEpoch"
    liar.lies = {rpc: version_7}
    # The replica of version 2 is refused, and the one that began goes on.
    ask(question, [liar.target, server.last_target])
    assert liar.num_calls[rpc] >= 2


def test_fields_and_splits_of_a_newer_server_are_left_out(
    liar: LyingServer, client: Client, honest_answers: dict[int, Any]
):
    unknown = b"\xc0\x3e\x01"  # field 1000, of value 1

    def with_more(messages: Iterator[Any]) -> Iterator[Any]:
        for message in messages:
            yield message.SerializeToString() + unknown

    rpcs = ("Sample", "SampleEpoch", "Contains", "Known", "ListDatasets", "GetDataset")
    liar.lies = dict.fromkeys((*rpcs, "GetRelationStatistics", "GetVocabulary"), with_more)
    for question in (SAMPLE, EPOCH, CONTAINS, LABELS, STATISTICS, LIST, DATASET):
        assert asked(question, [liar.target]) == honest_answers[id(question)]
    assert asked(KNOWN, [liar.target]) == KNOWN.asked(client)

    liar.lies = {
        "GetDataset": change(
            lambda m: m.dataset.splits.add(split=9, num_triples=1, fingerprint="0" * 64)
        ),
        "GetVocabulary": with_labels_of_types,
    }
    with Client(liar.target) as other:
        found = other.triples_factory("world")
        expected = client.triples_factory("world").num_triples_per_split
        assert found.num_triples_per_split == expected
        assert found.entity_to_id == honest_answers[id(LABELS)]


def with_labels_of_types(messages: Iterator[Any]) -> Iterator[Any]:
    yield pb.GetVocabularyResponse(kind=3, labels=["city"])  # type: ignore[arg-type]
    yield from messages


@pytest.mark.parametrize("ask", [asked, awaited], ids=["blocking", "asyncio"])
def test_a_repeated_answer_is_not_taken_for_the_next(
    liar: LyingServer,
    honest_answers: dict[int, Any],
    ask: Callable[[Question, list[str]], Any],
):
    """The wrong answer is found at the next one, and a new stream gives the right one."""
    liar.lies = {"Sample": twice}
    liar.num_calls.clear()
    assert ask(SAMPLE, [liar.target]) == honest_answers[id(SAMPLE)]
    assert liar.num_calls["Sample"] == 2


PUBLISHED: dict[str, tuple[Lie, str]] = {
    "no triples a chunk": (
        setting("upload.max_triples_per_chunk", 0), "upload.max_triples_per_chunk"),
    "nothing": (nothing_first, "message"),
    "garbage": (garbage, "message"),
    "another graph": (
        change(lambda m: setattr(m.published.dataset, "fingerprint", "0" * 64)),
        "published.dataset.fingerprint"),
}  # fmt: skip


@pytest.mark.parametrize("way", ["blocking", "asyncio"])
def test_lies_about_a_publication(way: str, caplog: pytest.LogCaptureFixture):
    with (
        server_process("--allow-publish", "--threads", "1") as server,
        lying_server(server.target) as liar,
    ):

        def publish(targets: list[str], name: str) -> Any:
            if way == "blocking":
                with Client(targets, timeout=SECONDS) as client:
                    return client.publish(name, TRIPLES).fingerprint

            async def main() -> Any:
                async with aio.Client(targets, timeout=SECONDS) as client:
                    return (await client.publish(name, TRIPLES)).fingerprint

            return asyncio.run(main())

        for number, (name, (lie, field)) in enumerate(PUBLISHED.items()):
            liar.lies = {"Publish": lie}
            with pytest.raises(InvalidAnswerError) as caught:
                publish([liar.target], f"lied{number}")
            assert (caught.value.metadata["rpc"], caught.value.metadata["field"]) == (
                "Publish",
                field,
            ), name
        # A replica that lies is left out, as one that can't be reached.
        assert publish([liar.target, server.target], "shared")
        assert "a replica did not get the dataset shared" in caplog.text


def progress(**fields: int) -> pb.PublishResponse:
    told = {"stage": pb.PublishProgress.STAGE_UPLOADING, "num_received": 2, "num_triples": 3}
    return pb.PublishResponse(progress=pb.PublishProgress(**{**told, **fields}))  # type: ignore[arg-type]


UPLOAD = pb.PublishResponse(upload=pb.PublishUpload(max_triples_per_chunk=2))


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ([UPLOAD, UPLOAD], "upload, asked for before"),
        ([progress()], "progress.stage"),
        ([UPLOAD, progress(stage=0)], "progress.stage"),
        ([UPLOAD, progress(num_triples=4)], "progress.num_triples"),
        ([UPLOAD, progress(num_received=4)], "progress.num_received"),
    ],
)
def test_lies_while_a_graph_is_published(answers: list[pb.PublishResponse], field: str):
    dialogue = PublishDialogue("some", MappedGraph.of(TRIPLES))
    dialogue.announcement()
    for answer in answers[:-1]:
        dialogue.hear(answer)
    with pytest.raises(InvalidAnswerError) as caught:
        dialogue.hear(answers[-1])
    assert caught.value.metadata["field"] == field
    # A stage of a newer server is a sign of life.
    assert dialogue.hear(progress(stage=9))[1] is None
