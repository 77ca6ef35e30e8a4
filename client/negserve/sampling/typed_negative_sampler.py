"""Negative sampling within type constraints."""

from __future__ import annotations

from typing import ClassVar

from negserve.sampling.negative_sampler import NegativeSampler
from negserve.types.config import Kind


class TypedNegativeSampler(NegativeSampler):
    """Replaces a slot only by entities that the graph's type constraints allow there.

    Slots are replaced in proportion to how many such entities the relation has, so that each
    candidate is equally likely. Unlike pseudo-typed candidates, which are those that training
    happens to show, these come from the schema, as local closed-world assumptions use it: see
    Krompass, Baier and Tresp: "Type-constrained representation learning in knowledge graphs",
    ISWC 2015. A graph without type constraints is refused with ``ValueError``.
    """

    kind: ClassVar[Kind] = "typed"
