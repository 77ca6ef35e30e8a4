"""The calls of ``Known``."""

from __future__ import annotations

from typing import Any

import numpy as np

from negserve.v1 import sampler_pb2 as pb
from tests.proto import wide_cases
from tests.proto.case import Case, ids
from tests.support.graphs import load

_MALFORMED = b"\xff\xff\xff\xff"
_ALL_SPLITS = (pb.SPLIT_TRAINING, pb.SPLIT_VALIDATION, pb.SPLIT_TESTING)


def configured(
    slot: pb.Slot.ValueType,
    *splits: pb.Split.ValueType,
    dataset: str = "world",
    fingerprint: str = "",
) -> pb.KnownRequest:
    """Make the first message."""
    return pb.KnownRequest(
        configuration=pb.KnownConfiguration(
            dataset=dataset, expected_fingerprint=fingerprint, splits=splits, slot=slot
        )
    )


def asked(first: pb.Ids, second: pb.Ids) -> pb.KnownRequest:
    """Make a further message."""
    return pb.KnownRequest(pairs=pb.Pairs(first=first, second=second))


def cases() -> list[Case]:
    """Make the cases about the embedded graph."""
    graph = load("world")
    rows = np.concatenate([graph.splits["training"][::1000], graph.splits["testing"][:2]])
    heads, tails = (ids(rows[:, column], 2) for column in (0, 2))
    relations = ids(rows[:, 1], 1)
    # The pair with most values.
    africa = graph.entity_to_id["Africa"], graph.relation_to_id["located_in_continent"]
    by_tail = configured(pb.SLOT_TAIL, pb.SPLIT_TRAINING)
    one = asked(ids([africa[0]], 2), ids([africa[1]], 1))

    def refused(name: str, about: str, *messages: pb.KnownRequest | bytes) -> Case:
        return Case(name, about, list(messages))

    return [
        Case("tails", "of training; the second message has a pair of training",
             [configured(pb.SLOT_TAIL, pb.SPLIT_TRAINING, fingerprint=graph.fingerprint),
              asked(heads, relations), asked(ids(rows[:1, 0], 2), ids(rows[:1, 1], 1))]),
        Case("heads of all splits", "many values; widths of a request are free",
             [configured(pb.SLOT_HEAD, *_ALL_SPLITS), asked(ids([africa[1]], 8),
                                                            ids([africa[0]], 4)),
              asked(relations, tails)]),
        Case("relations", "ids of one byte", [configured(pb.SLOT_RELATION, pb.SPLIT_TRAINING),
                                              asked(heads, tails)]),
        Case("pairs without values", "each is counted", [by_tail, asked(ids([0, 0, 0], 1),
                                                                        ids([28, 27, 28], 1))]),
        Case("no pairs", "an answer without counts", [by_tail, asked(pb.Ids(), pb.Ids())]),
        Case("no message", "a stream without messages ends well"),
        refused("no splits", "give at least one", configured(pb.SLOT_TAIL)),
        refused("no slot", "give one", configured(pb.SLOT_UNSPECIFIED, pb.SPLIT_TRAINING)),
        refused("pairs first", "the configuration is missing", one),
        refused("columns of unequal length", "a pair has two ids",
                by_tail, asked(ids([0, 0], 1), ids([0], 1))),
        refused("relation out of range", "what came before is answered",
                by_tail, one, asked(ids([0], 1), ids([29], 1))),
        refused("unknown dataset", "it is not served",
                configured(pb.SLOT_TAIL, pb.SPLIT_TRAINING, dataset="moon")),
        refused("other fingerprint", "another graph is served",
                configured(pb.SLOT_TAIL, pb.SPLIT_TRAINING, fingerprint="0" * 64)),
        refused("no message of protobuf", "refused", _MALFORMED),
    ]  # fmt: skip


def wide() -> list[Case]:
    """Make the cases about the graph with a large id space."""

    def case(name: str, about: str, slot: pb.Slot.ValueType, first: Any, second: Any) -> Case:
        messages: list[Any] = [
            configured(
                slot,
                pb.SPLIT_TRAINING,
                dataset=wide_cases.NAME,
                fingerprint=wide_cases.FINGERPRINT,
            ),
            asked(first, second),
        ]
        return Case(name, about, messages)

    return [
        case("width 4", "entities", pb.SLOT_TAIL, ids([3, 66_000, 3], 4), ids([256, 299, 0], 2)),
        case("width 2", "relations", pb.SLOT_RELATION, ids([70], 4), ids([700], 4)),
    ]
