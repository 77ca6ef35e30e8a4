"""Epochs that are refused before anybody is asked, and equality of the others."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from negserve import EpochConfig, InvalidRequestError
from negserve.types.id_set import IdSet


@pytest.mark.parametrize(
    ("options", "field"),
    [
        *(({"batch_size": value}, "batch_size") for value in (0, 2**20 + 1, 1.5, "3", True, None)),
        *(({"world_size": value}, "world_size") for value in (0, 2**16 + 1, None)),
        *(({"num_workers": value}, "num_workers") for value in (0, 2**16 + 1, None)),
        *(({"rank": value, "world_size": 2}, "rank") for value in (-1, 2, 0.0, None)),
        *(({"worker": value, "num_workers": 2}, "worker") for value in (-1, 2, 0.0, None)),
        *(({"tail": value}, "tail") for value in ("keep", "", None, ["short"])),
        *(({name: value}, name) for name in ("shuffle", "weights") for value in (1, "no", None)),
        *(({"relations": value}, "relations") for value in ((), (-1,), (2**32,), (1.5,), 3, "12")),
    ],
    ids=str,
)
def test_a_value_that_is_not_legal_is_named(options: dict[str, Any], field: str):
    with pytest.raises(InvalidRequestError, match=f"^{field}=.* is not legal: ") as caught:
        EpochConfig(**options)
    assert caught.value.reason == "INVALID_CONFIGURATION"
    assert caught.value.metadata["field"] == field


def test_relations_are_a_set_in_whatever_form():
    ids: Any = np.array([5, 2, 5], dtype=np.uint64)
    config = EpochConfig(relations=ids)
    assert config == EpochConfig(relations=(2, 5))
    assert hash(config) == hash(EpochConfig(relations=[5, 2]))
    assert config != EpochConfig(relations=(2,))
    assert tuple(config.relations or ()) == (2, 5)


def test_a_pickled_set_is_equal_and_read_only():
    copy = pickle.loads(pickle.dumps(IdSet((7, 3, 7))))
    assert copy == IdSet((3, 7))
    with pytest.raises(ValueError, match="read-only"):
        copy.ids[0] = 1
