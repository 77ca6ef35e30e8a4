"""Sentences of the documents with measured numbers, from the rows in ``results/``.

A number in prose goes stale when it is measured again. So sentences with such numbers are made
here, and are inserted as tables are. One whose rows were not measured is left out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.documents.markdown import markdown, millions, rounded
from benchmarks.measured.other_samplers import NUMPY, OTHERS, PYG, STRICT
from benchmarks.measured.pykeen_samplers import PYKEEN, SET_WITHOUT_GC
from benchmarks.support.measuring import Row

_OURS, _GRAPH = "negserve", "fb15k-237"
_COLUMNS = 120
_NOT_MEASURED = "The last run measured none of it."


class Results:
    """Figures of all results files, found by the facts of their rows.

    :param contents: of the files, by name
    """

    def __init__(self, contents: Mapping[str, Mapping[str, Any]]) -> None:
        self.contents = contents

    def rows(self, file: str, **facts: object) -> list[Row]:
        """Return the rows that have these facts."""
        rows: list[Row] = self.contents.get(file, {}).get("rows", [])
        return [row for row in rows if facts.items() <= row.items()]

    def value(self, file: str, key: str, **facts: object) -> float | None:
        """Return a figure of the only row with these facts; None if there is none."""
        values = [row.get(key) for row in self.rows(file, **facts)]
        return values[0] if len(values) == 1 and isinstance(values[0], float) else None

    def rate(self, file: str, **facts: object) -> float | None:
        """Return the negatives per second of a row."""
        return self.value(file, "negatives_per_second", **facts)

    def engine(self, system: str, sampler: str, mode: str, k: int, graph: str) -> float | None:
        """Return the negatives per second of a row of the engine."""
        facts = {"system": system, "sampler": sampler, "filter": mode, "k": k, "graph": graph}
        return self.rate("engine", **facts)

    def graphs(self, file: str) -> Mapping[str, Mapping[str, float]]:
        """Return the facts of the graphs of a file."""
        found: Mapping[str, Mapping[str, float]] = self.contents.get(file, {}).get("graphs", {})
        return found


def _say(form: str, **values: float | None) -> str:
    """Fill in a sentence with figures; nothing if one is missing."""
    if None in values.values():
        return ""
    return form.format(**{name: rounded(value, 1) for name, value in values.items()})


def _over(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value / base


def _paragraph(*sentences: str) -> str:
    text = " ".join(filter(None, sentences)) or _NOT_MEASURED
    return textwrap.fill(text, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def _listed(values: Sequence[object]) -> str:
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last


def _headline(results: Results) -> str:
    ours = results.engine(_OURS, "bernoulli", "exact", 64, _GRAPH)
    theirs = results.engine(PYKEEN, "bernoulli", "python-set", 64, _GRAPH)
    return _paragraph(
        _say(
            "One thread draws {rate} million filtered negatives per second (Bernoulli, k = 64, "
            "FB15k-237; [numbers](#numbers)).",
            rate=_over(ours, 1e6),
        ),
        _say("PyKEEN's exact filter draws {rate} million.", rate=_over(theirs, 1e6)),
    )


_README = (
    ("negserve, exact filter", _OURS, "exact"),
    ("negserve, no filter", _OURS, "none"),
    ("PyKEEN 1.11.1, no filter", PYKEEN, "none"),
    ("PyKEEN 1.11.1, Bloom filter", PYKEEN, "bloom"),
    ("PyKEEN 1.11.1, Python set (exact)", PYKEEN, "python-set"),
)


def _readme_table(results: Results) -> str:
    lines = [
        [
            name,
            *(
                rounded(_over(results.engine(system, kind, mode, 64, _GRAPH), 1e6), 1)
                for kind in ("bernoulli", "basic")
            ),
        ]
        for name, system, mode in _README
    ]
    return markdown(["", "Bernoulli", "Basic"], lines, 1)


def _readme_sizes(results: Results) -> str:
    def both(k: int, graph: str) -> dict[str, float | None]:
        return {
            kind: _over(results.engine(_OURS, kind, "exact", k, graph), 1e6)
            for kind in ("bernoulli", "basic")
        }

    facts = results.graphs("engine").get("zipf-20m", {})
    return _paragraph(
        _say(
            "With the exact filter on a graph of {triples} M triples and {entities} M entities: "
            "{bernoulli} M/s (Bernoulli) and {basic} M/s (Basic).",
            triples=_over(facts.get("triples"), 1e6),
            entities=_over(facts.get("entities"), 1e6),
            **both(64, "zipf-20m"),
        ),
        _say(
            "With one negative per positive (k = 1) on FB15k-237: {bernoulli} and {basic} M/s.",
            **both(1, _GRAPH),
        ),
    )


def _others(results: Results) -> str:
    names = {STRICT: "*strict*", PYG: "*torch_geometric*", NUMPY: "*numpy*"}
    systems = [(_OURS, "basic", "exact", "our exact Basic"),
               (_OURS, "basic", "none", "our unfiltered one"),
               *((*other, names[other[0]]) for other in OTHERS)]  # fmt: skip
    found = [
        f"{millions({'negatives_per_second': rate})} M negatives a second for {name}"
        for system, sampler, mode, name in systems
        if (rate := results.engine(system, sampler, mode, 64, _GRAPH)) is not None
    ]
    has_others = any(results.rows("engine", system=system) for system in names)
    return _paragraph(f"At k = 64 on FB15k-237: {_listed(found)}." if has_others else "")


def _filter_cost(results: Results) -> str:
    def cost(system: str, mode: str) -> list[float | None]:
        return [
            _over(*(results.engine(system, kind, each, 64, _GRAPH) for each in ("none", mode)))
            for kind in ("bernoulli", "basic")
        ]

    (bernoulli, basic), blooms, sets = (
        cost(*of) for of in ((_OURS, "exact"), (PYKEEN, "bloom"), (PYKEEN, "python-set"))
    )
    lost = []
    for graph in results.graphs("engine"):
        ks = sorted({int(str(row["k"])) for row in results.rows("engine", graph=graph)})
        ratios = {
            k: _over(
                results.engine(PYKEEN, "basic", "none", k, graph),
                results.engine(_OURS, "basic", "exact", k, graph),
            )
            for k in ks
        }
        slower = [k for k, ratio in ratios.items() if ratio is not None and ratio > 1]
        if slower:
            lost.append(f"at k = {_listed(slower)} on {graph}")
    return _paragraph(
        _say(
            "At k = 64 on FB15k-237, an exact filter costs negserve a factor of {bernoulli} "
            "(Bernoulli) and {basic} (Basic).",
            bernoulli=bernoulli,
            basic=basic,
        ),
        _say(
            "PyKEEN's Bloom filter, which is probabilistic, costs it {bernoulli} and {basic}.",
            bernoulli=blooms[0],
            basic=blooms[1],
        ),
        _say(
            "Its Python set, which is exact, costs it {bernoulli} and {basic}.",
            bernoulli=sets[0],
            basic=sets[1],
        ),
        "Where we lose: PyKEEN's unfiltered Basic, which is one call of torch for the whole batch, "
        f"is faster than our filtered one {_listed(lost)}."
        if lost
        else "",
    )


def _floors(results: Results) -> str:
    def times(k: int) -> float | None:
        bits = results.engine("floor", "random bits", "none", k, _GRAPH)
        return _over(bits, results.engine(_OURS, "bernoulli", "none", k, _GRAPH))

    return _paragraph(
        _say(
            "Unfiltered, negserve takes {few} times the time of the random bits at k = 64 and "
            "{many} times at k = 1000 (Bernoulli).",
            few=times(64),
            many=times(1000),
        )
    )


def _known_tails(results: Results) -> str:
    own = [
        figure
        for row in results.rows("curves", curve="known tails", filter="exact", pairs=1)
        if 17 <= int(str(row["known_tails"])) <= 10_000
        and isinstance(figure := row["ns_per_negative"], float)
    ]
    return _paragraph(
        _say(
            "With a bitmap the work is nearly the same for any length: {least} to {most} ns from "
            "17 to 10,000 known tails of one pair.",
            least=min(own, default=None),
            most=max(own, default=None),
        )
    )


def _call(results: Results) -> str:
    facts = {"curve": "batch", "batch": 1, "k": 1, "filter": "exact"}
    one = results.value("curves", "ns_per_negative", **facts)
    return _paragraph(
        _say("A call for one negative takes {us} µs in all.", us=_over(one, 1e3)),
    )


def _remote(results: Results) -> str:
    def rate(system: str, path: str, mode: str) -> float | None:
        return results.rate("remote", system=system, path=path, filter=mode)

    epoch = rate(_OURS, "SampleEpoch", "exact")
    compact = rate(_OURS, "SampleEpoch, compact", "exact")
    idle = rate(_OURS, "SampleEpoch, compact, engine left out", "exact")
    of_pykeen = {
        mode: _over(epoch, rate(PYKEEN, "in process", mode))
        for mode in ("bloom", "python-set", SET_WITHOUT_GC)
    }
    return _paragraph(
        _say(
            "As int64 triples, `SampleEpoch` is {bloom} times as fast as PyKEEN's Bloom filter in "
            "process and {exact} times as fast as the Python set ({no_gc} times with Python's "
            "garbage collector off).",
            bloom=of_pykeen["bloom"],
            exact=of_pykeen["python-set"],
            no_gc=of_pykeen[SET_WITHOUT_GC],
        ),
        _say(
            "In compact form it takes {all} ns a negative, of which {rest} remain with the engine "
            "left out.",
            all=_over(1e9, compact),
            rest=_over(1e9, idle),
        ),
        _say(
            "grpcio alone moves {times} times as much as `SampleEpoch` in compact form.",
            times=_over(rate("grpcio", "opaque bytes, as many", "-"), compact),
        ),
        _say(
            "`Sample`, which waits for each answer, has {times} times the rate of `SampleEpoch`; "
            "many positives in one call, {piped} times.",
            times=_over(rate(_OURS, "Sample, synchronous", "exact"), epoch),
            piped=_over(rate(_OURS, "Sample, pipelined", "exact"), epoch),
        ),
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
    return _paragraph(
        _say(
            "In batches of 1024 x 64, triples take {triples} times filling the array with numba "
            "and {plain} times without, columns {columns} and {plain_columns} times; conditional "
            "writes take {before} times.",
            triples=_over(ns("with numba", "triples"), fill),
            plain=_over(ns("without numba", "triples"), fill),
            columns=_over(ns("with numba", "columns"), fill),
            plain_columns=_over(ns("without numba", "columns"), fill),
            before=_over(ns("conditional writes, numpy", "triples"), fill),
        ),
        _say(
            "At k = 1 the calls cost more than the bytes: {now} µs for 1024 positives with numba, "
            "{before} µs for conditional writes.",
            now=_over(ns("with numba", "triples", 1), 1e3 / 1024),
            before=_over(ns("conditional writes, numpy", "triples", 1), 1e3 / 1024),
        ),
        _say(
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
    for mode, name in (("bloom", "Bloom filter"), ("python-set", "Python set")):
        ratios = {k: _over(ns("negserve, Sample", k), ns(PYKEEN, k, mode)) for k in ks}
        slower = [k for k, ratio in ratios.items() if ratio is not None and ratio > 1]
        if slower:
            lost.append(f"PyKEEN's {name} in process is faster at k = {_listed(slower)}")
    return _paragraph(
        _say(
            "At k = 1, the server's answer takes {whole} times the time of computing on the client "
            "in `sample()`, and {compact} times in compact form.",
            whole=_over(ns("negserve, Sample", 1), ns("negserve, on the client", 1)),
            compact=_over(
                ns("negserve, Sample, compact", 1), ns("negserve, on the client, compact", 1)
            ),
        ),
        "Where `Sample` loses, since the round trip to the server takes most of the time: "
        f"{'; '.join(lost)}."
        if lost
        else "",
    )


def _layers(results: Results) -> str:
    def ns(layer: str) -> float | None:
        return results.value("layers", "ns_per_negative", layer=layer)

    server = ns("whole server")
    share = _over(ns("+ encode"), server)
    return _paragraph(
        _say(
            "The sampler takes {share} % of the server's processor time; what follows the encoded "
            "message, which is gRPC, {rest} %.",
            share=_over(ns("sampler"), _over(server, 100)),
            rest=None if share is None else max(0.0, 100 * (1 - share)),
        )
    )


MAKERS = {
    "headline": _headline,
    "readme": _readme_table,
    "readme sizes": _readme_sizes,
    "others": _others,
    "filter cost": _filter_cost,
    "floors": _floors,
    "known tails": _known_tails,
    "call": _call,
    "delivered": _remote,
    "layer shares": _layers,
    "expansion ratios": _expansion,
    "small batch ratios": _small_batches,
}


def make_all(contents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Make all sentences, by the names of their places."""
    results = Results(contents)
    return {name: make(results) for name, make in MAKERS.items()}
