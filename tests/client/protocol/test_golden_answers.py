"""Every field of every golden answer is changed: refused, unless only the server can know it."""

from __future__ import annotations

import copy
import json
import math
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from negserve import EpochConfig, InvalidAnswerError, NegserveError, SamplerConfig
from negserve._calls.answers import ask, read
from negserve._calls.dataset import RemoteDataset
from negserve._calls.epochs import EpochCursor, EpochReader
from negserve._calls.publish import publish
from negserve._calls.sampler_stream import SamplerStream
from negserve._graph.mapped_graph import MappedGraph
from negserve._protocol.answer_readers import DatasetListReader
from negserve._protocol.descriptions import read_dataset, read_server_info
from negserve._protocol.messages import check_equal
from negserve._protocol.sampler_answers import SamplerEcho
from negserve._protocol.snapshot_answers import Place, read_description, read_piece
from negserve._sync.interrupts import run_sync
from negserve._transport.transport import RetryBudget, ServerCall, Transport
from negserve._transport.worker_pool import WorkerPool
from negserve.v1 import sampler_pb2 as pb
from negserve_server.config.limits import Limits
from negserve_server.service import messages as server_messages
from tests.proto.cases import _TOY, _TOY_LABELS, _TOY_SIZES, _TOY_TYPES
from tests.proto.recording import FOLDER
from tests.support.descriptors import SERVICE

Answers: TypeAlias = list[bytes]

#: Made once: its defaults depend on the machine's memory, which takes half a millisecond to find.
LIMITS = Limits()

#: What only the server knows, where it is legal: any other value gives another result, unrefused.
UNKNOWABLE = {
    # Which of the legal ids, slots and flags were drawn, and how probable they were.
    "CorruptedBatch.replaced.data",
    "CorruptedBatch.head_counts",
    "CorruptedBatch.head_counts.data",
    "CorruptedBatch.relation_counts",
    "CorruptedBatch.relation_counts.data",
    "CorruptedBatch.mask",
    "CorruptedBatch.num_saturated",
    "CorruptedBatch.log_q",
    # What a snapshot holds; its checksums are compared when a file is complete.
    "SnapshotManifest.json",
    "SnapshotManifest.folder",
    "SnapshotPiece.data",
    # What it says to people.
    "SampleResponse.notices",
    "Notice.kind",
    "Notice.text",
    # Which triple is at a position, how often its pairs occur, and how many a relation has.
    "EpochBatch.positives.heads.data",
    "EpochBatch.positives.relations.data",
    "EpochBatch.positives.tails.data",
    "EpochBatch.weights",
    "ContainsResponse.known",
    # What is known of a pair, and how many values are of which one.
    "KnownResponse.counts.data",
    "KnownResponse.values.data",
    # The version that is the newest.
    "SamplerConfig.algorithm_version",
    # What is learnt of a dataset, as far as its fingerprint does not tell.
    "Dataset.name",
    "Dataset.num_entities",
    "Dataset.num_relations",
    "Dataset.has_vocabulary",
    "SplitSummary.split",  # one of a newer server's is left out
    "SplitSummary.num_triples",
    "SplitSummary.num_unseen",
    "GetVocabularyResponse.labels",
    "GetRelationStatisticsResponse.head_probability",
    "PublishUpload.max_triples_per_chunk",
    "PublishProgress.stage",
    "PublishProgress.num_received",
    # What a server is, and takes.
    "GetServerResponse.version",
    "GetServerResponse.algorithm_versions",
    "GetServerResponse.num_workers",
    *(f"Limits.{field.name}" for field in pb.Limits.DESCRIPTOR.fields),
    # Whether there are datasets, and signs of life.
    "ListDatasetsResponse.datasets",
    "ListDatasets: the bytes",
    "Publish: the bytes",
}


