"""Tests of the embedded `world` graph: its facts, its shape and its build.

They read the files as they lie in the package and never through a loader, so that a fault of
the loader cannot hide a fault of the data, nor the other way round.
"""

from __future__ import annotations

import importlib.resources
import re
import unicodedata
from collections import Counter, defaultdict
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest

from negserve_server.graph.world import build_world
from negserve_server.graph.world.build_world import Triple, read_table, read_triples, splits
from negserve_server.graph.world.signatures import SIGNATURES, UNIONS, entities_by_type

SPLITS = ("train", "valid", "test")
SLOTS = ("head", "tail")
KIND_THRESHOLD = 1.5

# Members of no continent in common: French Guiana, the Darién and Ceuta and Melilla.
BORDERS_BETWEEN_CONTINENTS = {
    frozenset({"Brazil", "France"}),
    frozenset({"France", "Suriname"}),
    frozenset({"Colombia", "Panama"}),
    frozenset({"Morocco", "Spain"}),
}
EURO_OUTSIDE_EUROZONE = {"Andorra", "Monaco", "Montenegro", "San Marino", "Vatican City"}
SHARED_CALLING_CODES = {"+1": {"Canada", "United States"}, "+7": {"Kazakhstan", "Russia"}}
NOT_UN_MEMBERS = {"Palestine", "Vatican City"}
LANDLOCKED = {
    "Afghanistan",
    "Andorra",
    "Armenia",
    "Austria",
    "Azerbaijan",
    "Belarus",
    "Bhutan",
    "Bolivia",
    "Botswana",
    "Burkina Faso",
    "Burundi",
    "Central African Republic",
    "Chad",
    "Czechia",
    "Eswatini",
    "Ethiopia",
    "Hungary",
    "Kazakhstan",
    "Kyrgyzstan",
    "Laos",
    "Lesotho",
    "Liechtenstein",
    "Luxembourg",
    "Malawi",
    "Mali",
    "Moldova",
    "Mongolia",
    "Nepal",
    "Niger",
    "North Macedonia",
    "Paraguay",
    "Rwanda",
    "San Marino",
    "Serbia",
    "Slovakia",
    "South Sudan",
    "Switzerland",
    "Tajikistan",
    "Turkmenistan",
    "Uganda",
    "Uzbekistan",
    "Vatican City",
    "Zambia",
    "Zimbabwe",
}


@cache
def split_text(name: str) -> str:
    """Return a split file as text, read as bytes first so that no line end is translated."""
    file = importlib.resources.files("negserve_server.graph.world") / f"{name}.txt"
    return file.read_bytes().decode("utf-8")


@cache
def split_triples(name: str) -> tuple[Triple, ...]:
    """Return the triples of one split file."""
    lines = split_text(name).removesuffix("\n").split("\n")
    triples = []
    for line in lines:
        head, relation, tail = line.split("\t")
        triples.append(Triple(head, relation, tail))
    return tuple(triples)


@cache
def all_triples() -> tuple[Triple, ...]:
    """Return the triples of the three split files."""
    return tuple(triple for name in SPLITS for triple in split_triples(name))


