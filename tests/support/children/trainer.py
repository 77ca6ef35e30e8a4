"""A training run in a separate process, which may be killed at any moment.

``python -m tests.support.children.trainer TARGET FOLDER RANK WORLD_SIZE``: writes each batch and
the state after it to a file of the folder, at once or not at all, and prints a line for it; begins
after the newest file.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

from negserve import Client, EpochConfig, SamplerConfig

SAMPLER = SamplerConfig(num_negs_per_pos=50, filter_splits=("training",), seed=5)
BATCH_SIZE = 8


def main() -> None:
    target, folder, rank, world_size = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5])
    with Client(target, timeout=5, patience=30) as client:
        config = EpochConfig(batch_size=BATCH_SIZE, rank=rank, world_size=world_size)
        stream = client.triples_factory("world").epochs(SAMPLER, config, digest=True)
        steps = sorted(folder.glob("*.step"))
        if steps:
            stream.load_state_dict(pickle.loads(steps[-1].read_bytes())["state"])
        for step, batch in enumerate(stream, start=len(steps)):
            unfinished = folder / "unfinished"
            unfinished.write_bytes(pickle.dumps({"state": stream.state_dict(), "batch": batch}))
            os.replace(unfinished, folder / f"{step:06}.step")
            print(step, flush=True)


if __name__ == "__main__":
    main()
