"""Which files of a folder hold which split, ids or type constraints."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers import id_maps
from negserve_server.graph.readers.formats import compression, rdf
from negserve_server.graph.readers.formats.options import ReadOptions

logger = logging.getLogger(__name__)

SPLIT_STEMS = {
    "training": ("train", "training"),
    "validation": ("valid", "validation", "val", "dev"),
    "testing": ("test", "testing"),
}
SPLIT_OF = {stem: split for split, stems in SPLIT_STEMS.items() for stem in stems}
#: What a file holds, by the ending of its name; separators stand for text.
FORMATS = {
    "txt": "\t",
    "tsv": "\t",
    "del": "\t",
    "csv": ",",
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
    "ipc": "arrow",
    "jsonl": "json lines",
    "ndjson": "json lines",
    "json": "json lines",
    "npy": "arrays",
    "npz": "arrays",
    **dict.fromkeys(rdf.FORMATS, "rdf"),
}
_CONSTRAINTS = "type_constraints"
#: The triples of a folder that PyKEEN's ``TriplesFactory.to_path_binary`` wrote, as ids.
_PYKEEN_TRIPLES = "numeric_triples"


@dataclass(slots=True)
class Sources:
    """The files of a graph.

    :ivar splits: files of each split, read one after the other
    :ivar maps: files of ids, by "entities" and "relations"
    :ivar constraints: the file of type constraints
    """

    splits: dict[str, list[Path]]
    maps: dict[str, Path] = field(default_factory=dict)
    constraints: Path | None = None


def divide_name(path: Path) -> tuple[str, str]:
    """Divide a name into stem and ending, in small letters, without the ending of a packer."""
    name = path.name.lower()
    stem, _, last = name.rpartition(".")
    if stem and last in compression.ENDINGS:
        name = stem
    stem, dot, ending = name.rpartition(".")
    return (stem, ending) if dot and stem else (name, "")


def find_sources(path: Path, options: ReadOptions, *, is_logged: bool = True) -> Sources:
    """Find the files of a graph; those of a folder that are not read are logged by name.

    :param path: a file of training triples, a folder with files or folders named by splits, or one
        with a single file or with parts of the training triples
    :param is_logged: whether they are
    :raises MalformedFile: if there are no training triples, or two files for one split
    """
    named = {"validation": options.validation, "testing": options.testing}
    if not path.exists():
        raise MalformedFile(path, None, "no such file or folder")
    sources = _in_folder(path, is_logged) if path.is_dir() else Sources({"training": [path]})
    for split, file in named.items():
        if file is not None:
            if not file.exists():
                raise MalformedFile(file, None, "no such file or folder")
            sources.splits[split] = _parts(file) if file.is_dir() else [file]
    sources.splits = {
        split: sources.splits[split] for split in SPLIT_STEMS if split in sources.splits
    }
    for kind, given in (("entities", options.entity_ids), ("relations", options.relation_ids)):
        if given is not None:
            sources.maps[kind] = given
    return sources


def _in_folder(folder: Path, is_logged: bool) -> Sources:
    entries = sorted(folder.iterdir())
    splits: dict[str, list[Path]] = {}
    for entry in entries:
        stem, ending = divide_name(entry)
        split = SPLIT_OF.get(stem.removesuffix("2id"))
        if stem == _PYKEEN_TRIPLES:
            split = "training"
        is_split = ending in FORMATS or ending == ""
        if split and is_split and (not entry.is_dir() or _parts(entry)):
            splits.setdefault(split, []).append(entry)
    maps = _maps(entries) or _maps_of_splits(splits)
    _prefer_files_of_ids(splits, maps)
    for split, files in splits.items():
        files[:] = [_only(folder, files)]
        if files[0].is_dir():
            splits[split] = _parts(files[0])
    constraints = [entry for entry in entries if divide_name(entry)[0] == _CONSTRAINTS]
    constraints = [entry for entry in constraints if divide_name(entry)[1] in {"txt", "tsv"}]
    constraints.sort(key=lambda entry: list(FORMATS).index(divide_name(entry)[1]))
    sources = Sources(splits, maps, _only(folder, constraints) if constraints else None)
    if "training" not in splits:
        others = [
            entry
            for entry in _parts(folder)
            if entry not in maps.values() and entry != sources.constraints
        ]
        is_parts = all(entry.name.startswith(("part-", "part.")) for entry in others)
        if splits or not others or (len(others) > 1 and not is_parts):
            names = ", ".join(entry.name for entry in entries) or "nothing"
            raise MalformedFile(
                folder,
                None,
                f"holds no training triples (train.{{{','.join(FORMATS)}}}, also packed); it has "
                f"{names}. Give the file of training triples as the path, others by --validation "
                f"and --testing",
            )
        splits["training"] = others
    if is_logged:
        _log_unread(folder, entries, sources)
    return sources


def _maps(entries: list[Path]) -> dict[str, Path]:
    maps: dict[str, Path] = {}
    for kind, names in id_maps.STEMS.items():
        for entry in entries:
            stem, ending = divide_name(entry)
            name = stem if ending in {"txt", "tsv"} else f"{stem}.{ending}"
            if name in names and not entry.is_dir():
                if kind in maps:
                    raise MalformedFile(
                        entry.parent,
                        None,
                        f"holds {maps[kind].name} and {entry.name}; keep one of them",
                    )
                maps[kind] = entry
    return maps


def _maps_of_splits(splits: dict[str, list[Path]]) -> dict[str, Path]:
    """Find the files of ids in the folders of PyKEEN's ``Dataset.to_directory_binary``.

    :raises MalformedFile: if the splits have different ones
    """
    found: dict[str, Path] = {}
    for split in SPLIT_STEMS:
        for folder in splits.get(split, ()):
            if not folder.is_dir():
                continue
            for kind, path in _maps(sorted(folder.iterdir())).items():
                first = found.setdefault(kind, path)
                if compression.read_bytes(first) != compression.read_bytes(path):
                    raise MalformedFile(
                        path,
                        None,
                        f"gives other ids than {first}; write all splits with the ids of training",
                    )
    return found


def _prefer_files_of_ids(splits: dict[str, list[Path]], maps: dict[str, Path]) -> None:
    """Leave out files of labels beside files of the same triples as ids, where ids have maps."""
    for files in splits.values():
        for is_of_ids in (is_counted, is_del):
            of_ids = [entry for entry in files if is_of_ids(entry)]
            if of_ids and any(is_of_ids(entry) for entry in maps.values()):
                files[:] = of_ids


def is_counted(path: Path) -> bool:
    """Tell whether a file is of the family ``entity2id.txt``, ``train2id.txt``."""
    return divide_name(path)[0].endswith("2id")


def is_del(path: Path) -> bool:
    """Tell whether a file is of the family ``entity_ids.del``, ``train.del``."""
    return divide_name(path)[1] == "del"


def _parts(folder: Path) -> list[Path]:
    """Find the files of triples of a folder, as Spark, Dask and Ray write them, and PyKEEN.

    :raises MalformedFile: if they are of several formats
    """
    parts = [
        entry
        for entry in sorted(folder.iterdir())
        if not entry.name.startswith(("_", "."))
        and not entry.is_dir()
        and (divide_name(entry)[1] in FORMATS or entry.name.startswith("part-"))
    ]
    parts = [entry for entry in parts if divide_name(entry)[0] == _PYKEEN_TRIPLES] or parts
    endings = {divide_name(entry)[1] for entry in parts}
    if len(endings) > 1 and all(entry.name.startswith("part") for entry in parts):
        raise MalformedFile(
            folder, None, f"holds parts of several formats ({', '.join(sorted(endings))})"
        )
    return parts


def _only(folder: Path, files: list[Path]) -> Path:
    if len(files) > 1:
        names = " and ".join(file.name for file in files)
        raise MalformedFile(
            folder, None, f"holds {names}; keep one of them, or name the files one by one"
        )
    return files[0]


def _log_unread(folder: Path, entries: list[Path], sources: Sources) -> None:
    read = {file for files in sources.splits.values() for file in files}
    read |= set(sources.maps.values())
    used = {file.parent for file in read} - {folder}
    if sources.constraints is not None:
        read.add(sources.constraints)
    unread = [entry for entry in entries if entry not in read and entry not in used]
    for inner in sorted(used):
        unread += [entry for entry in sorted(inner.iterdir()) if entry not in read]
    if unread:
        names = ", ".join(str(entry.relative_to(folder)) for entry in unread)
        logger.info("%s: not read: %s", folder, names)
