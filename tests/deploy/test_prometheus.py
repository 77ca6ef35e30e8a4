"""deploy/prometheus: rules and dashboard ask for what a real server gives, and are explained."""

from __future__ import annotations

import json
import math
import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
import yaml

from negserve import Client, EpochConfig, NegserveError, SamplerConfig
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.metrics.catalogue import METRICS, NEGATIVES
from tests.support.graphs import REPOSITORY
from tests.support.programs.prometheus import Prometheus, prometheus, scraping, tool
from tests.support.scraping import Scraper, scraped_server
from tests.support.workers import wait_for

FOLDER = REPOSITORY / "deploy" / "prometheus"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
TESTS: dict[str, Any] = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text("utf-8"))
DASHBOARD = json.loads((FOLDER / "grafana_dashboard.json").read_text("utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

TOKEN = "a-token-of-the-tests"


def promtool(*arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [tool("promtool"), *arguments], input=given, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def scraper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraper]:
    folder: Path = tmp_path_factory.mktemp("scraped")
    (folder / "tokens").write_text(f"{TOKEN}\n")
    (folder / "tokens").chmod(0o600)
    options = ("--workers", "2", "--token-file", str(folder / "tokens"))
    with scraped_server(folder / "log", *options) as scraper:
        yield scraper


def cause_everything(client: Client, stranger: SamplerServiceStub) -> None:
    """Draw, and be refused, in all ways that are counted."""
    factory = client.triples_factory("world")
    sampler = factory.open_sampler(num_negs_per_pos=4)
    sampler.sample(np.zeros((8, 3), dtype=np.int64), 0)
    for _ in factory.epochs(SamplerConfig(num_negs_per_pos=4), EpochConfig(batch_size=512)):
        pass
    with pytest.raises(NegserveError):
        sampler.sample(np.full((1, 3), 10**6), 0)
    with pytest.raises(grpc.RpcError):
        stranger.GetServer(pb.GetServerRequest(), timeout=20)
    sampler.close()
    # The only candidate is the positive's own tail: no negative is legal.
    masked = factory.open_sampler(
        kind="degree",
        num_negs_per_pos=4,
        corruption_scheme=("tail",),
        candidates=[2],
        filter_splits=("training",),
    )
    masked.sample([[1, 1, 2]], 0)
    masked.close()


def test_the_server_writes_what_promtool_reads(scraper: Scraper):
    assert promtool("check", "metrics", given=scraper.text()) == ""


def test_compose_scrapes_both_replicas():
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text("utf-8"))
    configuration = yaml.safe_load((FOLDER / "prometheus.yaml").read_text("utf-8"))
    (scraped,) = configuration["scrape_configs"]
    assert scraped["job_name"] == "negserve"
    (group,) = scraped["static_configs"]
    for target in group["targets"]:
        name, _, port = target.partition(":")
        command = compose["services"][name]["command"]
        assert command[command.index("--metrics-listen") + 1] == f"0.0.0.0:{port}"
    assert compose["services"]["prometheus"]["profiles"] == ["observe"]


def test_the_rules_are_in_order():
    promtool("check", "rules", str(FOLDER / "alerts.yaml"))
    promtool("check", "config", str(FOLDER / "prometheus.yaml"))  # and that it finds the rules
    promtool("test", "rules", str(FOLDER / "alerts_test.yaml"))


#: Alert, what its rule has, and what it might have: other thresholds, times, series and ranges.
CHANGES = [
    ("NegserveDown", "== 0", "== 1"),
    ("NegserveDown", 'up{job="negserve"}', "up"),
    ("NegserveDown", "1m", "0m"),
    ("NegserveDown", "1m", "9m"),
    ("NegserveRefusals", "> 0.1", "> 0.11"),
    ("NegserveRefusals", "> 0.1", "> 0.09"),
    ("NegserveRefusals", "10m", "9m"),
    ("NegserveRefusals", "10m", "11m"),
    ("NegserveRefusals", "[5m]", "[10m]"),
    ("NegserveRefusals", "[5m]", "[2m]"),
    ("NegserveRefusals", "(instance, reason)", "(instance)"),
    ("NegserveRefusals", "DRAINING|", ""),
    ("NegserveRefusals", "STREAM_IDLE|", ""),
    ("NegserveRefusals", "CREDENTIALS_.*", "CREDENTIALS_MISSING"),
    ("NegserveMasked", "> 0.05", "> 0.06"),
    ("NegserveMasked", "> 0.05", "> 0.04"),
    ("NegserveMasked", "> 0.05", "> 5"),
    ("NegserveMasked", "10m", "9m"),
    ("NegserveMasked", "10m", "11m"),
    ("NegserveMasked", "[10m]", "[5m]"),
    ("NegserveMasked", "[10m]", "[20m]"),
    ("NegserveSaturated", "> 0.05", "> 0.06"),
    ("NegserveSaturated", "> 0.05", "> 0.04"),
    ("NegserveSaturated", "> 0.05", "> 5"),
    ("NegserveSaturated", "10m", "9m"),
    ("NegserveSaturated", "10m", "11m"),
    ("NegserveSaturated", "[10m]", "[5m]"),
    ("NegserveSaturated", "[10m]", "[20m]"),
    ("NegserveSlow", "> 0.25", "> 0.3"),
    ("NegserveSlow", "> 0.25", "> 0.2"),
    ("NegserveSlow", "0.99", "0.01"),
    ("NegserveSlow", "0.99", "0.95"),
    ("NegserveSlow", "0.99", "0.999"),
    ("NegserveSlow", '{stage="draw"}', ""),
    ("NegserveSlow", '"draw"', '"queue"'),
    ("NegserveSlow", "10m", "9m"),
    ("NegserveSlow", "10m", "11m"),
    ("NegserveSlow", "[5m]", "[10m]"),
    ("NegserveSlow", "[5m]", "[2m]"),
    ("NegserveQueue", "> 0.1", "> 0.11"),
    ("NegserveQueue", "> 0.1", "> 0.09"),
    ("NegserveQueue", "0.99", "0.01"),
    ("NegserveQueue", "0.99", "0.999"),
    ("NegserveQueue", '{stage="queue"}', ""),
    ("NegserveQueue", '"queue"', '"queued"'),
    ("NegserveQueue", "10m", "9m"),
    ("NegserveQueue", "10m", "11m"),
    ("NegserveQueue", "[5m]", "[10m]"),
    ("NegserveQueue", "[5m]", "[2m]"),
    ("NegserveTableMemory", "> 0.9", "> 0.91"),
    ("NegserveTableMemory", "> 0.9", "> 0.89"),
    ("NegserveTableMemory", "10m", "9m"),
    ("NegserveTableMemory", "10m", "11m"),
    ("NegserveAnswersWait", "> 0", "> 1"),
    ("NegserveAnswersWait", "> 0", ">= 0"),
    ("NegserveAnswersWait", "min_over_time", "max_over_time"),
    ("NegserveAnswersWait", "[5m]", "[1m]"),
    ("NegserveAnswersWait", "5m", "4m"),
    ("NegserveAnswersWait", "5m", "6m"),
    ("NegserveWorkerRestarts", "> 0", "> 1"),
    ("NegserveWorkerRestarts", "> 0", ">= 0"),
    ("NegserveWorkerRestarts", "[15m]", "[20m]"),
    ("NegserveWorkerRestarts", "[15m]", "[10m]"),
    ("NegserveAuthentication", "> 0.1", "> 0.11"),
    ("NegserveAuthentication", "> 0.1", "> 0.09"),
    ("NegserveAuthentication", "5m", "4m"),
    ("NegserveAuthentication", "5m", "6m"),
    ("NegserveAuthentication", "[5m]", "[10m]"),
    ("NegserveAuthentication", "[5m]", "[2m]"),
]


def change_rule(folder: Path, name: str, has: str, instead: str) -> Path:
    """Write a changed rule and the tests of its alert to a folder, and return those tests."""
    (rule,) = (alert for alert in ALERTS if alert["alert"] == name)
    # A duration without brackets is that of "for".
    field = "for" if re.fullmatch(r"\d+m", has) else "expr"
    assert has in rule[field]
    wrong = rule | {field: rule[field].replace(has, instead)}
    (folder / "alerts.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "wrong", "rules": [wrong]}]}), "utf-8"
    )
    tests = TESTS | {"tests": [test for test in TESTS["tests"] if test["name"] == name]}
    path = folder / "alerts_test.yaml"
    path.write_text(yaml.safe_dump(tests), "utf-8")
    return path


@pytest.fixture(scope="module")
def said_of_changes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], str]:
    """Return what promtool says of each change, which it is asked about all at once."""
    files = {change: change_rule(tmp_path_factory.mktemp("change"), *change) for change in CHANGES}
    done = subprocess.run(
        [tool("promtool"), "test", "rules", *map(str, files.values())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout
    _, *parts = re.split(r"^Unit Testing: +", done.stdout, flags=re.MULTILINE)
    said = dict(part.split("\n", 1) for part in parts)
    return {change: said[str(path)] for change, path in files.items()}


@pytest.mark.parametrize(("name", "has", "instead"), CHANGES)
def test_the_tests_of_the_rules_find_a_wrong_one(
    name: str, has: str, instead: str, said_of_changes: dict[tuple[str, ...], str]
):
    said = said_of_changes[name, has, instead]
    assert "FAILED" in said
    assert re.search(f'alertname=.*"{name}', said), said


def test_rules_and_dashboard_ask_for_metrics_that_there_are():
    stated = {each.name for each in METRICS}
    for expression in (*QUERIES, *(alert["expr"] for alert in ALERTS)):
        for name in re.findall(r"negserve_\w+", expression):
            assert re.sub("_(bucket|sum|count)$", "", name) in stated, expression


@contextmanager
def load(scraper: Scraper) -> Iterator[None]:
    """Cause everything that is counted, again and again, until the block ends."""
    is_over = threading.Event()
    with (
        Client(scraper.server.target) as client,
        grpc.insecure_channel(scraper.server.target) as channel,
        ThreadPoolExecutor(1) as threads,
    ):

        def work() -> None:
            while not is_over.wait(0.2):  # much faster than Prometheus scrapes is no use
                cause_everything(client, SamplerServiceStub(channel))

        working = threads.submit(work)
        try:
            yield
        finally:
            is_over.set()
        working.result()


_DRAWN = [{"dataset": "world", "kind": "basic"}, {"dataset": "world", "kind": "degree"}]
_STAGES = [{"stage": stage} for stage in ("queue", "draw", "encode", "send")]
_STREAMS = [{"rpc": "Sample"}, {"rpc": "SampleEpoch"}]
#: Series with these labels are above zero under the load; by the first metric of a query.
ABOVE_ZERO: dict[str, list[dict[str, str]]] = {
    "negserve_negatives_total": _DRAWN,
    "negserve_calls_total": [
        {"rpc": "Sample", "code": "OK"},
        {"rpc": "Sample", "code": "INVALID_ARGUMENT"},
        {"rpc": "GetServer", "code": "UNAUTHENTICATED"},
    ],
    "negserve_refusals_total": [
        {"reason": "ENTITY_ID_OUT_OF_RANGE"},
        {"reason": "CREDENTIALS_MISSING"},
    ],
    "negserve_authentication_failures_total": [{"reason": "CREDENTIALS_MISSING"}],
    "negserve_stage_seconds_bucket": _STAGES,
    "negserve_stage_seconds_sum": _STAGES,
    "negserve_sent_bytes_total": _STREAMS,
    "negserve_received_bytes_total": _STREAMS,
    "negserve_masked_negatives_total": [{"dataset": "world", "kind": "degree"}],
    "negserve_saturated_positives_total": [{"dataset": "world", "kind": "degree"}],
    "negserve_open_calls": [{}],
    "negserve_table_bytes": [{"dataset": "world"}],
    "negserve_table_limit_bytes": [{}],
    "negserve_ahead_limit_bytes": [{}],
    "negserve_workers": [{}],
    "negserve_dataset_info": [{"dataset": "world", "serial": "1", "current": "yes"}],
    "negserve_build_info": [{"algorithm_version": "2"}],
}


def first_metric(expression: str) -> str:
    return re.findall(r"negserve_\w+|up(?={)", expression)[0]


def are_numbers(answers: list[Any]) -> bool:
    """Tell whether there is an answer, and each is a finite number."""
    return bool(answers) and all(math.isfinite(float(each["value"][1])) for each in answers)


def show_the_load(answers: list[Any], series: list[dict[str, str]]) -> bool:
    above = [each["metric"] for each in answers if float(each["value"][1]) > 0]
    return are_numbers(answers) and all(
        any(labels.items() <= metric.items() for metric in above) for labels in series
    )


def test_a_real_prometheus_answers_every_query(
    scraper: Scraper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEGSERVE_TOKEN", TOKEN)
    target = urlsplit(scraper.url).netloc
    assert {first_metric(query) for query in QUERIES} > ABOVE_ZERO.keys()
    configuration = scraping(target, FOLDER / "alerts.yaml")
    with load(scraper), prometheus(tmp_path, configuration) as running:
        for query in QUERIES:
            expression = query.replace("$__rate_interval", "1m")
            series = ABOVE_ZERO.get(first_metric(query), [])
            wait_for(
                lambda text=expression, series=series: show_the_load(running.query(text), series),  # type: ignore[misc]
                f"{expression} with {series} above zero",
            )
        for alert in ALERTS:
            compared, _ = re.split(r" (?:>|==) [\d.]+$", alert["expr"])
            wait_for(
                lambda text=compared: are_numbers(running.query(text)),  # type: ignore[misc]
                f"numbers of {compared}",
            )
            named = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
            for answer in running.query(compared):
                assert named <= answer["metric"].keys(), compared
        check_rules(running)


def check_rules(running: Prometheus) -> None:
    """Wait until a Prometheus has evaluated all rules, and nothing else."""

    def rules() -> list[dict[str, Any]]:
        return [rule for group in running.ask("rules")["groups"] for rule in group["rules"]]

    assert {rule["name"] for rule in rules()} == {alert["alert"] for alert in ALERTS}
    wait_for(lambda: all(rule["health"] == "ok" for rule in rules()), "an evaluation of all rules")


def health_of_targets(running: Prometheus) -> dict[str, str]:
    """Return up, down or unknown, by instance."""
    targets = running.ask("targets")["activeTargets"]
    return {each["labels"]["instance"]: each["health"] for each in targets}


def test_the_prometheus_of_compose_scrapes_both_replicas_and_evaluates_the_rules(
    scraper: Scraper, tmp_path: Path
):
    """The file as it is, but for the addresses: its rules are found, its job has their name."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yaml").read_text("utf-8"))
    configuration["rule_files"] = [str(FOLDER / name) for name in configuration["rule_files"]]
    (group,) = configuration["scrape_configs"][0]["static_configs"]
    with scraped_server(tmp_path / "log") as other:
        servers = [scraper, other]
        addresses = [urlsplit(each.url).netloc for each in servers]
        assert len(group["targets"]) == len(addresses)
        group["targets"] = addresses
        with prometheus(tmp_path, configuration) as running:
            up = dict.fromkeys(addresses, "up")
            wait_for(lambda: health_of_targets(running) == up, "a scrape of both")
            answers = running.query("negserve_workers")
            assert {each["metric"]["instance"] for each in answers} == set(addresses)
            check_rules(running)
            # A replica that is gone is seen by the rule for it.
            other.server.kill()
            wait_for(
                lambda: (
                    [
                        alert["labels"]["instance"]
                        for alert in running.ask("alerts")["alerts"]
                        if alert["labels"]["alertname"] == "NegserveDown"
                    ]
                    == [addresses[1]]
                ),
                "the alert of a replica that is gone",
            )


def test_the_adapter_gets_the_rate_of_each_pod(
    scraper: Scraper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What prometheus-adapter asks by the rule for the HorizontalPodAutoscaler."""
    monkeypatch.setenv("NEGSERVE_TOKEN", TOKEN)
    (rule,) = yaml.safe_load((FOLDER / "adapter.yaml").read_text("utf-8"))["rules"]
    name = NEGATIVES.name
    assert re.fullmatch(rule["name"]["matches"], name)
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}

    def asked(namespace: str) -> str:
        matchers = f'namespace="{namespace}",pod=~"negserve-1|negserve-2"'
        parts = {"Series": name, "LabelMatchers": matchers, "GroupBy": "pod"}
        query: str = rule["metricsQuery"]
        for part, text in parts.items():
            query = query.replace(f"<<.{part}>>", text)
        return query

    # Those that the Prometheus operator adds.
    labels = {"namespace": "trainings", "pod": "negserve-1"}
    target = urlsplit(scraper.url).netloc
    configuration = scraping(target, FOLDER / "alerts.yaml", labels)
    with load(scraper), prometheus(tmp_path, configuration) as running:
        wait_for(lambda: bool(running.query(f"{asked('trainings')} > 0")), "a rate")
        (answer,) = running.query(asked("trainings"))
        assert answer["metric"] == {"pod": "negserve-1"}
        assert running.query(asked("elsewhere")) == []
        series = running.ask("series", **{"match[]": rule["seriesQuery"]})
        assert {each["__name__"] for each in series} == {name}


def test_the_document_says_what_to_do_about_each_alert():
    document = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    assert re.findall(r"^\| `(Negserve\w+)` \|", document, flags=re.MULTILINE) == [
        alert["alert"] for alert in ALERTS
    ]
