"""What negatives are drawn: the frozen, validated configuration of a sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from negserve_server.errors import InvalidConfiguration

_T = TypeVar("_T", bound=str)

Kind = Literal["basic", "bernoulli", "pseudotyped"]
Slot = Literal["head", "relation", "tail"]
Split = Literal["training", "validation", "testing"]

KINDS: tuple[Kind, ...] = ("basic", "bernoulli", "pseudotyped")
SLOTS: tuple[Slot, ...] = ("head", "relation", "tail")
SPLITS: tuple[Split, ...] = ("training", "validation", "testing")

#: The version of the sampling function that this package computes.
ALGORITHM_VERSION = 1

#: Largest k: the slot boundary ``(k << 32 + u)`` and a redraw's counter fit 64 and 32 bits.
MAX_NUM_NEGS_PER_POS = 2**20


def _in_order(values: tuple[_T, ...], legal: tuple[_T, ...], field: str) -> tuple[_T, ...]:
    """Order values as ``legal`` does, so that equal sets make equal configurations."""
    if (
        not isinstance(values, tuple | list)
        or len(set(values)) != len(values)
        or set(values) - set(legal)
    ):
        raise InvalidConfiguration(
            field, values, f"give different ones of {', '.join(map(str, legal))}"
        )
    return tuple(value for value in legal if value in values)


def _is_integer(value: object, lowest: int, highest: int) -> bool:
    return isinstance(value, int | np.integer) and bool(lowest <= value <= highest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """Which negatives a sampler draws. Equal configurations draw equal negatives.

    :ivar kind: ``basic`` (slots evenly, values uniform), ``bernoulli`` (the head with
        probability tph/(tph+hpt), Wang et al. 2014) or ``pseudotyped`` (values seen in
        training in that slot of that relation, slots in proportion to how many there are)
    :ivar num_negs_per_pos: k, negatives per positive, 1 to 2^20
    :ivar corruption_scheme: slots that may be replaced, any order; ``bernoulli`` and
        ``pseudotyped`` know no relation slot
    :ivar filter_splits: splits whose triples are never drawn; empty for no filter
    :ivar seed: key of the generator, 0 to 2^64 - 1
    :ivar algorithm_version: version of the sampling function; 0 asks for the newest
    :raises InvalidConfiguration: naming the field, its value and what is legal
    """

    kind: Kind = "basic"
    num_negs_per_pos: int = 1
    corruption_scheme: tuple[Slot, ...] = ("head", "tail")
    filter_splits: tuple[Split, ...] = ()
    seed: int = 0
    algorithm_version: int = ALGORITHM_VERSION

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidConfiguration("kind", self.kind, f"choose from {', '.join(KINDS)}")
        if not _is_integer(self.num_negs_per_pos, 1, MAX_NUM_NEGS_PER_POS):
            raise InvalidConfiguration(
                "num_negs_per_pos",
                self.num_negs_per_pos,
                f"give a number from 1 to {MAX_NUM_NEGS_PER_POS}",
            )
        if not self.corruption_scheme:
            raise InvalidConfiguration("corruption_scheme", (), "give at least one slot")
        object.__setattr__(
            self,
            "corruption_scheme",
            _in_order(self.corruption_scheme, SLOTS, "corruption_scheme"),
        )
        if self.kind != "basic" and "relation" in self.corruption_scheme:
            raise InvalidConfiguration(
                "corruption_scheme",
                self.corruption_scheme,
                f"kind {self.kind} replaces only head and tail; use kind basic for relations",
            )
        object.__setattr__(
            self, "filter_splits", _in_order(self.filter_splits, SPLITS, "filter_splits")
        )
        if not _is_integer(self.seed, 0, 2**64 - 1):
            raise InvalidConfiguration("seed", self.seed, "give a number from 0 to 2^64 - 1")
        if self.algorithm_version == 0:
            object.__setattr__(self, "algorithm_version", ALGORITHM_VERSION)
        if self.algorithm_version != ALGORITHM_VERSION:
            raise InvalidConfiguration(
                "algorithm_version",
                self.algorithm_version,
                f"this server computes version {ALGORITHM_VERSION}; use that or 0",
            )

    @property
    def filtered(self) -> bool:
        """Whether known triples are excluded."""
        return bool(self.filter_splits)
