"""Ranks of one training draw at different positions, in all integrations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from tests.support import preloaded
from tests.support.server_process import ServerProcess, server_process

NUM_ENTITIES = 2571
LAUNCH_VARIABLES = {"RANK", "WORLD_SIZE"}


class Recorder(NamedTuple):
    """A server, and the file with the positions that its engine drew at."""

    server: ServerProcess
    record: Path

    def taken(self, seed: int) -> list[tuple[int, int]]:
        """Return the position ranges of a seed's draws, sorted."""
        lines = (line.split() for line in self.record.read_text().splitlines())
        return sorted((int(line[1]), int(line[2])) for line in lines if line[0] == str(seed))


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    record = tmp_path_factory.mktemp("record") / "positions.txt"
    record.touch()
    module = "tests.support.children.recording_server"
    environment = {"NEGSERVE_TEST_RECORD": str(record)}
    with server_process("--dataset", "world", env=environment, module=module) as running:
        yield Recorder(running, record)


def draw(
    recorder: Recorder,
    folder: Path,
    num_ranks: int,
    seed: int,
    what: str,
    imports: Sequence[str] = (),
) -> list[dict[str, NDArray[np.int64]]]:
    """Run ranks, and return what each of them drew."""
    folder.mkdir()
    command = ["-m", "tests.support.children.drawing_ranks"]
    command += [recorder.server.target, str(folder), str(num_ranks), str(seed), what]
    preloaded.run(
        command, check=True, timeout=250, imports=imports,
        env={name: value for name, value in os.environ.items() if name not in LAUNCH_VARIABLES},
    )  # fmt: skip
    ranks = []
    for rank in range(num_ranks):
        with np.load(folder / f"{rank}.npz") as file:
            ranks.append(dict(file))
    return ranks


def assert_disjoint(taken: list[tuple[int, int]], num_positives: int) -> None:
    """Check that no position was drawn at twice."""
    assert sum(count for _, count in taken) == num_positives
    for (first, count), (second, _) in pairwise(taken):
        assert first + count <= second


def assert_chance(drawn: list[NDArray[np.int64]]) -> None:
    """Check that arrays for equal positives agree as often as independent draws do."""
    pairs = list(combinations(drawn, 2))
    if not pairs:
        return
    num_equal = sum(int((one == other).sum()) for one, other in pairs)
    total = sum(one.size for one, _ in pairs)
    # Of each pair all values but few known ones may be drawn; a position drawn at twice gives
    # 100 % instead of 0.04 %.
    assert binomtest(num_equal, total, 1 / NUM_ENTITIES).pvalue > 1e-9, (num_equal, total)


@pytest.mark.parametrize(
    ("num_ranks", "methods"),
    [(1, "fork"), (2, "fork+spawn"), (4, "fork")],
)
def test_ranks_and_their_workers_share_no_position(
    recorder: Recorder, tmp_path: Path, num_ranks: int, methods: str
):
    """Some or many ranks, with forked workers; for two, the last has a spawned one, too."""
    ranks = draw(recorder, tmp_path / "a", num_ranks, 10 + num_ranks, methods)
    taken = recorder.taken(10 + num_ranks)
    num_positives = sum(len(array) for rank in ranks for array in rank.values())
    assert num_positives == num_ranks * 64 * (17 if "spawn" in methods else 13)
    assert_disjoint(taken, num_positives)
    # Batches of 64 equal positives, whoever drew them.
    assert_chance([
        batch for rank in ranks for array in rank.values()
        for batch in np.split(array, len(array) // 64)
    ])  # fmt: skip
    if num_ranks > 2:
        return
    # Each run draws the same.
    for rank, again in zip(
        ranks, draw(recorder, tmp_path / "b", num_ranks, 10 + num_ranks, methods), strict=True
    ):
        for name, array in rank.items():
            np.testing.assert_array_equal(array, again[name])


def test_the_loops_of_other_libraries_share_no_position(recorder: Recorder, tmp_path: Path):
    imports = ("negserve.integrations.torch_geometric", "negserve.integrations.torchkge")
    ranks = draw(recorder, tmp_path / "a", 2, 40, "integrations", imports)
    for seed, name in ((40, "torchkge"), (41, "torch_geometric")):
        arrays = [rank[name] for rank in ranks]
        assert_disjoint(recorder.taken(seed), sum(len(array) for array in arrays))
        assert_chance([batch for array in arrays for batch in np.split(array, len(array) // 64)])
