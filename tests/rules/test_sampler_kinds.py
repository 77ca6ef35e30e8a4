"""Each sampler kind is complete: module, protocol, clients, golden vectors, cases, documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import get_args

import pytest

from negserve._protocol import messages as client_messages
from negserve.sampling import NEGATIVE_SAMPLERS
from negserve.types.kinds import KINDS, Kind, SamplerKind
from negserve.v1 import sampler_pb2 as pb
from negserve_server.sampling.kinds import DISTRIBUTIONS
from negserve_server.service import messages as server_messages
from tests.contract.cases import SAMPLERS
from tests.proto.cases import CASES
from tests.server.sampling.test_golden import WORLD
from tests.support.graphs import REPOSITORY
from tests.support.protocol_document import cells

MODULES = REPOSITORY / "server" / "negserve_server" / "sampling" / "kinds"
SAMPLING_PAGE = (REPOSITORY / "docs" / "sampling.md").read_text("utf-8")
NODE = (REPOSITORY / "examples" / "node" / "src" / "main.ts").read_text("utf-8")
CPP = (REPOSITORY / "examples" / "cpp" / "arguments.cc").read_text("utf-8")


def kind_of(value_name: str) -> str:
    return value_name.removeprefix("SAMPLER_KIND_").replace("_", "").lower()


def kinds_named(program: str) -> set[str]:
    """Return the kinds whose values a program names."""
    return {kind_of(name) for name in re.findall(r"\bSAMPLER_KIND_[A-Z_]+\b", program)}


def document_rows() -> dict[str, list[str]]:
    """Return what the table of options says of each kind, without marks of code and formulas."""
    (text,) = re.findall(
        r"^\| `kind` \|[^\n]*\n(?:\| \|[^\n]*\n)+", SAMPLING_PAGE, flags=re.MULTILINE
    )
    rows = cells(re.sub(r"[`$]", "", text))
    return {kind: columns for _, kind, *columns in rows}


VALUES = set(map(kind_of, pb.SamplerKind.keys())) - {"unspecified"}
GOLDEN_CASES = {
    server_messages.KINDS.get(request.configuration.sampler.kind)
    for case in CASES["Sample"]
    for request in case.requests
    if isinstance(request, pb.SampleRequest)
} - {None}
#: Kinds by the place that has something for each of them.
PLACES: dict[str, Collection[str]] = {
    "proto/negserve/v1/sampler.proto: a value of SamplerKind": VALUES,
    "client/negserve/types/kinds.py: an entry of KINDS": KINDS,
    "client/negserve/types/kinds.py: a name in Kind": get_args(Kind),
    "client/negserve/sampling/negative_samplers.py: a class": NEGATIVE_SAMPLERS,
    "server/negserve_server/sampling/kinds: a module": {path.stem for path in MODULES.glob("*.py")}
    - {"__init__", "distribution"},
    "server/negserve_server/sampling/kinds: DISTRIBUTION of the module": {
        *DISTRIBUTIONS,
        "mixture",
    },
    "tests/server/sampling/test_golden.py: a digest": {
        options.get("kind", "basic") for options, _ in WORLD.values()
    },
    "tests/proto/cases.py: a golden case": GOLDEN_CASES,
    "tests/contract/cases.py: a contract case": SAMPLERS,
    "docs/sampling.md: a row of kind": document_rows(),
    "examples/cpp/arguments.cc: a name": kinds_named(CPP),
    "examples/node/src/main.ts: a name": {*kinds_named(NODE), "mixture"},  # it mixes nothing
}
ALL = set().union(*PLACES.values())


@pytest.mark.parametrize("place", PLACES)
def test_every_kind_has(place: str):
    missing = ALL - set(PLACES[place])
    assert not missing, f"{place} is missing for {', '.join(sorted(missing))}"


def test_the_halves_number_the_kinds_alike():
    assert {value: kind for kind, value in client_messages.KINDS.items()} == server_messages.KINDS
    assert [*KINDS] == [*server_messages.KINDS.values()]


@pytest.mark.parametrize("kind", KINDS.values(), ids=[*KINDS])
def test_the_document_says_of_a_kind_what_the_kind_says(kind: SamplerKind):
    assert document_rows()[kind.name] == [kind.draws, kind.costs]


#: Refused combinations: begin of the row in the document, and which kinds it names.
COMBINATIONS: Mapping[str, Callable[[SamplerKind], object]] = {
    "relation slot with": lambda kind: not kind.takes_relations,
    "`distinct` with": lambda kind: kind.distinct_refusal,
    "`chunk_size` > 1 with": lambda kind: not kind.takes_chunks,
    "`alpha` other than 0.75 without": lambda kind: kind.takes_alpha,
}


@pytest.mark.parametrize("begin", COMBINATIONS)
def test_the_document_names_the_kinds_that_a_combination_is_refused_for(begin: str):
    rows = re.findall(rf"^\| {re.escape(begin)} ([^|]*)", SAMPLING_PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)} & set(KINDS)
    assert named == {name for name, kind in KINDS.items() if COMBINATIONS[begin](kind)}
