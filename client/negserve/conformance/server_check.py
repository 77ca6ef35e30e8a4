"""Checks a server: golden files, and promises on random draws."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from negserve._sync.client import Client
from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve._transport import credentials
from negserve._transport.channels import CHANNEL_OPTIONS
from negserve.conformance.calls import call, difference
from negserve.conformance.golden import Case, File, golden_files
from negserve.conformance.report import Report
from negserve.errors import NegserveError
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig
from negserve.v1 import sampler_pb2 as pb

_NUM_POSITIVES = 200
#: Of a slot, those that are looked up one by one.
_MOST_VALUES = 100_000
_DRAWS: dict[str, dict[str, Any]] = {
    "basic": {},
    "bernoulli": {"kind": "bernoulli"},
    "pseudotyped": {"kind": "pseudotyped"},
    "degree": {"kind": "degree", "alpha": 0.5},
    "three slots": {"corruption_scheme": ("head", "relation", "tail")},
    "distinct": {"distinct": True},
    "mixture": {"kind": "mixture", "mixture": (("bernoulli", 3), ("degree", 1))},
    "log probabilities": {"log_q": True},
}


def check_server(target: str, report: Report, *, publish: bool) -> None:
    """Check a server.

    :param publish: whether graphs may be published on it
    :raises NegserveError: if the server does not list its datasets
    """
    with (
        Client(target) as client,
        credentials.open_channel(grpc, target, CHANNEL_OPTIONS) as channel,
    ):
        for file in golden_files():
            _replay(client, channel, file, report, publish)
        names = client.list_datasets()
        name = "world" if "world" in names or not names else names[0]
        _keep_promises(client.triples_factory(name), report)


def _replay(client: Client, channel: Any, file: File, report: Report, publish: bool) -> None:
    if file.name == "Publish" and not publish:
        report.left_out(file.name, "publishes graphs: give --publish", len(file.cases))
        return
    if file.name == "GetSnapshot":
        report.left_out(file.name, "depends on how the snapshot was built", len(file.cases))
        return
    held = fingerprints(client)
    if file.name == "Publish" and {"toy", "wide"} & set(held):
        report.left_out(file.name, "the server has toy or wide already", len(file.cases))
        return
    if held.get(file.dataset) != file.fingerprint:
        why = f"the server lacks {file.dataset} with fingerprint {file.fingerprint[:12]}..."
        report.left_out(file.name, why, len(file.cases))
        return
    is_default = has_default_limits(channel)
    for case in file.cases:
        if case.rpc == "ListDatasets" and list(held) != [file.dataset]:
            report.left_out(file.name, "the server has further datasets")
        elif not is_default and _depends_on_limits(case):
            report.left_out(file.name, "the server's limits are not the default ones")
        elif why := difference(case, *call(channel, case.rpc, case.requests)):
            report.failed(file.name, case.name, why)
        else:
            report.passed(file.name)


def fingerprints(client: Client) -> dict[str, str]:
    """Return the fingerprints of a server's datasets, by name."""
    return {name: client.triples_factory(name).fingerprint for name in client.list_datasets()}


def _depends_on_limits(case: Case) -> bool:
    return case.error is not None and case.error["metadata"].get("limit", "").isdecimal()


def has_default_limits(channel: Any) -> bool:
    """Return whether a server has the default limits, with which the files were recorded."""
    (case,) = [
        each
        for file in golden_files() if file.name == "GetServer"
        for each in file.cases if each.status == "OK"
    ]  # fmt: skip
    answers, error = call(channel, "GetServer", case.requests)
    if error is not None:
        return False
    found, due = (pb.GetServerResponse.FromString(each[0]) for each in (answers, case.responses))
    fields = ("max_negatives_per_positive", "max_negatives_per_message", "max_triples_per_message")
    return all(getattr(found.limits, name) == getattr(due.limits, name) for name in fields)


