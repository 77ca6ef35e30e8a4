"""What negatives a sampler draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from negserve.types.checks.invalid import (
    MAX_UINT64,
    check_flag,
    check_integer,
    check_name,
    invalid_configuration,
    is_integer,
)
from negserve.types.id_set import IdSet, legal_ids
from negserve.types.kinds import KINDS, PART_KINDS, Kind, SamplerKind

_T = TypeVar("_T", bound=str)

Slot = Literal["head", "relation", "tail"]
Split = Literal["training", "validation", "testing"]
FilterMode = Literal["exact", "mask"]

SLOTS: tuple[Slot, ...] = ("head", "relation", "tail")
SPLITS: tuple[Split, ...] = ("training", "validation", "testing")
FILTER_MODES: tuple[FilterMode, ...] = ("exact", "mask")

#: Largest k: the slot boundary ``(k << 32 + u)`` and a redraw's counter fit 64 and 32 bits.
MAX_NUM_NEGS_PER_POS = 2**20
#: Largest chunk of positives that share negatives.
MAX_CHUNK_SIZE = 2**20
#: Largest number of shares of one part of a mixture: products with ends of slots fit 64 bits.
MAX_SHARES = 2**16
#: Largest exponent of training frequencies.
MAX_ALPHA = 4.0


def _in_order(values: tuple[_T, ...], legal: tuple[_T, ...], field: str) -> tuple[_T, ...]:
    """Order values as ``legal`` does, so that equal sets make equal configurations."""
    if (
        not isinstance(values, tuple | list)
        or not all(isinstance(value, str) for value in values)
        or len(set(values)) != len(values)
        or set(values) - set(legal)
    ):
        raise invalid_configuration(
            field, values, f"give different ones of {', '.join(map(str, legal))}", limit=legal
        )
    return tuple(value for value in legal if value in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """Which negatives a sampler draws. Equal configurations draw equal negatives.

    ``docs/sampling.md`` says what each option does and costs, and which can't be combined. What
    depends on the graph or on the version of the server is refused when a sampler is opened.

    :ivar kind: ``basic`` (slots evenly, values uniform), ``bernoulli`` (the head with
        probability tph/(tph+hpt), Wang et al. 2014), ``pseudotyped`` (values seen in training
        in that slot of that relation, slots in proportion to how many there are), ``typed``
        (likewise, values allowed by the dataset's type constraints), ``degree`` (slots evenly,
        values by their training frequency in the slot, to the power ``alpha``) or ``mixture``
    :ivar mixture: for kind ``mixture``, its parts: pairs of a kind and of its shares, a number
        from 1 to 2^16; ``(("bernoulli", 3), ("typed", 1))`` draws every fourth as typed
    :ivar alpha: exponent of kind ``degree``, 0 to 4; 0 is uniform, 0.75 word2vec's
    :ivar num_negs_per_pos: k, negatives per positive, 1 to 2^20
    :ivar corruption_scheme: slots that may be replaced, any order; only kinds ``basic`` and
        ``degree`` know the relation slot
    :ivar candidates: entities that may be drawn, in any order, as a sequence or an array; None for
        all. Kept without repetitions, in ascending order
    :ivar filter_splits: splits of the known triples; empty for no filter
    :ivar filter_mode: ``exact`` (known triples are never drawn) or ``mask`` (they are drawn, and
        flagged)
    :ivar distinct: whether the values of a positive and slot are pairwise different
    :ivar chunk_size: how many consecutive positions share one set of values, 1 to 2^20
    :ivar log_q: whether the log probability of each negative is given along
    :ivar seed: key of the generator, 0 to 2^64 - 1
    :ivar algorithm_version: version of the sampling function; 0 asks for the newest
    :raises InvalidRequestError: naming the field, its value and what is legal
    """

    kind: Kind = "basic"
    mixture: tuple[tuple[Kind, int], ...] = ()
    alpha: float = 0.75
    num_negs_per_pos: int = 1
    corruption_scheme: tuple[Slot, ...] = ("head", "tail")
    candidates: Sequence[int] | None = None
    filter_splits: tuple[Split, ...] = ()
    filter_mode: FilterMode = "exact"
    distinct: bool = False
    chunk_size: int = 1
    log_q: bool = False
    seed: int = 0
    algorithm_version: int = 0

    def __post_init__(self) -> None:
        self._check_kind()
        self._check_numbers()
        self._check_slots()
        self._check_candidates()
        self._check_filter()
        if self.distinct:
            self._check_distinct()
        if self.chunk_size > 1:
            self._check_chunks()

    def _check_kind(self) -> None:
        check_name("kind", self.kind, tuple(KINDS))
        if (self.kind == "mixture") != bool(self.mixture):
            raise invalid_configuration(
                "mixture", self.mixture, "give parts if and only if kind is mixture"
            )
        try:
            parts = tuple((kind, shares) for kind, shares in self.mixture)
        except (TypeError, ValueError):
            raise invalid_configuration(
                "mixture", self.mixture, "give pairs of a kind and a number of shares"
            ) from None
        kinds = [str(kind) for kind, _ in parts]
        if set(kinds) - set(PART_KINDS) or len(set(kinds)) < len(kinds):
            raise invalid_configuration(
                "mixture",
                self.mixture,
                f"give different kinds of {', '.join(PART_KINDS)}",
                limit=PART_KINDS,
            )
        if not all(is_integer(shares, 1, MAX_SHARES) for _, shares in parts):
            raise invalid_configuration(
                "mixture",
                self.mixture,
                f"give whole shares from 1 to {MAX_SHARES}",
                limit=MAX_SHARES,
            )
        object.__setattr__(self, "mixture", parts)
        if not (
            isinstance(self.alpha, float | int | np.floating)
            and not isinstance(self.alpha, bool)
            and math.isfinite(self.alpha)
            and 0 <= self.alpha <= MAX_ALPHA
        ):
            raise invalid_configuration(
                "alpha", self.alpha, f"give a number from 0 to {MAX_ALPHA}", limit=MAX_ALPHA
            )
        object.__setattr__(self, "alpha", float(self.alpha))
        if self.alpha != 0.75 and not self.uses_alpha:
            takers = " or ".join(_kinds(lambda kind: kind.takes_alpha))
            raise invalid_configuration(
                "alpha",
                self.alpha,
                f"it has no effect without kind {takers}; leave it out",
            )

    def _check_numbers(self) -> None:
        for field in ("distinct", "log_q"):
            check_flag(field, getattr(self, field))
        for field, lowest, highest in (
            ("num_negs_per_pos", 1, MAX_NUM_NEGS_PER_POS),
            ("chunk_size", 1, MAX_CHUNK_SIZE),
            ("seed", 0, MAX_UINT64),
            ("algorithm_version", 0, 2**32 - 1),
        ):
            check_integer(field, getattr(self, field), lowest, highest)

    def _check_slots(self) -> None:
        if not self.corruption_scheme:
            raise invalid_configuration("corruption_scheme", (), "give at least one slot")
        scheme = _in_order(self.corruption_scheme, SLOTS, "corruption_scheme")
        object.__setattr__(self, "corruption_scheme", scheme)
        without = [kind for kind, _ in self.parts if not KINDS[kind].takes_relations]
        if without and "relation" in scheme:
            others = " or ".join(_kinds(lambda kind: kind.takes_relations))
            raise invalid_configuration(
                "corruption_scheme",
                scheme,
                f"kind {without[0]} replaces only head and tail; use {others} for relations",
            )

    def _check_candidates(self) -> None:
        if self.candidates is not None:
            ids = legal_ids("candidates", self.candidates, "give entity ids, at least one")
            object.__setattr__(self, "candidates", ids)

    def _check_filter(self) -> None:
        splits = _in_order(self.filter_splits, SPLITS, "filter_splits")
        object.__setattr__(self, "filter_splits", splits)
        check_name("filter_mode", self.filter_mode, FILTER_MODES)
        if self.filter_mode == "mask" and not splits:
            raise invalid_configuration(
                "filter_mode", "mask", "without filter_splits there is nothing to flag"
            )

    def _check_distinct(self) -> None:
        refusal = KINDS[self.kind].distinct_refusal
        if refusal:
            raise invalid_configuration("distinct", True, refusal)
        if self.log_q:
            raise invalid_configuration(
                "log_q", True, "distinct draws depend on each other: none has its own probability"
            )

    def _check_chunks(self) -> None:
        if not KINDS[self.kind].takes_chunks:
            others = ", ".join(_kinds(lambda kind: kind.takes_chunks))
            raise invalid_configuration(
                "chunk_size",
                self.chunk_size,
                f"candidates of kind {self.kind} depend on the relation, which differs in a chunk; "
                f"use {others}",
            )
        if "relation" in self.corruption_scheme and len(self.corruption_scheme) > 1:
            raise invalid_configuration(
                "chunk_size",
                self.chunk_size,
                "one set of values can't serve the relation and an entity slot; replace either",
            )
        if self.filter_splits and self.filter_mode == "exact":
            raise invalid_configuration(
                "filter_mode",
                "exact",
                "one set of values can't avoid what is known of each positive of a chunk; use mask",
            )

    @property
    def parts(self) -> tuple[tuple[Kind, int], ...]:
        """Kinds and their shares: of the mixture, or the one kind."""
        return self.mixture or ((self.kind, 1),)

    @property
    def uses_alpha(self) -> bool:
        """Whether ``alpha`` has an effect."""
        return any(KINDS[kind].takes_alpha for kind, _ in self.parts)

    @property
    def candidate_set(self) -> IdSet | None:
        """The candidates as the set that they are kept as; None for all entities."""
        return None if self.candidates is None else IdSet.of(self.candidates)

    @property
    def filtered(self) -> bool:
        """Whether there are known triples to exclude or flag."""
        return bool(self.filter_splits)

    @property
    def masked(self) -> bool:
        """Whether batches have a mask: where a negative may be invalid."""
        return self.filtered or self.distinct or self.chunk_size > 1


def _kinds(is_chosen: Callable[[SamplerKind], bool]) -> list[Kind]:
    """Return the kinds, without mixtures, of which something is true."""
    return [kind for kind in PART_KINDS if is_chosen(KINDS[kind])]
