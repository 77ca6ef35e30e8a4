"""The negative samplers, one class for each sampler kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from negserve.sampling.negative_sampler import NegativeSampler
from negserve.sampling.options import SamplerOptions
from negserve.types.kinds import Kind
from negserve.types.triples_factory import TriplesFactory


class BasicNegativeSampler(NegativeSampler):
    """Replaces each slot of the corruption scheme equally often, by any other id.

    The k negatives of every positive are spread evenly over the slots: with head and tail and
    an even k, each is replaced k / 2 times. ``corruption_scheme`` is any non-empty subset of
    head, relation and tail.
    """

    kind: ClassVar[Kind] = "basic"


class BernoulliNegativeSampler(NegativeSampler):
    """Replaces the head with probability tph / (tph + hpt) of the relation, else the tail.

    So the "one" side of a one-to-many relation is replaced more often, where a random
    replacement is more likely to be false. See Wang, Zhang, Feng and Chen: "Knowledge graph
    embedding by translating on hyperplanes", AAAI 2014, section 4.1. A relation without
    training triples gets 0.5.
    """

    kind: ClassVar[Kind] = "bernoulli"


class PseudoTypedNegativeSampler(NegativeSampler):
    """Replaces a slot only by entities that training has in that slot of that relation.

    Slots are replaced in proportion to how many such entities they have, so that each
    candidate is equally likely. Known triples are frequent among such candidates: think of
    ``filtered=True``.
    """

    kind: ClassVar[Kind] = "pseudotyped"


class TypedNegativeSampler(NegativeSampler):
    """Replaces a slot only by entities that the graph's type constraints allow there.

    Slots are replaced in proportion to how many such entities the relation has, so that each
    candidate is equally likely. Unlike pseudo-typed candidates, which are those that training
    happens to show, these come from the schema, as local closed-world assumptions use it: see
    Krompass, Baier and Tresp: "Type-constrained representation learning in knowledge graphs",
    ISWC 2015. A graph without type constraints is refused with ``ValueError``.
    """

    kind: ClassVar[Kind] = "typed"


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


#: All samplers by normalized name.
NEGATIVE_SAMPLERS: dict[str, type[NegativeSampler]] = {
    cls.get_normalized_name(): cls
    for cls in (
        BasicNegativeSampler,
        BernoulliNegativeSampler,
        PseudoTypedNegativeSampler,
        TypedNegativeSampler,
        DegreeNegativeSampler,
        MixtureNegativeSampler,
    )
}
