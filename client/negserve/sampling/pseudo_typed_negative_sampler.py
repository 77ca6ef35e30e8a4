"""Pseudo-typed negative sampling."""

from __future__ import annotations

from typing import ClassVar

from negserve.sampling.negative_sampler import NegativeSampler
from negserve.types.config import Kind


class PseudoTypedNegativeSampler(NegativeSampler):
    """Replaces a slot only by entities that training has in that slot of that relation.

    Slots are replaced in proportion to how many such entities they have, so that each
    candidate is equally likely. Known triples are frequent among such candidates: think of
    ``filtered=True``.
    """

    kind: ClassVar[Kind] = "pseudotyped"
