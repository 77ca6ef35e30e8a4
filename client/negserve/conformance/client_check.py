"""Checks a client program: golden answers, random draws, disturbed calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format

from negserve._protocol.messages import decode_ids, encode_config
from negserve._sync.client import Client
from negserve._transport import credentials
from negserve._transport.channels import CHANNEL_OPTIONS
from negserve.conformance.calls import call
from negserve.conformance.golden import Case, File, golden_files
from negserve.conformance.program import Program, ProgramError
from negserve.conformance.relay import Disturbance, Relay
from negserve.conformance.report import Report
from negserve.conformance.server_check import fingerprints
from negserve.types.config import SamplerConfig
from negserve.v1 import sampler_pb2 as pb

_CODE = grpc.StatusCode
_NUM_POSITIVES = 300
#: By method: the file and the case whose calls are disturbed; all others with one of ``Sample``.
_DISTURBED = {
    "SampleEpoch": ("SampleEpoch", "whole epoch"),
    "Known": ("Known", "heads of all splits"),
}
_DRAWS: dict[str, dict[str, Any]] = {
    "basic": {},
    "filtered": {"filter_splits": ("training",)},
    "bernoulli": {"kind": "bernoulli", "filter_splits": ("training", "validation", "testing")},
    "pseudotyped": {"kind": "pseudotyped"},
    "degree": {"kind": "degree", "alpha": 0.5},
    "three slots": {"corruption_scheme": ("head", "relation", "tail")},
    "relations": {"corruption_scheme": ("relation",)},
    "distinct": {"distinct": True},
    "mask": {"filter_splits": ("training",), "filter_mode": "mask"},
    "chunks": {"chunk_size": 7},
    "mixture": {"kind": "mixture", "mixture": (("bernoulli", 3), ("degree", 1))},
}


def check_client(target: str, command: Sequence[str], report: Report, *, publish: bool) -> None:
    """Check a client.

    :param target: server that answers the client
    :param command: the client program and its arguments
    :param publish: whether the wide graph may be published on the server
    :raises NegserveError: if the server does not list its datasets
    """
    with (
        Client(target) as client,
        credentials.open_channel(grpc, target, CHANNEL_OPTIONS) as channel,
        Relay(channel) as relay,
        Program(command, relay.target) as program,
    ):
        if publish:
            _publish(channel)
        held = fingerprints(client)
        check = _ClientCheck(program, relay, report)
        try:
            check.server(client)
            for file in golden_files():
                if held.get(file.dataset) == file.fingerprint:
                    check.golden(file, list(held))
                else:
                    report.left_out(file.name, f"the server lacks {file.dataset}", len(file.cases))
            if "world" in held:
                check.draws(client)
                check.disturbances()
        except ProgramError as error:
            report.failed("program", "keeps running", str(error))


def _publish(channel: Any) -> None:
    for file in golden_files():
        for case in file.cases:
            if case.rpc == "Publish" and case.name == "wide":
                call(channel, "Publish", case.requests)


class _ClientCheck:
    """Gives tasks to one program and compares its results with the expected ones."""

    def __init__(self, program: Program, relay: Relay, report: Report) -> None:
        self._program = program
        self._relay = relay
        self._report = report

    def _check(
        self,
        part: str,
        name: str,
        task: dict[str, Any],
        expected: dict[str, Any],
        *,
        or_error: bool = False,
    ) -> None:
        """Send a task, and compare its result.

        :param or_error: whether an error passes, too
        """
        result = self._program.ask(task)
        if or_error and "error" in result:
            self._report.passed(part)
            return
        if result.get("leftOut"):
            self._report.left_out(part, "the program does not support the task")
            return
        for key, value in expected.items():
            if result.get(key) != value:
                found = result.get(key, result)
                self._report.failed(
                    part, name, f"{key} is {_short(found)}, expected {_short(value)}"
                )
                return
        self._report.passed(part)

    def server(self, client: Client) -> None:
        """Check the server's versions and its datasets."""
        info = client.server_info()
        versions = list(info.algorithm_versions)
        expected = {"version": info.version, "algorithmVersions": versions}
        self._check("GetServer", "versions", {"task": "server"}, expected)
        self._check(
            "ListDatasets", "names", {"task": "datasets"}, {"datasets": client.list_datasets()}
        )

    def golden(self, file: File, names: Sequence[str]) -> None:
        """Check the cases of a golden file that a client can be made to request.

        :param names: names of the server's datasets
        """
        for case in file.cases:
            task = _task(case)
            if task is None:
                continue
            if case.error is None:
                self._check(file.name, case.name, task, _result(case))
            else:
                error = {key: case.error[key] for key in ("reason", "metadata")}
                if case.error["reason"] == "UNKNOWN_DATASET":
                    error["metadata"] = {**error["metadata"], "limit": ", ".join(names)}
                self._check(file.name, case.name, task, {"error": error})

    def draws(self, client: Client) -> None:
        """Check random draws against the Python client."""
        factory = client.triples_factory("world")
        generator = np.random.default_rng()
        for name, options in _DRAWS.items():
            seed, position = (int(n) for n in generator.integers(2**63, size=2))
            config = SamplerConfig(num_negs_per_pos=9, seed=seed, **options)
            sizes = (factory.num_entities, factory.num_relations, factory.num_entities)
            columns = [generator.integers(size, size=_NUM_POSITIVES) for size in sizes]
            positives = np.stack(columns, axis=1)
            sampler = factory.open_sampler(
                **{field: getattr(config, field) for field in SamplerConfig.__slots__}
            )
            batch = sampler.sample(positives, position)
            sampler.close()
            negatives = batch.triples(positives)
            mask = np.ones(negatives.shape[:2], bool) if batch.mask is None else batch.mask
            configuration = pb.SampleConfiguration(dataset="world", sampler=encode_config(config))
            task = {
                "task": "sample",
                "configuration": json_format.MessageToDict(configuration),
                "messages": [{"position": str(position), "triples": positives.tolist()}],
            }
            expected = [{"negatives": negatives.tolist(), "mask": mask.astype(int).tolist()}]
            self._check("random draws", f"{name}, seed {seed}", task, {"batches": expected})

    def disturbances(self) -> None:
        """Break, refuse and falsify calls: the batches must be those of the files."""
        cases = {(case.file, case.name): case for file in golden_files() for case in file.cases}
        for name, disturbance in _disturbances():
            case = cases[_DISTURBED.get(disturbance.method, ("Sample", "chunks"))]
            task = _task(case)
            assert task is not None
            self._relay.disturbance = disturbance
            may_give_up = disturbance.change is not None
            self._check("disturbances", name, task, _result(case), or_error=may_give_up)
            self._relay.disturbance = None
            if not disturbance.has_struck:
                self._report.failed(
                    "disturbances", name, f"the client did not call {disturbance.method}"
                )


