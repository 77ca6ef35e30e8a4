"""Basic negative sampling."""

from __future__ import annotations

from typing import ClassVar

from negserve.sampling.negative_sampler import NegativeSampler
from negserve.types.config import Kind


class BasicNegativeSampler(NegativeSampler):
    """Replaces each slot of the corruption scheme equally often, by any other id.

    The k negatives of every positive are spread evenly over the slots: with head and tail and
    an even k, each is replaced k / 2 times. ``corruption_scheme`` is any non-empty subset of
    head, relation and tail.
    """

    kind: ClassVar[Kind] = "basic"
