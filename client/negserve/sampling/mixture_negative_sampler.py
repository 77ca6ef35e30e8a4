"""Mixtures of kinds of negative sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from negserve.sampling.negative_sampler import NegativeSampler
from negserve.sampling.options import SamplerOptions
from negserve.sampling.protocol import TriplesFactory
from negserve.types.config import Kind


class MixtureNegativeSampler(NegativeSampler):
    """Draws negatives of every positive from several kinds, by shares.

    ``MixtureNegativeSampler(graph, 8, mixture={"bernoulli": 3, "typed": 1})`` draws six
    negatives of each positive as the Bernoulli sampler does, and two within type constraints:
    in expectation, which is exact. How many a kind draws in a slot is its expectation there,
    rounded up or down at random. Within a slot they are grouped by kind.

    :param triples_factory: the graph, remote or in process
    :param num_negs_per_pos: negatives per positive, of all kinds together; None for 1
    :param filtered: whether known triples are told apart
    :param mixture: shares by kind, whole numbers from 1 to 65,536, in an order that equal
        mixtures share, since the negatives of a slot come in it
    :param alpha: exponent of the part ``degree``, 0 to 4; without that part it must be left out
    :param options: those of :class:`NegativeSampler`, but ``distinct`` and ``chunk_size``
    :raises ValueError: for an option that is not legal
    """

    kind: ClassVar[Kind] = "mixture"

    def __init__(
        self,
        triples_factory: TriplesFactory,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        *,
        mixture: Mapping[Kind, int],
        alpha: float = 0.75,
        **options: Unpack[SamplerOptions],
    ) -> None:
        self.mixture = dict(mixture)
        self.alpha = alpha
        super().__init__(triples_factory, num_negs_per_pos, filtered, **options)

    def _kind_options(self) -> Mapping[str, Any]:
        return {"mixture": tuple(self.mixture.items()), "alpha": self.alpha}
