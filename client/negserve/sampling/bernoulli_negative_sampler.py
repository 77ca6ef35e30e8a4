"""Bernoulli negative sampling."""

from __future__ import annotations

from typing import ClassVar

from negserve.sampling.negative_sampler import NegativeSampler
from negserve.types.config import Kind


class BernoulliNegativeSampler(NegativeSampler):
    """Replaces the head with probability tph / (tph + hpt) of the relation, else the tail.

    So the "one" side of a one-to-many relation is replaced more often, where a random
    replacement is more likely to be false. See Wang, Zhang, Feng and Chen: "Knowledge graph
    embedding by translating on hyperplanes", AAAI 2014, section 4.1. A relation without
    training triples gets 0.5.
    """

    kind: ClassVar[Kind] = "bernoulli"
