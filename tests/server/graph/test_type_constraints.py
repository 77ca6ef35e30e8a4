"""Type constraints of a graph, as arrays, and their part in the fingerprint."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve_server.graph import TriplesFactory, TypeConstraints
from tests.support.graphs import REPOSITORY, load

Pair = tuple[int, int]

SPLITS = {"training": [(0, 0, 1), (1, 0, 2), (2, 1, 0), (3, 1, 2)], "testing": [(0, 1, 1)]}
HEADS = [(0, 0), (0, 1), (1, 3)]
TAILS = [(1, 0), (1, 2)]


def graph(constraints: TypeConstraints | None = None, **options: Any) -> TriplesFactory:
    """A graph of four entities and two relations."""
    options = {"num_entities": 4, "num_relations": 2, **options}
    return TriplesFactory(SPLITS, type_constraints=constraints, **options)


def pairs_of(constraints: TypeConstraints | None) -> tuple[list[list[int]], list[list[int]]]:
    """Heads and tails as lists."""
    assert constraints is not None
    return constraints.heads.tolist(), constraints.tails.tolist()


# --- given as arrays


def test_pairs_are_sorted_distinct_and_their_own() -> None:
    heads = np.array([(1, 3), (0, 1), (1, 3), (0, 0)], dtype=np.uint32)
    constraints = TypeConstraints(heads, [(1, 2), (1, 0), (1, 2)])
    heads[:] = 0
    assert pairs_of(constraints) == ([[0, 0], [0, 1], [1, 3]], [[1, 0], [1, 2]])
    for pairs in (constraints.heads, constraints.tails):
        assert pairs.dtype == np.int64
        assert pairs.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            pairs[0, 0] = 1
    with pytest.raises(AttributeError):
        constraints.heads = constraints.tails  # type: ignore[misc]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**32 - 1)), min_size=1))
def test_pairs_are_those_of_the_set(pairs: list[Pair]) -> None:
    assert TypeConstraints(pairs, []).heads.tolist() == [list(p) for p in sorted(set(pairs))]


@pytest.mark.parametrize("empty", [[], np.empty((0, 2), dtype=np.int64)], ids=["list", "array"])
def test_one_slot_may_be_without_constraints(empty: Any) -> None:
    assert TypeConstraints(HEADS, empty).tails.shape == (0, 2)
    assert TypeConstraints(empty, TAILS).heads.shape == (0, 2)
    with pytest.raises(ValueError, match="both empty"):
        TypeConstraints(empty, empty)


def test_constrained_slots_are_counted() -> None:
    assert TypeConstraints(HEADS, TAILS).num_constrained_slots == 3
    assert TypeConstraints(HEADS, []).num_constrained_slots == 2


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([0, 1], r"shape \(2,\); give \(m, 2\)"),
        ([(0, 1, 2)], r"shape \(1, 3\)"),
        ([[(0, 1)]], r"shape \(1, 1, 2\)"),
        ([(0.0, 1.0)], "dtype float64; give integer ids"),
        ([(True, False)], "dtype bool"),
        ([("r", "a")], "dtype <U1"),
        (np.array([(0, 2**63)], dtype=np.uint64), f"an id {2**63}"),
    ],
)
def test_arrays_that_are_no_pairs_are_refused(pairs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^heads have {message}"):
        TypeConstraints(pairs, TAILS)
    with pytest.raises(ValueError, match=f"^tails have {message}"):
        TypeConstraints(HEADS, pairs)


@pytest.mark.parametrize(
    ("heads", "tails", "message"),
    [
        ([(0, 4)], TAILS, "entity id 4 of the type constraints of heads .* has 4 entities"),
        ([(2, 0)], TAILS, "relation id 2 of the type constraints of heads .* has 2 relations"),
        (HEADS, [(0, -1)], "entity id -1 of the type constraints of tails .* ids 0 to 3"),
        (HEADS, [(-2, 0)], "relation id -2 of the type constraints of tails .* ids 0 to 1"),
        (HEADS, [(0, 2**40)], f"entity id {2**40} .* has 4 entities"),
    ],
)
def test_an_id_out_of_range_is_named(heads: list[Pair], tails: list[Pair], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graph(TypeConstraints(heads, tails))


def test_a_graph_keeps_what_it_was_given() -> None:
    constraints = TypeConstraints(HEADS, TAILS)
    assert graph(constraints).type_constraints is constraints
    assert graph().type_constraints is None


# --- fingerprint


def fingerprint_by_hand(factory: TriplesFactory, heads: set[Pair], tails: set[Pair]) -> str:
    """The fingerprint as its documentation defines it, without numpy."""
    types = b"negserve types 1\n"
    types += struct.pack(
        "<QQQQ", factory.num_entities, factory.num_relations, len(heads), len(tails)
    )
    for pairs in (heads, tails):
        types += b"".join(struct.pack("<II", *pair) for pair in sorted(pairs))
    whole = b"negserve graph 1\n"
    for name, split in factory.split_fingerprints.items():
        whole += f"{name} {split}\n".encode()
    whole += f"type_constraints {hashlib.sha256(types).hexdigest()}\n".encode()
    return hashlib.sha256(whole).hexdigest()


def test_the_fingerprint_is_the_documented_hash() -> None:
    for heads, tails in ((HEADS, TAILS), ([], TAILS), (HEADS, [])):
        factory = graph(TypeConstraints(heads, tails))
        assert factory.fingerprint == fingerprint_by_hand(factory, set(heads), set(tails))
    last = 2**32 - 1
    huge = TriplesFactory(
        {"training": [(last, 0, last)]}, type_constraints=TypeConstraints([(0, last)], [])
    )
    assert huge.fingerprint == fingerprint_by_hand(huge, {(0, last)}, set())


def test_the_fingerprint_is_the_same_for_permuted_and_repeated_pairs() -> None:
    one = graph(TypeConstraints(HEADS, TAILS))
    other = graph(TypeConstraints(HEADS[::-1] + HEADS, TAILS[::-1]))
    assert one.fingerprint == other.fingerprint
    assert one.type_constraints_fingerprint == other.type_constraints_fingerprint


def test_the_fingerprint_differs_for_every_change_of_the_constraints() -> None:
    constraints = TypeConstraints(HEADS, TAILS)
    graphs = [
        graph(),
        graph(constraints),
        graph(TypeConstraints(HEADS[:-1], TAILS)),
        graph(TypeConstraints([*HEADS, (1, 2)], TAILS)),
        graph(TypeConstraints([*HEADS[:-1], (0, 3)], TAILS)),
        graph(TypeConstraints(HEADS, TAILS[1:])),
        graph(TypeConstraints(TAILS, HEADS)),
        graph(TypeConstraints(HEADS + TAILS, [])),
        graph(TypeConstraints([], HEADS + TAILS)),
        graph(TypeConstraints(HEADS, [])),
        graph(constraints, num_entities=5),
        graph(constraints, num_relations=3),
    ]
    assert len({each.fingerprint for each in graphs}) == len(graphs)
    for each in graphs[:10]:
        assert each.split_fingerprints == graphs[0].split_fingerprints
    assert graphs[0].type_constraints_fingerprint is None


def test_the_program_of_the_protocol_gives_the_same_fingerprints() -> None:
    document = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", document, flags=re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, names)  # the document's own program
    toy = TriplesFactory(
        names["toy"],
        num_entities=3,
        num_relations=2,
        type_constraints=TypeConstraints(names["heads"], names["tails"]),
    )
    assert printed.getvalue().split()[-1] == toy.fingerprint

    def rows(array: NDArray[np.int64]) -> list[tuple[int, ...]]:
        return list(map(tuple, array.tolist()))

    world = load("world")
    assert world.type_constraints is not None
    mine = names["dataset_fingerprint"](
        {name: rows(triples) for name, triples in world.splits.items()},
        world.num_entities,
        world.num_relations,
        rows(world.type_constraints.heads),
        rows(world.type_constraints.tails),
    )
    assert mine == world.fingerprint
