"""Cases of Hugging Face accelerate, on any number of ranks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator, debug_launcher, skip_first_batches
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import ChainDataset, DataLoader, IterableDataset

from negserve.data import TripleLoader, TripleStream
from tests.support.programs.ranks import Cases
from tests.support.shares import BATCH_SIZE, SAMPLER, pairs

cases = Cases()
accelerator: Any = None
ODD = (3,)  # a relation with an odd number of triples


def stream_of(**options: Any) -> TripleStream:
    options = {"batch_size": BATCH_SIZE, "form": "tuple", **options}
    return TripleStream(cases.target, "world", SAMPLER, **options)


def prepared(stream: IterableDataset[Any], kept: Any = None, **options: Any) -> Any:
    return (kept or accelerator).prepare(DataLoader(stream, **{"batch_size": None, **options}))


def other(**options: Any) -> Accelerator:
    return Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**options))


class Outer(IterableDataset[Any]):
    """A user's own dataset that wraps a stream."""

    def __init__(self, stream: TripleStream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Any]:
        yield from self.stream


@cases.add
def dispatched() -> Any:
    loader = prepared(stream_of())
    return [*pairs(loader), *pairs(loader)]


@cases.add
def dispatched_from_workers() -> Any:
    loader = prepared(stream_of(), num_workers=2)
    return [*pairs(loader), *pairs(loader)]


@cases.add
def dispatched_from_spawned_workers() -> Any:
    """On several ranks only: a spawned worker imports everything."""
    if accelerator.num_processes == 1:
        return None
    return pairs(prepared(stream_of(), num_workers=1, multiprocessing_context="spawn"))


@cases.add
def dispatched_from_persistent_workers() -> Any:
    loader = prepared(stream_of(), num_workers=2, persistent_workers=True)
    return [*pairs(loader), *pairs(loader)]


@cases.add
def dispatched_on_purpose() -> Any:
    return pairs(prepared(stream_of(), other(dispatch_batches=True, even_batches=False)))


@cases.add
def dispatched_from_an_outer_dataset() -> Any:
    return pairs(prepared(Outer(stream_of())))


@cases.add
def dispatched_from_a_chain() -> Any:
    return pairs(prepared(ChainDataset([stream_of()])))


@cases.add
def dispatched_without_a_remainder() -> Any:
    return pairs(prepared(stream_of(tail="drop")))


@cases.add
def dispatched_from_all_on_each_rank() -> Any:
    return pairs(prepared(stream_of(rank=0, world_size=1)))


@cases.add
def batches_skipped() -> Any:
    loader = prepared(stream_of())
    loader.set_epoch(1)
    return pairs(skip_first_batches(loader, 3))


@cases.add
def a_state_gone_on_from() -> Any:
    stream = stream_of()
    stream.load_state_dict({"epoch": 1, "start": 3 * 2 * BATCH_SIZE})
    loader = prepared(stream)
    loader.set_epoch(1)
    return [*pairs(loader), *pairs(loader)]


@cases.add
def a_state_gone_on_from_by_workers() -> Any:
    stream = stream_of()
    stream.load_state_dict({"epoch": 1, "start": 3 * 2 * BATCH_SIZE})
    loader = prepared(stream, num_workers=2)
    loader.set_epoch(1)
    return [*pairs(loader), *pairs(loader)]


@cases.add
def a_state_of_another_epoch() -> Any:
    stream = stream_of()
    stream.load_state_dict({"epoch": 1, "start": 3 * 2 * BATCH_SIZE})
    return pairs(prepared(stream))


@cases.add
def a_state_and_skipped_batches() -> Any:
    stream = stream_of()
    stream.load_state_dict({"epoch": 0, "start": 3 * 2 * BATCH_SIZE})
    return pairs(skip_first_batches(prepared(stream), 3))


@cases.add
def length() -> Any:
    loader = prepared(stream_of())
    return [len(loader), len(stream_of()), len(pairs(loader))]


