"""Relation counts and statistics against naive counting and against PyKEEN's Bernoulli sampler."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve.types.answers.relation_statistics import RelationStatistics
from negserve_server.sampling import RelationCounts
from negserve_server.triple_columns import TripleColumns
from tests.support.graphs import load

Triple = tuple[int, int, int]

NUM_RELATIONS = 5
triple_sets = st.sets(
    st.tuples(st.integers(0, 8), st.integers(0, NUM_RELATIONS - 1), st.integers(0, 8)),
    min_size=1,
    max_size=60,
)


def counts(triples: set[Triple]) -> RelationCounts:
    columns = TripleColumns.of(np.array(sorted(triples), dtype=np.int64), 9, NUM_RELATIONS)
    return RelationCounts.of(columns, NUM_RELATIONS)


def statistics(triples: set[Triple]) -> RelationStatistics:
    return counts(triples).statistics()


@settings(deadline=None)
@given(triple_sets)
def test_counts_equal_naive_counting(triples: set[Triple]) -> None:
    made = counts(triples)
    for relation in range(NUM_RELATIONS):
        own = [triple for triple in triples if triple[1] == relation]
        assert made.num_triples[relation] == len(own)
        assert made.num_heads[relation] == len({h for h, _, _ in own})
        assert made.num_tails[relation] == len({t for _, _, t in own})


@settings(deadline=None)
@given(triple_sets)
def test_head_probability_is_tph_over_tph_plus_hpt(triples: set[Triple]) -> None:
    made = statistics(triples)
    for relation in range(NUM_RELATIONS):
        own = [triple for triple in triples if triple[1] == relation]
        if not own:
            continue
        tph = Fraction(len(own), len({h for h, _, _ in own}))
        hpt = Fraction(len(own), len({t for _, _, t in own}))
        assert made.tails_per_head[relation] == pytest.approx(float(tph))
        assert made.heads_per_tail[relation] == pytest.approx(float(hpt))
        # Rounded down to a multiple of 2^-32.
        exact = tph / (tph + hpt)
        assert made.head_probability[relation] * 2**32 == int(exact * 2**32)
        assert 0 <= exact - Fraction(float(made.head_probability[relation])) < Fraction(1, 2**32)


def test_a_relation_without_training_triples_has_no_ratio_and_an_even_share() -> None:
    made = statistics({(0, 1, 2), (0, 1, 3), (0, 1, 4)})
    for ratios in (made.tails_per_head, made.heads_per_tail):
        assert np.isnan(ratios).tolist() == [True, False, True, True, True]
    assert made.head_probability.tolist() == [0.5, 0.75, 0.5, 0.5, 0.5]


def test_a_one_to_many_relation_replaces_the_head_more_often() -> None:
    made = statistics({(0, 0, t) for t in range(8)} | {(h, 1, 0) for h in range(8)})
    assert made.tails_per_head[:2].tolist() == [8.0, 1.0]
    assert made.heads_per_tail[:2].tolist() == [1.0, 8.0]
    assert made.head_probability[:2] == pytest.approx([8 / 9, 1 / 9], abs=2**-31)


def test_head_probability_equals_pykeens_bernoulli_sampler() -> None:
    torch = pytest.importorskip("torch")
    sampling = pytest.importorskip("pykeen.sampling")
    factory = load("world")
    theirs: NDArray[np.float32] = sampling.BernoulliNegativeSampler(
        mapped_triples=torch.tensor(factory.mapped_triples)
    ).corrupt_head_probability.numpy()
    ours = factory.relation_statistics.head_probability
    assert ours.shape == theirs.shape == (factory.num_relations,)
    assert len(np.unique(ours)) > 5, "a graph whose relations are all alike shows nothing"
    assert np.abs(ours - theirs).max() < 1e-6
