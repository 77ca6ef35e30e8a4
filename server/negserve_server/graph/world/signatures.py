"""Signatures: the declared types of the heads and tails of the relations of `world`.

A relation is declared to go from one type to another, whatever pairs the tables state: any
city could be a capital. What is of a type is told by all relations that speak of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Signature(NamedTuple):
    """The types that a relation is declared to lead from (domain) and to (range)."""

    head: str
    tail: str


SIGNATURES: Mapping[str, Signature] = {
    "belongs_to_language_family": Signature("language", "language family"),
    "branch_of_language_family": Signature("language family", "language family"),
    "drives_on": Signature("country", "side of the road"),
    "empties_into": Signature("river", "body of water"),
    "extends_into": Signature("mountain range", "country"),
    "flows_through": Signature("river", "country"),
    "gained_independence_from": Signature("country", "present or former state"),
    "has_calling_code": Signature("country", "calling code"),
    "has_capital": Signature("country", "city"),
    "has_coast_on": Signature("country", "sea or ocean"),
    "has_currency_code": Signature("currency", "currency code"),
    "has_form_of_government": Signature("country", "form of government"),
    "has_headquarters_in": Signature("organisation", "city"),
    "has_highest_point": Signature("country", "mountain"),
    "has_internet_domain": Signature("country", "internet domain"),
    "has_island": Signature("country", "island"),
    "has_iso_code": Signature("country", "ISO code"),
    "has_major_city": Signature("country", "city"),
    "has_official_language": Signature("country", "language"),
    "has_shore_on": Signature("country", "lake"),
    "located_in_continent": Signature("country", "continent"),
    "located_in_mountain_range": Signature("mountain", "mountain range"),
    "located_in_subregion": Signature("country", "subregion"),
    "member_of": Signature("country", "organisation"),
    "part_of_continent": Signature("subregion", "continent"),
    "part_of_water": Signature("sea or ocean", "sea or ocean"),
    "shares_border_with": Signature("country", "country"),
    "specialised_agency_of": Signature("organisation", "organisation"),
    "uses_currency": Signature("country", "currency"),
}

#: Types that include all that is of some other types.
UNIONS: Mapping[str, tuple[str, ...]] = {
    "body of water": ("lake", "river", "sea or ocean"),
    "present or former state": ("country",),
}


def entities_by_type(triples: Iterable[tuple[str, str, str]]) -> dict[str, set[str]]:
    """Give the entities of each type, as triples of head, relation and tail tell them."""
    types = {name for signature in SIGNATURES.values() for name in signature}
    found: dict[str, set[str]] = {name: set() for name in sorted(types)}
    for head, relation, tail in triples:
        signature = SIGNATURES[relation]
        found[signature.head].add(head)
        found[signature.tail].add(tail)
    for name, parts in UNIONS.items():
        found[name].update(*(found[part] for part in parts))
    return found