def _disturbances() -> Iterator[tuple[str, Disturbance]]:
    ends: dict[str, tuple[grpc.StatusCode, str]] = {
        "lost": (_CODE.UNAVAILABLE, ""),
        "ended by a proxy": (_CODE.INTERNAL, ""),
        "cancelled by a proxy": (_CODE.CANCELLED, ""),
        "drained": (_CODE.UNAVAILABLE, "DRAINING"),
        "idle": (_CODE.DEADLINE_EXCEEDED, "STREAM_IDLE"),
    }
    for method in ("Sample", "SampleEpoch", "Known"):
        for name, end in ends.items():
            yield f"{method} {name}", Disturbance(method, 2, end=end)
        full = (_CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        yield f"{method} on a full server", Disturbance(method, 0, end=full)
        yield f"{method} lost at once", Disturbance(method, 0, end=(_CODE.UNAVAILABLE, ""))
    in_order = (_CODE.OK, "")
    yield "SampleEpoch ended in order", Disturbance("SampleEpoch", 3, end=in_order)
    yield "Known ended in order", Disturbance("Known", 3, end=in_order)
    yield "Known lies", Disturbance("Known", 1, change=_leave_out_a_pair)
    lies = {
        "SampleEpoch": "batches.batches.0.next_start",
        "Sample": "batch.position",
        "GetDataset": "dataset.num_entities",
    }
    for method, path in lies.items():
        count = 0 if method == "GetDataset" else 1
        yield f"{method} lies", Disturbance(method, count, change=partial(_raise, path))
    yield "GetDataset lost", Disturbance("GetDataset", 0, end=(_CODE.UNAVAILABLE, ""))


def _leave_out_a_pair(message: Any) -> Any:
    message.first_pair += 1
    return message


def _raise(path: str, message: Any) -> Any:
    """Set a number of an answer to a false value."""
    *names, last = path.split(".")
    part = message
    for name in names:
        part = part[int(name)] if name.isdecimal() else getattr(part, name)
    setattr(part, last, getattr(part, last) + 2**32)
    return message


def _task(case: Case) -> dict[str, Any] | None:
    """Return a client's task for a case; None if a client can't make such a request."""
    if case.rpc == "SampleEpoch" and _is_parsable(case):
        request = pb.SampleEpochRequest.FromString(case.requests[0])
        if request.num_epochs > 1:
            return None  # a task is an epoch; that a stream has several saves time only
        return {"task": "epoch", "request": json_format.MessageToDict(request)}
    if case.rpc == "Known" and case.requests and _is_parsable(case):
        return _known_task(case)
    if case.rpc != "Sample" or not case.requests or not _is_parsable(case):
        return None
    first, *others = [pb.SampleRequest.FromString(each) for each in case.requests]
    if not first.HasField("configuration") or (case.error is not None and case.responses):
        return None  # clients do not send this
    messages: list[dict[str, Any]] = [
        {"position": str(each.positives.position), "triples": _rows(each.positives.triples)}
        for each in others
    ]
    if case.error is not None and not messages:
        messages = [{"position": "0", "triples": [[0, 0, 1]]}]  # without a message nothing is sent
    return {
        "task": "sample",
        "configuration": json_format.MessageToDict(first.configuration),
        "messages": messages,
    }


def _known_task(case: Case) -> dict[str, Any] | None:
    first, *others = [pb.KnownRequest.FromString(each) for each in case.requests]
    columns = [
        [decode_ids(each).tolist() for each in (other.pairs.first, other.pairs.second)]
        for other in others
    ]
    is_plain = all(len(first) == len(second) for first, second in columns)
    if not first.HasField("configuration") or not is_plain or (case.error and case.responses):
        return None  # clients do not send this
    messages = [{"pairs": [list(pair) for pair in zip(*each, strict=True)]} for each in columns]
    return {
        "task": "known",
        "configuration": json_format.MessageToDict(first.configuration),
        "messages": messages or [{"pairs": [[0, 0]]}],  # without a message nothing is sent
    }


def _is_parsable(case: Case) -> bool:
    """Return whether a task can express the request; unknown enum values have no name."""
    is_malformed = case.error is not None and case.error["reason"] == "MALFORMED_MESSAGE"
    return not is_malformed and case.name != "unknown kind"


def _rows(triples: pb.Triples) -> list[list[int]]:
    columns = [
        decode_ids(each).tolist() for each in (triples.heads, triples.relations, triples.tails)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _result(case: Case) -> dict[str, Any]:
    """Return what a client makes of the answers."""
    if case.rpc != "Known":
        return {"batches": _batches(case)}
    known = []
    for response in case.responses:  # each complete, in the files
        answer = pb.KnownResponse.FromString(response)
        values = iter(decode_ids(answer.values).tolist())
        known.append([list(islice(values, count)) for count in decode_ids(answer.counts).tolist()])
    return {"known": known}


def _batches(case: Case) -> list[dict[str, Any]]:
    """Return the batches that a client makes of the answers."""
    if case.rpc == "Sample":
        return case.batches
    encoded = [
        batch
        for response in case.responses
        for batch in pb.SampleEpochResponse.FromString(response).batches.batches
    ]
    return [
        {"nextStart": str(batch.next_start), "positives": _rows(batch.positives), **rebuilt}
        for batch, rebuilt in zip(encoded, case.batches, strict=True)
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
