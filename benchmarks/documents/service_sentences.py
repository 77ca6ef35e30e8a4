"""Sentences about what is measured over a server, from the rows in ``results/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks.documents.figures import OURS, Results, listed, missed, over, paragraph, say
from benchmarks.measured.pykeen_samplers import PYKEEN, SET_WITHOUT_GC
from benchmarks.support import goals
from benchmarks.support.measuring import Row

#: What compares the rows of a file with goals.
_Check = Callable[[Sequence[Row]], list[Mapping[str, str]]]


def _missed(file: str, check: _Check, results: Results) -> str:
    rows = results.rows(file)
    return missed(check(rows) if rows else [])


def _remote(results: Results) -> str:
    def rate(system: str, path: str, mode: str) -> float | None:
        facts = {"system": system, "path": path, "filter": mode, "batch": 1024, "k": 64}
        return results.rate("remote", **facts)

    epoch = rate(OURS, "SampleEpoch", "exact")
    compact = rate(OURS, "SampleEpoch, compact", "exact")
    idle = rate(OURS, "SampleEpoch, compact, engine left out", "exact")
    of_pykeen = {
        mode: over(epoch, rate(PYKEEN, "in process", mode))
        for mode in ("bloom", "python-set", SET_WITHOUT_GC)
    }
    return paragraph(
        say(
            "As int64 triples, `SampleEpoch` is {bloom} times as fast as PyKEEN's Bloom filter in "
            "process and {exact} times as fast as the Python set ({no_gc} times with Python's "
            "garbage collector off).",
            bloom=of_pykeen["bloom"],
            exact=of_pykeen["python-set"],
            no_gc=of_pykeen[SET_WITHOUT_GC],
        ),
        say(
            "In compact form it takes {all} ns a negative, of which {rest} remain with the engine "
            "left out.",
            all=over(1e9, compact),
            rest=over(1e9, idle),
        ),
        say(
            "grpcio alone moves {times} times as much as `SampleEpoch` in compact form.",
            times=over(rate("grpcio", "opaque bytes, as many", "-"), compact),
        ),
        say(
            "`Sample`, which waits for each answer, has {times} times the rate of `SampleEpoch`; "
            "many positives in one call, {piped} times.",
            times=over(rate(OURS, "Sample, synchronous", "exact"), epoch),
            piped=over(rate(OURS, "Sample, pipelined", "exact"), epoch),
        ),
    )


def _yardstick(results: Results) -> str:
    facts = {"system": "grpcio", "batch": 1024, "k": 64}
    rate = results.rate("remote", **facts)
    per_byte = results.value("remote", "negatives_per_byte", **facts)
    return paragraph(
        say(
            "As a yardstick, `grpcio` alone streams opaque bytes over loopback, on two cores, as "
            "fast as {rate} M negatives a second would be: its row in [*Delivered to a "
            "trainer*](benchmarks.md#delivered-to-a-trainer), with batches of 1024 and k = 64.",
            rate=over(rate, 1e6),
        ),
        say("That is {bytes} GB/s.", bytes=over(over(rate, per_byte), 1e9)),
    )


def _expansion(results: Results) -> str:
    def ns(system: str, form: str, k: int = 64) -> float | None:
        facts = {"system": system, "form": form, "batch": 1024, "k": k}
        return results.value("expansion", "ns_per_negative", **facts)

    fill = ns("filling the array", "triples")
    calls: Sequence[Mapping[str, float]] = results.contents.get("expansion", {}).get(
        "first_calls", []
    )
    calls = [call for call in calls if "megabytes" in call]
    return paragraph(
        say(
            "In batches of 1024 x 64, triples take {triples} times filling the array with numba "
            "and {plain} times without, columns {columns} and {plain_columns} times; conditional "
            "writes take {before} times.",
            triples=over(ns("with numba", "triples"), fill),
            plain=over(ns("without numba", "triples"), fill),
            columns=over(ns("with numba", "columns"), fill),
            plain_columns=over(ns("without numba", "columns"), fill),
            before=over(ns("conditional writes, numpy", "triples"), fill),
        ),
        say(
            "At k = 1 the calls cost more than the bytes: {now} µs for 1024 positives with numba, "
            "{before} µs for conditional writes.",
            now=over(ns("with numba", "triples", 1), 1e3 / 1024),
            before=over(ns("conditional writes, numpy", "triples", 1), 1e3 / 1024),
        ),
        say(
            "The first expansion of a process takes {least} to {most} s and up to {memory} MB with "
            "numba, once its cache has the code.",
            least=min((call["seconds"] for call in calls), default=None),
            most=max((call["seconds"] for call in calls), default=None),
            memory=max((call["megabytes"] for call in calls), default=None),
        ),
    )


def _small_batches(results: Results) -> str:
    def ns(system: str, k: int, mode: str = "exact") -> float | None:
        facts = {"system": system, "k": k, "filter": mode}
        return results.value("small_batches", "ns_per_negative", **facts)

    ks = sorted({int(str(row["k"])) for row in results.rows("small_batches")})
    lost = []
    for mode, name in (
        ("none", "unfiltered sampler"), ("bloom", "Bloom filter"), ("python-set", "Python set"),
    ):  # fmt: skip
        ratios = {k: over(ns("negserve, Sample", k), ns(PYKEEN, k, mode)) for k in ks}
        slower = [k for k, ratio in ratios.items() if ratio is not None and ratio > 1]
        if slower:
            lost.append(f"PyKEEN's {name} in process is faster at k = {listed(slower)}")
    return paragraph(
        say(
            "At k = 1, the server's answer takes {whole} times the time of computing on the client "
            "in `sample()`, and {compact} times in compact form.",
            whole=over(ns("negserve, Sample", 1), ns("negserve, on the client", 1)),
            compact=over(
                ns("negserve, Sample, compact", 1), ns("negserve, on the client, compact", 1)
            ),
        ),
        "Where `Sample` loses, since the round trip to the server takes most of the time: "
        f"{'; '.join(lost)}."
        if lost
        else "",
    )


def _training(results: Results) -> str:
    rows = results.rows("training")
    if not rows:
        return paragraph()
    return paragraph(
        say(
            "An epoch is {few} batches at k = 1 and {many} at k = 64.",
            **{
                name: float(str(results.rows("training", k=k)[0]["batches"]))
                for name, k in (("few", 1), ("many", 64))
            },
        ),
        say(
            "torch has {threads} thread in each trainer.",
            threads=float(results.contents["training"]["threads"]),
        ),
    )


def _layers(results: Results) -> str:
    def ns(layer: str) -> float | None:
        return results.value("layers", "ns_per_negative", layer=layer, batch=1024, k=64)

    server = ns("whole server")
    share = over(ns("+ encode"), server)
    return paragraph(
        say(
            "In batches of 1024 with k = 64, the sampler takes {share} % of the server's processor "
            "time; what follows the encoded message, which is gRPC, {rest} %.",
            share=over(ns("sampler"), over(server, 100)),
            rest=None if share is None else max(0.0, 100 * (1 - share)),
        )
    )


MAKERS: Mapping[str, Callable[[Results], str]] = {
    "delivered": _remote,
    "remote missed": partial(_missed, "remote", goals.check_remote),
    "exchange missed": partial(_missed, "exchange", goals.check_exchange),
    "load missed": partial(_missed, "load", goals.check_load),
    "layers missed": partial(_missed, "layers", goals.check_layers),
    "training batches": _training,
    "training missed": partial(_missed, "training", goals.check_training),
    "expansion missed": partial(_missed, "expansion", goals.check_expansion),
    "yardstick": _yardstick,
    "layer shares": _layers,
    "expansion ratios": _expansion,
    "small batch ratios": _small_batches,
}
