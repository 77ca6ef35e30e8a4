"""Sentences of the documents with measured numbers, from the rows in ``results/``.

A number in prose goes stale when it is measured again. So sentences with such numbers are made
here, and are inserted as tables are. One whose rows were not measured is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.documents import service_sentences
from benchmarks.documents.figures import GRAPH, OURS, Results, listed, over, paragraph, say
from benchmarks.documents.markdown import markdown, millions, rounded
from benchmarks.measured.other_samplers import NUMPY, OTHERS, PYG, STRICT
from benchmarks.measured.pykeen_samplers import PYKEEN


def _headline(results: Results) -> str:
    ours = results.engine(OURS, "bernoulli", "exact", 64, GRAPH)
    theirs = results.engine(PYKEEN, "bernoulli", "python-set", 64, GRAPH)
    return paragraph(
        say(
            "One thread draws {rate} million filtered negatives per second (Bernoulli, k = 64, "
            "FB15k-237; [numbers](#numbers)).",
            rate=over(ours, 1e6),
        ),
        say("PyKEEN's exact filter draws {rate} million.", rate=over(theirs, 1e6)),
    )


_README = (
    ("negserve, exact filter", OURS, "exact"),
    ("negserve, no filter", OURS, "none"),
    ("PyKEEN 1.11.1, no filter", PYKEEN, "none"),
    ("PyKEEN 1.11.1, Bloom filter", PYKEEN, "bloom"),
    ("PyKEEN 1.11.1, Python set (exact)", PYKEEN, "python-set"),
)


def _readme_table(results: Results) -> str:
    lines = [
        [
            name,
            *(
                rounded(over(results.engine(system, kind, mode, 64, GRAPH), 1e6), 1)
                for kind in ("bernoulli", "basic")
            ),
        ]
        for name, system, mode in _README
    ]
    return markdown(["", "Bernoulli", "Basic"], lines, 1)


def _readme_sizes(results: Results) -> str:
    def both(k: int, graph: str) -> dict[str, float | None]:
        return {
            kind: over(results.engine(OURS, kind, "exact", k, graph), 1e6)
            for kind in ("bernoulli", "basic")
        }

    facts = results.graphs("engine").get("zipf-20m", {})
    return paragraph(
        say(
            "With the exact filter on a graph of {triples} M triples and {entities} M entities: "
            "{bernoulli} M/s (Bernoulli) and {basic} M/s (Basic).",
            triples=over(facts.get("triples"), 1e6),
            entities=over(facts.get("entities"), 1e6),
            **both(64, "zipf-20m"),
        ),
        say(
            "With one negative per positive (k = 1) on FB15k-237: {bernoulli} and {basic} M/s.",
            **both(1, GRAPH),
        ),
    )


def _others(results: Results) -> str:
    names = {STRICT: "*strict*", PYG: "*torch_geometric*", NUMPY: "*numpy*"}
    systems = [(OURS, "basic", "exact", "our exact Basic"),
               (OURS, "basic", "none", "our unfiltered one"),
               *((*other, names[other[0]]) for other in OTHERS)]  # fmt: skip
    found = [
        f"{millions({'negatives_per_second': rate})} M negatives a second for {name}"
        for system, sampler, mode, name in systems
        if (rate := results.engine(system, sampler, mode, 64, GRAPH)) is not None
    ]
    has_others = any(results.rows("engine", system=system) for system in names)
    return paragraph(f"At k = 64 on FB15k-237: {listed(found)}." if has_others else "")


def _filter_cost(results: Results) -> str:
    def cost(system: str, mode: str) -> list[float | None]:
        return [
            over(*(results.engine(system, kind, each, 64, GRAPH) for each in ("none", mode)))
            for kind in ("bernoulli", "basic")
        ]

    (bernoulli, basic), blooms, sets = (
        cost(*of) for of in ((OURS, "exact"), (PYKEEN, "bloom"), (PYKEEN, "python-set"))
    )
    lost = []
    for graph in results.graphs("engine"):
        ks = sorted({int(str(row["k"])) for row in results.rows("engine", graph=graph)})
        ratios = {
            k: over(
                results.engine(PYKEEN, "basic", "none", k, graph),
                results.engine(OURS, "basic", "exact", k, graph),
            )
            for k in ks
        }
        slower = [k for k, ratio in ratios.items() if ratio is not None and ratio > 1]
        if slower:
            lost.append(f"at k = {listed(slower)} on {graph}")
    return paragraph(
        say(
            "At k = 64 on FB15k-237, an exact filter costs negserve a factor of {bernoulli} "
            "(Bernoulli) and {basic} (Basic).",
            bernoulli=bernoulli,
            basic=basic,
        ),
        say(
            "PyKEEN's Bloom filter, which is probabilistic, costs it {bernoulli} and {basic}.",
            bernoulli=blooms[0],
            basic=blooms[1],
        ),
        say(
            "Its Python set, which is exact, costs it {bernoulli} and {basic}.",
            bernoulli=sets[0],
            basic=sets[1],
        ),
        "Where we lose: PyKEEN's unfiltered Basic, which is one call of torch for the whole batch, "
        f"is faster than our filtered one {listed(lost)}."
        if lost
        else "",
    )


def _floors(results: Results) -> str:
    def times(k: int) -> float | None:
        bits = results.engine("floor", "random bits", "none", k, GRAPH)
        return over(bits, results.engine(OURS, "bernoulli", "none", k, GRAPH))

    return paragraph(
        say(
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
    return paragraph(
        say(
            "With a bitmap the work is nearly the same for any length: {least} to {most} ns from "
            "17 to 10,000 known tails of one pair.",
            least=min(own, default=None),
            most=max(own, default=None),
        )
    )


def _call(results: Results) -> str:
    facts = {"curve": "batch", "batch": 1, "k": 1, "filter": "exact"}
    one = results.value("curves", "ns_per_negative", **facts)
    return paragraph(
        say("A call for one negative takes {us} µs in all.", us=over(one, 1e3)),
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
    **service_sentences.MAKERS,
}


def make_all(contents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Make all sentences, by the names of their places."""
    results = Results(contents)
    return {name: make(results) for name, make in MAKERS.items()}
