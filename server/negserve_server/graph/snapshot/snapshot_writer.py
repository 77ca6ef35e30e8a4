"""Writes a graph as a snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from negserve.types.config import SPLITS
from negserve.types.fingerprint import graph_fingerprint, types_fingerprint
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.graph.snapshot import manifest
from negserve_server.graph.snapshot.array_files import write_array
from negserve_server.graph.snapshot.index_arrays import STORED_SLOTS, index_arrays, make_index
from negserve_server.graph.snapshot.label_arrays import label_arrays
from negserve_server.graph.snapshot.manifest import (
    Manifest,
    StoredArray,
    StoredIndex,
    StoredSplit,
    StoredTypes,
)
from negserve_server.graph.snapshot.unfinished_folder import UnfinishedFolder
from negserve_server.sampling import RelationCounts
from negserve_server.triple_columns import TripleColumns

#: Called with what is being done, and how many triples are done, of how many.
Progress = Callable[[str, int, int], None]

#: Parts of the work: making an index takes about three times as long as writing it.
_WRITE, _INDEX = 1, 3


def write_snapshot(
    parts: GraphParts,
    out: Path,
    *,
    index_splits: Sequence[tuple[str, ...]] = (),
    made: Mapping[str, Any],
    progress: Progress = lambda _what, _done, _total: None,
) -> None:
    """Write a snapshot aside, flush it, and move it into place.

    One direction of an index is in memory at a time. An exception leaves nothing behind; what a
    killed process leaves is removed by the next write to the same place.

    :param out: the folder to be made
    :param index_splits: splits whose filter index is stored, besides that of the training triples
    :param made: how it was made, for people
    :raises FileExistsError: if there is something already
    :raises OSError: if it can't be written
    :raises ValueError: for splits that the graph has not
    """
    chosen = _chosen(parts, [("training",), *index_splits])
    with UnfinishedFolder(out) as folder:
        writer = _Writer(parts, folder.path, chosen, progress)
        written = writer.write(made)
        with (folder.path / manifest.FILE).open("xb") as file:
            file.write(written.encode())
            file.flush()
            os.fsync(file.fileno())
        folder.finish()


def _chosen(parts: GraphParts, index_splits: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    for splits in index_splits:
        missing = [split for split in splits if split not in parts.columns]
        if missing or not splits:
            raise ValueError(
                f"an index over {', '.join(splits) or 'no split'}: the graph has "
                f"{', '.join(parts.columns)}"
            )
    ordered = [tuple(name for name in SPLITS if name in splits) for splits in index_splits]
    return list(dict.fromkeys(ordered))


class _Writer:
    """Writes the arrays of one snapshot, and notes what the manifest says of them."""

    def __init__(
        self,
        parts: GraphParts,
        folder: Path,
        index_splits: Sequence[tuple[str, ...]],
        progress: Progress,
    ) -> None:
        self._parts = parts
        self._folder = folder
        self._index_splits = index_splits
        self._arrays: dict[str, StoredArray] = {}
        self._progress = progress
        self._num_triples = sum(map(len, parts.columns.values()))
        self._num_parts = 2 * _WRITE + len(index_splits) * len(STORED_SLOTS) * (_INDEX + _WRITE)
        self._num_done = 0.0

    def write(self, made: Mapping[str, Any]) -> Manifest:
        """Write all arrays; return the manifest."""
        parts = self._parts
        sizes = parts.num_entities, parts.num_relations
        triples = {
            f"{split}.{name}": column
            for split, columns in parts.columns.items()
            for name, column in (
                ("heads", columns.heads),
                ("relations", columns.relations),
                ("tails", columns.tails),
            )
        }
        self._write("writing triples", triples, _WRITE)
        self._write("writing labels and statistics", self._others(), 0)
        self._say("computing fingerprints")
        fingerprints = parts.split_fingerprints or {
            split: columns.fingerprint(*sizes) for split, columns in parts.columns.items()
        }
        types = None
        constraints = parts.type_constraints
        if constraints is not None:
            types = StoredTypes(
                constraints.num_unseen,
                types_fingerprint(constraints.heads, constraints.tails, *sizes),
            )
        self._num_done += _WRITE
        indexes = tuple(
            self._write_index(splits, slot)
            for splits in self._index_splits
            for slot in STORED_SLOTS
        )
        return Manifest(
            fingerprint=graph_fingerprint(
                fingerprints, None if types is None else types.fingerprint
            ),
            num_entities=parts.num_entities,
            num_relations=parts.num_relations,
            splits={
                split: StoredSplit(len(columns), parts.num_unseen[split], fingerprints[split])
                for split, columns in parts.columns.items()
            },
            type_constraints=types,
            indexes=indexes,
            made=made,
            arrays=self._arrays,
        )

    def _others(self) -> dict[str, NDArray[Any]]:
        """Labels, type constraints and counts per relation."""
        parts = self._parts
        arrays: dict[str, NDArray[Any]] = {}
        for kind, vocabulary in (("entities", parts.entities), ("relations", parts.relations)):
            if vocabulary is not None:
                arrays |= {f"{kind}.{name}": a for name, a in label_arrays(vocabulary).items()}
        if parts.type_constraints is not None:
            arrays["types.heads"] = parts.type_constraints.heads.astype("<u4")
            arrays["types.tails"] = parts.type_constraints.tails.astype("<u4")
        counts = parts.relation_counts or RelationCounts.of(
            parts.columns["training"], parts.num_relations
        )
        arrays["counts.triples"] = counts.num_triples
        arrays["counts.heads"] = counts.num_heads
        arrays["counts.tails"] = counts.num_tails
        return arrays

    def _write_index(self, splits: tuple[str, ...], slot: str) -> StoredIndex:
        parts = self._parts
        sizes = parts.num_entities, parts.num_relations
        self._say(f"indexing {slot}s of {' + '.join(splits)}")
        columns = TripleColumns.union([parts.columns[split] for split in splits], *sizes)
        index = make_index(columns, slot, *sizes)
        del columns
        self._num_done += _INDEX
        self._write(f"writing that index of {slot}s", index_arrays(index, splits, slot), _WRITE)
        return StoredIndex(splits, slot, index.scalars())

    def _write(self, what: str, arrays: Mapping[str, NDArray[Any]], share: float) -> None:
        total = sum(array.nbytes for array in arrays.values()) or 1
        before = self._num_done
        for name, array in arrays.items():
            part, first = share * array.nbytes / total, self._num_done

            def note(done: float, part: float = part, first: float = first) -> None:
                self._num_done = first + part * done
                self._say(what)

            self._arrays[name] = write_array(self._folder, name, array, note)
        self._num_done = before + share

    def _say(self, what: str) -> None:
        done = self._num_done / self._num_parts
        self._progress(what, int(done * self._num_triples), self._num_triples)
