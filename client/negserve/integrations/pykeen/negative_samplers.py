"""PyKEEN's negative samplers, drawn by a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from pykeen.sampling import NegativeSampler
from pykeen.sampling.filtering import Filterer, filterer_resolver

from negserve.config import FilterMode, Kind, Slot, Split
from negserve.errors import InvalidRequestError
from negserve.integrations.pykeen.draws import Draws
from negserve.integrations.pykeen.filterer import RemoteFilterer
from negserve.integrations.remote_graph import RemoteGraph
from negserve.sampling.positions import Positions

_SEEDS = 2**64
#: As PyKEEN's resolver takes it.
_FiltererHint: TypeAlias = str | type[Filterer] | Filterer | None


def _set_up(
    sampler: Any,
    kind: Kind,
    *,
    mapped_triples: torch.Tensor,
    num_entities: int | None,
    num_relations: int | None,
    num_negs_per_pos: int | None,
    filtered: bool,
    filterer: _FiltererHint,
    filterer_kwargs: Mapping[str, Any] | None,
    target: str | Sequence[str] | None,
    dataset: str | None,
    seed: int | None,
    filter_splits: Sequence[Split],
    timeout: float,
    patience: float | None,
    corruption_scheme: Sequence[Slot] | None,
    filter_mode: FilterMode = "exact",
    **options: Any,
) -> None:
    NegativeSampler.__init__(
        sampler,
        mapped_triples=mapped_triples,
        num_entities=num_entities,
        num_relations=num_relations,
        num_negs_per_pos=num_negs_per_pos,
    )
    if seed is None:
        # So that the random seed of PyKEEN's pipeline decides about the negatives, too.
        seed = int(torch.randint(2**63 - 1, ()))
    if not 0 <= seed < _SEEDS:
        raise InvalidRequestError(f"seed={seed}; give 0 to {_SEEDS - 1}")
    corruption_scheme = tuple(corruption_scheme or ("head", "tail"))
    connection: dict[str, Any] = {
        "target": target,
        "dataset": dataset,
        "timeout": timeout,
        "patience": patience,
    }
    graph = RemoteGraph(
        mapped_triples.cpu(),
        sampler.num_entities,
        sampler.num_relations,
        splits=filter_splits,
        with_relations="relation" in corruption_scheme,
        **connection,
    )
    if filtered or filterer is not None:
        if filterer is None:
            filterer = RemoteFilterer
        is_remote = not isinstance(filterer, Filterer) and issubclass(
            filterer_resolver.lookup(filterer), RemoteFilterer
        )
        if is_remote and not filterer_kwargs:
            filterer = RemoteFilterer.of_graph(graph, filter_splits)
        elif is_remote:
            defaults = {**connection, "filter_splits": filter_splits}
            filterer_kwargs = {**defaults, **(filterer_kwargs or {})}
        sampler.filterer = filterer_resolver.make(
            filterer, pos_kwargs=filterer_kwargs, mapped_triples=mapped_triples
        )
    own = sampler.filterer
    filters = isinstance(own, RemoteFilterer) and own.graph.key == graph.key
    options |= {
        "num_negs_per_pos": sampler.num_negs_per_pos,
        "corruption_scheme": corruption_scheme,
        "seed": seed,
    }
    positions = Positions(options.get("chunk_size", 1))
    sampler.graph, sampler.seed = graph, seed
    sampler.masks_itself = filters or own is None
    sampler.unfiltered = Draws(graph, positions, kind, options)
    sampler.draws = Draws(
        graph,
        positions,
        kind,
        {
            **options,
            "filtered": filters,
            "filter_splits": own.filter_splits if filters else filter_splits,
            "filter_mode": filter_mode,
        },
    )


def _init(
    self: Any,
    *,
    mapped_triples: torch.Tensor,
    num_entities: int | None = None,
    num_relations: int | None = None,
    num_negs_per_pos: int | None = None,
    filtered: bool = False,
    filterer: _FiltererHint = None,
    filterer_kwargs: Mapping[str, Any] | None = None,
    target: str | Sequence[str] | None = None,
    dataset: str | None = None,
    seed: int | None = None,
    corruption_scheme: Sequence[Slot] | None = None,
    filter_splits: Sequence[Split] = ("training",),
    timeout: float = 30.0,
    patience: float | None = None,
) -> None:
    """Initialize the negative sampler; :class:`RemoteNegativeSampler` says what is what."""
    _set_up(
        self,
        self.kind,
        mapped_triples=mapped_triples,
        num_entities=num_entities,
        num_relations=num_relations,
        num_negs_per_pos=num_negs_per_pos,
        filtered=filtered,
        filterer=filterer,
        filterer_kwargs=filterer_kwargs,
        target=target,
        dataset=dataset,
        seed=seed,
        corruption_scheme=corruption_scheme,
        filter_splits=filter_splits,
        timeout=timeout,
        patience=patience,
    )


def _sample(
    self: Any, positive_batch: torch.Tensor, position: int | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    r"""Generate negative samples from the positive batch.

    :param positive_batch: integer ids, shape (\*batch, 3), any device
    :param position: position of the first positive in the stream of the seed; None counts on, so
        that two calls differ, in this process and in all workers of a DataLoader
    :return: the negatives, int64, shape (\*batch, k, 3), and if there is a filterer a mask, bool,
        shape (\*batch, k): True where valid; both on the device of the batch
    :raises UnknownDatasetError: if the server has no such graph, and does not take it
    :raises FingerprintMismatchError: if the dataset of that name is another graph
    :raises InvalidRequestError: for another shape, ids outside the graph, an illegal option
    :raises NegserveError: typed by what the server said
    """
    negatives, mask = self.draws.sample(positive_batch, position)
    if self.masks_itself:
        return negatives, mask
    valid = self.filterer(negative_batch=negatives)
    return negatives, valid if mask is None else valid & mask


def _corrupt_batch(self: Any, positive_batch: torch.Tensor) -> torch.Tensor:
    r"""Generate negative samples without any filter.

    :param positive_batch: integer ids, shape (\*batch, 3), any device
    :return: int64, shape (\*batch, k, 3), on the device of the batch
    :raises NegserveError: as :meth:`sample`
    """
    negatives: torch.Tensor = self.unfiltered.sample(positive_batch, None)[0]
    return negatives


def _extra_repr(self: Any) -> str:
    return (
        f"target={self.graph.targets}, dataset={self.graph.dataset!r}, "
        f"num_negs_per_pos={self.num_negs_per_pos}, seed={self.seed}"
    )


# PyKEEN's HPO looks for a sampler's arguments in its class and the first base of that, which
# therefore has to be PyKEEN's: so the classes share functions, not a base.


class RemoteBasicNegativeSampler(NegativeSampler):  # type: ignore[misc]
    """Replaces each slot equally often, by any other id, drawn by a server.

    Arguments are those of :class:`RemoteNegativeSampler` that have to do with it.
    """

    kind: ClassVar[Kind] = "basic"
    __init__ = _init
    sample = _sample
    corrupt_batch = _corrupt_batch
    extra_repr = _extra_repr


class RemoteBernoulliNegativeSampler(NegativeSampler):  # type: ignore[misc]
    """Replaces heads with probability tph / (tph + hpt), else tails, drawn by a server.

    Arguments are those of :class:`RemoteNegativeSampler` that have to do with it; there is no
    relation in the corruption scheme.
    """

    kind: ClassVar[Kind] = "bernoulli"
    __init__ = _init
    sample = _sample
    corrupt_batch = _corrupt_batch
    extra_repr = _extra_repr


class RemotePseudoTypedNegativeSampler(NegativeSampler):  # type: ignore[misc]
    """Replaces a slot by entities seen in that slot of that relation, drawn by a server.

    Arguments are those of :class:`RemoteNegativeSampler` that have to do with it; there is no
    relation in the corruption scheme.
    """

    kind: ClassVar[Kind] = "pseudotyped"
    __init__ = _init
    sample = _sample
    corrupt_batch = _corrupt_batch
    extra_repr = _extra_repr


class RemoteNegativeSampler(NegativeSampler):  # type: ignore[misc]
    """Draws negatives of any configuration by a server.

    Nothing is sent before the first batch. Picklable.

    :param mapped_triples: integer ids of the training triples, shape (n, 3)
    :param num_entities: size of the entity id space; None for the largest id plus one
    :param num_relations: likewise for relations
    :param num_negs_per_pos: negatives per positive, k; None for 1
    :param filtered: whether known triples are told apart
    :param filterer: which of PyKEEN's filterers does that, as a name, a class or an instance; None
        for :class:`RemoteFilterer`. With that one of the same graph, known triples are never drawn
        and all k are valid, but where a positive has no unknown ones. Another one masks what is
        drawn regardless
    :param filterer_kwargs: arguments of that filterer; for :class:`RemoteFilterer` in addition to
        those of the sampler
    :param target: ``HOST:PORT`` or ``unix:PATH`` of the server, or several of replicas; None for
        the environment variable ``NEGSERVE_TARGET``, and without it for ``127.0.0.1:7733``
    :param dataset: the graph's name there, refused if it is another graph; None to find it by
        the fingerprint of ``mapped_triples``, or to publish it where that is allowed
    :param seed: key of the generator, 0 to 2^64 - 1; None for one that torch draws now
    :param corruption_scheme: the slots that may be replaced; None for head and tail
    :param filter_splits: the splits whose triples count as known, for :class:`RemoteFilterer`
    :param timeout: as for :class:`negserve.Client`
    :param patience: as for :class:`negserve.Client`
    :param kind: as in :class:`negserve.SamplerConfig`, like ``mixture``, ``alpha`` and all that
        follow; ``distinct`` and ``chunk_size`` come with a mask also without a filterer
    :param mixture: shares by kind, for kind ``mixture``
    :param alpha: exponent of kind ``degree``; None for 0.75
    :param filter_mode: with :class:`RemoteFilterer`, whether known triples are never drawn
        (``exact``) or drawn and masked (``mask``)
    :param candidates: entity ids that may be drawn; None for all
    :param distinct: whether the values of a positive and slot are pairwise different
    :param chunk_size: how many consecutive positions share one set of values
    :raises InvalidRequestError: for an illegal seed, ids outside the id space, an unknown kind
    """

    def __init__(
        self,
        *,
        mapped_triples: torch.Tensor,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: _FiltererHint = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
        target: str | Sequence[str] | None = None,
        dataset: str | None = None,
        seed: int | None = None,
        corruption_scheme: Sequence[Slot] | None = None,
        filter_splits: Sequence[Split] = ("training",),
        timeout: float = 30.0,
        patience: float | None = None,
        kind: Kind = "basic",
        mixture: Mapping[Kind, int] | None = None,
        alpha: float | None = None,
        filter_mode: FilterMode = "exact",
        candidates: Sequence[int] | torch.Tensor | None = None,
        distinct: bool = False,
        chunk_size: int = 1,
    ) -> None:
        given = {"mixture": mixture, "alpha": alpha}
        _set_up(
            self,
            kind,
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
            target=target,
            dataset=dataset,
            seed=seed,
            corruption_scheme=corruption_scheme,
            filter_splits=filter_splits,
            timeout=timeout,
            patience=patience,
            filter_mode=filter_mode,
            candidates=candidates,
            distinct=distinct,
            chunk_size=chunk_size,
            **{name: value for name, value in given.items() if value is not None},
        )

    sample = _sample
    corrupt_batch = _corrupt_batch
    extra_repr = _extra_repr
