"""What PyKEEN's remote samplers have in common."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from pykeen.sampling import NegativeSampler
from pykeen.sampling.filtering import Filterer, filterer_resolver

from negserve._calls.leakage import warn_of_leakage
from negserve.errors import InvalidRequestError
from negserve.integrations.pykeen.drawn_positions import DrawnPositions
from negserve.integrations.pykeen.draws import COLUMNS, Draws
from negserve.integrations.pykeen.filterer import RemoteFilterer
from negserve.integrations.remote_graph import RemoteGraph
from negserve.sampling.options import checked_filter_splits
from negserve.types.config import FilterMode, Slot, Split
from negserve.types.kinds import Kind

_SEEDS = 2**64
#: As PyKEEN's resolver takes it.
FiltererHint: TypeAlias = str | type[Filterer] | Filterer | None
_Sampler = TypeVar("_Sampler", bound=type[Any])


def remote_sampler(cls: _Sampler) -> _Sampler:
    """Return a class its methods.

    PyKEEN's HPO looks for a sampler's arguments in its class and the first base of that, which
    therefore has to be PyKEEN's: so the classes share functions, not a base.
    """
    functions = [_init, sample, corrupt_batch, extra_repr]
    if getattr(cls, "supports_grouped_corruption", False):
        functions += [corrupt_batch_grouped, sample_grouped]
    for function in functions:
        name = "__init__" if function is _init else function.__name__
        if name in vars(cls):
            continue
        # A copy each, so that Python's errors name the class.
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
    """Set a sampler up; :class:`RemoteNegativeSampler` says what is what."""
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
    """Refuse splits that a filterer of one's own does not know of."""
    if filter_splits is None:
        return
    of_filterer = getattr(filterer, "filter_splits", None)
    if of_filterer != tuple(filter_splits):
        raise InvalidRequestError(
            f"filter_splits={tuple(filter_splits)}, but the filterer {type(filterer).__name__} "
            f"filters by {of_filterer or 'what it was made of'}; say so there, and leave "
            f"filter_splits out",
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
    """Initialize the negative sampler; :class:`RemoteNegativeSampler` says what is what."""
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
    :param position: position of the first positive in the stream of the seed; None for one that
        torch's generator draws, so that two calls differ, in all workers and ranks
    :return: the negatives, int64, shape (\*batch, k, 3), and if there is a filterer a mask, bool,
        shape (\*batch, k): True where valid; both on the device of the batch
    :raises UnknownDatasetError: if the server has no such graph, and does not take it
    :raises FingerprintMismatchError: if the dataset of that name is another graph
    :raises InvalidRequestError: for another shape, ids outside the graph, an illegal option
    :raises NegserveError: typed by what the server said
    """
    if _is_overridden(self, corrupt_batch):
        if position is not None:
            raise InvalidRequestError(
                f"position={position}; leave it out: {type(self).__name__} has a corrupt_batch of "
                f"its own"
            )
        negatives = self.corrupt_batch(positive_batch)
        return negatives, None if self.filterer is None else self.filterer(negatives)
    negatives, mask = self.draws.sample(positive_batch, position)
    if self.masks_itself:
        return negatives, mask
    valid = self.filterer(negative_batch=negatives)
    return negatives, valid if mask is None else valid & mask


def corrupt_batch(self: Any, positive_batch: torch.Tensor) -> torch.Tensor:
    r"""Generate negative samples without any filter.

    :param positive_batch: integer ids, shape (\*batch, 3), any device
    :return: int64, shape (\*batch, k, 3), on the device of the batch
    :raises NegserveError: as :meth:`sample`
    """
    negatives: torch.Tensor = self.unfiltered.sample(positive_batch, None)[0]
    return negatives


def corrupt_batch_grouped(self: Any, positive_batch: torch.Tensor) -> dict[Slot, torch.Tensor]:
    r"""Generate negative samples without any filter, grouped by what is replaced.

    Each positive has as many of each slot: k / slots, and the first slots of the corruption scheme
    one more if there is a remainder.

    :param positive_batch: integer ids, shape (\*batch, 3), any device
    :return: by slot the new values, int64, shape (\*batch, k of the slot)
    :raises NegserveError: as :meth:`sample`
    """
    return {slot: values for slot, values, _ in _draw_groups(self, self.unfiltered, positive_batch)}


def sample_grouped(
    self: Any, positive_batch: torch.Tensor
) -> tuple[dict[Slot, torch.Tensor], dict[Slot, torch.Tensor] | None]:
    r"""Generate negative samples, grouped by what is replaced, as :meth:`corrupt_batch_grouped`.

    :param positive_batch: integer ids, shape (\*batch, 3), any device
    :return: by slot the new values, int64, shape (\*batch, k of the slot), and if there is a
        filterer by slot a mask, bool, of that shape: True where valid
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
    """Draw each slot's negatives, at positions of its own."""
    scheme: tuple[Slot, ...] = draws.options["corruption_scheme"]
    share, remainder = divmod(self.num_negs_per_pos, len(scheme))
    for index, slot in enumerate(scheme):
        k = share + (index < remainder)
        if k:
            yield slot, *draws.sample_slot(positive_batch, slot, k)


def _is_overridden(self: Any, function: Any) -> bool:
    """Return whether a user's subclass has a method in place of one of ours."""
    is_ours: bool = getattr(self, function.__name__).__code__ is function.__code__
    return not is_ours


def extra_repr(self: Any) -> str:
    """Say what it draws, for ``repr``."""
    return (
        f"target={self.graph.targets}, dataset={self.graph.dataset!r}, "
        f"num_negs_per_pos={self.num_negs_per_pos}, seed={self.seed}"
    )
