"""The methods that PyKEEN's remote samplers share."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from pykeen.sampling import NegativeSampler
from pykeen.sampling.filtering import Filterer, filterer_resolver

from negserve.errors import InvalidRequestError
from negserve.integrations.pykeen.drawn_positions import DrawnPositions
from negserve.integrations.pykeen.draws import COLUMNS, Draws
from negserve.integrations.pykeen.filterer import RemoteFilterer
from negserve.integrations.remote_graph import RemoteGraph
from negserve.sampling.options import checked_filter_splits
from negserve.types.checks.leakage import warn_of_leakage
from negserve.types.config import FilterMode, Slot, Split
from negserve.types.kinds import Kind

_SEEDS = 2**64
#: What PyKEEN's filterer resolver accepts.
FiltererHint: TypeAlias = str | type[Filterer] | Filterer | None
_Sampler = TypeVar("_Sampler", bound=type[Any])


def remote_sampler(cls: _Sampler) -> _Sampler:
    """Class decorator: add the shared methods.

    PyKEEN's HPO reads a sampler's arguments from its class and from its first base class, which
    therefore has to be PyKEEN's. So the classes share functions, not a base class.
    """
    functions = [_init, sample, corrupt_batch, extra_repr]
    if getattr(cls, "supports_grouped_corruption", False):
        functions += [corrupt_batch_grouped, sample_grouped]
    for function in functions:
        name = "__init__" if function is _init else function.__name__
        if name in vars(cls):
            continue
        # A copy for each class, so that Python's errors name the class.
        method = types.FunctionType(
            function.__code__, function.__globals__, name, function.__defaults__
        )
        method.__kwdefaults__ = function.__kwdefaults__
        method.__annotations__ = function.__annotations__
        method.__doc__ = function.__doc__
        method.__qualname__ = f"{cls.__name__}.{name}"
        setattr(cls, name, method)
    return cls


def set_up(
    sampler: Any,
    kind: Kind,
    *,
    mapped_triples: torch.Tensor,
    num_entities: int | None,
    num_relations: int | None,
    num_negs_per_pos: int | None,
    filtered: bool,
    filterer: FiltererHint,
    filterer_kwargs: Mapping[str, Any] | None,
    target: str | Sequence[str] | None,
    dataset: str | None,
    seed: int,
    filter_splits: Sequence[Split] | None,
    timeout: float,
    patience: float | None,
    rank: int | None,
    world_size: int | None,
    corruption_scheme: Sequence[Slot] | None,
    filter_mode: FilterMode = "exact",
    **options: Any,
) -> None:
    """Initialise a sampler; :class:`RemoteNegativeSampler` describes the parameters."""
    NegativeSampler.__init__(
        sampler,
        mapped_triples=mapped_triples,
        num_entities=num_entities,
        num_relations=num_relations,
        num_negs_per_pos=num_negs_per_pos,
    )
    if not 0 <= seed < _SEEDS:
        raise InvalidRequestError(f"seed={seed}; give 0 to {_SEEDS - 1}")
    corruption_scheme = tuple(corruption_scheme or ("head", "tail"))
    connection: dict[str, Any] = {
        "target": target,
        "dataset": dataset,
        "timeout": timeout,
        "patience": patience,
    }
    known = checked_filter_splits(filter_splits, filtered or filterer is not None)
    graph = RemoteGraph(
        mapped_triples.cpu(),
        sampler.num_entities,
        sampler.num_relations,
        splits=known,
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
            warn_of_leakage(known)
            filterer = RemoteFilterer.of_graph(graph, known)
        elif is_remote:
            defaults = {**connection, "filter_splits": known}
            filterer_kwargs = {**defaults, **(filterer_kwargs or {})}
        sampler.filterer = filterer_resolver.make(
            filterer, pos_kwargs=filterer_kwargs, mapped_triples=mapped_triples
        )
    own = sampler.filterer
    _check_filterer(own, filter_splits)
    filters = isinstance(own, RemoteFilterer) and own.graph.key == graph.key
    options |= {
        "num_negs_per_pos": sampler.num_negs_per_pos,
        "corruption_scheme": corruption_scheme,
        "seed": seed,
    }
    positions = DrawnPositions(options.get("chunk_size", 1), rank, world_size)
    sampler.graph, sampler.seed = graph, seed
    sampler.masks_itself = filters or own is None
    sampler.unfiltered = Draws(graph, positions, kind, options)
    sampler.draws = sampler.unfiltered.with_options(
        filtered=filters,
        filter_splits=own.filter_splits if filters else None,
        filter_mode=filter_mode,
    )


def _check_filterer(filterer: Filterer | None, filter_splits: Sequence[Split] | None) -> None:
    """Refuse splits that the caller's own filterer does not filter by."""
    if filter_splits is None:
        return
    of_filterer = getattr(filterer, "filter_splits", None)
    if of_filterer != tuple(filter_splits):
        raise InvalidRequestError(
            f"filter_splits={tuple(filter_splits)}, but the filterer {type(filterer).__name__} "
            f"filters by {of_filterer or 'the triples that it was made of'}; give the splits "
            f"there, and leave filter_splits out",
            reason="INVALID_CONFIGURATION",
            metadata={"field": "filter_splits", "value": ", ".join(filter_splits)},
        )


