"""Who reads a stream: what the call stack tells of loaders that wrap other loaders."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

_REMEDY = (
    "leave the loader out of prepare(), or use negserve.data.TripleLoader, which prepare() gives "
    "back as it is: a stream has taken its rank's share already"
)
#: Of Ray, and of Lightning for loaders without a length.
_AHEAD = {"_WrappedDataLoader", "_PrefetchDataFetcher"}
_LIGHTNING = {"_DataFetcher", "_EvaluationLoop"}
_PIPES = {"IterableWrapperIterDataPipe", "ShardingFilterIterDataPipe"}
_TORCH = {"DataLoader", "DataLoaderAdapter", "IterableDatasetShard"} | _PIPES
_LOADERS = _AHEAD | _LIGHTNING | _TORCH | {"_FitLoop"}
_FRAMEWORKS = {"accelerate", "lightning", "pytorch_lightning", "ray", "torch", "torchdata"}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What matters of who reads a stream. Picklable: it goes with a stream to spawned workers.

    :ivar num_ranks: how many ranks share what one rank's stream gives (accelerate's dispatcher);
        1 where each rank reads a stream of its own
    :ivar is_first: whether this process is the one that reads for all ranks
    :ivar epoch: which epoch the loader counts; None if it counts none
    :ivar reads_ahead: whether it takes a batch before the one at hand is trained on
    :ivar is_stateful: whether it is torchdata's loader, which keeps states
    :ivar skips: how many batches it drops at a pass's beginning
    :ivar goes_on: whether it counts epochs or batches that were before (Lightning)
    :ivar copies: whether it would read a copy (a data pipe of torch)
    :ivar refusal: why a stream can't be read like this, and what can be done; None if it can
    """

    num_ranks: int = 1
    is_first: bool = True
    epoch: int | None = None
    reads_ahead: bool = False
    is_stateful: bool = False
    skips: int = 0
    goes_on: bool = False
    copies: bool = False
    refusal: str | None = None


def find_reader() -> Reader | None:
    """Look for loaders of other libraries among those who wait for the caller; None without any.

    There is no other sign: a loader calls ``iter`` of its dataset, and says nothing of itself. A
    forked worker has its parent's call stack. None of the libraries is imported.
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
            facts["goes_on"] = _is_going_on(owner, facts)
        if "DataLoaderDispatcher" in names:
            facts |= _ranks()
    refusals = (_refusal(owner, names, facts) for owner, names in owners)
    facts = {name: fact for name, fact in facts.items() if name not in _LIGHTNING}
    facts["refusal"] = next((refusal for refusal in refusals if refusal), None)
    return Reader(**facts)  # type: ignore[arg-type]


def _owners(frame: FrameType | None) -> list[tuple[object, set[str]]]:
    """Give the objects whose methods are on the stack, innermost first, with their classes."""
    found: dict[int, tuple[object, set[str]]] = {}
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module in _FRAMEWORKS and frame.f_code.co_varnames[:1] == ("self",):
            owner = frame.f_locals.get("self")
            # Not isinstance: a loader of accelerate gives another class as its own.
            names = {
                base.__name__
                for base in type(owner).__mro__
                if base.__module__.partition(".")[0] in _FRAMEWORKS
            }
            if names & _LOADERS:
                found.setdefault(id(owner), (owner, names))
        frame = frame.f_back
    return list(found.values())


def _is_going_on(fit_loop: Any, facts: Mapping[str, object]) -> bool:
    if "_EvaluationLoop" in facts or "_DataFetcher" not in facts:
        return False  # something else in a training is read
    batches = fit_loop.epoch_loop.batch_progress.current.ready
    return bool(fit_loop.trainer.current_epoch > 0 or batches > 0)


def _ranks() -> dict[str, object]:
    # Not the loader's own attribute, which comes late while it is made.
    state = sys.modules["accelerate"].PartialState()
    return {"num_ranks": state.num_processes, "is_first": state.process_index == 0}


def _refusal(owner: object, names: set[str], facts: dict[str, object]) -> str | None:
    if "IterableDatasetShard" in names and getattr(owner, "num_processes", 1) > 1:
        return (
            f"accelerate splits what each rank's stream gives (dispatch_batches=False); {_REMEDY}"
        )
    if "ShardingFilterIterDataPipe" in names and getattr(owner, "num_of_instances", 1) > 1:
        return "sharding_filter() takes a part of the part that a stream gives; leave it out"
    if "DataLoaderDispatcher" in names and facts["num_ranks"] != 1:
        if getattr(owner, "split_batches", False):
            return f"accelerate splits batches (split_batches=True); {_REMEDY}"
        # While it is made it has no loader yet, and asks __getattr__ for it in vain.
        base = vars(owner).get("base_dataloader")
        if base is not None and base.batch_size is not None:
            return (
                f"the DataLoader has batch_size={base.batch_size}; give batch_size=None, as a "
                f"stream gives whole batches"
            )
        if facts.get("is_stateful"):
            return (
                f"accelerate's dispatcher with use_stateful_dataloader=True keeps a state that is "
                f"too far, and of any rank; {_REMEDY}"
            )
    num_workers = getattr(owner, "num_workers", 0)
    if "DataLoader" in names and num_workers > 1 and not getattr(owner, "in_order", True):
        return (
            f"in_order=False with num_workers={num_workers}; give in_order=True: a batch's state "
            f"says that all batches before it were taken"
        )
    if "_WrappedDataLoader" in names and facts.get("is_stateful") and num_workers > 0:
        return (
            "Ray's prepare_data_loader reads a batch ahead of a StatefulDataLoader, whose state is "
            "a batch too far then; use negserve.data.TripleLoader, or keep the batches' state"
        )
    return None
