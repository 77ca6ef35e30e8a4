"""Reads a caller's graph in any of the accepted forms."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve.errors import InvalidRequestError
from negserve.types.config import SPLITS
from negserve.types.triples import as_triples

_FORMS = (
    "give integer ids, shape (n, 3): head, relation, tail, as an array, a tensor or a list of "
    "rows; or a triples factory with mapped_triples, a PyKEEN Dataset, a TorchKGE KnowledgeGraph "
    "or a PyTorch Geometric Data; or a mapping from training, validation and testing to these"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GivenSplit:
    """One split of a graph.

    :ivar triples: int64, shape (n, 3)
    :ivar is_array: whether only the order of the columns tells them apart
    :ivar num_entities: size of the entity id space; None if not stated
    :ivar num_relations: size of the relation id space; None if not stated
    :ivar entity_to_id: entity ids by label; None without labels
    :ivar relation_to_id: relation ids by label; None without labels
    :ivar type_constraints: pairs of relation and allowed entity by slot; None without them
    """

    triples: NDArray[np.int64]
    is_array: bool = False
    num_entities: int | None = None
    num_relations: int | None = None
    entity_to_id: Mapping[str, int] | None = None
    relation_to_id: Mapping[str, int] | None = None
    type_constraints: Any = None


def read_splits(graph: Any) -> dict[str, GivenSplit]:
    """Read the splits of a graph.

    :return: splits by name, in the order training, validation, testing
    :raises InvalidRequestError: for an object that is not a graph, naming its type; for a graph
        without a training split; for an unknown name of a split
    """
    splits = _read_splits(graph)
    unknown = [name for name in splits if name not in SPLITS]
    if unknown or "training" not in splits:
        raise InvalidRequestError(
            f"splits {list(splits)}; give training, and any of {list(SPLITS)}"
        )
    return {name: splits[name] for name in SPLITS if name in splits}


def _read_splits(graph: Any) -> dict[str, GivenSplit]:
    if isinstance(graph, Mapping):
        return {name: _read_split(part, f"{name}: ") for name, part in graph.items()}
    if _is_a(graph, "pykeen.datasets.base", "Dataset"):
        return {name: _of_factory(part) for name, part in graph.factory_dict.items()}
    if isinstance(getattr(graph, "splits", None), Mapping) and hasattr(graph, "mapped_triples"):
        return {name: _of_factory(graph, part) for name, part in graph.splits.items()}
    if _is_a(graph, "torch_geometric.data", "Data"):
        return _of_geometric(graph)
    return {"training": _read_split(graph)}


def _read_split(part: Any, where: str = "") -> GivenSplit:
    if hasattr(part, "mapped_triples"):
        return _of_factory(part)
    if _is_a(part, "torchkge.data_structures", "KnowledgeGraph"):
        return GivenSplit(
            triples=_stacked(part.head_idx, part.relations, part.tail_idx),
            num_entities=int(part.n_ent),
            num_relations=int(part.n_rel),
            entity_to_id=_labels(part.ent2ix),
            relation_to_id=_labels(part.rel2ix),
        )
    if _is_a(part, "torch_geometric.data", "Data"):
        splits = _of_geometric(part)
        if len(splits) == 1:
            return splits["training"]
        raise InvalidRequestError(
            f"{where}{type(part).__name__} has edges of the splits {', '.join(splits)}; publish it "
            f"as a whole"
        )
    # Arrays of any library. Tables, such as pandas', have a dtype a column and no dtype.
    if isinstance(part, list | tuple) or (
        hasattr(part, "__array__") and hasattr(part, "dtype") and hasattr(part, "shape")
    ):
        return GivenSplit(triples=_ids(part), is_array=True)
    raise InvalidRequestError(f"{where}{_named(part)} can't be published; {_remedy(part)}")


def _of_factory(factory: Any, triples: Any = None) -> GivenSplit:
    """Read a triples factory: PyKEEN's, the server's, or an object with the same attributes."""
    # With create_inverse_triples PyKEEN's num_relations is doubled, but mapped_triples is not.
    num_relations = getattr(factory, "real_num_relations", None)
    if num_relations is None:
        num_relations = getattr(factory, "num_relations", None)
    return GivenSplit(
        triples=_ids(factory.mapped_triples if triples is None else triples),
        num_entities=getattr(factory, "num_entities", None),
        num_relations=num_relations,
        entity_to_id=_labels(getattr(factory, "entity_to_id", None)),
        relation_to_id=_labels(getattr(factory, "relation_to_id", None)),
        type_constraints=getattr(factory, "type_constraints", None),
    )


def _of_geometric(data: Any) -> dict[str, GivenSplit]:
    """Read PyTorch Geometric's ``Data``, whose masks may divide its edges into splits."""
    if "edge_index" not in data or "edge_type" not in data:
        raise InvalidRequestError(
            "Data without edge_index and edge_type is not a knowledge graph; give both"
        )
    if "train_edge_index" in data:
        raise InvalidRequestError(
            "Data with train_edge_index is not supported, as its edge_index has each edge in both "
            "directions; give a mapping from training, validation and testing to (n, 3) ids"
        )
    triples = _stacked(data.edge_index[0], data.edge_type, data.edge_index[1])
    masks = {
        split: np.asarray(data[name].cpu(), dtype=np.bool_)
        for split, name in zip(SPLITS, ("train_mask", "val_mask", "test_mask"), strict=True)
        if name in data and len(data[name]) == len(triples) != data.num_nodes
    }
    return {
        split: GivenSplit(triples=triples[mask], num_entities=data.num_nodes)
        for split, mask in (masks or {"training": np.ones(len(triples), dtype=np.bool_)}).items()
    }


def _is_a(graph: Any, module: str, name: str) -> bool:
    """Return whether an object is of a library's class, without importing the library."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(graph, kind)


def _stacked(*columns: Any) -> NDArray[np.int64]:
    return as_triples(np.stack([_on_cpu(column) for column in columns], axis=1))


def _ids(triples: Any) -> NDArray[np.int64]:
    return as_triples(_on_cpu(triples))


def _on_cpu(tensor: Any) -> Any:
    # A tensor may be on a device whose memory numpy can't read.
    return tensor.cpu() if hasattr(tensor, "cpu") else tensor


def _labels(label_to_id: Any) -> Mapping[str, int] | None:
    """Return ids by label; None without labels, or with numbers in place of labels."""
    if not isinstance(label_to_id, Mapping) or not label_to_id:
        return None
    return label_to_id if any(isinstance(label, str) for label in label_to_id) else None


def _named(part: Any) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}".removeprefix("builtins.")


def _remedy(part: Any) -> str:
    if _is_a(part, "torch_geometric.data", "HeteroData"):
        return "each of its node types has its own ids: give its to_homogeneous()"
    if hasattr(part, "to_numpy"):
        return "give its ids, columns head, relation, tail, as to_numpy()"
    if hasattr(part, "split_fingerprints"):
        return "its triples are on a server; publish the graph that they were loaded from"
    return _FORMS
