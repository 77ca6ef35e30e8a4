"""Opens a snapshot: maps its arrays, parses and copies nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve.types.config import SPLITS
from negserve.types.fingerprint import graph_fingerprint
from negserve.types.triples import narrowest_dtype
from negserve_server.errors import MalformedSnapshot
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.graph.snapshot.array_files import check_array, map_array
from negserve_server.graph.snapshot.index_arrays import open_index
from negserve_server.graph.snapshot.label_arrays import MappedVocabulary
from negserve_server.graph.snapshot.manifest import (
    Manifest,
    SnapshotPlace,
    parse_manifest,
    read_manifest,
    read_manifest_file,
)
from negserve_server.graph.type_constraints import TypeConstraints
from negserve_server.index import PairIndex
from negserve_server.sampling import RelationCounts
from negserve_server.triple_columns import TripleColumns


def open_snapshot(path: Path) -> GraphParts:
    """Map the arrays of a snapshot. Sizes, dtypes and shapes are checked, contents are not read.

    :param path: the folder
    :raises MalformedSnapshot: naming the array and the reason
    """
    manifest = read_manifest_file(path)
    stated = parse_manifest(path, manifest)
    arrays = {name: map_array(path, name, stored) for name, stored in stated.arrays.items()}
    place = SnapshotPlace(path.resolve(), hashlib.sha256(manifest).hexdigest())
    try:
        return replace(_parts(path, stated, arrays), place=place)
    except KeyError as error:
        raise MalformedSnapshot(
            path, str(error.args[0]), "is not in the manifest; build the snapshot again"
        ) from error


def verify_snapshot(path: Path, progress: Callable[[str, int, int], None]) -> None:
    """Read all arrays, compare their checksums, and compute the fingerprints again.

    :param progress: called with the name of an array, and the bytes read so far, of how many
    :raises MalformedSnapshot: naming the array and the reason
    """
    stated = read_manifest(path)
    done = 0
    for name, stored in stated.arrays.items():
        progress(name, done, stated.num_bytes)
        check_array(path, name, stored)
        done += stored.num_bytes
    parts = open_snapshot(path)
    for split, columns in parts.columns.items():
        progress(f"fingerprint of {split}", done, stated.num_bytes)
        found = columns.fingerprint(parts.num_entities, parts.num_relations)
        if found != stated.splits[split].fingerprint:
            raise MalformedSnapshot(path, None, f"states another fingerprint of {split}")


def _parts(path: Path, stated: Manifest, arrays: Mapping[str, NDArray[Any]]) -> GraphParts:
    sizes = stated.num_entities, stated.num_relations
    if "training" not in stated.splits or set(stated.splits) - set(SPLITS):
        raise MalformedSnapshot(path, None, f"has the splits {', '.join(stated.splits)}")
    columns: dict[str, TripleColumns] = {}
    for split in SPLITS:
        if split in stated.splits:
            own = [arrays[f"{split}.{name}"] for name in ("heads", "relations", "tails")]
            num_triples = stated.splits[split].num_triples
            for name, column, size in zip(
                ("heads", "relations", "tails"), own, (sizes[0], sizes[1], sizes[0]), strict=True
            ):
                expected = narrowest_dtype(size)
                if column.shape != (num_triples,) or column.dtype != expected:
                    raise MalformedSnapshot(
                        path,
                        f"{split}.{name}",
                        f"has {column.dtype.name} of shape {column.shape}, the graph needs "
                        f"{expected.name} of shape ({num_triples},)",
                    )
            columns[split] = TripleColumns(*own)
    fingerprints = {split: each.fingerprint for split, each in stated.splits.items()}
    types = stated.type_constraints
    of_types = None if types is None else types.fingerprint
    if stated.fingerprint != graph_fingerprint(fingerprints, of_types):
        raise MalformedSnapshot(path, None, "has fingerprints that do not fit together")
    indexes: dict[tuple[str, ...], dict[str, PairIndex]] = {}
    for stored in stated.indexes:
        indexes.setdefault(stored.splits, {})[stored.slot] = open_index(stored, arrays)
    return GraphParts(
        columns=columns,
        num_entities=stated.num_entities,
        num_relations=stated.num_relations,
        entities=_vocabulary(path, "entities", sizes[0], arrays),
        relations=_vocabulary(path, "relations", sizes[1], arrays),
        num_unseen={split: each.num_unseen for split, each in stated.splits.items()},
        type_constraints=(
            None
            if types is None
            else TypeConstraints.from_sorted(
                arrays["types.heads"], arrays["types.tails"], num_unseen=types.num_unseen
            )
        ),
        split_fingerprints=fingerprints,
        type_constraints_fingerprint=of_types,
        relation_counts=RelationCounts(
            arrays["counts.triples"], arrays["counts.heads"], arrays["counts.tails"]
        ),
        indexes=indexes,
    )


def _vocabulary(
    path: Path, kind: str, size: int, arrays: Mapping[str, NDArray[np.integer]]
) -> MappedVocabulary | None:
    if f"{kind}.labels" not in arrays:
        return None
    prefix = f"{kind}."
    own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    vocabulary = MappedVocabulary(own)
    if len(vocabulary) != size:
        raise MalformedSnapshot(
            path, f"{kind}.offsets", f"is of {len(vocabulary)} labels, the graph has {size}"
        )
    return vocabulary
