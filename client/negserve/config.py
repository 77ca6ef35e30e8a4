"""What negatives a sampler draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["basic", "bernoulli", "pseudotyped"]
Slot = Literal["head", "relation", "tail"]
Split = Literal["training", "validation", "testing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """Which negatives a sampler draws. Equal configurations draw equal negatives.

    What computes them validates them: the server, or its triples factory in process.

    :ivar kind: ``basic`` (slots evenly, values uniform), ``bernoulli`` (the head with
        probability tph/(tph+hpt), Wang et al. 2014) or ``pseudotyped`` (values seen in
        training in that slot of that relation, slots in proportion to how many there are)
    :ivar num_negs_per_pos: k, negatives per positive
    :ivar corruption_scheme: slots that may be replaced
    :ivar filter_splits: splits whose triples are never drawn; empty for no filter
    :ivar seed: key of the generator, 0 to 2^64 - 1
    :ivar algorithm_version: version of the sampling function; 0 asks for the newest
    """

    kind: Kind = "basic"
    num_negs_per_pos: int = 1
    corruption_scheme: tuple[Slot, ...] = ("head", "tail")
    filter_splits: tuple[Split, ...] = ()
    seed: int = 0
    algorithm_version: int = 0
