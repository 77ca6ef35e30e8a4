"""Memory of configurations, while they are used and afterwards."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from negserve.errors import InvalidRequestError
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig
from negserve_server.errors import TablesFull
from negserve_server.graph import TriplesFactory
from negserve_server.graph.type_constraints import TypeConstraints
from negserve_server.sampling import Sampler
from negserve_server.tables import Tables

MIB = 2**20
NUM_ENTITIES, NUM_TRIPLES = 20_000, 60_000


def graph(num_relations: int = 20, tables: Tables | None = None, **options: Any) -> TriplesFactory:
    """Make a graph whose entities have many different frequencies."""
    rng = np.random.default_rng(5)
    ids = (NUM_ENTITIES * rng.random((NUM_TRIPLES, 2)) ** 3).astype(np.int64)
    relations = rng.integers(0, 20, NUM_TRIPLES)
    triples = np.stack([ids[:, 0], relations, ids[:, 1]], axis=1)
    factory = TriplesFactory(
        {"training": triples[: NUM_TRIPLES // 2], "validation": triples[NUM_TRIPLES // 2 :]},
        num_entities=NUM_ENTITIES,
        num_relations=num_relations,
        **options,
    )
    factory.keep_tables_in(Tables(1024 * MIB) if tables is None else tables)
    factory.contains(factory.mapped_triples[:1], ("training",))
    factory.open_sampler(filter_splits=("training",)).sample(factory.mapped_triples[:1], 0)
    return factory


@pytest.fixture
def traced() -> Iterator[None]:
    """Stop what :func:`allocated` starts."""
    yield
    tracemalloc.stop()


def allocated() -> int:
    """Return the bytes allocated since the first call, with which tracing begins: it is slow."""
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    return tracemalloc.get_traced_memory()[0]


def pairs(num_relations: int) -> np.ndarray:
    rows = [(r, (r * 7919 + i * 13) % NUM_ENTITIES) for r in range(num_relations) for i in range(9)]
    return np.array(sorted(set(rows)), dtype=np.int64)


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "basic, filtered by all": {"filter_splits": ("training", "validation")},
    "one negative": {"filter_splits": ("training",)},
    "relations": {"filter_splits": ("training",), "corruption_scheme": ("relation",)},
    "bernoulli": {"kind": "bernoulli", "num_negs_per_pos": 2},
    "candidates": {
        "candidates": np.arange(1, NUM_ENTITIES, 2),
        "filter_splits": ("training",),
        "num_negs_per_pos": 2,
    },
    "pseudotyped": {"kind": "pseudotyped", "filter_splits": ("training",)},
    "typed": {"kind": "typed", "filter_splits": ("training",)},
    "degree": {"kind": "degree", "filter_splits": ("training",)},
    "mixture": {
        "kind": "mixture",
        "mixture": (("bernoulli", 3), ("degree", 1), ("pseudotyped", 2)),
        "filter_splits": ("training",),
    },
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_counted_bytes_are_the_allocated_bytes(name: str, traced: None) -> None:
    tables = Tables(1024 * MIB)
    constraints = TypeConstraints(heads=pairs(3_000), tails=pairs(2_000))
    factory = graph(3_000, tables, type_constraints=constraints)
    tables.drop_idle(-1)
    before, counted_before = allocated(), tables.num_bytes
    sampler: Sampler | None = factory.open_sampler(**CONFIGURATIONS[name])
    counted, taken = tables.num_bytes - counted_before, allocated() - before
    # Objects and dictionaries take some kilobytes besides.
    assert counted <= taken + 1024
    assert taken <= 1.02 * counted + 64 * 1024
    del sampler
    tables.drop_idle(-1)
    assert tables.num_bytes == counted_before
    assert allocated() - before < 64 * 1024


def test_refused_configurations_leave_nothing(traced: None) -> None:
    tables = Tables(1024 * MIB)
    factory = graph(tables=tables)
    tables.drop_idle(-1)
    before = allocated()
    for number in range(20):
        candidates = np.arange(number, NUM_ENTITIES)
        with pytest.raises(InvalidRequestError, match="no type constraints"):
            factory.open_sampler(kind="typed", candidates=candidates)
        with pytest.raises(InvalidRequestError, match="ids 0 to 19999"):
            factory.open_sampler(candidates=np.append(candidates, 2**31))
    assert (len(tables), tables.num_bytes) == (0, 0)
    # 40 sets of candidates are 3.2 MB, of which the last refusals have some.
    assert allocated() - before < 400_000


def test_candidates_are_kept_once_and_go_with_their_last_sampler() -> None:
    tables = Tables(1024 * MIB)
    factory = graph(tables=tables)
    candidates = np.arange(0, NUM_ENTITIES, 2)
    options = {"candidates": candidates, "num_negs_per_pos": 3}
    samplers = [factory.open_sampler(**options, seed=seed) for seed in range(5)]
    with_one = tables.num_bytes
    assert len({id(sampler.config.candidates) for sampler in samplers}) == 1
    shared = samplers[0].tables.cells[0].candidates.ids
    assert shared is samplers[-1].config.candidates.ids  # type: ignore[union-attr]
    factory.open_sampler(**options, kind="degree")
    assert tables.num_bytes < with_one + 16 * NUM_ENTITIES * 2
    del samplers
    tables.drop_idle(-1)
    tables.drop_idle(-1)
    assert tables.num_bytes < with_one


def test_exponents_share_nearly_all_but_their_units() -> None:
    tables = Tables(1024 * MIB)
    factory = graph(tables=tables)
    tables.drop_idle(-1)
    before = tables.num_bytes
    splits = ("training", "validation")
    samplers = []
    for step in range(8):
        samplers.append(
            factory.open_sampler(kind="degree", alpha=0.25 + step / 8, filter_splits=splits)
        )
        if step == 0:
            with_one = tables.num_bytes - before
    each = (tables.num_bytes - before - with_one) / 7
    assert each < 0.5 * with_one
    assert len({id(sampler.tables.cells[0].known) for sampler in samplers}) == 1
    assert len({id(sampler.tables.cells[0].candidates.ids) for sampler in samplers}) == 1


def test_a_search_over_exponents_stays_within_the_bound() -> None:
    tables = Tables(8 * MIB)
    factory = graph(tables=tables)
    for step in range(20):
        factory.open_sampler(kind="degree", alpha=0.05 + step / 20, filter_splits=("training",))
        assert tables.num_bytes <= 8 * MIB
    tables.drop_idle(-1)
    assert tables.num_bytes == 0


def test_tables_common_to_all_relations_exist_once() -> None:
    """The first figure is the limit for one configuration with four million relations, in MiB."""
    tables = Tables(1024 * MIB)
    factory = TriplesFactory(
        {"training": [[0, 0, 1], [1, 0, 2]]}, num_entities=100, num_relations=4_000_000
    )
    factory.keep_tables_in(tables)
    for most, options in (
        (0, {"filter_splits": ("training",)}),
        (0, {"candidates": (1, 2, 3), "filter_splits": ("training",)}),
        (0, {"kind": "degree"}),
        (0, {"kind": "mixture", "mixture": (("basic", 1), ("degree", 1))}),
        (0, {"kind": "bernoulli", "corruption_scheme": ("head",)}),
        (62 + 92, {"kind": "bernoulli"}),  # ends, statistics
        (62 + 2 * 62, {"kind": "pseudotyped"}),  # ends, where candidates begin, how many
    ):
        sampler = factory.open_sampler(**options)
        assert tables.num_bytes <= (most + 0.1) * MIB, options
        sampler.sample([[0, 3_999_999, 1]], 0)
        del sampler
        tables.drop_idle(-1)
        assert tables.num_bytes == 0


def test_mixtures_share_all_but_the_ends_of_their_cells() -> None:
    tables = Tables(1024 * MIB)
    factory = TriplesFactory(
        {"training": [[0, 0, 1], [1, 0, 2]]}, num_entities=100, num_relations=100_000
    )
    factory.keep_tables_in(tables)
    samplers = []
    for shares in range(1, 5):
        mixture = (("basic", shares), ("bernoulli", 1), ("pseudotyped", 1), ("degree", 1))
        samplers.append(factory.open_sampler(kind="mixture", mixture=mixture))
    ends, candidates, statistics = 4 * 8 * 8, 2 * 16, 24
    assert tables.num_bytes <= 100_000 * (ends + candidates + statistics) + MIB


def test_a_table_without_room_is_refused_before_it_is_built(traced: None) -> None:
    tables = Tables(8 * MIB)
    factory = TriplesFactory(
        {"training": [[0, 0, 1], [1, 0, 2]]}, num_entities=100, num_relations=1_000_000
    )
    factory.keep_tables_in(tables)
    before = allocated()
    tracemalloc.reset_peak()
    for kind in ("bernoulli", "pseudotyped"):
        with pytest.raises(TablesFull, match="--max-table-bytes"):
            factory.open_sampler(kind=kind)
    assert tracemalloc.get_traced_memory()[1] - before < 4 * MIB
    assert tables.num_bytes == 0
    assert factory.open_sampler(kind="degree").sample([[0, 5, 1]], 0)


def test_an_index_of_other_splits_goes_when_nobody_uses_it() -> None:
    tables = Tables(1024 * MIB)
    factory = graph(tables=tables)
    tables.drop_idle(-1)
    assert tables.num_bytes == 0  # that of the training triples belongs to the graph
    splits = ("validation",), ("training", "validation")
    assert all(factory.contains(factory.splits["validation"], chosen).all() for chosen in splits)
    sampler = factory.open_sampler(filter_splits=splits[1])
    with_three = tables.num_bytes
    tables.drop_idle(-1)
    assert 0 < tables.num_bytes < with_three
    assert factory.open_sampler(filter_splits=splits[1]).tables is sampler.tables
    del sampler
    tables.drop_idle(-1)
    assert tables.num_bytes == 0


def test_statistics_are_a_table_like_others() -> None:
    tables = Tables(1024 * MIB)
    factory = graph(tables=tables)
    tables.drop_idle(-1)
    assert factory.relation_counts is factory.relation_counts
    assert tables.num_bytes == 24 * 20
    tables.drop_idle(-1)
    assert tables.num_bytes == 0


def test_a_graph_that_is_gone_keeps_no_tables() -> None:
    tables = Tables(1024 * MIB)
    one, two = graph(tables=tables), graph(tables=tables)
    for factory in (one, two):
        factory.open_sampler(kind="degree", filter_splits=("validation",))
    with_two = tables.num_bytes
    del factory
    del one
    assert 0 < tables.num_bytes < with_two
    sampler = two.open_sampler(kind="degree", filter_splits=("validation",))
    del two
    assert tables.num_bytes > 0
    assert sampler.sample([[0, 0, 1]], 0)
    del sampler
    assert tables.num_bytes == 0


def test_epochs_of_the_same_relations_share_their_rows() -> None:
    tables = Tables(1024 * MIB)
    factory = graph(tables=tables)
    config = SamplerConfig()
    epochs = [
        factory.epoch(config, EpochConfig(relations=(3, 5, 3)[:n], rank=n - 2, world_size=2))
        for n in (2, 3)
    ]
    tables.drop_idle(-1)
    rows = np.isin(factory.mapped_triples[:, 1], (3, 5)).sum()
    assert epochs[0].num_positives == epochs[1].num_positives == rows
    assert 8 * rows <= tables.num_bytes <= 8 * rows + 1024  # the sampler has some, too
    del epochs
    tables.drop_idle(-1)
    assert tables.num_bytes == 0


def known_bytes(triples: int) -> tuple[int, int]:
    return 7 * triples, 19 * triples + 4096


def test_the_sizes_that_the_operations_page_states() -> None:
    """Head and tail are replaced; the index of the default filter belongs to the graph."""
    constraints = TypeConstraints(heads=pairs(3_000), tails=pairs(2_000))
    num_triples, num_relations = NUM_TRIPLES // 2, 3_000
    half = NUM_ENTITIES // 2
    seen = 2 * num_triples  # pairs of relation and entity, at most, in both slots
    both = 2 * known_bytes(num_triples)[1]
    ends = 16 * num_relations
    cases: dict[str, tuple[dict[str, Any], int, int]] = {
        "k = 1": ({}, 2 * 6 * num_triples, 2 * 13 * num_triples),
        "candidates": (
            {"candidates": np.arange(0, NUM_ENTITIES, 2), "num_negs_per_pos": 2},
            4 * half,
            4 * half + both,
        ),
        "bernoulli": ({"kind": "bernoulli", "num_negs_per_pos": 2}, ends, ends + 24 * 3_000),
        "pseudotyped": (
            {"kind": "pseudotyped"},
            ends + 32 * num_relations,
            ends + 32 * num_relations + 4 * seen + both,
        ),
        "typed": (
            {"kind": "typed"},
            ends + 32 * num_relations + 4 * 9 * 4_000,
            ends + 32 * num_relations + 4 * 9 * 5_000 + both,
        ),
        "degree": (
            {"kind": "degree"},
            2 * known_bytes(num_triples)[0],
            2 * (8 + 20) * NUM_ENTITIES + both + 2 * 21 * num_triples,
        ),
    }
    for name, (options, least, most) in cases.items():
        tables = Tables(1024 * MIB)
        factory = graph(num_relations, tables, type_constraints=constraints)
        tables.drop_idle(-1)
        sampler = factory.open_sampler(filter_splits=("training",), **options)
        assert least <= tables.num_bytes <= most + 4096, name
        del sampler
