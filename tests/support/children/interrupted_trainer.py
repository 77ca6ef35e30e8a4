"""A trainer that is interrupted again and again, and reports after each time whether all is well.

``python -m tests.support.children.interrupted_trainer PART TARGET SEED``;
:mod:`tests.support.interrupting` sends the signals. It says "ready" before it does what its part
is, over and over, until a KeyboardInterrupt; then "interrupted", and once it has made sure of the
client, "well", or what is wrong.
"""

from __future__ import annotations

import faulthandler
import gc
import random
import signal
import sys
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np

from negserve import (
    Client,
    EpochBatch,
    EpochConfig,
    EpochStream,
    RemoteTriplesFactory,
    SamplerConfig,
)
from negserve.errors import ClosedError, NegserveError
from tests.support.graphs import load


class Part(ABC):
    """Something that a trainer repeats.

    :param target: of the server
    """

    def __init__(self, target: str, seed: int) -> None:
        self.target = target
        self.random = random.Random(seed)
        self.client = Client(target, timeout=20)
        self.set_up()

    @abstractmethod
    def set_up(self) -> None:
        """Open what is used repeatedly."""

    @abstractmethod
    def act(self) -> None:
        """Do it once."""

    @abstractmethod
    def check(self) -> None:
        """Check, after an interrupt, that the client is usable."""


class Sample(Part):
    """Draws small batches."""

    num_positives = 64
    config: ClassVar[dict[str, Any]] = {
        "num_negs_per_pos": 8,
        "filter_splits": ("training",),
        "seed": 5,
    }

    def set_up(self) -> None:
        world = load("world")
        self.positives = world.mapped_triples[: self.num_positives]
        self.factory = self.client.triples_factory("world")
        self.sampler = self.factory.open_sampler(**self.config)
        self.expected = world.open_sampler(**self.config).sample(self.positives, 7)

    def act(self) -> None:
        self.sampler.sample(self.positives, self.random.randrange(2**40))

    def check(self) -> None:
        batch = self.sampler.sample(self.positives, 7)
        assert np.array_equal(batch.replaced, self.expected.replaced), "other negatives"
        assert np.array_equal(batch.head_counts, self.expected.head_counts), "other slots"


class LargeSample(Sample):
    """Draws batches of many messages."""

    num_positives = 2_500

    def set_up(self) -> None:
        global _CONFIG  # noqa: PLW0603
        _CONFIG = {**self.config, "num_negs_per_pos": 500}
        super().set_up()


class Opening(Sample):
    """Opens samplers, and drops some of them."""

    def act(self) -> None:
        sampler = self.factory.open_sampler(**self.config)
        sampler.sample(self.positives, 3)
        if self.random.random() < 0.5:
            sampler.close()


class Sharing(Sample):
    """Draws with a sampler that another thread uses, too."""

    def set_up(self) -> None:
        super().set_up()
        threading.Thread(target=self._draw, daemon=True).start()

    def _draw(self) -> None:
        while True:
            self.sampler.sample(self.positives, 1)


class Asking(Sample):
    """Connects, makes several calls, and closes."""

    def act(self) -> None:
        with Client(self.target, timeout=20) as client:
            assert "world" in client.list_datasets()
            factory = client.triples_factory("world")
            assert factory.contains(self.positives, ["training"]).all()
            assert len(factory.entity_labels) == factory.num_entities


class Epochs(Part):
    """Reads two epochs repeatedly, and resumes where it was interrupted."""

    sampler = SamplerConfig(num_negs_per_pos=4, filter_splits=("training",), seed=11)
    config = EpochConfig(batch_size=256)
    given: EpochBatch | None = None

    def set_up(self) -> None:
        self.factory = self.client.triples_factory("world")
        self.stream = self.factory.epochs(self.sampler, self.config, digest=True)
        undisturbed = self.factory.epochs(self.sampler, self.config, digest=True)
        self.expected = [("", 0, 0)]  # the state behind each batch
        for _ in range(2):
            for _ in undisturbed:
                self.expected.append(_state(undisturbed))

    def act(self) -> None:
        if self.stream.epoch == 2:
            self.stream.load_state_dict({"epoch": 0, "start": 0})
            self.given = None
        for self.given in self.stream:  # noqa: B020
            if self.random.random() < 0.01:
                break

    def check(self) -> None:
        now = _state(self.stream)
        assert now in self.expected, f"{now}: a batch was lost, or given twice"
        if self.given is not None and self.stream.epoch == self.given.epoch:
            assert now[2] == self.given.next_start, f"{now}: the last batch was not given"
        if now != self.expected[-1]:
            next(iter(self.stream))
            due = self.expected[self.expected.index(now) + 1]
            assert _state(self.stream) == due, "the next batch is another one"
            self.given = None


def _state(stream: EpochStream) -> tuple[str, int, int]:
    state = stream.state_dict()
    return state["digest"], state["epoch"], state["start"]


class Publishing(Part):
    """Publishes one graph after another."""

    def set_up(self) -> None:
        self.prefix = f"p{self.random.randrange(2**40):x}"
        self.num = 0

    def _publish(self) -> RemoteTriplesFactory:
        generator = np.random.default_rng(self.num)
        triples = generator.integers(0, (500, 10, 500), size=(1000, 3))
        return self.client.publish(f"{self.prefix}-{self.num}", triples, on_progress=repr)

    def act(self) -> None:
        self.num += 1
        self._publish()

    def check(self) -> None:
        assert self._publish().num_triples > 900


class Silent(Part):
    """Waits for a server that accepts connections and sends nothing, or accepts none."""

    def set_up(self) -> None:
        pass

    def act(self) -> None:
        with suppress(NegserveError):
            self.client.triples_factory("world")

    def check(self) -> None:
        self.client.close()
        with suppress(ClosedError):
            self.client.list_datasets()
        self.client = Client(self.target, timeout=20)


PARTS: dict[str, type[Part]] = {
    "sample": Sample,
    "large": LargeSample,
    "opening": Opening,
    "sharing": Sharing,
    "asking": Asking,
    "epochs": Epochs,
    "publishing": Publishing,
    "silent": Silent,
}


def main(name: str, target: str, seed: str) -> None:
    """Run a part until standard input ends."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    part = PARTS[name](target, int(seed))
    while True:
        try:
            print("ready", flush=True)
            while True:
                part.act()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        if not sys.stdin.readline():
            return
        try:
            part.check()
        except BaseException as error:
            print(f"wrong: {type(error).__name__}: {error}", flush=True)
            raise
        print("well", flush=True)
        gc.collect()


if __name__ == "__main__":
    main(*sys.argv[1:])