@cache
def tails(relation: str) -> dict[str, set[str]]:
    """Return the tails of each head under a relation."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for triple in all_triples():
        if triple.relation == relation:
            found[triple.head].add(triple.tail)
    return dict(found)


@cache
def allowed() -> dict[tuple[str, str], set[str]]:
    """Return the entities that the type constraints allow, by relation and slot."""
    file = importlib.resources.files("negserve_server.graph.world") / "type_constraints.tsv"
    lines = file.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    found: dict[tuple[str, str], set[str]] = {}
    for line in lines:
        relation, slot, *labels = line.split("\t")
        assert (relation, slot) not in found
        assert labels == sorted(set(labels))
        found[relation, slot] = set(labels)
    return found


def members(organisation: str) -> set[str]:
    """Return the countries in an organisation."""
    return {country for country, orgs in tails("member_of").items() if organisation in orgs}


def countries() -> set[str]:
    """Return every country: the heads of `has_capital`."""
    return set(tails("has_capital"))


def entities(triples: tuple[Triple, ...]) -> set[str]:
    """Return every entity of some triples."""
    return {entity for triple in triples for entity in (triple.head, triple.tail)}


def kind(relation: str) -> str:
    """Name the cardinality kind of a relation by tails per head and heads per tail."""
    pairs = [(t.head, t.tail) for t in all_triples() if t.relation == relation]
    tails_per_head = len(pairs) / len({head for head, _ in pairs})
    heads_per_tail = len(pairs) / len({tail for _, tail in pairs})
    head_side = "1" if heads_per_tail < KIND_THRESHOLD else "N"
    tail_side = "1" if tails_per_head < KIND_THRESHOLD else "N"
    return f"{head_side}-{tail_side}"


# --- the files


def test_files_are_what_the_tables_give() -> None:
    for name, triples in splits(read_triples()).items():
        assert split_text(name).encode() == build_world.render(triples), name
    package = importlib.resources.files("negserve_server.graph.world")
    for name, wanted in build_world.build().items():
        assert (package / name).read_bytes() == wanted, name


def test_check_flag_accepts_the_files() -> None:
    assert build_world.main(["--check"]) == 0


@pytest.mark.parametrize("name", ["train.txt", "test.txt", "type_constraints.tsv"])
def test_check_flag_refuses_changed_and_missing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(build_world, "HERE", tmp_path)
    assert build_world.main(["--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert build_world.main([]) == 0
    assert build_world.main(["--check"]) == 0
    with (tmp_path / name).open("a", encoding="utf-8") as file:
        file.write("Atlantis\thas_capital\tPoseidonis\n")
    assert build_world.main(["--check"]) == 1
    assert build_world.main([]) == 0
    (tmp_path / name).unlink()
    assert build_world.main(["--check"]) == 1


@pytest.mark.parametrize("name", SPLITS)
def test_lines_are_sorted_and_end_with_a_newline(name: str) -> None:
    text = split_text(name)
    assert text.endswith("\n")
    assert "\r" not in text
    assert not text.startswith("\ufeff")
    assert list(split_triples(name)) == sorted(split_triples(name))


def test_labels_are_clean() -> None:
    for triple in all_triples():
        for label in triple:
            assert label
            assert label == label.strip()
            assert label == unicodedata.normalize("NFC", label)
            assert ";" not in label
            assert all(character.isprintable() for character in label)
    for relation in {triple.relation for triple in all_triples()}:
        assert relation.isascii()
        assert relation.islower()
        assert relation.isidentifier()


def test_labels_outside_ascii_occur() -> None:
    assert sum(not label.isascii() for label in entities(all_triples())) > 50


def test_no_two_labels_differ_only_in_case() -> None:
    folded = Counter(label.casefold() for label in entities(all_triples()))
    assert [label for label, count in folded.items() if count > 1] == []


# --- size and splits


def test_size() -> None:
    assert len(all_triples()) >= 3000
    assert len(entities(all_triples())) >= 600
    assert len({triple.relation for triple in all_triples()}) >= 10


def test_no_triple_occurs_twice_within_or_across_splits() -> None:
    assert [t for t, count in Counter(all_triples()).items() if count > 1] == []


def test_shares_of_the_splits() -> None:
    for name in ("valid", "test"):
        assert len(split_triples(name)) / len(all_triples()) == pytest.approx(0.05, abs=0.002)


def test_every_entity_and_relation_occurs_in_train() -> None:
    assert entities(split_triples("train")) == entities(all_triples())
    assert {t.relation for t in split_triples("train")} == {t.relation for t in all_triples()}


def test_both_directions_of_a_pair_are_in_one_split() -> None:
    where = {triple: name for name in SPLITS for triple in split_triples(name)}
    for triple, name in where.items():
        assert where.get(Triple(triple.tail, triple.relation, triple.head), name) == name


def test_all_four_kinds_of_relation_occur() -> None:
    relations = {triple.relation for triple in all_triples()}
    assert {kind(relation) for relation in relations} == {"1-1", "1-N", "N-1", "N-N"}
    assert kind("has_capital") == "1-1"
    assert kind("has_major_city") == "1-N"
    assert kind("located_in_continent") == "N-1"
    assert kind("shares_border_with") == "N-N"


def test_held_out_triples_cover_all_four_kinds() -> None:
    for name in ("valid", "test"):
        kinds = {kind(triple.relation) for triple in split_triples(name)}
        assert kinds == {"1-1", "1-N", "N-1", "N-N"}


def test_readme_counts_are_those_of_the_files() -> None:
    text = (importlib.resources.files("negserve_server.graph.world") / "README.md").read_text(
        encoding="utf-8"
    )
    rows = {
        cells[0].strip("`"): (int(cells[1]), cells[2])
        for line in text.splitlines()
        if line.startswith("| `")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    counts = Counter(triple.relation for triple in all_triples())
    assert rows == {relation: (count, kind(relation)) for relation, count in counts.items()}
    types = dict(re.findall(r"^\| ([A-Za-z ]+) \| (\d+) \|$", text, flags=re.MULTILINE))
    assert {name: int(count) for name, count in types.items()} == {
        name: len(found) for name, found in entities_by_type(all_triples()).items()
    }
    assert f"{len(all_triples()):,} triples" in text
    assert f"{len(entities(all_triples())):,} entities" in text


# --- type constraints


def test_every_relation_has_constraints_in_both_slots() -> None:
    relations = {triple.relation for triple in all_triples()}
    assert set(SIGNATURES) == relations
    assert set(allowed()) == {(relation, slot) for relation in relations for slot in SLOTS}


def test_constraints_speak_of_entities_of_the_graph() -> None:
    assert {label for labels in allowed().values() for label in labels} == entities(all_triples())


def test_every_triple_is_allowed() -> None:
    for head, relation, tail in all_triples():
        assert head in allowed()[relation, "head"]
        assert tail in allowed()[relation, "tail"]


def test_constraints_tell_nothing_that_train_does_not() -> None:
    assert entities_by_type(split_triples("train")) == entities_by_type(all_triples())


def test_constraints_allow_more_than_what_is_seen_in_train() -> None:
    seen = {
        (triple.relation, slot, entity)
        for triple in split_triples("train")
        for slot, entity in (("head", triple.head), ("tail", triple.tail))
    }
    wider = {
        (relation, slot)
        for (relation, slot), labels in allowed().items()
        if any((relation, slot, label) not in seen for label in labels)
    }
    assert {
        ("has_capital", "tail"),
        ("has_coast_on", "head"),
        ("empties_into", "tail"),
        ("gained_independence_from", "tail"),
        ("specialised_agency_of", "tail"),
    } <= wider
    assert len(wider) > len(SIGNATURES)


def test_types_do_not_overlap_but_for_unions() -> None:
    found = entities_by_type(all_triples())
    for one, other in combinations(sorted(set(found) - set(UNIONS)), 2):
        assert not found[one] & found[other], (one, other)
    for union, parts in UNIONS.items():
        assert all(found[part] < found[union] for part in parts)
    assert allowed()["has_capital", "head"] == countries()


@pytest.mark.parametrize(
    "fact",
    [
        "Australia|has_capital|Sydney",
        "Chad|has_coast_on|Black Sea",
        "Vatican City|member_of|OPEC",
        "Canada|gained_independence_from|Ottoman Empire",
        "Rhine|empties_into|Lake Victoria",
        "NATO|specialised_agency_of|European Union",
    ],
)
def test_wrong_values_of_the_right_type_are_allowed(fact: str) -> None:
    head, relation, tail = fact.split("|")
    assert Triple(head, relation, tail) not in set(all_triples())
    assert head in allowed()[relation, "head"]
    assert tail in allowed()[relation, "tail"]


@pytest.mark.parametrize(
    "fact",
    [
        "Berlin|has_capital|Berlin",
        "Germany|has_capital|Rhine",
        "Germany|has_coast_on|Caspian Sea",
        "Danube|flows_through|Vienna",
        "Germany|uses_currency|EUR",
        "Soviet Union|shares_border_with|Germany",
    ],
)
def test_values_of_the_wrong_type_are_not_allowed(fact: str) -> None:
    head, relation, tail = fact.split("|")
    assert {head, tail} <= entities(all_triples())
    assert head not in allowed()[relation, "head"] or tail not in allowed()[relation, "tail"]


# --- the build


def toy_triples() -> list[Triple]:
    """Return a ring with both directions of each edge, and a chord of one-way facts."""
    ring = [(f"n{i}", f"n{(i + 1) % 40}") for i in range(40)]
    both = [Triple(a, "next_to", b) for a, b in ring] + [Triple(b, "next_to", a) for a, b in ring]
    return both + [Triple(f"n{i}", "points_to", f"n{(7 * i + 3) % 40}") for i in range(40)]


def test_splits_does_not_depend_on_the_order_of_its_input() -> None:
    assert splits(toy_triples()) == splits(toy_triples()[::-1])


def test_splits_depends_on_the_seed_and_keeps_every_triple() -> None:
    one, other = splits(toy_triples(), seed=1), splits(toy_triples(), seed=2)
    assert one != other
    for parts in (one, other):
        assert sorted(t for part in parts.values() for t in part) == sorted(toy_triples())


def test_splits_holds_nothing_out_where_train_would_lose_an_entity() -> None:
    chain = [Triple(f"a{i}", "to", f"b{i}") for i in range(50)]
    parts = splits(chain, held_out=0.2)
    assert parts == {"train": sorted(chain), "valid": [], "test": []}


@pytest.mark.parametrize(
    "row",
    ["Chad\tMali \n", "Chad\tMali;Niger\n", "Chad\n", "Chad\tCo\u0302te\n", "Chad\tMali; \n"],
    ids=["space", "separator", "cells", "nfd", "empty item"],
)
def test_read_table_refuses_a_careless_row(tmp_path: Path, row: str) -> None:
    table = tmp_path / "borders.tsv"
    table.write_text("country\tneighbour\n" + row, encoding="utf-8")
    with pytest.raises(ValueError, match=r"borders\.tsv:2"):
        read_table(table)


def test_read_triples_refuses_a_pair_stated_in_both_directions(tmp_path: Path) -> None:
    for path in build_world.FACTS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "borders.tsv").open("a", encoding="utf-8") as file:
        file.write("Germany\tAustria\n")
    with pytest.raises(ValueError, match="stated more than once"):
        read_triples(tmp_path)


# --- countries


def test_un_members() -> None:
    assert len(members("United Nations")) == 193
    assert countries() - members("United Nations") == NOT_UN_MEMBERS
    assert len(countries()) == 195


@pytest.mark.parametrize(
    "relation",
    [
        "has_capital",
        "located_in_subregion",
        "has_iso_code",
        "has_calling_code",
        "has_internet_domain",
        "drives_on",
        "has_form_of_government",
    ],
)
def test_each_country_has_exactly_one(relation: str) -> None:
    assert set(tails(relation)) == countries()
    assert all(len(found) == 1 for found in tails(relation).values())


@pytest.mark.parametrize(
    "relation", ["located_in_continent", "uses_currency", "has_official_language"]
)
def test_each_country_has_at_least_one(relation: str) -> None:
    assert set(tails(relation)) == countries()


def test_iso_codes_and_domains() -> None:
    codes = {country: min(found) for country, found in tails("has_iso_code").items()}
    assert len(set(codes.values())) == len(codes)
    for country, code in codes.items():
        assert len(code) == 2
        assert code.isascii()
        assert code.isupper()
        domain = ".uk" if country == "United Kingdom" else f".{code.lower()}"
        assert tails("has_internet_domain")[country] == {domain}


def test_calling_codes_are_unique_but_for_two_shared_plans() -> None:
    users: defaultdict[str, set[str]] = defaultdict(set)
    for country, codes in tails("has_calling_code").items():
        for code in codes:
            users[code].add(country)
            assert code.startswith("+")
            assert code[1:].replace("-", "").isdigit()
    assert {code: found for code, found in users.items() if len(found) > 1} == SHARED_CALLING_CODES


def test_capitals_are_of_one_country() -> None:
    capitals = [capital for found in tails("has_capital").values() for capital in found]
    assert len(set(capitals)) == len(capitals)


def test_major_cities_are_of_one_country() -> None:
    assert set(tails("has_major_city")) <= countries()
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for relation in ("has_capital", "has_major_city"):
        for country, cities in tails(relation).items():
            for city in cities:
                homes[city].add(country)
    assert {city: found for city, found in homes.items() if len(found) > 1} == {}


def test_subregions_lie_in_a_continent_of_their_countries() -> None:
    assert len(tails("part_of_continent")) == 22
    for country, subregions in tails("located_in_subregion").items():
        for subregion in subregions:
            assert tails("part_of_continent")[subregion] <= tails("located_in_continent")[country]


def test_only_countries_stand_where_a_country_is_meant() -> None:
    for relation in ("has_coast_on", "has_shore_on", "has_highest_point", "has_island"):
        assert set(tails(relation)) <= countries()
    assert set(tails("gained_independence_from")) <= countries()
    assert set(tails("member_of")) == countries() - {"Vatican City"}
    for relation in ("flows_through", "extends_into", "shares_border_with"):
        assert {t for found in tails(relation).values() for t in found} <= countries()


def test_no_label_stands_for_a_country_and_something_else() -> None:
    others = {t.tail for t in all_triples() if t.relation in {"has_capital", "has_major_city"}}
    others |= {t.tail for t in all_triples() if t.relation in {"has_island", "has_coast_on"}}
    others |= {t.tail for t in all_triples() if t.relation == "located_in_continent"}
    others |= {t.tail for t in all_triples() if t.relation == "located_in_subregion"}
    others |= set(tails("flows_through")) | set(tails("belongs_to_language_family"))
    assert others & countries() == set()


# --- borders and coasts


def test_borders_are_symmetric_and_irreflexive() -> None:
    borders = tails("shares_border_with")
    for country, neighbours in borders.items():
        assert country not in neighbours
        for neighbour in neighbours:
            assert country in borders[neighbour]


def test_neighbours_share_a_continent() -> None:
    continents = tails("located_in_continent")
    apart = {
        frozenset({country, neighbour})
        for country, neighbours in tails("shares_border_with").items()
        for neighbour in neighbours
        if not continents[country] & continents[neighbour]
    }
    assert apart == BORDERS_BETWEEN_CONTINENTS


@pytest.mark.parametrize(
    ("country", "count"),
    [
        ("China", 14),
        ("Russia", 14),
        ("Brazil", 10),
        ("Germany", 9),
        ("Democratic Republic of the Congo", 9),
        ("Austria", 8),
        ("Türkiye", 8),
        ("Zambia", 8),
        ("Saudi Arabia", 7),
        ("Sudan", 7),
        ("South Africa", 6),
        ("Lesotho", 1),
        ("Portugal", 1),
    ],
)
def test_number_of_neighbours(country: str, count: int) -> None:
    assert len(tails("shares_border_with")[country]) == count


def test_countries_without_a_coast_are_the_landlocked_ones() -> None:
    assert countries() - set(tails("has_coast_on")) == LANDLOCKED


def test_landlocked_countries_have_neighbours() -> None:
    assert set(tails("shares_border_with")) >= LANDLOCKED


def test_every_water_ends_in_an_ocean() -> None:
    part_of = tails("part_of_water")
    for water in part_of:
        path = [water]
        while path[-1] in part_of:
            (larger,) = part_of[path[-1]]
            assert larger not in path
            path.append(larger)
        assert path[-1].endswith(" Ocean")


# --- organisations and money


@pytest.mark.parametrize(
    ("organisation", "count"),
    [
        ("European Union", 27),
        ("Eurozone", 20),
        ("Schengen Area", 29),
        ("NATO", 32),
        ("African Union", 54),
        ("ASEAN", 11),
        ("Commonwealth of Nations", 56),
        ("OPEC", 12),
        ("G20", 19),
        ("G7", 7),
        ("OECD", 38),
        ("Arab League", 22),
        ("Organisation of Islamic Cooperation", 57),
        ("Council of Europe", 46),
        ("ECOWAS", 12),
        ("BRICS", 10),
    ],
)
def test_number_of_members(organisation: str, count: int) -> None:
    assert len(members(organisation)) == count


def test_eurozone_and_the_euro() -> None:
    users = {country for country, found in tails("uses_currency").items() if "Euro" in found}
    assert users == members("Eurozone") | EURO_OUTSIDE_EUROZONE
    assert members("Eurozone") < members("European Union")


def test_schengen_area_is_eu_and_efta() -> None:
    outside = members("European Union") - members("Schengen Area")
    assert outside == {"Cyprus", "Ireland"}
    efta = members("European Free Trade Association")
    assert members("Schengen Area") - members("European Union") == efta


def test_african_union_is_africa() -> None:
    africa = {c for c, found in tails("located_in_continent").items() if "Africa" in found}
    assert members("African Union") == africa


@pytest.mark.parametrize(
    ("organisation", "currency"),
    [
        ("West African Economic and Monetary Union", "West African CFA franc"),
        ("CEMAC", "Central African CFA franc"),
        ("Organisation of Eastern Caribbean States", "East Caribbean dollar"),
    ],
)
def test_currency_unions(organisation: str, currency: str) -> None:
    users = {country for country, found in tails("uses_currency").items() if currency in found}
    assert users == members(organisation)


def test_currency_codes_are_unique_and_of_used_currencies() -> None:
    used = {currency for found in tails("uses_currency").values() for currency in found}
    codes = [code for found in tails("has_currency_code").values() for code in found]
    assert used - set(tails("has_currency_code")) == {"Tuvaluan dollar"}
    assert set(tails("has_currency_code")) <= used
    assert len(set(codes)) == len(codes)
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in codes)


def test_headquarters_are_known_cities() -> None:
    cities = {
        city
        for relation in ("has_capital", "has_major_city")
        for found in tails(relation).values()
        for city in found
    }
    assert {city for found in tails("has_headquarters_in").values() for city in found} <= cities


# --- single facts


@pytest.mark.parametrize(
    "fact",
    [
        "Germany|has_capital|Berlin",
        "Australia|has_capital|Canberra",
        "Brazil|has_capital|Brasília",
        "South Africa|has_capital|Pretoria",
        "Bolivia|has_capital|Sucre",
        "Kazakhstan|has_capital|Astana",
        "Luxembourg|has_capital|Luxembourg (city)",
        "Japan|uses_currency|Japanese yen",
        "Croatia|uses_currency|Euro",
        "Ecuador|uses_currency|US dollar",
        "Côte d'Ivoire|uses_currency|West African CFA franc",
        "Switzerland|has_official_language|Romansh",
        "Brazil|has_official_language|Portuguese language",
        "Finland|member_of|NATO",
        "Sweden|member_of|NATO",
        "Timor-Leste|member_of|ASEAN",
        "Türkiye|located_in_continent|Asia",
        "Mexico|located_in_subregion|Central America",
        "Iran|located_in_subregion|Southern Asia",
        "Spain|shares_border_with|Portugal",
        "North Korea|shares_border_with|Russia",
        "United Kingdom|has_iso_code|GB",
        "India|has_calling_code|+91",
        "Japan|drives_on|Left-hand traffic",
        "Sweden|drives_on|Right-hand traffic",
        "Danube|flows_through|Hungary",
        "Danube|empties_into|Black Sea",
        "Nile|empties_into|Mediterranean Sea",
        "Tanzania|has_highest_point|Kilimanjaro",
        "Peru|has_shore_on|Lake Titicaca",
        "World Health Organization|has_headquarters_in|Geneva",
        "South Sudan|gained_independence_from|Sudan",
        "Hungarian language|belongs_to_language_family|Uralic languages",
        "São Tomé and Príncipe|has_capital|São Tomé",
    ],
)
def test_fact(fact: str) -> None:
    assert Triple(*fact.split("|")) in set(all_triples())


@pytest.mark.parametrize(
    "fact",
    [
        "Australia|has_capital|Sydney",
        "Türkiye|has_capital|Istanbul",
        "United Kingdom|member_of|European Union",
        "Niger|member_of|ECOWAS",
        "Switzerland|member_of|European Union",
        "Angola|member_of|OPEC",
        "Denmark|uses_currency|Euro",
        "Bangladesh|shares_border_with|Nepal",
        "Malaysia|shares_border_with|Singapore",
        "Austria|has_coast_on|Adriatic Sea",
        "Brazil|has_official_language|Spanish language",
        "Rhine|flows_through|Belgium",
    ],
)
def test_no_such_fact(fact: str) -> None:
    assert Triple(*fact.split("|")) not in set(all_triples())