def _init(
    self: Any,
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
) -> None:
    """Initialize the negative sampler; :class:`RemoteNegativeSampler` describes the parameters."""
    set_up(
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
        rank=rank,
        world_size=world_size,
        corruption_scheme=corruption_scheme,
        filter_splits=filter_splits,
        timeout=timeout,
        patience=patience,
    )


def sample(
    self: Any, positive_batch: torch.Tensor, position: int | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    r"""Generate negative samples from the positive batch.

    :param positive_batch: integer ids, shape (\*batch, 3), any device
    :param position: position of the first positive in the seed's stream; None to draw one from
        torch's generator, so that two calls differ, in all workers and ranks
    :return: the negatives, int64, shape (\*batch, k, 3), and if there is a filterer a mask, bool,
        shape (\*batch, k): True where valid; both on the device of the batch
    :raises UnknownDatasetError: if the server neither has the graph nor accepts it
    :raises FingerprintMismatchError: if the dataset of that name is another graph
    :raises InvalidRequestError: for another shape, ids outside the graph, an illegal option
    :raises NegserveError: for any other error of the server
    """
    if _is_overridden(self, corrupt_batch):
        if position is not None:
            raise InvalidRequestError(
                f"position={position}; leave it out: {type(self).__name__} overrides "
                f"corrupt_batch, which takes no position"
            )
        negatives = self.corrupt_batch(positive_batch)
        return negatives, None if self.filterer is None else self.filterer(negatives)
    negatives, mask = self.draws.sample(positive_batch, position)
    if self.masks_itself:
        return negatives, mask
    valid = self.filterer(negative_batch=negatives)
    return negatives, valid if mask is None else valid & mask


def corrupt_batch(self: Any, positive_batch: torch.Tensor) -> torch.Tensor:
    r"""Generate negative samples without a filter.

    :param positive_batch: integer ids, shape (\*batch, 3), any device
    :return: int64, shape (\*batch, k, 3), on the device of the batch
    :raises NegserveError: as :meth:`sample`
    """
    negatives: torch.Tensor = self.unfiltered.sample(positive_batch, None)[0]
    return negatives


def corrupt_batch_grouped(self: Any, positive_batch: torch.Tensor) -> dict[Slot, torch.Tensor]:
    r"""Generate negative samples without a filter, grouped by replaced slot.

    Each positive has k / slots negatives of each slot; if there is a remainder, the first slots of
    the corruption scheme have one more.

    :param positive_batch: integer ids, shape (\*batch, 3), any device
    :return: new values by slot, int64, shape (\*batch, k of the slot)
    :raises NegserveError: as :meth:`sample`
    """
    return {slot: values for slot, values, _ in _draw_groups(self, self.unfiltered, positive_batch)}


def sample_grouped(
    self: Any, positive_batch: torch.Tensor
) -> tuple[dict[Slot, torch.Tensor], dict[Slot, torch.Tensor] | None]:
    r"""Generate negative samples, grouped by replaced slot, as :meth:`corrupt_batch_grouped`.

    :param positive_batch: integer ids, shape (\*batch, 3), any device
    :return: new values by slot, int64, shape (\*batch, k of the slot), and if there is a filterer
        masks by slot, bool, of that shape: True where valid
    :raises NegserveError: as :meth:`sample`
    """
    draws_exactly = isinstance(self.filterer, RemoteFilterer) and self.masks_itself
    if draws_exactly and not _is_overridden(self, corrupt_batch_grouped):
        groups = list(_draw_groups(self, self.draws, positive_batch))
        return (
            {slot: values for slot, values, _ in groups},
            {slot: mask for slot, _, mask in groups if mask is not None},
        )
    drawn = self.corrupt_batch_grouped(positive_batch)
    if self.filterer is None:
        return drawn, None
    masks = {}
    for slot, values in drawn.items():
        negatives = positive_batch.unsqueeze(-2).repeat_interleave(values.shape[-1], dim=-2)
        negatives[..., COLUMNS[slot]] = values
        masks[slot] = self.filterer(negatives)
    return drawn, masks


def _draw_groups(
    self: Any, draws: Draws, positive_batch: torch.Tensor
) -> Iterator[tuple[Slot, torch.Tensor, torch.Tensor | None]]:
    """Draw the negatives of each slot, each slot at positions of its own."""
    scheme: tuple[Slot, ...] = draws.options["corruption_scheme"]
    share, remainder = divmod(self.num_negs_per_pos, len(scheme))
    for index, slot in enumerate(scheme):
        k = share + (index < remainder)
        if k:
            yield slot, *draws.sample_slot(positive_batch, slot, k)


def _is_overridden(self: Any, function: Any) -> bool:
    """Return whether a user's subclass overrides one of our methods."""
    is_ours: bool = getattr(self, function.__name__).__code__ is function.__code__
    return not is_ours


def extra_repr(self: Any) -> str:
    """Describe the sampler, for ``repr``."""
    return (
        f"target={self.graph.targets}, dataset={self.graph.dataset!r}, "
        f"num_negs_per_pos={self.num_negs_per_pos}, seed={self.seed}"
    )
