"""Division of a graph's triples into splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve.types.triples import sort_unique_triples
from negserve_server.sampling.permutation import Permutation


def divide(
    triples: NDArray[np.int64], fractions: tuple[float, float, float], *, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Divide triples into training, validation and testing; the same for equal triples and seeds.

    Every entity and relation stays in a training triple.

    :param triples: ids, shape (n, 3)
    :param fractions: parts of training, validation and testing; their sum is 1
    :raises ValueError: for fractions that are not, or more than can leave the training triples
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9 or fractions[0] == 0:
        given = ",".join(f"{each:g}" for each in fractions)
        raise ValueError(f"--fractions {given}: give three from 0 to 1 whose sum is 1")
    triples = sort_unique_triples(triples)
    order = Permutation(len(triples), seed=seed, number=0).at(0, len(triples))
    shuffled = triples[order]
    is_kept = np.zeros(len(shuffled), dtype=np.bool_)
    ends = np.concatenate([shuffled[:, 0], shuffled[:, 2]])
    is_kept[np.unique(ends, return_index=True)[1] % len(shuffled)] = True
    is_kept[np.unique(shuffled[:, 1], return_index=True)[1]] = True
    free = np.flatnonzero(~is_kept)
    num_validation, num_testing = (round(part * len(shuffled)) for part in fractions[1:])
    if num_validation + num_testing > len(free):
        raise ValueError(
            f"{num_validation + num_testing} of {len(shuffled)} triples would leave training, but "
            f"only {len(free)} can if every entity and relation is to stay; give "
            f"smaller --fractions"
        )
    chosen = {
        "validation": free[:num_validation],
        "testing": free[num_validation : num_validation + num_testing],
    }
    is_left = np.ones(len(shuffled), dtype=np.bool_)
    for rows in chosen.values():
        is_left[rows] = False
    return {
        "training": shuffled[is_left],
        **{split: shuffled[rows] for split, rows in chosen.items() if len(rows)},
    }