@cases.add
def states() -> Any:
    """States asked for within a pass, and after it."""
    stream, said = stream_of(), []
    for step, _ in enumerate(prepared(stream)):
        if step == 2:
            try:
                stream.state_dict()
            except Exception as error:
                said.append(str(error))
    if accelerator.is_main_process:
        assert stream.state_dict() == {"epoch": 1, "start": 0}
    return said


@cases.add
def of_an_odd_number() -> Any:
    return pairs(prepared(stream_of(relations=ODD, batch_size=8)))


@cases.add
def of_an_odd_number_without_a_remainder() -> Any:
    return pairs(prepared(stream_of(relations=ODD, batch_size=8, tail="drop")))


@cases.add
def of_whole_batches() -> Any:
    return pairs(prepared(stream_of(form="batch")))


@cases.add
def of_full_batches() -> Any:
    return pairs(prepared(stream_of(tail="wrap")))


@cases.add
def of_given_ranks() -> Any:
    rank = accelerator.process_index
    return pairs(prepared(stream_of(rank=rank, world_size=accelerator.num_processes)))


@cases.add
def of_batches_of_batches() -> Any:
    return pairs(prepared(stream_of(), batch_size=1))


@cases.add
def dispatched_not() -> Any:
    return pairs(prepared(stream_of(), other(dispatch_batches=False)))


@cases.add
def dispatched_not_of_batches() -> Any:
    return pairs(prepared(stream_of(), other(dispatch_batches=False), batch_size=1))


@cases.add
def split() -> Any:
    return pairs(prepared(stream_of(), other(split_batches=True), batch_size=2))


@cases.add
def stateful() -> Any:
    return pairs(prepared(stream_of(), other(use_stateful_dataloader=True)))


@cases.add
def not_prepared() -> Any:
    return pairs(DataLoader(stream_of(), batch_size=None))


def loader_of() -> Any:
    return accelerator.prepare(TripleLoader(stream_of(form="compact"), device=accelerator.device))


@cases.add
def own_loader() -> Any:
    loader = loader_of()
    return [*pairs(loader), *pairs(loader)]


@cases.add
def own_loader_dispatched_not() -> Any:
    return pairs(other(dispatch_batches=False).prepare(TripleLoader(stream_of(form="compact"))))


@cases.add
def own_loader_kept_with_the_rest() -> Any:
    """``save_state`` in mid-epoch, and ``load_state`` as after a restart."""
    path, given = str(cases.folder / "kept"), []
    loader = loader_of()
    accelerator.register_for_checkpointing(loader)
    for batch in loader:
        given.append(batch)
        if len(given) == 4:
            accelerator.save_state(path)
        if len(given) == 7:
            break
    accelerator.wait_for_everyone()
    accelerator.load_state(path)
    return pairs([*given[:4], *loader])


@cases.add
def stateful_kept_with_the_rest() -> Any:
    """On one process only."""
    kept = other(use_stateful_dataloader=True)
    given: list[Any] = []
    for num_workers in (0, 2):
        del kept._dataloaders[:]
        path = str(cases.folder / f"stateful{num_workers}")
        for batch in prepared(stream_of(), kept, num_workers=num_workers):
            given.append(batch)
            if len(given) % 22 == 4:
                kept.save_state(path)
                break
        del kept._dataloaders[:]
        loader = prepared(stream_of(), kept, num_workers=num_workers)
        kept.load_state(path)
        given += loader
    return pairs(given)


def main() -> None:
    """Run one rank."""
    global accelerator  # noqa: PLW0603
    accelerator = Accelerator(cpu=True)
    cases.write(accelerator.process_index)
    accelerator.end_training()


if __name__ == "__main__":
    # accelerate's own launcher for ranks on a CPU, if only some cases are asked for.
    debug_launcher(main, num_processes=2) if sys.argv[3:] else main()
