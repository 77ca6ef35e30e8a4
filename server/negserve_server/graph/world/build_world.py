"""Build the `world` graph from the hand-written tables in `facts/`.

The tables are what a person edits and checks; the split files and the type constraints beside
this script are what the service loads. Keeping both in the repository lets a reader see where a
triple comes from, and `--check` proves that the files were not edited by hand or left behind.

    python -m negserve_server.graph.world.build_world           write the files
    python -m negserve_server.graph.world.build_world --check   exit 1 if they are out of date
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from negserve_server.graph.world.signatures import SIGNATURES, entities_by_type

HERE = Path(__file__).resolve().parent
FACTS = HERE / "facts"

SEED = 20250101
"""Part of the hash that orders the facts, so another seed gives another split."""

HELD_OUT = 0.05
"""Share of the triples in each of valid and test; the rest is train."""

LIST_SEPARATOR = "; "


class Triple(NamedTuple):
    """One fact, in the order in which the split files write it."""

    head: str
    relation: str
    tail: str


class Family(NamedTuple):
    """How one pair of columns of a table becomes triples.

    Either cell may hold a list, and an empty cell means that nothing is stated. `symmetric`
    families write each pair once, because a border typed twice can disagree with itself.
    """

    table: str
    head: str
    relation: str
    tail: str
    symmetric: bool = False


FAMILIES: tuple[Family, ...] = (
    Family("countries", "country", "has_capital", "capital"),
    Family("countries", "country", "located_in_continent", "continents"),
    Family("countries", "country", "located_in_subregion", "subregion"),
    Family("countries", "country", "uses_currency", "currencies"),
    Family("countries", "country", "has_official_language", "languages"),
    Family("countries", "country", "has_iso_code", "iso_code"),
    Family("countries", "country", "has_calling_code", "calling_code"),
    Family("countries", "country", "has_internet_domain", "internet_domain"),
    Family("countries", "country", "drives_on", "drives_on"),
    Family("countries", "country", "has_form_of_government", "government"),
    Family("countries", "country", "gained_independence_from", "independent_from"),
    Family("borders", "country", "shares_border_with", "neighbour", symmetric=True),
    Family("memberships", "members", "member_of", "organisation"),
    Family("organisations", "organisation", "has_headquarters_in", "headquarters"),
    Family("organisations", "organisation", "specialised_agency_of", "specialised_agency_of"),
    Family("cities", "country", "has_major_city", "major_cities"),
    Family("islands", "country", "has_island", "islands"),
    Family("coasts", "country", "has_coast_on", "waters"),
    Family("lakes", "countries", "has_shore_on", "lake"),
    Family("peaks", "countries", "has_highest_point", "peak"),
    Family("peaks", "peak", "located_in_mountain_range", "range"),
    Family("mountain_ranges", "range", "extends_into", "countries"),
    Family("rivers", "river", "flows_through", "countries"),
    Family("rivers", "river", "empties_into", "mouth"),
    Family("seas", "water", "part_of_water", "part_of"),
    Family("subregions", "subregion", "part_of_continent", "continent"),
    Family("languages", "language", "belongs_to_language_family", "family"),
    Family("language_families", "family", "branch_of_language_family", "branch_of"),
    Family("currencies", "currency", "has_currency_code", "code"),
)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read one table, refusing what would quietly become a second spelling of an entity."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    rows: list[dict[str, str]] = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise ValueError(f"{path.name}:{number}: {len(cells)} cells, expected {len(header)}")
        for label in (label for cell in cells if cell for label in cell.split(LIST_SEPARATOR)):
            if not label or label != label.strip() or ";" in label:
                raise ValueError(f"{path.name}:{number}: stray space or separator in {label!r}")
            if label != unicodedata.normalize("NFC", label):
                raise ValueError(f"{path.name}:{number}: {label!r} is not NFC")
        rows.append(dict(zip(header, cells, strict=True)))
    return rows


def read_triples(facts: Path = FACTS) -> list[Triple]:
    """Turn every table into triples, sorted; a fact that is stated twice is an error."""
    tables = {name: read_table(facts / f"{name}.tsv") for name in {f.table for f in FAMILIES}}
    triples: list[Triple] = []
    for family in FAMILIES:
        for row in tables[family.table]:
            heads, tails = row[family.head], row[family.tail]
            if not heads or not tails:
                continue
            for head in heads.split(LIST_SEPARATOR):
                for tail in tails.split(LIST_SEPARATOR):
                    triples.append(Triple(head, family.relation, tail))
                    if family.symmetric:
                        triples.append(Triple(tail, family.relation, head))
    twice = [triple for triple, count in Counter(triples).items() if count > 1]
    if twice:
        raise ValueError(f"stated more than once: {twice}")
    return sorted(triples)


def splits(
    triples: Collection[Triple], seed: int = SEED, held_out: float = HELD_OUT
) -> dict[str, list[Triple]]:
    """Divide triples into train, valid and test; the same input always gives the same output.

    Both directions of a pair move together: with one of them in train, the other would be no
    test of anything. A group is held out only while each of its entities and its relation
    keep a triple in train, since nothing can be learnt about one that does not. The order is
    that of a hash and not of `random`, whose shuffle is not promised across Python versions.
    """
    groups: dict[tuple[str, str, str], list[Triple]] = {}
    for triple in sorted(set(triples)):
        low, high = sorted((triple.head, triple.tail))
        groups.setdefault((triple.relation, low, high), []).append(triple)

    def rank(key: tuple[str, str, str]) -> str:
        return hashlib.sha256("\t".join((str(seed), *key)).encode()).hexdigest()

    in_train: Counter[tuple[str, str]] = Counter()
    for group in groups.values():
        in_train.update(_uses(group))

    parts: dict[str, list[Triple]] = {"train": [], "valid": [], "test": []}
    quota = round(held_out * len(set(triples)))
    for key in sorted(groups, key=rank):
        group = groups[key]
        uses = _uses(group)
        emptier = min("valid", "test", key=lambda name: len(parts[name]))
        fits = len(parts[emptier]) + len(group) <= quota
        if fits and all(in_train[use] > count for use, count in uses.items()):
            in_train.subtract(uses)
            parts[emptier].extend(group)
        else:
            parts["train"].extend(group)
    return {name: sorted(part) for name, part in parts.items()}


def _uses(group: Sequence[Triple]) -> Counter[tuple[str, str]]:
    """Count how often a group mentions each entity and relation, kept apart by kind."""
    uses: Counter[tuple[str, str]] = Counter()
    for head, relation, tail in group:
        uses.update([("entity", head), ("entity", tail), ("relation", relation)])
    return uses


def render(triples: Sequence[Triple]) -> bytes:
    """Give the bytes of a split file; bytes, so that no platform changes the line ends."""
    return "".join("\t".join(triple) + "\n" for triple in triples).encode()


def render_type_constraints(triples: Collection[Triple]) -> bytes:
    """Give the bytes of the file of type constraints: a line for each relation and slot.

    A line holds all allowed entities, since one of its own for each would make the file three
    times as large.
    """
    entities = entities_by_type(triples)
    lines = [
        "\t".join((relation, slot, *sorted(entities[type_])))
        for relation, signature in sorted(SIGNATURES.items())
        for slot, type_ in signature._asdict().items()
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def build(facts: Path = FACTS) -> dict[str, bytes]:
    """Give the name and the bytes of every file that is made from the tables."""
    triples = read_triples(facts)
    files = {f"{name}.txt": render(part) for name, part in splits(triples).items()}
    return {**files, "type_constraints.tsv": render_type_constraints(triples)}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or with `--check` say which of them are out of date."""
    parser = argparse.ArgumentParser(description="Build the world graph from its fact tables.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check: bool = parser.parse_args(argv).check

    stale = 0
    for name, wanted in build().items():
        path = HERE / name
        if check and (not path.is_file() or path.read_bytes() != wanted):
            print(f"{path.name} is not what the tables give; run build_world", file=sys.stderr)
            stale += 1
        elif not check:
            path.write_bytes(wanted)
            num_lines = wanted.count(b"\n")
            print(f"{name}: {num_lines} lines")
    return 1 if stale else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
