"""A server's training triples, with labels."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve._calls.client import DEFAULT_TARGET
from negserve._sync.client import Client
from negserve.errors import InvalidRequestError
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig


def negserve(dataset: str) -> NDArray[Any]:
    """Load labelled training triples, for PyKEEN's ``load_triples("negserve:DATASET")``.

    ``TriplesFactory.from_labeled_triples`` gives them the same ids as the server. The server's
    address is the environment variable ``NEGSERVE_TARGET``, and without it ``127.0.0.1:7733``.

    :param dataset: name on the server
    :return: str, shape (n, 3), sorted by id
    :raises InvalidRequestError: for a dataset without labels
    :raises NegserveError: for any other error of the server
    """
    with Client(os.environ.get("NEGSERVE_TARGET", DEFAULT_TARGET)) as client:
        factory = client.triples_factory(dataset)
        entities = np.array(factory.entity_labels, dtype=object)
        relations = np.array(factory.relation_labels, dtype=object)
        if len(entities) == 0:
            raise InvalidRequestError(
                f"{client.target}: dataset {dataset!r} has no labels; load its file instead"
            )
        rows = [
            batch.positives for batch in factory.epochs(SamplerConfig(), EpochConfig(shuffle=False))
        ]
    triples = np.concatenate(rows)
    columns = [entities[triples[:, 0]], relations[triples[:, 1]], entities[triples[:, 2]]]
    return np.stack(columns, axis=1)
