"""Detect, from the call stack, which library's loader reads a stream."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

_REMEDY = (
    "leave the loader out of prepare(), or use negserve.data.TripleLoader, which prepare() leaves "
    "as it is: a stream gives only its rank's share already"
)
#: Classes that read ahead: Ray's, and Lightning's for loaders without a length.
_AHEAD = {"_WrappedDataLoader", "_PrefetchDataFetcher"}
_LIGHTNING = {"_DataFetcher", "_EvaluationLoop"}
_PIPES = {"IterableWrapperIterDataPipe", "ShardingFilterIterDataPipe"}
_TORCH = {"DataLoader", "DataLoaderAdapter", "IterableDatasetShard"} | _PIPES
_LOADERS = _AHEAD | _LIGHTNING | _TORCH | {"_FitLoop"}
_FRAMEWORKS = {"accelerate", "lightning", "pytorch_lightning", "ray", "torch", "torchdata"}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How a loader reads a stream. Picklable: it travels with the stream to spawned workers.

    :ivar num_ranks: number of ranks that share one rank's stream (accelerate's dispatcher); 1
        where each rank reads a stream of its own
    :ivar is_first: whether this process reads, for all ranks if they share the stream
    :ivar epoch: the loader's own epoch counter; None if it has none
    :ivar reads_ahead: whether it takes the next batch before the current one is trained on
    :ivar is_stateful: whether it is torchdata's loader, which keeps states
    :ivar skips: number of batches that it drops at the beginning of a pass
    :ivar resumes: whether it has counted epochs or batches before (Lightning)
    :ivar copies: whether it would read a copy (a data pipe of torch)
    :ivar refusal: why the stream can't be read this way, and the remedy; None if it can
    """

    num_ranks: int = 1
    is_first: bool = True
    epoch: int | None = None
    reads_ahead: bool = False
    is_stateful: bool = False
    skips: int = 0
    resumes: bool = False
    copies: bool = False
    refusal: str | None = None


def find_reader() -> Reader | None:
    """Find loaders of other libraries on the call stack; None if there is none.

    Nothing else reveals them: a loader calls ``iter`` of its dataset and does not pass itself. A
    forked worker has its parent's call stack. No library is imported for this.
    """
    owners = _owners(sys._getframe(1))
    if not owners:
        return None
    facts: dict[str, object] = {}
    for owner, names in owners:
        if "DataLoaderAdapter" in names:
            facts |= {"reads_ahead": True, "epoch": getattr(owner, "iteration", None)}
            facts["skips"] = getattr(owner, "skip_batches", 0)
        if "StatefulDataLoader" in names:
            facts["is_stateful"] = True
        if "IterableWrapperIterDataPipe" in names:
            facts["copies"] = True
        facts |= dict.fromkeys(names & _LIGHTNING, True)
        if names & _AHEAD and getattr(owner, "length", None) is None:
            facts["reads_ahead"] = True
        if "_FitLoop" in names:
            facts["resumes"] = _is_resuming(owner, facts)
        if "DataLoaderDispatcher" in names:
            facts |= _ranks()
    refusals = (_refusal(owner, names, facts) for owner, names in owners)
    facts = {name: fact for name, fact in facts.items() if name not in _LIGHTNING}
    facts["refusal"] = next((refusal for refusal in refusals if refusal), None)
    return Reader(**facts)  # type: ignore[arg-type]


def _owners(frame: FrameType | None) -> list[tuple[object, set[str]]]:
    """Return the objects with a method on the stack, innermost first, and their class names."""
    found: dict[int, tuple[object, set[str]]] = {}
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module in _FRAMEWORKS and frame.f_code.co_varnames[:1] == ("self",):
            owner = frame.f_locals.get("self")
            # Not isinstance: accelerate's loaders pretend to be of another class.
            names = {
                base.__name__
                for base in type(owner).__mro__
                if base.__module__.partition(".")[0] in _FRAMEWORKS
            }
            if names & _LOADERS:
                found.setdefault(id(owner), (owner, names))
        frame = frame.f_back
    return list(found.values())


def _is_resuming(fit_loop: Any, facts: Mapping[str, object]) -> bool:
    if "_EvaluationLoop" in facts or "_DataFetcher" not in facts:
        return False  # not the training loader
    batches = fit_loop.epoch_loop.batch_progress.current.ready
    return bool(fit_loop.trainer.current_epoch > 0 or batches > 0)


def _ranks() -> dict[str, object]:
    # Not the loader's own attribute, which is missing while the loader is being made.
    state = sys.modules["accelerate"].PartialState()
    return {"num_ranks": state.num_processes, "is_first": state.process_index == 0}


def _refusal(owner: object, names: set[str], facts: dict[str, object]) -> str | None:
    if "IterableDatasetShard" in names and getattr(owner, "num_processes", 1) > 1:
        return f"accelerate splits each rank's stream again (dispatch_batches=False); {_REMEDY}"
    if "ShardingFilterIterDataPipe" in names and getattr(owner, "num_of_instances", 1) > 1:
        return "sharding_filter() splits each rank's stream again; leave it out"
    if "DataLoaderDispatcher" in names and facts["num_ranks"] != 1:
        if getattr(owner, "split_batches", False):
            return f"accelerate splits batches (split_batches=True); {_REMEDY}"
        # Not getattr: while it is being made it has no loader, and __getattr__ would fail.
        base = vars(owner).get("base_dataloader")
        if base is not None and base.batch_size is not None:
            return (
                f"the DataLoader has batch_size={base.batch_size}; give batch_size=None, as a "
                f"stream's items are whole batches"
            )
        if facts.get("is_stateful"):
            return (
                f"accelerate's dispatcher with use_stateful_dataloader=True keeps a state that is "
                f"ahead of the training, and may be another rank's; {_REMEDY}"
            )
    num_workers = getattr(owner, "num_workers", 0)
    if "DataLoader" in names and num_workers > 1 and not getattr(owner, "in_order", True):
        return (
            f"in_order=False with num_workers={num_workers}; give in_order=True: a batch's state "
            f"means that all batches before it were taken"
        )
    if "_WrappedDataLoader" in names and facts.get("is_stateful") and num_workers > 0:
        return (
            "Ray's prepare_data_loader reads one batch ahead, so the state of a StatefulDataLoader "
            "is one batch too far; use negserve.data.TripleLoader, or keep the batches' state"
        )
    return None
