"""Goals of benchmarks: what rows are compared with which bounds, and what documents say of it."""

from __future__ import annotations

from typing import Any

from benchmarks.documents.figures import missed
from benchmarks.documents.markdown import NOT_MEASURED
from benchmarks.measured.pykeen_samplers import PYKEEN
from benchmarks.support import goals
from benchmarks.support.measuring import Row


def of_remote(system: str, path: str, mode: str, size: tuple[int, int], rate: float | None) -> Row:
    return {
        "system": system, "path": path, "filter": mode, "batch": size[0], "k": size[1],
        "negatives_per_second": rate,
    }  # fmt: skip


def results(lines: Any) -> list[str]:
    return [line["result"] for line in lines]


def test_an_epoch_is_compared_with_the_older_checkout_at_each_size():
    rows = []
    for size in ((1024, 64), (128, 64), (1024, 1)):
        for path in ("SampleEpoch", "SampleEpoch, compact"):
            rows += [
                of_remote("negserve", path, "exact", size, 150e6),
                of_remote(goals.BASE, path, "exact", size, 100e6),
            ]
    lines = goals.check_remote(rows)
    assert [line["measured"] for line in lines] == ["1.5 ×"] * 4
    assert results(lines) == ["missed by 6.2 %", "met", "missed by 25 %", "missed by 25 %"]


def test_a_size_that_was_not_measured_has_no_goal():
    size = (1024, 64)
    rows = [
        of_remote("negserve", "SampleEpoch", "exact", size, 240e6),
        of_remote(PYKEEN, "in process", "bloom", size, 10e6),
        of_remote(goals.BASE, "SampleEpoch", "exact", size, None),
    ]
    (line,) = goals.check_remote(rows)
    assert (line["bound"], line["measured"], line["result"]) == ("≥ 24 ×", "24 ×", "met")


def test_a_document_says_which_goals_are_missed_and_by_how_much():
    lines = [
        {"goal": "first", "bound": "≥ 2 ×", "measured": "3 ×", "result": "met"},
        {"goal": "second", "bound": "≥ 2 ×", "measured": "1 ×", "result": "missed by 50 %"},
    ]
    assert missed(lines) == "Missed: second, by 50 %."
    assert missed(lines[:1]) == "The last run reached all of these goals."
    assert missed([]) == NOT_MEASURED


def test_a_trainer_is_compared_with_filling_its_array_and_with_an_unfiltered_sampler():
    def row(side: str, layer: str, size: tuple[int, int], ns: float) -> Row:
        names = {"side": side, "layer": layer, "batch": size[0], "k": size[1]}
        return {**names, "ns_per_negative": ns}

    rows = [
        row("client", "+ expand", (1024, 64), 2.0),
        row(goals.FLOOR, "filling the array", (1024, 64), 0.5),
        row("client", "+ expand", (128, 64), 6.0),  # no floor of this size
        row("client", "+ expand", (1024, 1), 30.0),
        row("client", "whole client", (1024, 1), 50.0),
        row(PYKEEN, "unfiltered", (1024, 1), 100.0),
    ]
    lines = goals.check_layers(rows)
    assert [line["measured"] for line in lines] == ["4 ×", "0.3 ×", "0.5 ×"]
    assert results(lines) == ["met", "met", "missed by 50 %"]


def test_an_epoch_of_training_may_differ_by_the_spread_of_its_repetitions():
    def row(system: str, mode: str, seconds: float, spread: float) -> Row:
        return {
            "system": system, "path": "RPC", "filter": mode, "loop": goals.PLAIN_LOOP, "k": 1,
            "seconds": seconds, "least_seconds": seconds - spread, "most_seconds": seconds + spread,
        }  # fmt: skip

    theirs = [row(PYKEEN, "none", 2.0, 0.2), row(PYKEEN, "bloom", 9.0, 0.1)]
    (line,) = goals.check_training([*theirs, row("negserve", "exact", 2.1, 0.05)])
    assert (line["bound"], line["measured"], line["result"]) == ("≤ 1.1 ×", "1.05 ×", "met")
    (line,) = goals.check_training([*theirs, row("negserve", "exact", 2.3, 0.05)])
    assert line["result"] == "missed by 4.5 %"
    assert goals.check_training(theirs) == []


def test_the_server_of_an_exchange_is_compared_with_the_older_one():
    def row(system: str, k: int, server_ms: float | None) -> Row:
        return {
            "system": system, "batch": 1024, "k": k, "negatives_per_second": 1e6,
            "server_ms": server_ms,
        }  # fmt: skip

    alone = [
        *(row(system, k, None) for system in (goals.GRPCIO, "negserve, sample") for k in (1, 64)),
        *(row(f"negserve, {way}", 64, None)
          for way in ("SampleEpoch", "stream", "sample of 32 batches")),
    ]  # fmt: skip
    both = [row(f"{goals.BASE}, sample", 1, 0.9), row(f"{goals.TRAINER}, sample", 1, 0.6)]
    lines = goals.check_exchange([*alone, *both])
    assert len(lines) == len(goals.check_exchange(alone)) + 1
    assert (lines[-1]["measured"], lines[-1]["result"]) == ("1.5 ×", "missed by 17 %")