class _Call(ServerCall):
    """A call that returns a golden file's answers."""

    def __init__(self, transport: Golden, method: str, answers: Iterable[Any]) -> None:
        super().__init__(None, transport.replicas.target, method)
        self._answers = deque(answers)
        self.is_open = True

    @property
    def is_active(self) -> bool:
        return self.is_open

    def send_all(self, requests: Iterable[Any]) -> None:
        list(requests)

    async def _next(self, seconds: float) -> bytes | None:
        if not self._answers:
            self.is_open = False
            return None
        return self._answers.popleft()

    def close(self) -> None:
        self.is_open = False


class Golden(Transport):
    """A server that gives the golden answers to each RPC, changed for one of them."""

    def __init__(self, answers: dict[str, Answers]) -> None:
        super().__init__("golden:1", 1, 0.01)  # whose pauses take no time
        self._answers = answers

    def _pool(self, target: str) -> WorkerPool[None]:
        return WorkerPool(None)

    def _open_calls(self) -> list[ServerCall]:
        return []

    def _connect(self, target: str) -> None: ...

    async def _disconnect(self, channel: None) -> None: ...

    def _start(self, channel: None, method: str, request: object) -> _Call:
        return _Call(self, method, self._answers[method])

    async def _ask(
        self, channel: None, method: str, request: object, seconds: float
    ) -> tuple[str, bytes]:
        return self.replicas.target, self._answers[method][0]

    def _drop(self, target: str) -> None: ...

    async def _resolve(self, *arguments: object) -> Any: ...

    async def pause(self, seconds: float) -> None: ...

    async def work(self, function: Callable[..., Any], *arguments: object) -> Any: ...

    async def close(self) -> None: ...


