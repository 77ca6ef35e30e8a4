"""Names, types and labels of the metrics: dashboards and alerts of users depend on them."""

from __future__ import annotations

import re

from negserve_server.metrics.catalogue import METRICS

GOLDEN = """\
negserve_calls_total counter rpc code
negserve_refusals_total counter reason
negserve_authentication_failures_total counter reason
negserve_received_bytes_total counter rpc
negserve_sent_bytes_total counter rpc
negserve_positives_total counter dataset kind
negserve_negatives_total counter dataset kind
negserve_saturated_positives_total counter dataset kind
negserve_masked_negatives_total counter dataset kind
negserve_stage_seconds histogram stage
negserve_open_calls gauge
negserve_waiting_streams gauge
negserve_queued_messages gauge
negserve_ahead_bytes gauge
negserve_ahead_limit_bytes gauge
negserve_table_bytes gauge dataset
negserve_table_limit_bytes gauge
negserve_table_evictions_total counter
negserve_workers gauge
negserve_worker_restarts_total counter
negserve_dataset_info gauge dataset fingerprint serial origin current
negserve_build_info gauge version algorithm_version
"""


def test_names_types_and_labels_stay():
    stated = "".join(f"{' '.join((each.name, each.type, *each.labels))}\n" for each in METRICS)
    assert stated == GOLDEN


def test_names_follow_the_conventions_of_prometheus():
    for each in METRICS:
        assert re.fullmatch(r"negserve_[a-z_]+", each.name)
        assert each.name.endswith("_total") == (each.type == "counter")
        assert each.help.endswith(".") or each.name.endswith("_info")
