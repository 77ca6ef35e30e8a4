"""The splits that PyKEEN's samplers filter by: shown, warned of, never without effect."""

from __future__ import annotations

import warnings
from importlib.resources import files
from typing import Any

import pytest
import torch
from pykeen.triples import TriplesFactory

from negserve import InvalidRequestError, LeakageWarning
from negserve.integrations.pykeen import RemoteBasicNegativeSampler, RemoteFilterer
from tests.support.server_process import ServerProcess

ALL_SPLITS = ("training", "validation", "testing")


@pytest.fixture
def options(publisher: ServerProcess, world_file: TriplesFactory) -> dict[str, Any]:
    return {
        "mapped_triples": world_file.mapped_triples,
        "target": publisher.target,
        "dataset": "world",
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"filter_splits": ("training",)}, "filtered=True"),
        ({"filter_splits": ALL_SPLITS}, "filtered=True"),
        ({"filtered": True, "filter_splits": ()}, "name splits"),
        (
            {"filterer": "bloom", "filter_splits": ("training",)},
            "BloomFilterer filters by the triples",
        ),
        (
            {
                "filtered": True,
                "filter_splits": ALL_SPLITS,
                "filterer_kwargs": {"filter_splits": ("training",)},
            },
            r"RemoteFilterer filters by \('training',\)",
        ),
    ],
)
def test_splits_that_nothing_filters_by_are_refused(
    options: dict[str, Any], given: dict[str, Any], told: str
):
    with pytest.raises(InvalidRequestError, match=told):
        RemoteBasicNegativeSampler(**options, **given)


def test_splits_of_a_given_filterer_count(options: dict[str, Any]):
    filterer = RemoteFilterer(**options)
    with pytest.raises(InvalidRequestError, match="RemoteFilterer filters by"):
        RemoteBasicNegativeSampler(**options, filterer=filterer, filter_splits=ALL_SPLITS)
    sampler = RemoteBasicNegativeSampler(
        **options, filterer=filterer, filter_splits=("training",), num_negs_per_pos=4
    )
    negatives, mask = sampler.sample(options["mapped_triples"][:9])
    assert negatives.shape == (9, 4, 3)
    assert mask is not None


def test_leakage_is_warned_of_once_where_the_sampler_is_made(options: dict[str, Any]):
    with pytest.warns(LeakageWarning, match="validation and testing") as caught:
        sampler = RemoteBasicNegativeSampler(
            **options, filtered=True, filter_splits=ALL_SPLITS, num_negs_per_pos=2
        )
    assert [each.filename for each in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler.sample(options["mapped_triples"][:9])
        RemoteBasicNegativeSampler(**options, filtered=True)
    with pytest.warns(LeakageWarning) as caught:
        RemoteFilterer(**options, filter_splits=("training", "testing"))
    assert [each.filename for each in caught] == [__file__]


def test_inverse_triples_are_known(publisher: ServerProcess):
    """PyKEEN's ids of inverse triples cause no warning of unknown positives."""
    path = files("negserve_server.graph") / "world" / "train.txt"
    factory = TriplesFactory.from_path(str(path), create_inverse_triples=True)
    triples = factory._add_inverse_triples_if_necessary(factory.mapped_triples)
    sampler = RemoteBasicNegativeSampler(
        mapped_triples=triples,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        num_negs_per_pos=2,
        target=publisher.target,
    )
    order = torch.randperm(len(triples), generator=torch.Generator().manual_seed(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in triples[order][:2500].split(500):
            sampler.sample(batch)
    assert sampler.graph.open().inverted
