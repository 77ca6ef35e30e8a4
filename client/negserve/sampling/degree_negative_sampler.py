"""Negative sampling by frequency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from negserve.sampling.negative_sampler import NegativeSampler
from negserve.sampling.options import SamplerOptions
from negserve.sampling.protocol import TriplesFactory
from negserve.types.config import Kind


class DegreeNegativeSampler(NegativeSampler):
    """Replaces each slot equally often, by ids in proportion to their frequency ** ``alpha``.

    The frequency of an id is the number of training triples that have it in that slot; an id
    without any is not drawn unless ``alpha`` is 0. The exponent 0.75 is that of word2vec:
    Mikolov, Sutskever, Chen, Corrado and Dean: "Distributed representations of words and
    phrases and their compositionality", NIPS 2013, section 2.2. With ``filtered=True``, values
    follow the weights restricted to those that are not known, exactly.

    :param triples_factory: the graph, remote or in process
    :param num_negs_per_pos: negatives per positive; None for 1
    :param filtered: whether known triples are told apart
    :param alpha: exponent of the frequency, 0 (uniform over all ids) to 4; 1 is the frequency
        itself
    :param options: those of :class:`NegativeSampler`, but ``distinct``
    :raises ValueError: for an option that is not legal
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **NegativeSampler.hpo_default,
        "alpha": {"type": float, "low": 0.0, "high": 1.0},
    }

    kind: ClassVar[Kind] = "degree"

    def __init__(
        self,
        triples_factory: TriplesFactory,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        *,
        alpha: float = 0.75,
        **options: Unpack[SamplerOptions],
    ) -> None:
        self.alpha = alpha
        super().__init__(triples_factory, num_negs_per_pos, filtered, **options)

    def _kind_options(self) -> Mapping[str, Any]:
        return {"alpha": self.alpha}
