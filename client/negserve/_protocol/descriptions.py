"""What a server says about itself and its datasets, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise

from negserve._protocol import messages
from negserve._protocol.messages import check_equal, check_fingerprint, check_range, invalid
from negserve.types.answers.server_info import ServerInfo, ServerLimits
from negserve.types.dataset import Dataset, Limits
from negserve.types.fingerprint import graph_fingerprint
from negserve.v1 import sampler_pb2 as pb

_VERSION = re.compile(r"\d+\.\d+\.\d+\S{0,80}", flags=re.ASCII)
_MOST_VERSIONS = 1000
#: Limits that are 0 where clients may not publish.
_MAY_BE_0 = ("max_publish_triples", "max_publish_ids", "max_publish_graphs")
#: Splits by their number on the wire.
SPLIT_NAMES = {value: name for name, value in messages.SPLITS.items()}
_MOST_IDS = 2**32


def read_server_info(answer: pb.GetServerResponse) -> ServerInfo:
    """Check and decode an answer to ``GetServer``.

    :raises InvalidAnswerError: naming the field
    """
    if not _VERSION.fullmatch(answer.version):
        raise invalid("version", repr(answer.version), "MAJOR.MINOR.PATCH")
    versions = tuple(answer.algorithm_versions)
    check_range("algorithm_versions, numbers", len(versions), 1, _MOST_VERSIONS)
    if versions[0] < 1 or any(a >= b for a, b in pairwise(versions)):
        raise invalid("algorithm_versions", versions, "ascending, from 1 on")
    values = {field.name: getattr(answer.limits, field.name) for field in fields(ServerLimits)}
    for name, value in values.items():
        lowest = 0 if name in _MAY_BE_0 else 1 if isinstance(value, int) else 5e-324
        check_range(f"limits.{name}", value, lowest, 2**64 - 1)
    num_workers = answer.num_workers or 1
    check_range("worker", answer.worker, 0, num_workers - 1)
    return ServerInfo(answer.version, versions, ServerLimits(**values), answer.worker, num_workers)


@dataclass(frozen=True, slots=True)
class DatasetDescription:
    """What a server says about a dataset.

    :ivar dataset: what requests name it by
    :ivar num_triples_per_split: distinct triples by split name
    :ivar num_unseen: triples left out for a label unseen in training, by split name
    :ivar split_fingerprints: SHA-256 of id space and triples, by split name
    :ivar type_constraints_fingerprint: SHA-256 of id space and type constraints; None for a
        dataset without them
    """

    dataset: Dataset
    num_triples_per_split: Mapping[str, int]
    num_unseen: Mapping[str, int]
    split_fingerprints: Mapping[str, str]
    type_constraints_fingerprint: str | None


def server_request() -> pb.GetServerRequest:
    """Encode a request for the version and the limits of a server."""
    return pb.GetServerRequest()


def dataset_request(name: str) -> pb.GetDatasetRequest:
    """Encode a request for the description of a dataset."""
    return pb.GetDatasetRequest(dataset=name)


def read_dataset(name: str, answer: pb.GetDatasetResponse) -> DatasetDescription:
    """Check and decode an answer to ``GetDataset``, without splits that this client does not know.

    :param name: the name that was asked for
    :raises InvalidAnswerError: naming the field
    """
    dataset, limits = answer.dataset, answer.limits
    check_equal("dataset.name", dataset.name, name)
    check_dataset("dataset", dataset)
    check_limits("limits", limits)
    splits = {
        SPLIT_NAMES[split.split]: split for split in dataset.splits if split.split in SPLIT_NAMES
    }
    return DatasetDescription(
        dataset=Dataset(
            name=name,
            fingerprint=dataset.fingerprint,
            num_entities=dataset.num_entities,
            num_relations=dataset.num_relations,
            num_triples=splits["training"].num_triples,
            has_vocabulary=dataset.has_vocabulary,
            limits=Limits(**{each.name: getattr(limits, each.name) for each in fields(Limits)}),
        ),
        num_triples_per_split={name: split.num_triples for name, split in splits.items()},
        num_unseen={name: split.num_unseen for name, split in splits.items()},
        split_fingerprints={name: split.fingerprint for name, split in splits.items()},
        type_constraints_fingerprint=dataset.type_constraints_fingerprint or None,
    )


def check_dataset(path: str, dataset: pb.Dataset) -> None:
    """Check the description of a dataset. It may have splits that this client does not know.

    :raises InvalidAnswerError: naming the field
    """
    if not dataset.name:
        raise invalid(f"{path}.name", "''", "a name")
    check_range(f"{path}.num_entities", dataset.num_entities, 1, _MOST_IDS)
    check_range(f"{path}.num_relations", dataset.num_relations, 1, _MOST_IDS)
    most = dataset.num_entities**2 * dataset.num_relations
    numbers = [split.split for split in dataset.splits]
    if pb.SPLIT_TRAINING not in numbers or 0 in numbers or len(set(numbers)) < len(numbers):
        raise invalid(f"{path}.splits", numbers, "different ones, training among them")
    for split in dataset.splits:
        check_range(f"{path}.splits.num_triples", split.num_triples, 0, most)
        check_fingerprint(f"{path}.splits.fingerprint", split.fingerprint)
    check_fingerprint(f"{path}.fingerprint", dataset.fingerprint)
    types = dataset.type_constraints_fingerprint or None
    if types is not None:
        check_fingerprint(f"{path}.type_constraints_fingerprint", types)
    if set(numbers) <= set(SPLIT_NAMES):
        of_splits = {SPLIT_NAMES[split.split]: split.fingerprint for split in dataset.splits}
        expected = graph_fingerprint(of_splits, types)
        check_equal(f"{path}.fingerprint, by those of its parts", dataset.fingerprint, expected)


def check_limits(path: str, limits: pb.Limits) -> None:
    """Check that limits allow requests.

    :raises InvalidAnswerError: naming the field
    """
    for field in (
        "max_negatives_per_positive",
        "max_negatives_per_message",
        "max_triples_per_message",
    ):
        check_range(f"{path}.{field}", getattr(limits, field), 1, 2**64 - 1)
    if not limits.max_unanswered_messages:
        remedy = "at least 1, as of servers from release 0.2 on; upgrade servers before clients"
        raise invalid(f"{path}.max_unanswered_messages", 0, remedy)
    check_range(f"{path}.max_unanswered_bytes", limits.max_unanswered_bytes, 1, 2**64 - 1)
