"""The catalogue of the log: fields of its JSON lines, and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict

#: What the lines of audit and access log tell.
Event = Literal[
    "call_ended",
    "authentication_failed",
    "publish_begun",
    "publish_served",
    "publish_refused",
    "publish_ended",
    "dataset_dropped",
    "load",
    "unload",
    "reload",
    "drain",
    "resume",
    "sighup",
]
#: Meaning of each.
EVENTS: Mapping[Event, str] = {
    "call_ended": "a call has ended (access log)",
    "authentication_failed": "calls were refused for who called: the first at once, later ones "
    "together, every 10 seconds at most; `peer` and `caller` are of the last",
    "publish_begun": "a client begins to upload a graph",
    "publish_served": "a published graph is served",
    "publish_refused": "a graph is not taken, or no longer waited for, for the `reason`",
    "publish_ended": "the client of an upload left before its end",
    "dataset_dropped": "a published graph made room for another one",
    "load": "`LoadDataset`: `changes`, or the `reason` of the refusal",
    "unload": "`UnloadDataset`, likewise",
    "reload": "`ReloadDatasets`, likewise",
    "drain": "`DrainServer`: the server is out of service, or the `reason` of the refusal",
    "resume": "`ResumeServer`, likewise",
    "sighup": "files were read again after SIGHUP, or could not be; the repository was, with "
    "`changes`",
}


class EventFields(TypedDict, total=False):
    """Fields of an event, other than those of every line; see :data:`FIELDS`."""

    call: str
    rpc: str
    peer: str
    caller: str
    dataset: str
    code: str
    reason: str
    seconds: float
    requests: int
    answers: int
    bytes_in: int
    bytes_out: int
    changes: Mapping[str, str]
    refused: Mapping[str, int]


#: Meaning of each field, in the order in which a line has them. Names and meanings are stable:
#: programs read them.
FIELDS: Mapping[str, str] = {
    "time": "UTC, ISO 8601 with milliseconds, such as `2026-01-31T12:00:00.123Z`",
    "level": "`debug`, `info`, `warning`, `error` or `critical`",
    "logger": "the part of the server that logs; `grpc.core` for gRPC, `stderr` for what anything "
    "else wrote to standard error",
    "process": "`worker 1` and so on, with several `--workers`",
    "event": "what happened, of audit and access lines: see below",
    "message": "text for people; it may change with any version",
    "call": "id of the call in which this was logged, 16 hexadecimal digits",
    "rpc": "its method, such as `Sample`",
    "peer": "address of its client, as gRPC writes it",
    "caller": "name of its token, or the subject of its certificate",
    "dataset": "the dataset that it is about",
    "trace": "id of its trace, with `--tracing`",
    "code": "status of a call that has ended, such as `OK` or `INVALID_ARGUMENT`",
    "reason": "reason of a refusal, such as `UNKNOWN_DATASET`",
    "seconds": "how long it took",
    "requests": "messages of the client",
    "answers": "messages to the client",
    "bytes_in": "bytes of the requests, without gRPC's frames",
    "bytes_out": "bytes of the answers, without gRPC's frames",
    "changes": "what became of datasets: an object of name and action, such as `loaded`",
    "refused": "calls that were refused since the last such line: an object of reason and number",
    "traceback": "the traceback of an error, with line ends",
}
