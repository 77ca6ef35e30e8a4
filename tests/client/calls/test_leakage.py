"""A filter over validation or testing triples causes a warning, and a line in the server's log."""

from __future__ import annotations

import asyncio
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from negserve import Client, LeakageWarning, NegserveWarning, SamplerConfig, aio
from negserve.data import TripleStream
from negserve.sampling import NEGATIVE_SAMPLERS, BasicNegativeSampler
from tests.support import preloaded
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process

LEAKING = ("training", "validation")
CONFIG = SamplerConfig(filter_splits=LEAKING)


def mixture(factory: Any, **options: Any) -> Any:
    return NEGATIVE_SAMPLERS["mixture"](factory, **options, mixture={"basic": 1, "degree": 1})


WAYS: dict[str, Callable[[Any], object]] = {
    "sampler": lambda f: BasicNegativeSampler(f, filtered=True, filter_splits=LEAKING),
    "mixture": lambda f: mixture(f, filtered=True, filter_splits=("testing",)),
    "in process": lambda f: BasicNegativeSampler(
        load("world"), filtered=True, filter_splits=LEAKING
    ),
    "open_sampler": lambda f: f.open_sampler(filter_splits=LEAKING),
    "epochs": lambda f: f.epochs(CONFIG),
    "stream": lambda f: TripleStream(f, sampler=CONFIG),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_warns_once_at_the_callers_line(world: Any, way: str):
    with pytest.warns(LeakageWarning, match=r"docs/sampling\.md, Leakage") as caught:
        WAYS[way](world)
    assert [each.filename for each in caught] == [__file__]
    assert issubclass(LeakageWarning, NegserveWarning)


def test_asyncio_warns_too(serving: ServerProcess):
    async def draw() -> None:
        async with aio.Client(serving.target) as client:
            factory = await client.triples_factory("world")
            await factory.open_sampler(filter_splits=LEAKING)
            factory.epochs(CONFIG)

    with pytest.warns(LeakageWarning) as caught:
        asyncio.run(draw())
    assert [each.filename for each in caught] == [__file__] * 2


def test_a_stream_that_is_read_does_not_warn_again(world: Any):
    with pytest.warns(LeakageWarning):
        stream = TripleStream(world, sampler=CONFIG, batch_size=5000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(stream)) == 2


def test_no_warning_without_leakage(world: Any):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BasicNegativeSampler(world, filtered=True)
        BasicNegativeSampler(world, filtered=True, filter_splits=("training",))
        BasicNegativeSampler(world)
        world.epochs(SamplerConfig(filter_splits=("training",)))
        world.contains([[0, 0, 1]], ("training", "validation", "testing"))


def test_evaluation_ignores_it_as_documented(world: Any):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", LeakageWarning)
        BasicNegativeSampler(world, filtered=True, filter_splits=LEAKING)


def test_by_default_it_is_shown_once():
    program = (
        "from negserve.sampling import BasicNegativeSampler\n"
        "from negserve_server.graph import TriplesFactory\n"
        "world = TriplesFactory.world()\n"
        "import warnings\n"
        "warnings.simplefilter('ignore')  # of an evaluation\n"
        "BasicNegativeSampler(world, filtered=True, filter_splits=('testing',))\n"
        "warnings.resetwarnings()\n"
        "for seed in range(4):\n"
        "    BasicNegativeSampler(world, filtered=True, filter_splits=('testing',), seed=seed)\n"
        "    with warnings.catch_warnings():  # Python forgets what it has shown\n"
        "        pass\n"
        "BasicNegativeSampler(world, filtered=True, filter_splits=('testing',))\n"
    )
    done = preloaded.run(
        ["-c", program],
        timeout=120,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
    )
    assert done.stderr.count("LeakageWarning: filter_splits has testing") == 1


def test_the_server_says_it_once(world: Any, log: Path):
    for _ in range(3):
        next(iter(world.epochs(CONFIG)))
        world.open_sampler(filter_splits=LEAKING)
    lines = [line for line in log.read_text().splitlines() if "avoid validation triples" in line]
    assert len([line for line in lines if "negatives of epochs" in line]) == 1
    assert len([line for line in lines if "negatives of a Sample stream" in line]) <= 1
    assert all(re.search(r" WARNING .*dataset world: ", line) for line in lines)


def test_a_training_filter_is_not_logged(tmp_path: Path):
    log = tmp_path / "log"
    with (
        server_process("--threads", "1", log=log) as server,
        Client(server.target) as client,
    ):
        factory = client.triples_factory("world")
        next(iter(factory.epochs(SamplerConfig(filter_splits=("training",)))))
        factory.open_sampler(filter_splits=("training",))
    assert "avoid" not in log.read_text()