def _keep_promises(factory: RemoteTriplesFactory, report: Report) -> None:
    """Draw at random positions, and check the protocol's promises on the negatives."""
    part = f"draws of {factory.name}"
    generator = np.random.default_rng()
    for name, options in _DRAWS.items():
        for splits in ((), ("training",)):
            seed, position = (int(n) for n in generator.integers(2**63, size=2))
            config = SamplerConfig(
                **{"num_negs_per_pos": 5, **options}, filter_splits=splits, seed=seed
            )
            case = f"{name}, seed {seed}, position {position}, {'un' * (not splits)}filtered"
            try:
                why = _broken_promise(factory, config, position, generator)
            except NegserveError as error:
                why = str(error)
            if why:
                report.failed(part, case, why)
            else:
                report.passed(part)


def _broken_promise(
    factory: RemoteTriplesFactory,
    config: SamplerConfig,
    position: int,
    generator: np.random.Generator,
) -> str:
    sizes = (factory.num_entities, factory.num_relations, factory.num_entities)
    positives = np.stack([generator.integers(size, size=_NUM_POSITIVES) for size in sizes], axis=1)
    options = {name: getattr(config, name) for name in SamplerConfig.__slots__}
    sampler = factory.open_sampler(**options)
    try:
        whole = sampler.sample(positives, position)
        halves = [
            sampler.sample(positives[begin : begin + 77], position + begin)
            for begin in range(0, _NUM_POSITIVES, 77)
        ]
    finally:
        sampler.close()
    negatives = whole.triples(positives)
    parts = [half.triples(positives[77 * i : 77 * i + 77]) for i, half in enumerate(halves)]
    if not np.array_equal(negatives, np.concatenate(parts)):
        return "negatives depend on how positives are divided among messages"
    valid = np.ones(negatives.shape[:2], bool) if whole.mask is None else whole.mask
    num_changed = (negatives != positives[:, None, :]).sum(axis=2)
    if (num_changed[valid] != 1).any():
        return "a valid negative does not differ from its positive in exactly one slot"
    if config.filter_splits and factory.contains(negatives[valid], config.filter_splits).any():
        return "a filtered negative is a known triple, says Contains"
    return _broken_epoch(factory, config)


def _broken_values(
    factory: RemoteTriplesFactory, triple: NDArray[np.integer], config: SamplerConfig
) -> str:
    """Compare the known values of each pair of a triple with what Contains says of all values.

    :param triple: of training, shape (3,)
    """
    splits = config.filter_splits or ("training",)
    for slot, column in (("head", 0), ("relation", 1), ("tail", 2)):
        num_ids = factory.num_relations if slot == "relation" else factory.num_entities
        num_asked = min(num_ids, _MOST_VALUES)
        triples = np.repeat(triple[None], num_asked, axis=0)
        triples[:, column] = np.arange(num_asked)
        known = factory.known(np.delete(triple[None], column, axis=1), slot, splits)  # type: ignore[arg-type]
        expected = np.flatnonzero(factory.contains(triples, splits))
        if not np.array_equal(known.values[known.values < num_asked], expected):
            return f"Known and Contains disagree about {slot}s of {triple.tolist()}"
    return ""


def _broken_epoch(factory: RemoteTriplesFactory, config: SamplerConfig) -> str:
    size = max(1, factory.num_triples // 7)
    whole = list(factory.epochs(config, EpochConfig(batch_size=size)))
    middle = len(whole) // 2
    stream = factory.epochs(config, EpochConfig(batch_size=size))
    stream.load_state_dict({"epoch": 0, "start": whole[middle - 1].next_start if middle else 0})
    for one, other in zip(whole[middle:], stream, strict=True):
        if not np.array_equal(one.negative_triples(), other.negative_triples()):
            return "an epoch resumed at next_start has other negatives"
    rows = np.concatenate([batch.positives for batch in whole])
    if len(np.unique(rows, axis=0)) != factory.num_triples:
        return "an epoch does not have each training triple exactly once"
    return _broken_values(factory, rows[0], config)
