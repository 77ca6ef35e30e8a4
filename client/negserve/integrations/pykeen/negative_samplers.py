"""PyKEEN's negative samplers, backed by a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pykeen.sampling import NegativeSampler

from negserve.integrations.pykeen.methods import FiltererHint, remote_sampler, set_up
from negserve.sampling import DegreeNegativeSampler
from negserve.types.config import FilterMode, Slot, Split
from negserve.types.kinds import Kind


@remote_sampler
class RemoteBasicNegativeSampler(NegativeSampler):  # type: ignore[misc]
    """Replaces each slot equally often, by any other id; a server draws.

    Arguments are described in :class:`RemoteNegativeSampler`.
    """

    kind: ClassVar[Kind] = "basic"
    #: PyKEEN later than 1.11 then trains with ``grouped=True``.
    supports_grouped_corruption: ClassVar[bool] = True


@remote_sampler
class RemoteBernoulliNegativeSampler(NegativeSampler):  # type: ignore[misc]
    """Replaces heads with probability tph / (tph + hpt), else tails; a server draws.

    Arguments are described in :class:`RemoteNegativeSampler`; the corruption scheme can't contain
    the relation.
    """

    kind: ClassVar[Kind] = "bernoulli"


@remote_sampler
class RemotePseudoTypedNegativeSampler(NegativeSampler):  # type: ignore[misc]
    """Replaces a slot by entities seen in that slot of that relation; a server draws.

    Arguments are described in :class:`RemoteNegativeSampler`; the corruption scheme can't contain
    the relation.
    """

    kind: ClassVar[Kind] = "pseudotyped"


@remote_sampler
class RemoteDegreeNegativeSampler(NegativeSampler):  # type: ignore[misc]
    """Replaces each slot equally often, by ids in proportion to their frequency ** ``alpha``.

    Other arguments are described in :class:`RemoteNegativeSampler`.

    :param alpha: exponent of the frequency in training, 0 (uniform) to 4; PyKEEN's HPO tunes it
        from 0 to 1
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = DegreeNegativeSampler.hpo_default

    def __init__(
        self,
        *,
        mapped_triples: torch.Tensor,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: FiltererHint = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
        target: str | Sequence[str] | None = None,
        dataset: str | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        corruption_scheme: Sequence[Slot] | None = None,
        filter_splits: Sequence[Split] | None = None,
        timeout: float = 30.0,
        patience: float | None = None,
        alpha: float = 0.75,
    ) -> None:
        set_up(
            self,
            "degree",
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
            rank=rank,
            world_size=world_size,
            corruption_scheme=corruption_scheme,
            filter_splits=filter_splits,
            timeout=timeout,
            patience=patience,
            alpha=alpha,
        )


@remote_sampler
class RemoteNegativeSampler(NegativeSampler):  # type: ignore[misc]
    """Draws negatives of any configuration from a server.

    Nothing is sent before the first batch. Picklable.

    :param mapped_triples: integer ids of the training triples, shape (n, 3)
    :param num_entities: size of the entity id space; None for the largest id plus one
    :param num_relations: size of the relation id space; None for the largest id plus one
    :param num_negs_per_pos: negatives per positive, k; None for 1
    :param filtered: whether to filter known triples
    :param filterer: one of PyKEEN's filterers, as a name, a class or an instance; None for
        :class:`RemoteFilterer`. With that one and the same graph, known triples are never drawn
        and all k negatives are valid, unless all candidates of a positive are known. Any other
        filterer masks negatives that were drawn without filter
    :param filterer_kwargs: arguments of that filterer; for :class:`RemoteFilterer` in addition to
        those of the sampler
    :param target: ``HOST:PORT`` or ``unix:PATH`` of the server, or several of replicas; None for
        the environment variable ``NEGSERVE_TARGET``, and without it for ``127.0.0.1:7733``
    :param dataset: the dataset's name there, which must be this graph; None to find it by the
        fingerprint of ``mapped_triples``, or else to publish it if the server allows that
    :param seed: key of the generator, 0 to 2^64 - 1. The positions in its stream follow from
        torch's generator, see :class:`DrawnPositions`
    :param rank: this rank of the training; None for torch.distributed's if initialised, else that
        of the launcher's environment variables, else 0
    :param world_size: number of ranks; give it if and only if ``rank`` is given
    :param corruption_scheme: the slots that may be replaced; None for head and tail
    :param filter_splits: the splits whose triples count as known, for :class:`RemoteFilterer`; None
        for ``training``. For training use no other split: see :class:`negserve.LeakageWarning`
    :param timeout: as for :class:`negserve.Client`
    :param patience: as for :class:`negserve.Client`
    :param kind: as in :class:`negserve.SamplerConfig`, like ``mixture``, ``alpha`` and the options
        below; ``distinct`` and ``chunk_size`` return a mask even without a filterer
    :param mixture: shares by kind, for kind ``mixture``
    :param alpha: exponent of kind ``degree``; None for 0.75
    :param filter_mode: with :class:`RemoteFilterer`, whether known triples are never drawn
        (``exact``) or drawn and masked (``mask``)
    :param candidates: the only entity ids that may be drawn; None for all
    :param distinct: whether the values of a positive and slot are pairwise different
    :param chunk_size: number of consecutive positions that share one set of values
    :raises InvalidRequestError: for an illegal seed, ids outside the id space, an unknown kind, and
        for ``filter_splits`` that no filter uses
    """

    def __init__(
        self,
        *,
        mapped_triples: torch.Tensor,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: FiltererHint = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
        target: str | Sequence[str] | None = None,
        dataset: str | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        corruption_scheme: Sequence[Slot] | None = None,
        filter_splits: Sequence[Split] | None = None,
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
        set_up(
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
            rank=rank,
            world_size=world_size,
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
