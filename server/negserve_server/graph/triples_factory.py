"""The triples factory: a loaded graph, and the samplers over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.types.answers.known_values import KnownValues
from negserve.types.answers.relation_statistics import RelationStatistics
from negserve.types.checks.invalid import check_name, invalid_configuration
from negserve.types.config import SLOTS, SamplerConfig, Slot
from negserve.types.epoch import EpochConfig
from negserve.types.fingerprint import graph_fingerprint, types_fingerprint
from negserve.types.id_set import IdSet
from negserve.types.triples import as_pairs, as_triples
from negserve_server.errors import MalformedFile
from negserve_server.graph.epoch import Epoch
from negserve_server.graph.filter_indexes import FilterIndexes
from negserve_server.graph.fractions import divide
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.graph.opened_samplers import OpenedSamplers
from negserve_server.graph.readers import ReadOptions, read_graph
from negserve_server.graph.snapshot.manifest import is_snapshot
from negserve_server.graph.snapshot.snapshot_reader import open_snapshot
from negserve_server.graph.type_constraints import TypeConstraints
from negserve_server.graph.vocabulary import Vocabulary
from negserve_server.index import FilterIndex
from negserve_server.index.filter_index import check_ids
from negserve_server.sampling import RelationCounts, Sampler
from negserve_server.tables import TABLES, GraphTables, Tables
from negserve_server.triple_columns import SplitArrays, TripleColumns

_WORLD = Path(__file__).parent / "world"


class TriplesFactory:
    """Mapped triples of all splits, vocabularies, counts and fingerprint of one graph.

    Immutable and safe to use from many threads. Satisfies the protocol
    ``negserve.sampling.TriplesFactory``, so the samplers of the client work on it in process.

    :param splits: ids per split, each shape (n, 3), ``training`` at least; repetitions are
        dropped and rows sorted by head, relation, tail
    :param num_entities: size of the entity id space; None for the largest id plus one
    :param num_relations: likewise for relations
    :param entities: labels of the entities, if there are any
    :param relations: labels of the relations, if there are any
    :param num_unseen: per split, triples left out for a label unseen in training
    :param type_constraints: the entities that relations allow as heads and tails, if that is
        known
    :raises IdOutOfRange: if a triple has an id outside the id space
    :raises ValueError: for an empty training split, labels that do not fit the id space, or
        type constraints with an id outside of it
    """

    def __init__(
        self,
        splits: Mapping[str, ArrayLike],
        *,
        num_entities: int | None = None,
        num_relations: int | None = None,
        entities: Vocabulary | None = None,
        relations: Vocabulary | None = None,
        num_unseen: Mapping[str, int] | None = None,
        type_constraints: TypeConstraints | None = None,
    ) -> None:
        self._take(
            GraphParts.of(
                splits,
                num_entities=num_entities,
                num_relations=num_relations,
                entities=entities,
                relations=relations,
                num_unseen=num_unseen,
                type_constraints=type_constraints,
            )
        )

    def _take(self, parts: GraphParts) -> None:
        self.parts = parts
        self.num_entities: int = parts.num_entities
        self.num_relations: int = parts.num_relations
        self.entities = parts.entities
        self.relations = parts.relations
        self.num_unseen = dict(parts.num_unseen)
        self._tables = GraphTables(TABLES, graph=self)
        self._indexes = FilterIndexes(parts, self._tables)
        self._samplers = OpenedSamplers(parts, self._indexes, self._tables)

    @classmethod
    def from_parts(cls, parts: GraphParts) -> TriplesFactory:
        """Take the parts of a graph as they are, unchecked."""
        factory = cls.__new__(cls)
        factory._take(parts)
        return factory

    @classmethod
    def from_path(
        cls,
        path: str | Path,
        options: ReadOptions = ReadOptions(),  # noqa: B008
        *,
        type_constraints: str | Path | None = None,
    ) -> TriplesFactory:
        """Load a graph from files; ``docs/data.md`` lists formats, names and what is refused.

        Labels are numbered as PyKEEN's ``TriplesFactory.from_path`` does: those of the training
        triples, sorted; unless a file of ids says otherwise. Validation and test triples with
        labels without an id are left out, counted in :attr:`num_unseen` and logged.

        :param path: a file of training triples, a folder with ``train``, ``valid`` and ``test``, or
            a snapshot, see :meth:`from_snapshot`
        :param options: how files are read
        :param type_constraints: a file for :meth:`TypeConstraints.from_path`; None for the
            folder's ``type_constraints`` (``.txt`` or ``.tsv``, also packed), if there is one
        :raises MalformedFile: naming file, line, reason and remedy
        :raises MissingLibraryError: for RDF without the extra ``rdf``
        """
        if is_snapshot(Path(path)):
            if options != ReadOptions() or type_constraints is not None:
                raise MalformedFile(
                    path, None, "is a snapshot, which is as it was built; leave out the options"
                )
            return cls.from_snapshot(path)
        graph = read_graph(Path(path), options)
        splits: Mapping[str, NDArray[np.int64] | TripleColumns] = graph.splits
        if options.fractions is not None:
            if len(splits) > 1:
                raise MalformedFile(
                    path, None, f"has {', '.join(splits)} already; give it without --fractions"
                )
            splits = divide(graph.splits["training"].array(), options.fractions, seed=options.seed)
        constraints = None
        type_constraints = type_constraints or graph.constraints
        if type_constraints is not None:
            constraints = TypeConstraints.from_path(
                type_constraints,
                entities=graph.entities or Vocabulary.numbers(graph.num_entities),
                relations=graph.relations or Vocabulary.numbers(graph.num_relations),
            )
        parts = GraphParts.of(
            splits,
            num_entities=graph.num_entities,
            num_relations=graph.num_relations,
            entities=graph.entities,
            relations=graph.relations,
            num_unseen=graph.num_unseen,
            type_constraints=constraints,
        )
        return cls.from_parts(parts)

    @classmethod
    def from_snapshot(cls, path: str | Path) -> TriplesFactory:
        """Open a snapshot, as ``negserve-server build`` makes it: parses and copies nothing.

        Its arrays are mapped, so all processes of a machine share their memory, and a graph may be
        larger than that. The folder must not be changed while it is used.

        :param path: the folder
        :raises MalformedSnapshot: if it is incomplete, altered in size, or of another format;
            ``negserve-server inspect --verify`` also compares contents with their checksums
        """
        return cls.from_parts(open_snapshot(Path(path)))

    @classmethod
    def world(cls) -> TriplesFactory:
        """Load the embedded graph: the countries of the world and facts about them."""
        return cls.from_path(
            _WORLD / "train.txt",
            ReadOptions(validation=_WORLD / "valid.txt", testing=_WORLD / "test.txt"),
            type_constraints=_WORLD / "type_constraints.tsv",
        )

    @property
    def columns(self) -> Mapping[str, TripleColumns]:
        """The distinct triples of each split, sorted, as they are held: in narrow columns."""
        return MappingProxyType(self.parts.columns)

    @property
    def mapped_triples(self) -> NDArray[np.int64]:
        """The distinct training triples, sorted, int64, shape (n, 3), read-only.

        Each access makes the array anew, 24 bytes a triple; :attr:`columns` costs nothing.
        """
        return self.splits["training"]

    @property
    def splits(self) -> Mapping[str, NDArray[np.int64]]:
        """The distinct triples of each split, sorted, int64, shape (n, 3), read-only.

        Each look-up makes the array anew, as that of :attr:`mapped_triples`.
        """
        return SplitArrays(self.parts.columns)

    @property
    def num_triples(self) -> int:
        """How many distinct training triples there are."""
        return len(self.parts.columns["training"])

    @property
    def summary(self) -> str:
        """Counts and fingerprint in one line."""
        triples = " + ".join(f"{len(rows)} {split}" for split, rows in self.columns.items())
        return (
            f"{self.num_entities} entities, {self.num_relations} relations, {triples} triples, "
            f"fingerprint {self.fingerprint}"
        )

    @property
    def type_constraints(self) -> TypeConstraints | None:
        """The entities that relations allow as heads and tails; None if that is not known."""
        return self.parts.type_constraints

    @property
    def entity_to_id(self) -> Mapping[str, int]:
        """Map entity labels to ids; empty for a graph without labels."""
        return self.entities.label_to_id if self.entities is not None else {}

    @property
    def relation_to_id(self) -> Mapping[str, int]:
        """Map relation labels to ids; empty for a graph without labels."""
        return self.relations.label_to_id if self.relations is not None else {}

    @cached_property
    def split_fingerprints(self) -> Mapping[str, str]:
        """Fingerprint of each split, 64 hexadecimal digits."""
        return self.parts.split_fingerprints or {
            name: triples.fingerprint(self.num_entities, self.num_relations)
            for name, triples in self.columns.items()
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of id space, triples and type constraints, 64 hexadecimal digits."""
        return graph_fingerprint(self.split_fingerprints, self.type_constraints_fingerprint)

    @cached_property
    def type_constraints_fingerprint(self) -> str | None:
        """Fingerprint of the type constraints, 64 hexadecimal digits; None without any."""
        if self.type_constraints is None:
            return None
        return self.parts.type_constraints_fingerprint or types_fingerprint(
            self.type_constraints.heads,
            self.type_constraints.tails,
            self.num_entities,
            self.num_relations,
        )

    @property
    def relation_counts(self) -> RelationCounts:
        """Counts of the training triples per relation, made on first use.

        :raises TablesFull: if there is no room for them
        """
        return self._samplers.graph.relation_counts

    @property
    def relation_statistics(self) -> RelationStatistics:
        """Statistics of the training triples per relation, from :attr:`relation_counts`.

        :raises TablesFull: if there is no room for those
        """
        return self.relation_counts.statistics()

    def keep_tables_in(self, tables: Tables) -> None:
        """Make the tables of samplers in a store that other graphs use, too.

        To be called before there are any; else those of the process are in one store.
        """
        self._tables.store = tables

    @property
    def table_bytes(self) -> int:
        """Bytes of the tables that its samplers have made, and that are in memory."""
        return self._tables.num_bytes

    def filter_index(self, splits: Sequence[str]) -> FilterIndex:
        """Give the index over some splits, built on first use.

        That of the training triples stays as long as the graph, others are tables.

        :raises InvalidRequestError: for no split, or one that the graph has not
        :raises TablesFull: if there is no room for it
        """
        return self._indexes.of(splits)

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Tell for each triple, shape (n, 3), whether it is in one of the splits; shape (n,).

        :raises IdOutOfRange: if a triple has an id outside the id space
        :raises InvalidRequestError: for a split that the graph has not
        """
        return self.filter_index(splits).contains(as_triples(triples))

    def known(self, pairs: ArrayLike, slot: Slot, splits: Sequence[str]) -> KnownValues:
        """Give the known values of a slot for each pair of ids of the other two slots.

        :param pairs: integer ids in the order head, relation, tail, shape (n, 2), any n: (head,
            relation) for ``slot="tail"``, (relation, tail) for ``"head"``, (head, tail) for
            ``"relation"``
        :param slot: whose values are asked for
        :param splits: names of the splits whose triples are known, at least one
        :raises IdOutOfRange: if a pair has an id outside the id space
        :raises InvalidRequestError: for another slot, and a split that the graph has not
        """
        check_name("slot", slot, SLOTS)
        return self.filter_index(splits).known(as_pairs(pairs), slot)

    def subsampling_weights(self, triples: ArrayLike) -> NDArray[np.float32]:
        """Weigh positives by how rare their pairs are in training.

        1 / sqrt(n(h, r) + n(r, t)), with the numbers of training triples that share head and
        relation, or relation and tail; as Sun et al. do ("RotatE", ICLR 2019), after word2vec's
        subsampling, but without their smoothing. 0 for a triple that shares neither.

        :param triples: shape (n, 3)
        :return: float32, shape (n,)
        :raises IdOutOfRange: if a triple has an id outside the id space
        """
        heads, relations, tails = as_triples(triples).T
        check_ids(np.stack([heads, relations, tails], 1), self.num_entities, self.num_relations)
        index = self.filter_index(("training",))
        counts = index.by_slot("tail").count(heads, relations)
        counts = counts + index.by_slot("head").count(relations, tails)
        weights = np.zeros(len(counts), dtype=np.float32)
        np.divide(1.0, np.sqrt(counts), out=weights, where=counts > 0, casting="same_kind")
        return weights

    def rows_of(self, relations: IdSet) -> NDArray[np.int64]:
        """Rows of the training triples of some relations, ascending, int64, shape (n,).

        :raises InvalidRequestError: for a relation that the graph has not
        :raises TablesFull: if there is no room for the rows
        """
        if relations[-1] >= self.num_relations:
            raise invalid_configuration(
                "relations",
                relations[-1],
                f"the graph has {self.num_relations}, ids 0 to {self.num_relations - 1}",
                limit=self.num_relations - 1,
            )

        def find() -> NDArray[np.int64]:
            # Not np.isin, whose memory depends on the values of the ids.
            is_chosen = np.zeros(self.num_relations, dtype=np.bool_)
            is_chosen[relations.ids] = True
            return np.flatnonzero(is_chosen[self.columns["training"].relations])

        return self._tables.get(("rows", relations.digest), find)

    def epoch(
        self, sampler: SamplerConfig, config: EpochConfig, *, number: int = 0, start: int = 0
    ) -> Epoch:
        """Make the batches of one rank in one epoch.

        :param number: of the epoch, from 0 on
        :param start: position within the epoch at which to begin
        :raises InvalidRequestError: if the graph can't serve one of the configurations
        :raises TablesFull: if there is no room for what they need
        :raises PositionOutOfRange: if a position of the epoch would exceed 2^64 - 1
        """
        opened = self.sampler(sampler)
        relations = config.relation_set
        rows = None if relations is None else self.rows_of(relations)
        return self._epoch(opened, rows, config, number, start)

    def epoch_again(
        self, sampler: SamplerConfig, config: EpochConfig, *, number: int = 0, start: int = 0
    ) -> Epoch | None:
        """Do what :meth:`epoch` does, in no time; None if there is something costly to make.

        :raises InvalidRequestError: if the graph can't serve one of the configurations
        :raises PositionOutOfRange: if a position of the epoch would exceed 2^64 - 1
        """
        if config.relations is not None or config.weights or sampler.candidates is not None:
            return None
        opened = self.sampler_again(sampler)
        return None if opened is None else self._epoch(opened, None, config, number, start)

    def _epoch(
        self, sampler: Sampler, rows: NDArray[np.int64] | None, config: EpochConfig,
        number: int, start: int,
    ) -> Epoch:  # fmt: skip
        return Epoch(
            self.columns["training"], rows, self.subsampling_weights, sampler, config,
            number=number, start=start,
        )  # fmt: skip

    def open_sampler(self, **options: Any) -> Sampler:
        """Make the sampler of a configuration given by its fields.

        :param options: fields of :class:`negserve.SamplerConfig`
        :raises InvalidRequestError: naming the field, its value and what is legal
        """
        return self.sampler(SamplerConfig(**options))

    def sampler(self, config: SamplerConfig) -> Sampler:
        """Make the sampler of a configuration.

        What is costly is shared by all samplers that need it, and stays for a while after the
        last of them.

        :raises InvalidRequestError: if this package or the graph can't serve it
        :raises TablesFull: if there is no room for what it needs
        """
        return self._samplers.open(config)

    def sampler_again(self, config: SamplerConfig) -> Sampler | None:
        """Make the sampler of a configuration that was opened before with any seed, in no time.

        :return: None if it was not, or if what is costly is gone since
        :raises InvalidRequestError: for another algorithm version
        """
        return self._samplers.open_again(config)
