"""The triples that an evaluation filters, found on a server or published there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from negserve._calls.client import DEFAULT_TARGET
from negserve._sync.client import Client
from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve.errors import InvalidRequestError, NotAllowedError, UnknownDatasetError
from negserve.types.config import SPLITS, Split
from negserve.types.fingerprint import split_fingerprint

#: Evaluations whose graph is remembered: of validation, during training, and of testing.
_MOST_REMEMBERED = 4


@dataclass(frozen=True, slots=True)
class FoundSplits:
    """Splits of a dataset that hold just the triples of an evaluation.

    :ivar factory: the dataset
    :ivar splits: names of the splits
    """

    factory: RemoteTriplesFactory
    splits: tuple[Split, ...]


class EvaluationGraph:
    """Finds the dataset, and its splits, that hold the triples of an evaluation.

    Nothing is sent before the first :meth:`find`. Picklable.

    :param target: ``HOST:PORT`` or ``unix:PATH``, or several of replicas; None for the
        environment variable ``NEGSERVE_TARGET``, and without it for ``127.0.0.1:7733``
    :param dataset: name on the server; None to look through all, and to publish the triples if
        none has them
    :param timeout: as for :class:`negserve.Client`
    :param patience: as for :class:`negserve.Client`
    """

    def __init__(
        self,
        *,
        target: str | Sequence[str] | None,
        dataset: str | None,
        timeout: float,
        patience: float | None,
    ) -> None:
        if target is None:
            target = os.environ.get("NEGSERVE_TARGET", DEFAULT_TARGET)
        self.dataset = dataset
        self.client = Client(target, timeout=timeout, patience=patience)
        # The tensors are kept, so that none of them is another one at the same address.
        self._found: dict[tuple[object, ...], tuple[list[torch.Tensor], FoundSplits]] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_found": {}}

    def find(self, triples: Sequence[torch.Tensor]) -> FoundSplits:
        """Find the splits whose triples are those of some tensors together.

        A tensor is a split of the dataset, or a part of the splits that other tensors are.

        :param triples: integer ids, each of shape (n, 3); the training triples first
        :raises UnknownDatasetError: if no dataset has them, and the server accepts none
        :raises InvalidRequestError: if the dataset of that name has not
        :raises NegserveError: for any other error of the server
        """
        tensors = [each for each in triples if len(each)]
        key = tuple((each.data_ptr(), len(each), each._version) for each in tensors)
        if key not in self._found:
            rows = [each.cpu() for each in tensors]
            found = self._find(rows) if self.dataset is None else self._named(rows)
            if len(self._found) == _MOST_REMEMBERED:
                del self._found[next(iter(self._found))]
            self._found[key] = (tensors, found)
        return self._found[key][1]

    def _named(self, rows: list[torch.Tensor]) -> FoundSplits:
        factory = self.client.triples_factory(self.dataset or "")
        if (splits := _match(factory, rows)) is not None:
            return FoundSplits(factory, splits)
        sizes = ", ".join(f"{len(each)}" for each in rows)
        raise InvalidRequestError(
            f"dataset {factory.name!r} at {self.client.target} has no splits that hold the triples "
            f"of this evaluation ({sizes} of them) and no others; publish all splits, "
            f"negserve.Client(target).publish(name, {{'training': ..., 'validation': ..., "
            f"'testing': ...}}), and name that dataset, or none",
            reason="FINGERPRINT_MISMATCH",
            metadata={"dataset": factory.name},
        )

    def _find(self, rows: list[torch.Tensor]) -> FoundSplits:
        for name in self.client.list_datasets():
            try:
                factory = self.client.triples_factory(name)
            except UnknownDatasetError:
                continue  # removed since it was listed
            if (splits := _match(factory, rows)) is not None:
                return FoundSplits(factory, splits)
        return self._publish(rows)

    def _publish(self, rows: list[torch.Tensor]) -> FoundSplits:
        first, *others = rows
        graph: dict[str, torch.Tensor] = {"training": first}
        if others:
            graph["testing"] = others[-1]
        if others[:-1]:
            graph["validation"] = torch.cat(others[:-1])
        num_entities = 1 + max(int(each[:, [0, 2]].max()) for each in rows)
        num_relations = 1 + max(int(each[:, 1].max()) for each in rows)
        digest = split_fingerprint(torch.cat(rows).numpy(), num_entities, num_relations)
        try:
            factory = self.client.publish(
                f"evaluation-{digest[:16]}",
                graph,
                num_entities=num_entities,
                num_relations=num_relations,
            )
        except NotAllowedError as error:
            raise UnknownDatasetError(
                f"{self.client.target}: no dataset has splits that hold the triples of this "
                f"evaluation and no others, and the server accepts none; serve training, "
                f"validation and testing triples with the trainer's ids, or run the server with "
                f"--allow-publish",
                reason="UNKNOWN_DATASET",
            ) from error
        return FoundSplits(factory, tuple(split for split in SPLITS if split in graph))


def _match(factory: RemoteTriplesFactory, rows: list[torch.Tensor]) -> tuple[Split, ...] | None:
    """Return the splits that hold just these triples; None if there are none."""
    sizes = torch.tensor([factory.num_entities, factory.num_relations, factory.num_entities])
    if not all(((each >= 0) & (each < sizes)).all() for each in rows):
        return None
    chosen: list[Split] = []
    others: list[torch.Tensor] = []
    for each in rows:
        split = _split_of(factory, each)
        if split is None:
            others.append(each)
        else:
            chosen.append(split)
    splits = tuple(split for split in SPLITS if split in chosen)
    if splits and all(factory.contains(each.numpy(), splits).all() for each in others):
        return splits
    return None


def _split_of(factory: RemoteTriplesFactory, rows: torch.Tensor) -> Split | None:
    """Find the split with these triples."""
    fingerprint = None
    for split in SPLITS:
        # Repeated triples count once there.
        if 0 < factory.num_triples_per_split.get(split, 0) <= len(rows):
            fingerprint = fingerprint or split_fingerprint(
                rows.numpy(), factory.num_entities, factory.num_relations
            )
            if factory.split_fingerprints[split] == fingerprint:
                return split
    return None
