"""What negatives a sampler draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from negserve.types.kinds import Kind

Slot = Literal["head", "relation", "tail"]
Split = Literal["training", "validation", "testing"]
FilterMode = Literal["exact", "mask"]

SLOTS: tuple[Slot, ...] = ("head", "relation", "tail")
SPLITS: tuple[Split, ...] = ("training", "validation", "testing")
FILTER_MODES: tuple[FilterMode, ...] = ("exact", "mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """Which negatives a sampler draws. Equal configurations draw equal negatives.

    What computes them validates them: the server, or its triples factory in process.
    ``docs/sampling.md`` says what each option does and costs, and which can't be combined.

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
    :ivar candidates: entities that may be drawn, in any order; None for all
    :ivar filter_splits: splits of the known triples; empty for no filter
    :ivar filter_mode: ``exact`` (known triples are never drawn) or ``mask`` (they are drawn, and
        flagged)
    :ivar distinct: whether the values of a positive and slot are pairwise different
    :ivar chunk_size: how many consecutive positions share one set of values, 1 to 2^20
    :ivar log_q: whether the log probability of each negative is given along
    :ivar seed: key of the generator, 0 to 2^64 - 1
    :ivar algorithm_version: version of the sampling function; 0 asks for the newest
    """

    kind: Kind = "basic"
    mixture: tuple[tuple[Kind, int], ...] = ()
    alpha: float = 0.75
    num_negs_per_pos: int = 1
    corruption_scheme: tuple[Slot, ...] = ("head", "tail")
    candidates: tuple[int, ...] | None = None
    filter_splits: tuple[Split, ...] = ()
    filter_mode: FilterMode = "exact"
    distinct: bool = False
    chunk_size: int = 1
    log_q: bool = False
    seed: int = 0
    algorithm_version: int = 0

    @property
    def masked(self) -> bool:
        """Whether batches have a mask: where a negative may be invalid."""
        return bool(self.filter_splits) or self.distinct or self.chunk_size > 1
