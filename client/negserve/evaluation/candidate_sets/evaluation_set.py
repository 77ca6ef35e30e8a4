"""Pinned candidate sets: a manifest of some hundred bytes that is the whole set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import (
    FingerprintMismatchError,
    InvalidRequestError,
    ManifestMismatchError,
)
from negserve.evaluation.candidate_sets.candidate_table import CandidateBatch, CandidateDigest
from negserve.evaluation.evaluated_graph import triples_to_evaluate
from negserve.types.checks.invalid import check_integer, invalid_configuration
from negserve.types.checks.leakage import leakage_told
from negserve.types.config import SLOTS, SamplerConfig, Slot
from negserve.types.fingerprint import fingerprint_of_distinct
from negserve.types.triples import sort_unique_triples
from negserve.types.triples_factory import TriplesFactory

#: What a manifest says that it is, and in which version.
FORMAT, VERSION = "negserve evaluation set", 1
#: The version of the sampling function that sets are drawn with, unless told otherwise.
ALGORITHM_VERSION = 2
#: The queries of each side have positions of their own, from this times the slot's index on.
_POSITIONS_PER_SIDE = 2**62

Report = Callable[[int, int], object]


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Exactly filtered candidates for each triple of a split and each side, as a pure function.

    The triples are taken without repetitions and sorted by head, relation, tail, so any order of
    them makes the same set. The candidates of the triple of row i (from 0) are the k negatives at
    position ``SLOTS.index(side) * 2**62 + i`` of a sampler whose corruption scheme is that side
    alone, with ``SLOTS = ("head", "relation", "tail")``. So two people with the manifest
    (:meth:`to_json`) and the graph get equal bytes, in process, remote and on the client.

    Make one with :meth:`create`, or read a manifest with :meth:`from_json`.

    :ivar fingerprint: of the graph
    :ivar triples: fingerprint of the triples, as of a split (``negserve.types.fingerprint``)
    :ivar num_triples: how many there are, without repetitions
    :ivar split: name of the graph's split that these triples are; None if they are none
    :ivar sampler: what is drawn; its corruption scheme has the sides
    :ivar num_saturated: by side, queries with fewer legal candidates than needed: without
        ``distinct`` none at all, with it fewer than k. What is missing is masked
    :ivar digest: SHA-256 of all candidates, see
        :class:`negserve.evaluation.candidate_sets.candidate_table.CandidateDigest`
    """

    fingerprint: str
    triples: str
    num_triples: int
    split: str | None
    sampler: SamplerConfig
    num_saturated: Mapping[Slot, int]
    digest: str

    @classmethod
    def create(
        cls,
        graph: TriplesFactory,
        sampler: SamplerConfig,
        *,
        split: str | None = None,
        triples: ArrayLike | None = None,
        on_batch: Report | None = None,
    ) -> EvaluationSet:
        """Pin a set, which draws it once.

        :param graph: a triples factory, in process or remote
        :param sampler: what to draw: ``num_negs_per_pos`` candidates for each slot of the
            ``corruption_scheme``, filtered exactly by ``filter_splits``. ``distinct=True`` draws
            no candidate twice for a query, which :class:`SampledRanks` needs
        :param split: name of a split of a graph that is computed in this process
        :param triples: in its place, integer ids, shape (n, 3), any order
        :param on_batch: called now and then with the queries done, and all queries
        :raises InvalidRequestError: for a configuration without an exact filter, in chunks or with
            log probabilities; for ids outside the graph; unless one of split and triples is given
        :raises NegserveError: as the graph says
        """
        sampler = _pinned(sampler)
        rows = _rows(graph, split, triples)
        fingerprint = fingerprint_of_distinct(rows, graph.num_entities, graph.num_relations)
        names = {print_: name for name, print_ in graph.split_fingerprints.items()}
        digest, num_saturated = CandidateDigest(), dict.fromkeys(sampler.corruption_scheme, 0)
        done, total = 0, len(rows) * len(sampler.corruption_scheme)
        for batch, saturated in _draw(graph, sampler, rows, 1024):
            digest.add(batch)
            num_saturated[batch.side] += saturated
            done += len(batch)
            if on_batch is not None:
                on_batch(done, total)
        return cls(
            fingerprint=graph.fingerprint,
            triples=fingerprint,
            num_triples=len(rows),
            split=names.get(fingerprint),
            sampler=sampler,
            num_saturated=num_saturated,
            digest=digest.hexdigest(),
        )

    @property
    def sides(self) -> tuple[Slot, ...]:
        """The slots that are asked for."""
        return self.sampler.corruption_scheme

    @property
    def num_queries(self) -> int:
        """One for each triple and side."""
        return self.num_triples * len(self.sides)

    def position(self, row: int, side: Slot) -> int:
        """Return the position at which the candidates of a query are drawn."""
        return SLOTS.index(side) * _POSITIONS_PER_SIDE + row

    def rows(
        self,
        graph: TriplesFactory,
        *,
        split: str | None = None,
        triples: ArrayLike | None = None,
    ) -> NDArray[np.int64]:
        """Give the triples of the set in the order of its rows, shape (num_triples, 3).

        Parameters as of :meth:`batches`.

        :raises FingerprintMismatchError: if the graph or the triples are not those of the manifest
        """
        if graph.fingerprint != self.fingerprint:
            raise _mismatch("fingerprint", "the graph has", graph.fingerprint, self.fingerprint)
        if split is None and triples is None:
            split = self.split
        rows = _rows(graph, split, triples)
        found = fingerprint_of_distinct(rows, graph.num_entities, graph.num_relations)
        if found != self.triples:
            raise _mismatch("triples", f"the {len(rows)} triples have", found, self.triples)
        return rows

    def batches(
        self,
        graph: TriplesFactory,
        *,
        split: str | None = None,
        triples: ArrayLike | None = None,
        batch_size: int = 1024,
    ) -> Iterator[CandidateBatch]:
        """Draw the set, batch by batch: all queries of the first side, then all of the next.

        Memory is that of a batch and of the triples. After the last batch the digest of all is
        compared with that of the manifest.

        :param graph: the graph of the set, in process or remote
        :param split: name of a split of a graph that is computed in this process; with neither
            this nor ``triples``, that of the manifest
        :param triples: integer ids, shape (n, 3), in any order
        :param batch_size: most queries of a batch; the candidates do not depend on it
        :raises FingerprintMismatchError: if the graph or the triples are not those of the manifest
        :raises ManifestMismatchError: after the last batch, if other candidates were drawn
        :raises NegserveError: as the graph says
        """
        check_integer("batch_size", batch_size, 1, 2**31)
        rows = self.rows(graph, split=split, triples=triples)
        return self._checked(_draw(graph, self.sampler, rows, batch_size))

    def _checked(self, drawn: Iterator[tuple[CandidateBatch, int]]) -> Iterator[CandidateBatch]:
        digest, num_saturated = CandidateDigest(), dict.fromkeys(self.sides, 0)
        for batch, saturated in drawn:
            digest.add(batch)
            num_saturated[batch.side] += saturated
            yield batch
        self.compare(digest.hexdigest(), num_saturated)

    def compare(self, digest: str, num_saturated: Mapping[Slot, int]) -> None:
        """Compare what candidates have with what the manifest states.

        :param digest: of the candidates
        :param num_saturated: by side, queries with a masked candidate
        :raises ManifestMismatchError: if they differ
        """
        if digest != self.digest:
            raise ManifestMismatchError(
                f"the candidates have SHA-256 {digest}, but the manifest states {self.digest}; "
                f"take the manifest and the file of one and the same set",
                metadata={"field": "digest", "value": digest, "limit": self.digest},
            )
        if dict(num_saturated) != dict(self.num_saturated):
            raise ManifestMismatchError(
                f"the manifest states num_saturated={dict(self.num_saturated)}, but "
                f"{dict(num_saturated)} queries have too few candidates; create the manifest again",
                metadata={"field": "num_saturated", "value": str(dict(num_saturated))},
            )

    def to_json(self) -> str:
        """Write the manifest: a line of JSON, without fields of the sampler that are defaults."""
        sampler = {
            field.name: _plain(getattr(self.sampler, field.name))
            for field in fields(SamplerConfig)
            if getattr(self.sampler, field.name) != field.default
        }
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "split": self.split,
            "triples": self.triples,
            "num_triples": self.num_triples,
            "sampler": sampler,
            "num_saturated": dict(self.num_saturated),
            "digest": self.digest,
        }
        return json.dumps(manifest, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> EvaluationSet:
        """Read a manifest.

        :raises InvalidRequestError: naming the field that is not as :meth:`to_json` writes it
        """
        try:
            manifest = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _malformed("manifest", str(error)[:200], "give the JSON of to_json()") from error
        if not isinstance(manifest, dict) or manifest.pop("format", None) != FORMAT:
            raise _malformed("format", None, f"a manifest has {FORMAT!r}")
        version = manifest.pop("version", None)
        if version != VERSION or isinstance(version, bool):
            raise _malformed("version", version, f"this package reads {VERSION}; update it")
        names = {field.name for field in fields(cls)}
        if wrong := sorted(names ^ set(manifest)):
            raise _malformed(wrong[0], manifest.get(wrong[0]), f"a manifest has {sorted(names)}")
        for field in ("fingerprint", "triples", "digest"):
            value = manifest[field]
            if not (isinstance(value, str) and len(value) == 64 and set(value) <= _HEX):
                raise _malformed(field, value, "give 64 hexadecimal digits")
        check_integer("num_triples", manifest["num_triples"], 0, 2**62)
        if not isinstance(manifest["split"], str | None):
            raise _malformed("split", manifest["split"], "give a name or null")
        manifest["sampler"] = _pinned(_sampler(manifest["sampler"]))
        saturated, sides = manifest["num_saturated"], manifest["sampler"].corruption_scheme
        if not isinstance(saturated, dict) or set(saturated) != set(sides):
            raise _malformed("num_saturated", saturated, f"give a number for each of {sides}")
        for number in saturated.values():
            check_integer("num_saturated", number, 0, manifest["num_triples"])
        return cls(**manifest)


_HEX = set("0123456789abcdef")


def _malformed(field: str, value: object, expected: str) -> InvalidRequestError:
    return invalid_configuration(field, value, expected)


def _sampler(values: object) -> SamplerConfig:
    if not isinstance(values, dict):
        raise _malformed("sampler", values, "give fields of SamplerConfig")
    names = {field.name for field in fields(SamplerConfig)}
    if unknown := sorted(set(values) - names):
        raise _malformed(f"sampler.{unknown[0]}", values[unknown[0]], f"choose from {names}")
    if not values.get("algorithm_version"):
        raise _malformed("sampler.algorithm_version", None, "a manifest has the version in use")
    tuples = ("mixture", "corruption_scheme", "filter_splits")
    given: dict[str, Any] = {
        k: tuple(v) if k in tuples and isinstance(v, list) else v for k, v in values.items()
    }
    return SamplerConfig(**given)


def _plain(value: object) -> object:
    """Make a value of a configuration one that JSON has."""
    if value is not None and not isinstance(value, str | int | float):
        return [_plain(each) for each in value]  # type: ignore[attr-defined]
    return value


def _pinned(sampler: SamplerConfig) -> SamplerConfig:
    """Check a configuration, and pin its version."""
    for field, is_legal, expected in (
        ("filter_splits", sampler.filtered, "give the splits whose triples are no candidates"),
        ("filter_mode", sampler.filter_mode == "exact", "candidates are filtered exactly"),
        ("chunk_size", sampler.chunk_size == 1, "each query has candidates of its own: give 1"),
        ("log_q", not sampler.log_q, "it has no effect on candidates; leave it out"),
    ):
        if not is_legal:
            raise invalid_configuration(field, getattr(sampler, field), expected)
    return replace(sampler, algorithm_version=sampler.algorithm_version or ALGORITHM_VERSION)


def _rows(graph: TriplesFactory, split: str | None, triples: ArrayLike | None) -> NDArray[np.int64]:
    return sort_unique_triples(triples_to_evaluate(graph, triples, split))


def _mismatch(field: str, what: str, found: str, expected: str) -> FingerprintMismatchError:
    return FingerprintMismatchError(
        f"{what} fingerprint {found}, but the manifest states {expected}; take the graph "
        f"and the split that the set was created with",
        reason="FINGERPRINT_MISMATCH",
        metadata={"field": field, "value": found, "limit": expected},
    )


def _draw(
    graph: TriplesFactory, sampler: SamplerConfig, rows: NDArray[np.int64], batch_size: int
) -> Iterator[tuple[CandidateBatch, int]]:
    """Draw batches of queries, each with the number of saturated ones."""
    for side in sampler.corruption_scheme:
        one_sided = replace(sampler, corruption_scheme=(side,))
        options = {field.name: getattr(one_sided, field.name) for field in fields(SamplerConfig)}
        with leakage_told():  # they are candidates of an evaluation, not negatives to train on
            opened = graph.open_sampler(**options)
        try:
            for start in range(0, len(rows), batch_size):
                positives = rows[start : start + batch_size]
                position = SLOTS.index(side) * _POSITIONS_PER_SIDE + start
                batch = opened.sample(positives, position)
                assert batch.mask is not None
                yield (
                    CandidateBatch(start, side, positives, batch.rows(), batch.mask),
                    batch.num_saturated,
                )
        finally:
            opened.close()
