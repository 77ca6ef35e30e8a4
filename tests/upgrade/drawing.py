"""A trainer that both releases run: draws by every call, and prints what it got.

``python drawing.py TARGET STATES NAME``: reads the states of streams that another run has written
to the file STATES, goes on from there, or writes them if there is no such file; publishes a graph
as NAME. Prints a JSON object of digests.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

import negserve
from negserve import Client, EpochConfig, SamplerConfig
from negserve.data import TripleStream

POSITIVES = np.array([[0, 0, 1], [5, 2, 9], [1000, 20, 7], [2570, 28, 2570]])
SAMPLERS = {
    "bernoulli": SamplerConfig(kind="bernoulli", num_negs_per_pos=9, filter_splits=("training",)),
    "pseudotyped": SamplerConfig(kind="pseudotyped", num_negs_per_pos=9, distinct=True),
    "typed": SamplerConfig(kind="typed", num_negs_per_pos=5, filter_splits=("training",)),
    "degree": SamplerConfig(kind="degree", num_negs_per_pos=5, log_q=True),
    "mixture": SamplerConfig(
        kind="mixture", mixture=(("bernoulli", 3), ("typed", 1)), num_negs_per_pos=8
    ),
    "masked": SamplerConfig(num_negs_per_pos=9, filter_splits=("training",), filter_mode="mask"),
    "chunked": SamplerConfig(num_negs_per_pos=9, chunk_size=2, seed=2**63),
    "relation slot": SamplerConfig(num_negs_per_pos=9, corruption_scheme=("head", "relation")),
    "candidates": SamplerConfig(num_negs_per_pos=9, candidates=tuple(range(0, 2000, 3))),
}
#: Of an epoch is drawn before its state is taken.
NUM_BATCHES = 7


def digest(parts: Iterable[object]) -> str:
    """Return a digest of arrays and of what can be written as one."""
    content = hashlib.sha256()
    for part in parts:
        if part is not None:
            array = np.asarray(part)
            content.update(f"{array.dtype} {array.shape}".encode())
            content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def main() -> None:
    target, states, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    got: dict[str, str] = {}
    with Client(target) as client:
        factory = client.triples_factory("world")
        for kind, config in SAMPLERS.items():
            options = {
                field: getattr(config, field) for field in SamplerConfig.__dataclass_fields__
            }
            sampler = factory.open_sampler(**options)
            drawn = [sampler.sample(POSITIVES, position) for position in (0, 2**40)]
            got[kind] = digest(
                part for each in drawn for part in (each.triples(POSITIVES), each.mask, each.log_q)
            )
            sampler.close()
        got["contains"] = digest([factory.contains(POSITIVES, ("training", "testing"))])
        got["labels"] = digest([np.array(list(factory.entity_to_id), "U")])
        got["statistics"] = digest([factory.relation_statistics.head_probability])
        got["num_positives"] = str(factory.num_positives((1, 2)))
        config = EpochConfig(batch_size=64, rank=1, world_size=3)
        epochs = factory.epochs(SAMPLERS["bernoulli"], config)
        loader = TripleStream(
            factory, sampler=SAMPLERS["typed"], batch_size=64, rank=0, world_size=2
        )
        if states.exists():
            of_epochs, of_loader = pickle.loads(states.read_bytes())
            epochs.load_state_dict(of_epochs)
            loader.load_state_dict(of_loader)
        else:
            first = list(islice(epochs, NUM_BATCHES)), list(islice(loader, NUM_BATCHES))
            assert all(len(each) == NUM_BATCHES for each in first)
            states.write_bytes(pickle.dumps((epochs.state_dict(), loader.state_dict())))
        got["rest of an epoch"] = digest(
            part
            for each in epochs
            for part in (each.positives, each.negatives.triples(each.positives))
        )
        got["rest of a loader"] = digest(
            part for each in loader for part in (each.positives, each.negatives)
        )
        triples = np.random.default_rng(0).integers(0, 50, (200, 3))
        published = client.publish(name, triples, num_entities=50, num_relations=50)
        got["published"] = published.fingerprint
        sampler = published.open_sampler(num_negs_per_pos=3, filter_splits=("training",))
        got["of the published"] = digest([sampler.sample(triples, 0).triples(triples)])
        sampler.close()
        try:
            factory.open_sampler(num_negs_per_pos=10**6).sample(POSITIVES, 0)
        except negserve.NegserveError as error:
            got["a request too large"] = type(error).__name__
    print(json.dumps(got))


if __name__ == "__main__":
    main()