class _Epochs(EpochReader):
    """Reads an epoch into a list."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.items: list[Any] = []

    def _start(self) -> None:
        raise NotImplementedError

    async def _wait_for_room(self) -> None: ...

    def _put(self, item: Any) -> None:
        self.items.append(item)

    async def _get(self) -> Any:
        raise NotImplementedError

    def _hold(self, call: ServerCall) -> None: ...


class _Dataset(RemoteDataset[Golden, Any]):
    _stream_class = EpochCursor


def cases(rpc: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{rpc}.json").read_text("utf-8"))["cases"]
    return [case for case in found if case["status"] == "OK" and case["responses"]]


def raw(case: dict[str, Any], key: str) -> Answers:
    return [bytes.fromhex(each["hex"]) for each in case[key]]


GETDATASET = raw(cases("GetDataset")[0], "responses")


def client_config(message: pb.SamplerConfig) -> SamplerConfig:
    config = server_messages.decode_config(message, LIMITS)
    options = {name: getattr(config, name) for name in SamplerConfig.__slots__}
    return SamplerConfig(**{**options, "algorithm_version": message.algorithm_version})


def dataset(golden: Golden) -> _Dataset:
    request = pb.GetDatasetRequest(dataset="world")
    return run_sync(
        ask,
        golden,
        "GetDataset",
        request,
        lambda answer: _Dataset(golden, read_dataset("world", answer)),
    )


def plain(batch: Any) -> Any:
    arrays = (batch.replaced, batch.head_counts, batch.relation_counts, batch.mask, batch.log_q)
    return (
        batch.position,
        batch.num_saturated,
        [None if array is None else array.tolist() for array in arrays],
    )


def ask_sample(golden: Golden, case: dict[str, Any]) -> Any:
    found = dataset(golden)
    first, *others = [pb.SampleRequest.FromString(each) for each in raw(case, "requests")]
    config = client_config(first.configuration.sampler)
    stream = SamplerStream(golden, found._dataset, config, SamplerEcho(found._dataset, config))
    run_sync(stream.open)
    results = []
    for request in others:
        columns = request.positives.triples
        positives = np.stack(
            [
                np.frombuffer(each.data, f"<u{each.width or 1}").astype(int)
                for each in (columns.heads, columns.relations, columns.tails)
            ],
            axis=1,
        )
        pipeline = stream.pipeline(1)
        pipeline.add(positives, request.positives.position)
        batch = run_sync(stream.run, pipeline)
        results.append((plain(batch), [(notice.kind, notice.text) for notice in pipeline.notices]))
    return results


def ask_epoch(golden: Golden, case: dict[str, Any]) -> Any:
    found = dataset(golden)
    (request,) = [pb.SampleEpochRequest.FromString(each) for each in raw(case, "requests")]
    told = server_messages.decode_epoch(request, LIMITS)
    config = EpochConfig(**{name: getattr(told, name) for name in EpochConfig.__slots__})
    cursor = found.epochs(client_config(request.sampler), config)
    cursor.load_state_dict({"epoch": request.epoch, "start": request.start})
    cursor.reads_on = request.num_epochs > 1
    reader = _Epochs(golden, cursor._progress(), cursor.prefetch)
    for _ in range(1, request.num_epochs):
        reader.begin_next()  # else what fails is not wanted yet
    run_sync(golden.retry, reader._read)
    return [
        (
            [
                (
                    batch.next_start,
                    batch.positives.tolist(),
                    plain(batch.negatives),
                    None if batch.weights is None else batch.weights.tolist(),
                )
                for batch in batches
            ],
            is_last,
        )
        for batches, is_last in reader.items
    ]


def ask_contains(golden: Golden, case: dict[str, Any]) -> Any:
    found = dataset(golden)
    _, *others = [pb.ContainsRequest.FromString(each) for each in raw(case, "requests")]
    columns = others[0].triples
    triples = [
        np.frombuffer(each.data, f"<u{each.width or 1}").astype(int)
        for each in (columns.heads, columns.relations, columns.tails)
    ]
    return run_sync(found._look_up, np.stack(triples, axis=1), ("training",)).tolist()


def ask_known(golden: Golden, case: dict[str, Any]) -> Any:
    found = dataset(golden)
    first, *others = [pb.KnownRequest.FromString(each) for each in raw(case, "requests")]
    pairs = [
        np.frombuffer(each.data, f"<u{each.width or 1}").astype(int)
        for each in (others[0].pairs.first, others[0].pairs.second)
    ]
    slot = server_messages.SLOTS[first.configuration.slot]
    known = run_sync(found._find_known, np.stack(pairs, axis=1), slot, ("training",))
    return [values.tolist() for values in known]


def ask_statistics(golden: Golden, _: dict[str, Any]) -> Any:
    statistics = run_sync(dataset(golden)._ask_relation_statistics)
    return [
        np.nan_to_num(column).tolist()
        for column in (
            statistics.tails_per_head,
            statistics.heads_per_tail,
            statistics.head_probability,
        )
    ]


def ask_publish(golden: Golden, case: dict[str, Any]) -> Any:
    announced = pb.PublishRequest.FromString(raw(case, "requests")[0]).announcement
    parts: dict[str, Any] = {}
    if announced.HasField("type_constraints"):
        parts["type_constraints"] = {slot.lower(): rows for slot, rows in _TOY_TYPES.items()}
    if announced.HasField("labels"):
        for kind, labels in _TOY_LABELS.items():
            parts[f"{kind.lower()}_to_id"] = {label: i for i, label in enumerate(labels)}
    graph = MappedGraph.of(_TOY, num_entities=_TOY_SIZES[0], num_relations=_TOY_SIZES[1], **parts)
    assert graph.fingerprint == announced.fingerprint
    told: list[Any] = []
    run_sync(publish, golden, announced.name, graph, told.append)
    return told


def ask_dataset(golden: Golden, _: dict[str, Any]) -> Any:
    found = dataset(golden)
    mappings = (found.num_triples_per_split, found.num_unseen, found.split_fingerprints)
    return found._dataset, found.type_constraints_fingerprint, *map(dict, mappings)


def ask_snapshot(golden: Golden, case: dict[str, Any]) -> Any:
    """Take what a download would write, from where the request of the case says on."""
    request = pb.GetSnapshotRequest.FromString(bytes.fromhex(case["requests"][0]["hex"]))
    held = dataset(golden)._dataset

    async def take(budget: RetryBudget) -> tuple[Any, bytes]:
        taken = b""
        with await golden.open("GetSnapshot", request) as call:
            answer = await call.answer(budget)
            with call.answering():
                description = read_description(held, answer)
            if description.sha256 == request.manifest_sha256:
                number = [file.array for file in description.files].index(request.array)
                left = description.files[number].num_bytes - request.offset
                while (message := await call.next(budget.limit())) is not None:
                    place = Place(number + (len(taken) == left), request.offset + len(taken))
                    with call.answering():
                        taken += read_piece(description, place, message)
                with call.answering():  # else the client would ask for the rest
                    check_equal("piece.data, bytes", len(taken), left)
        return description, taken

    return run_sync(golden.retry, take)


ASK: dict[str, Callable[[Golden, dict[str, Any]], Any]] = {
    "Sample": ask_sample,
    "SampleEpoch": ask_epoch,
    "Contains": ask_contains,
    "Known": ask_known,
    "ListDatasets": lambda golden, _: run_sync(read, golden, "ListDatasets", DatasetListReader()),
    "GetServer": lambda golden, _: run_sync(
        ask, golden, "GetServer", pb.GetServerRequest(), read_server_info
    ),
    "GetDataset": ask_dataset,
    "GetRelationStatistics": ask_statistics,
    "GetVocabulary": lambda golden, _: run_sync(dataset(golden)._read_vocabularies),
    "GetSnapshot": ask_snapshot,
    "Publish": ask_publish,
}


def asked(rpc: str, case: dict[str, Any], answers: Answers) -> Any:
    return ASK[rpc](Golden({"GetDataset": GETDATASET, rpc: answers}), case)


# How an answer is changed.

Change: TypeAlias = tuple[str, Callable[[Any], object]]


def other_values(field: Field, value: Any) -> Iterator[Any]:
    """Return legal values of a field's type that are not the one it has."""
    if field.type == Field.TYPE_BYTES:
        candidates = [b"", value[:-1], value + b"\0", b"\xff" * len(value), b"\0" * len(value)]
        candidates += (
            [bytes([value[0] ^ 1]) + value[1:], value[:-1] + bytes([value[-1] ^ 0x80])]
            if value
            else []
        )
    elif field.type == Field.TYPE_STRING:
        candidates = ["", value + "x", value[:-1], value.upper(), "0" * 64, "é" * 1000]
    elif field.type == Field.TYPE_BOOL:
        candidates = [not value]
    elif field.type == Field.TYPE_DOUBLE:
        candidates = [0.0, -1.0, value + 0.5, math.nan, math.inf, 1e308, 5e-324]
    elif field.type == Field.TYPE_ENUM:
        candidates = [*range(8), 99]
    else:
        most = 2**64 - 1 if field.type == Field.TYPE_UINT64 else 2**32 - 1
        candidates = [0, 1, 2, 3, 8, value + 1, max(value - 1, 0), most, most // 2]
    return (each for each in candidates if each != value)


def changes(message: Message, path: str) -> Iterator[Change]:
    """Return the ways to change a message and its parts, with the field that each concerns."""
    for field in message.DESCRIPTOR.fields:
        name = f"{path}.{field.name}"
        if field.is_repeated:
            yield from _of_repeated(message, field, name)
        elif field.type == Field.TYPE_MESSAGE:
            inner = "" if field.message_type.name in _PARTS else field.message_type.name
            yield (
                name,
                lambda m, field=field: (
                    m.ClearField(field.name),
                    getattr(m, field.name).SetInParent(),
                ),
            )  # type: ignore[misc]
            if message.HasField(field.name):
                yield name, lambda m, field=field: m.ClearField(field.name)  # type: ignore[misc]
                for where, change in changes(getattr(message, field.name), inner or name):
                    yield (
                        where,
                        lambda m, field=field, change=change: change(getattr(m, field.name)),
                    )  # type: ignore[misc]
        else:
            for value in other_values(field, getattr(message, field.name)):
                yield name, lambda m, field=field, value=value: setattr(m, field.name, value)  # type: ignore[misc]


#: Messages that mean nothing without the one that has them.
_PARTS = ("Ids", "Triples")


def _of_repeated(message: Message, field: Field, name: str) -> Iterator[Change]:
    values = getattr(message, field.name)
    if not values:
        return
    yield name, lambda m: m.ClearField(field.name)
    yield name, lambda m: getattr(m, field.name).pop()
    yield name, lambda m: getattr(m, field.name).extend(copy.deepcopy(list(values[-1:])))
    yield name, lambda m: getattr(m, field.name).extend(copy.deepcopy(list(values)))
    if len(values) > 1:

        def reverse(m: Any) -> None:
            reversed_values = copy.deepcopy(list(values)[::-1])
            m.ClearField(field.name)
            getattr(m, field.name).extend(reversed_values)

        yield name, reverse
    for index in sorted({0, len(values) - 1}):
        if field.type == Field.TYPE_MESSAGE:
            for where, change in changes(values[index], field.message_type.name):
                yield (
                    where,
                    lambda m, index=index, change=change: change(  # type: ignore[misc]
                        getattr(m, field.name)[index]
                    ),
                )
        else:
            for value in other_values(field, values[index]):

                def put(m: Any, index: int = index, value: Any = value) -> None:
                    getattr(m, field.name)[index] = value

                yield name, put


def changed(rpc: str, answers: Answers) -> Iterator[tuple[str, Answers]]:
    """Return an RPC's answers, each with one change, and the field that it is about."""
    message_class = GetMessageClass(SERVICE.methods_by_name[rpc].output_type)
    for index in sorted({0, min(1, len(answers) - 1), len(answers) - 1}):
        data = answers[index]
        before, behind = answers[:index], answers[index + 1 :]
        message: Any = message_class.FromString(data)
        for where, change in changes(message, message_class.DESCRIPTOR.name):
            other = message_class.FromString(data)
            try:
                change(other)
                encoded = other.SerializeToString()
            except ValueError:
                continue  # no such value, so no bytes
            if encoded != data:
                yield where, [*before, encoded, *behind]
        for replaced in (b"", b"\xff\xff", data[:-1], data[: len(data) // 2], data + b"\x0a\x7f"):
            yield f"{rpc}: the bytes", [*before, replaced, *behind]
        if not SERVICE.methods_by_name[rpc].server_streaming:
            continue
        yield f"{rpc}: the bytes", [*before, *behind]
        yield f"{rpc}: the bytes", [*before, data, data, *behind]
        yield f"{rpc}: the bytes", [*before, b"", data, *behind]


CASES = [
    pytest.param(rpc, case, id=f"{rpc}-{case['name']}")
    for rpc in ASK
    for case in cases(rpc)
    if not (rpc == "Publish" and case["name"] in {"embedded graph", "wide"})
]


quiet = pytest.mark.filterwarnings(
    "error", "ignore::negserve.types.warning_categories.NegserveWarning"
)


@quiet
@pytest.mark.parametrize(("rpc", "case"), CASES)
def test_a_changed_answer_is_refused_or_unknowable(rpc: str, case: dict[str, Any]):
    taken, num_refused = all_changes(rpc, case)
    assert sorted(taken - UNKNOWABLE) == []
    assert num_refused > 0


@quiet
@pytest.mark.parametrize("rpc", ASK)
def test_no_changed_answer_takes_memory(rpc: str):
    """Tracing is slow, and all cases of an RPC have the same fields: one case of each."""
    case = next(param.values[1] for param in CASES if param.values[0] == rpc)
    tracemalloc.start()
    all_changes(rpc, case)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20


def all_changes(rpc: str, case: dict[str, Any]) -> tuple[set[str], int]:
    """Ask with each change; give the fields whose change was believed, and count refusals."""
    answers = raw(case, "responses")
    if rpc in {"Contains", "Known"}:
        answers = answers[:1]
    honest = asked(rpc, case, answers)
    taken = set()
    num_refused = 0
    for where, others in changed(rpc, answers):
        try:
            result = asked(rpc, case, others)
        except InvalidAnswerError as error:
            num_refused += 1
            assert error.metadata["rpc"] == rpc
            assert error.target == "golden:1"
        except NegserveError:
            num_refused += 1  # a stream that ended too early
        else:
            if result != honest:
                taken.add(where)
    return taken, num_refused
