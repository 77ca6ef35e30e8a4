"""All metrics: name, type, labels and meaning, as scrapers and the table of the documents say."""

from __future__ import annotations

from typing import Literal, NamedTuple

#: Upper bounds of the buckets of durations, in seconds.
BUCKETS = (
    25e-6, 50e-6, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
)  # fmt: skip


class Metric(NamedTuple):
    """A metric.

    :ivar name: as it is queried
    :ivar type: of Prometheus
    :ivar labels: their names
    :ivar help: meaning
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


_DRAWN = ("dataset", "kind")

CALLS = Metric(
    "negserve_calls_total",
    "counter",
    ("rpc", "code"),
    "Calls that have ended, by method and status. CANCELLED: the client left while it was "
    "answered; while it was waited for, that is like an end of its requests, OK.",
)
REFUSALS = Metric(
    "negserve_refusals_total",
    "counter",
    ("reason",),
    "Calls that ended with a status that has a reason, by reason.",
)
AUTHENTICATION_FAILURES = Metric(
    "negserve_authentication_failures_total",
    "counter",
    ("reason",),
    "Calls without a token, or with a wrong one, by reason.",
)
RECEIVED_BYTES = Metric(
    "negserve_received_bytes_total", "counter", ("rpc",), "Bytes of requests, by method."
)
SENT_BYTES = Metric(
    "negserve_sent_bytes_total", "counter", ("rpc",), "Bytes of answers, by method."
)
POSITIVES = Metric(
    "negserve_positives_total",
    "counter",
    _DRAWN,
    "Positives that were corrupted, by dataset and kind of sampler.",
)
NEGATIVES = Metric(
    "negserve_negatives_total",
    "counter",
    _DRAWN,
    "Negatives that were drawn, by dataset and kind of sampler.",
)
SATURATED_POSITIVES = Metric(
    "negserve_saturated_positives_total",
    "counter",
    _DRAWN,
    "Positives with fewer legal values than needed.",
)
MASKED_NEGATIVES = Metric(
    "negserve_masked_negatives_total", "counter", _DRAWN, "Negatives that are not valid."
)
STAGE_SECONDS = Metric(
    "negserve_stage_seconds",
    "histogram",
    ("stage",),
    "Duration of the stages of a message of negatives: queue (it waits for a thread), draw, "
    "encode, send (until gRPC or the client has taken it).",
)
OPEN_CALLS = Metric("negserve_open_calls", "gauge", (), "Calls that are open.")
WAITING_STREAMS = Metric(
    "negserve_waiting_streams",
    "gauge",
    (),
    "Streams whose answers wait for room within --max-ahead-bytes.",
)
QUEUED_MESSAGES = Metric(
    "negserve_queued_messages", "gauge", (), "Messages that wait for a thread."
)
AHEAD_BYTES = Metric(
    "negserve_ahead_bytes", "gauge", (), "Memory of answers that clients have not taken yet."
)
AHEAD_LIMIT_BYTES = Metric(
    "negserve_ahead_limit_bytes", "gauge", (), "Limit of these, --max-ahead-bytes."
)
TABLE_BYTES = Metric("negserve_table_bytes", "gauge", ("dataset",), "Memory of tables, by dataset.")
TABLE_LIMIT_BYTES = Metric(
    "negserve_table_limit_bytes",
    "gauge",
    (),
    "Limit of the tables of all datasets, --max-table-bytes.",
)
TABLE_EVICTIONS = Metric(
    "negserve_table_evictions_total", "counter", (), "Tables that were dropped for others."
)
WORKERS = Metric("negserve_workers", "gauge", (), "Processes that answer, of --workers.")
WORKER_RESTARTS = Metric(
    "negserve_worker_restarts_total",
    "counter",
    (),
    "Workers that ended although nobody stopped them, and were started again.",
)
DATASET = Metric(
    "negserve_dataset_info",
    "gauge",
    ("dataset", "fingerprint", "serial", "origin", "current"),
    "1 for each graph in memory: serial is the number of its version, current is no where only "
    "streams use it that began before a replacement.",
)
BUILD = Metric(
    "negserve_build_info",
    "gauge",
    ("version", "algorithm_version"),
    "1, with the version of the server and that of the drawn bytes.",
)

#: In the order of the table in ``docs/operations.md``.
METRICS = (
    CALLS, REFUSALS, AUTHENTICATION_FAILURES, RECEIVED_BYTES, SENT_BYTES, POSITIVES, NEGATIVES,
    SATURATED_POSITIVES, MASKED_NEGATIVES, STAGE_SECONDS, OPEN_CALLS, WAITING_STREAMS,
    QUEUED_MESSAGES, AHEAD_BYTES, AHEAD_LIMIT_BYTES, TABLE_BYTES, TABLE_LIMIT_BYTES,
    TABLE_EVICTIONS, WORKERS, WORKER_RESTARTS, DATASET, BUILD,
)  # fmt: skip
