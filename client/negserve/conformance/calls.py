"""Calls with raw bytes, and comparison of their answers with a golden file's."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from negserve._protocol.messages import decode_ids
from negserve.conformance.golden import METHODS, SERVICE, Case
from negserve.v1 import sampler_pb2 as pb

_SECONDS = 60.0
#: Messages sent ahead of their answers.
_AHEAD = 4
_STAGES_OF_TIME = (pb.PublishProgress.STAGE_WAITING, pb.PublishProgress.STAGE_BUILDING)


def call(channel: Any, rpc: str, requests: list[bytes]) -> tuple[list[bytes], Any]:
    """Make a call, reading answers while requests are sent.

    :param channel: channel to the server, from :mod:`negserve._transport.credentials`
    :return: the answers, and the error that ended the call or None
    """
    method = METHODS[rpc]
    path = f"/{SERVICE.full_name}/{rpc}"
    answers: list[bytes] = []
    try:
        if method.client_streaming:
            tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
            for _ in range(_AHEAD):
                tokens.put(None)
            try:
                paced = _paced(requests, tokens)
                for answer in channel.stream_stream(path)(paced, timeout=_SECONDS):
                    answers.append(answer)
                    tokens.put(None)
            finally:
                for _ in requests:  # none waits any more
                    tokens.put(None)
        elif method.server_streaming:
            answers.extend(channel.unary_stream(path)(requests[0], timeout=_SECONDS))
        else:
            answers.append(channel.unary_unary(path)(requests[0], timeout=_SECONDS))
    except grpc.RpcError as error:
        return answers, error
    return answers, None


def _paced(requests: list[bytes], tokens: queue.SimpleQueue[None]) -> Iterator[bytes]:
    for request in requests:
        tokens.get(timeout=_SECONDS)
        yield request


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    """Return the ErrorInfo of a refusal; None without one."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None


def difference(case: Case, answers: list[bytes], error: Any) -> str:
    """Describe how the answers to a case differ from the file's; "" if they don't."""
    status = "OK" if error is None else error.code().name
    if status != case.status:
        details = "" if error is None else f" ({error.details()})"
        return f"status {status}{details}, expected {case.status}"
    if case.error is not None:
        info = error_info(error)
        if info is None:
            return "no google.rpc.ErrorInfo in the status details"
        if (info.domain, info.reason) != (case.error["domain"], case.error["reason"]):
            return f"reason {info.domain} {info.reason}, expected {case.error['reason']}"
        expected = case.error["metadata"]
        found = {key: None if expected.get(key, "") is None else info.metadata[key]
                 for key in info.metadata}  # fmt: skip
        if info.reason == "UNKNOWN_DATASET" and set(expected["limit"].split(", ")) <= set(
            info.metadata["limit"].split(", ")
        ):
            found["limit"] = expected["limit"]  # a server may have further datasets
        if found != expected:
            return f"metadata {found}, expected {expected}"
    parsed = [[case.response_class.FromString(each) for each in messages]
              for messages in (answers, case.responses)]  # fmt: skip
    found_messages, expected_messages = (_NORMAL.get(case.rpc, list)(each) for each in parsed)
    if len(found_messages) != len(expected_messages):
        return f"{len(found_messages)} answers, expected {len(expected_messages)}"
    for index, (one, other) in enumerate(zip(found_messages, expected_messages, strict=True)):
        if one != other and not _is_close(one, other):
            return f"answer {index} is {_shortened(one)}, expected {_shortened(other)}"
    return ""


def _shortened(message: Any) -> str:
    text = " ".join(str(message).split())
    return text if len(text) <= 300 else text[:297] + "..."


def _is_close(one: Any, other: Any) -> bool:
    """Tolerate a difference of one in the last place, of log probabilities only."""
    if not isinstance(one, Message) or not one.DESCRIPTOR.full_name.startswith("negserve."):
        return False
    pairs = list(zip(_batches(one), _batches(other), strict=False))
    for found, expected in pairs:
        if len(found.log_q) != len(expected.log_q):
            return False
        bits = [np.frombuffer(each.log_q, "<i4").astype(np.int64) for each in (found, expected)]
        if np.abs(bits[0] - bits[1]).max(initial=0) > 1:
            return False
        found.log_q = expected.log_q
    return bool(pairs) and one == other


def _batches(message: Any) -> list[Any]:
    if isinstance(message, pb.SampleResponse):
        return [message.batch] if message.HasField("batch") else []
    if isinstance(message, pb.EpochBatch):
        return [message.negatives]
    return []


def _of_epoch(messages: list[Any]) -> list[Any]:
    """Concatenate the batches of all messages."""
    batches = [batch for message in messages for batch in message.batches.batches]
    return [*(each.configured for each in messages if each.HasField("configured")), *batches]


def _of_known(messages: list[Any]) -> list[Any]:
    """Join the values of each pair, behind their width and the pair's index.

    The first pair of a further answer has index 0 again, and an answer to no pairs has none.
    """
    pairs: list[list[int]] = []
    has_more = False
    for message in messages:
        values = iter(decode_ids(message.values).tolist())
        if not message.counts.data:
            pairs.append([])
        for i, count in enumerate(decode_ids(message.counts).tolist()):
            if not (has_more and i == 0):
                pairs.append([message.values.width, message.first_pair + i])
            pairs[-1] += islice(values, count)
        has_more = message.is_continued
    return pairs


def _of_vocabulary(messages: list[Any]) -> list[Any]:
    return [(each.kind, label) for each in messages for label in each.labels]


def _of_statistics(messages: list[Any]) -> list[Any]:
    return [
        [np.nan_to_num(numbers).tolist() for numbers in columns]
        for message in messages
        for columns in zip(
            message.tails_per_head, message.heads_per_tail, message.head_probability, strict=True
        )
    ]


def _of_list(messages: list[Any]) -> list[Any]:
    return [dataset for message in messages for dataset in message.datasets]


def _of_publication(messages: list[Any]) -> list[Any]:
    kept = [each for each in messages if each.progress.stage not in _STAGES_OF_TIME]
    for each in kept:
        if each.HasField("published"):
            each.published.ClearField("limits")
    return kept


def _without_limits(messages: list[Any]) -> list[Any]:
    """Remove fields that depend on the release and the operator's options."""
    for message in messages:
        message.ClearField("limits")
        if isinstance(message, pb.GetServerResponse):
            for name in ("version", "worker", "num_workers"):
                message.ClearField(name)
    return messages


_NORMAL: dict[str, Callable[[list[Any]], list[Any]]] = {
    "SampleEpoch": _of_epoch,
    "Known": _of_known,
    "GetVocabulary": _of_vocabulary,
    "GetRelationStatistics": _of_statistics,
    "ListDatasets": _of_list,
    "GetDataset": _without_limits,
    "GetServer": _without_limits,
    "Publish": _of_publication,
}
