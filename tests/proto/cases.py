"""The calls recorded in the golden files: for every RPC some answers and some refusals."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from google.protobuf.message import Message

from negserve.types.fingerprint import graph_fingerprint, split_fingerprint, types_fingerprint
from negserve.v1 import sampler_pb2 as pb
from tests.proto import known_cases, snapshot_cases, wide_cases
from tests.proto.case import Case, ids
from tests.support.graphs import load

#: Reasons without a case, and why.
WITHOUT_REASONS = {
    "PUBLISH_NOT_ALLOWED": "needs a server that takes no graphs; that of Publish takes some",
    "TOO_MANY_STREAMS": "needs as many open streams as the server takes",
    "DRAINING": "needs a server that shuts down",
    "STREAM_IDLE": "needs an hour of silence",
    "CREDENTIALS_MISSING": "needs a server that wants a token",
    "CREDENTIALS_INVALID": "needs a server that wants a token",
    "INTERNAL_FAULT": "needs a server that fails",
    "TOO_MANY_UNANSWERED": "needs a client that sends more than 16 MiB before it reads",
    "STORAGE_FAILED": "needs a full disk",
    "SNAPSHOT_UNUSABLE": "needs a snapshot whose files are exchanged",
    "PULL_NOT_ALLOWED": "needs a server that lets nobody have snapshots; that of GetSnapshot does",
    "NO_SNAPSHOT": "needs a server that lets clients have snapshots, and has none",
    "NOT_PERMITTED": "needs a server whose tokens have scopes",
    "QUOTA_EXCEEDED": "needs a server that bounds negatives per second",
    "DATASET_FIXED": "is sent to administrators only",
}

MALFORMED = b"\xff\xff\xff\xff"

#: Positives by label. The last is no triple of the graph; positives need not be.
_POSITIVES = (
    ("Germany", "has_capital", "Berlin"),
    ("Kenya", "located_in_continent", "Africa"),
    ("Japan", "has_currency_code", "JPY"),
    ("Danube", "flows_through", "Austria"),
    ("Berlin", "shares_border_with", "Africa"),
)
_HEAD, _RELATION, _TAIL = pb.SLOT_HEAD, pb.SLOT_RELATION, pb.SLOT_TAIL
_TRAINING = [pb.SPLIT_TRAINING]
_ALL_SPLITS = [pb.SPLIT_TRAINING, pb.SPLIT_VALIDATION, pb.SPLIT_TESTING]
_EXPECTED = {"expected_fingerprint": load("world").fingerprint}
_WRONG = {"expected_fingerprint": "0" * 64}


def triples(
    count: int = len(_POSITIVES), *, widths: tuple[int, int, int] = (2, 1, 2)
) -> pb.Triples:
    """Return some of the positives."""
    graph = load("world")
    rows = [
        (graph.entity_to_id[head], graph.relation_to_id[relation], graph.entity_to_id[tail])
        for head, relation, tail in _POSITIVES[:count]
    ]
    columns = [
        ids(column, width) for column, width in zip(zip(*rows, strict=True), widths, strict=True)
    ]
    return pb.Triples(heads=columns[0], relations=columns[1], tails=columns[2])


def _unknown(count: int) -> pb.Triples:
    """Return some triples that are not in the graph."""
    return pb.Triples(
        heads=ids([7] * count, 2), relations=ids([3] * count, 1), tails=ids([9] * count, 2)
    )


def entities(*labels: str) -> pb.Ids:
    """Encode entity ids, for candidates."""
    graph = load("world")
    return ids([graph.entity_to_id[label] for label in labels], 2)


def sampler(kind: str, k: int, **options: Any) -> pb.SamplerConfig:
    """Make a configuration."""
    value = pb.SamplerKind.Value(f"SAMPLER_KIND_{kind}")
    return pb.SamplerConfig(kind=value, num_negs_per_pos=k, **options)


def configuration(config: pb.SamplerConfig, dataset: str = "world", **options: Any) -> Message:
    """Make the first message of ``Sample``."""
    return pb.SampleRequest(
        configuration=pb.SampleConfiguration(dataset=dataset, sampler=config, **options)
    )


def positives(position: int = 0, of: pb.Triples | None = None) -> Message:
    """Make a further message of ``Sample``."""
    return pb.SampleRequest(
        positives=pb.Positives(position=position, triples=triples() if of is None else of)
    )


def _sample_cases() -> list[Case]:
    """Make the cases of ``Sample`` that are answered."""
    basic = sampler("BASIC", 3)
    two = triples(2)
    some = entities("Berlin", "Africa", "Austria")

    def answered(name: str, about: str, config: pb.SamplerConfig, *further: Message) -> Case:
        messages = further or (positives(),)
        return Case(name, about, [configuration(config, **_EXPECTED), *messages])

    return [
        answered("basic", "no filter, so no mask", sampler("BASIC", 4, seed=1)),
        Case("any fingerprint", "none is expected", [configuration(basic), positives(of=two)]),
        answered(
            "several messages",
            "the negatives of a position do not depend on the message it comes in",
            sampler("BASIC", 4, seed=1),
            positives(1, triples(2)),
            positives(0),
            positives(4, triples(1)),
        ),
        answered(
            "bernoulli",
            "the example of the protocol document",
            sampler("BERNOULLI", 4, filter_splits=_TRAINING, seed=42),
            positives(7, two),
        ),
        answered(
            "unknown positives",
            "a notice comes with the answer to the thousandth",
            sampler("BASIC", 1, seed=4),
            positives(of=_unknown(600)),
            positives(600, _unknown(400)),
            positives(1000, _unknown(1)),
        ),
        answered(
            "largest numbers",
            "seed and last position are 2^64 - 1",
            sampler("BERNOULLI", 3, filter_splits=_ALL_SPLITS, seed=2**64 - 1),
            positives(2**64 - 2, two),
        ),
        answered(
            "three slots",
            "some negatives have another relation",
            sampler("BASIC", 6, corruption_scheme=[_TAIL, _HEAD, _RELATION],
                    filter_splits=_TRAINING, seed=3),
        ),
        answered(
            "relations",
            "29 relations fit one byte an id",
            sampler("BASIC", 5, corruption_scheme=[_RELATION], filter_splits=_TRAINING),
        ),
        answered(
            "tails",
            "no head is replaced, so there are no head counts",
            sampler("BASIC", 3, corruption_scheme=[_TAIL], algorithm_version=2),
        ),
        answered(
            "pseudo-typed",
            "values seen in that slot of that relation",
            sampler("PSEUDO_TYPED", 4, filter_splits=_ALL_SPLITS, seed=5),
        ),
        answered("typed", "values that the constraints allow",
                 sampler("TYPED", 4, filter_splits=_TRAINING, seed=6)),
        answered(
            "degree",
            "values by frequency to the power 0.5, in three slots",
            sampler("DEGREE", 4, corruption_scheme=[_HEAD, _RELATION, _TAIL], alpha=0.5, seed=7),
        ),
        answered("degree by default", "alpha is filled in", sampler("DEGREE", 2)),
        answered(
            "mixture",
            "three of four negatives are drawn as by BERNOULLI, one as by TYPED",
            sampler("MIXTURE", 8, filter_splits=_TRAINING, seed=8, mixture=[
                pb.MixturePart(kind=pb.SAMPLER_KIND_BERNOULLI, shares=3),
                pb.MixturePart(kind=pb.SAMPLER_KIND_TYPED, shares=1),
            ]),
        ),
        answered(
            "mask",
            "known negatives are drawn and flagged",
            sampler("PSEUDO_TYPED", 11, filter_splits=_ALL_SPLITS, seed=9,
                    filter_mode=pb.FILTER_MODE_MASK),
        ),
        answered("distinct", "no value twice in a slot",
                 sampler("PSEUDO_TYPED", 6, distinct=True, seed=10)),
        answered(
            "distinct and short",
            "with three candidates there are not ten values, so some negatives are invalid",
            sampler("BASIC", 10, distinct=True, candidates=some),
        ),
        answered("candidates", "only three entities are drawn",
                 sampler("BASIC", 4, candidates=some, filter_splits=_TRAINING)),
        answered(
            "saturated",
            "the one candidate is the tail of the second positive: nothing is left for it",
            sampler("BASIC", 3, corruption_scheme=[_TAIL], candidates=entities("Africa"),
                    filter_splits=_TRAINING),
        ),
        answered(
            "chunks",
            "three positions share a row; messages divide the chunk of 9, 10 and 11",
            sampler("BASIC", 6, chunk_size=3, seed=11),
            positives(7, triples(4)),
            positives(11),
            positives(15, triples(1)),
        ),
        answered(
            "chunks with a filter",
            "flagged for each positive of its own",
            sampler("BERNOULLI", 5, chunk_size=2**20, filter_splits=_ALL_SPLITS,
                    filter_mode=pb.FILTER_MODE_MASK, candidates=entities("Africa", "Europe")),
            positives(2**20 - 2),
        ),
        answered("log probabilities", "of slot and value",
                 sampler("BERNOULLI", 3, log_q=True, filter_splits=_TRAINING)),
        answered(
            "log probabilities of a mixture",
            "by all parts that can draw a value",
            sampler("MIXTURE", 4, log_q=True, alpha=1.0, mixture=[
                pb.MixturePart(kind=pb.SAMPLER_KIND_DEGREE, shares=1),
                pb.MixturePart(kind=pb.SAMPLER_KIND_PSEUDO_TYPED, shares=2),
            ]),
        ),
        answered("wide counts", "k over 255, so counts take two bytes", sampler("BASIC", 300),
                 positives(0, triples(1))),
        answered(
            "wide ids",
            "a client may send any width; the answer is the same",
            basic,
            positives(0, triples(2)),
            positives(0, triples(2, widths=(4, 2, 8))),
            positives(0, triples(2, widths=(8, 8, 4))),
        ),
        answered("no positives", "answered by an empty batch", basic, positives(9, pb.Triples())),
        Case("no positives at all", "only the configuration is answered", [configuration(basic)]),
        Case("no message", "a stream without messages ends well"),
    ]  # fmt: skip


def _sample_refusals() -> list[Case]:
    """Make the cases of ``Sample`` that are refused."""
    basic = sampler("BASIC", 3)

    def columns(**changes: pb.Ids) -> Message:
        of = triples(2)
        for name, column in changes.items():
            getattr(of, name).CopyFrom(column)
        return positives(5, of)

    def refused(name: str, *further: Message | bytes) -> Case:
        about = "what came before is answered"
        good = [configuration(basic), positives(of=triples(1))]
        return Case(name, about, [*good, *further])

    def illegal(name: str, about: str, config: pb.SamplerConfig) -> Case:
        return Case(name, about, [configuration(config), positives()])

    return [
        refused("entity out of range", columns(heads=ids([1, 2571], 2))),
        refused("relation out of range", columns(relations=ids([29, 0], 1))),
        refused("largest id", columns(tails=ids([2**64 - 1, 0], 8))),
        refused("unknown width", columns(heads=pb.Ids(data=b"abc", width=3))),
        refused("half an id", columns(relations=pb.Ids(data=b"abc", width=2))),
        refused("unequal columns", columns(heads=ids([1], 2))),
        refused("positions too large", positives(2**64 - 1, triples(2))),
        refused("second configuration", configuration(basic)),
        refused("empty message", pb.SampleRequest()),
        refused("no message of protobuf", MALFORMED),
        Case("positives first", "the configuration is missing", [positives()]),
        Case("unknown dataset", "it is not served", [configuration(basic, dataset="moon")]),
        Case("other fingerprint", "another graph is served", [configuration(basic, **_WRONG)]),
        illegal("no kind", "the sampler is missing", pb.SamplerConfig()),
        illegal("unknown kind", "a number that no value has",
                pb.SamplerConfig(kind=99, num_negs_per_pos=1)),  # type: ignore[arg-type]
        illegal("no negatives", "k is 0", sampler("BASIC", 0)),
        illegal("unknown version", "this server computes version 2",
                sampler("BASIC", 1, algorithm_version=1)),
        illegal("chunks and an exact filter", "options that do not go together",
                sampler("BASIC", 1, chunk_size=2, filter_splits=_TRAINING)),
        illegal("too many negatives for a positive", "k is over the limit",
                sampler("BASIC", 65_537)),
        Case("too many negatives for a message", "n times k is over the limit",
             [configuration(sampler("BASIC", 65_536)),
              positives(of=pb.Triples(**{name: ids([0] * 9, 1) for name in
                                         ("heads", "relations", "tails")}))]),
    ]  # fmt: skip


def _epoch_cases() -> list[Case]:
    basic = sampler("BASIC", 2, seed=20)
    bernoulli = sampler("BERNOULLI", 3, filter_splits=_ALL_SPLITS, seed=21)
    capitals = ids([load("world").relation_to_id["has_capital"]], 1)
    # The 15 training triples of one relation make an epoch that can be seen as a whole.
    small = {"relations": ids([1], 1), "batch_size": 4}

    def asked(name: str, about: str, config: pb.SamplerConfig, **options: Any) -> Case:
        options = {"dataset": "world", "sampler": config, **_EXPECTED, **options}
        return Case(name, about, [pb.SampleEpochRequest(**options)])

    return [
        asked("whole epoch", "15 positives in batches of 4", bernoulli, **small),
        asked("next epoch", "another order, other negatives", bernoulli, epoch=1, **small),
        asked("goes on", "from the whole epoch's next_start on", bernoulli, start=8, **small),
        asked("goes on with other ranks", "the same positions, divided otherwise", bernoulli,
              start=8, **{**small, "batch_size": 2}, world_size=2, rank=1),
        asked("in order", "not shuffled", basic, keep_order=True, **small),
        asked("rank 0", "a short tail: 3 of the last 7 positions", basic, world_size=2, **small),
        asked("rank 1", "a short tail: 4 of them", basic, world_size=2, rank=1, **small),
        asked("nothing in the tail", "a batch of no positives", basic, world_size=4, rank=0,
              start=14, **small),
        asked("tail is dropped", "the last 3 positions are left out", basic,
              tail=pb.TAIL_RULE_DROP, **small),
        asked("tail wraps", "the last batch is filled from the beginning", basic,
              tail=pb.TAIL_RULE_WRAP, **small),
        asked("worker 0", "every other batch of the rank", basic, num_workers=2, **small),
        asked("worker 1", "the other ones", basic, num_workers=2, worker=1, **small),
        asked("end", "nothing is left", basic, start=15, **small),
        asked("two epochs", "the rest of the first, then all of the next", bernoulli, start=8,
              num_epochs=2, **small),
        asked("large epoch", "positions beyond 2^53", basic, epoch=2**58 + 1, **small),
        asked("all relations", "the last positions of all training triples", bernoulli,
              batch_size=6, start=5400),
        asked("weights", "subsampling weights", sampler("BASIC", 1), weights=True,
              batch_size=8, start=160, relations=capitals),
        asked("chunks", "each batch has the rows of its chunks",
              sampler("BASIC", 4, chunk_size=5, filter_splits=_TRAINING,
                      filter_mode=pb.FILTER_MODE_MASK), **small),
        asked("log probabilities", "of slot and value", sampler("DEGREE", 2, log_q=True), **small),
        asked("unknown dataset", "it is not served", basic, dataset="moon", batch_size=1),
        asked("other fingerprint", "another graph is served", basic, batch_size=1, **_WRONG),
        asked("no batch size", "it is 0", basic),
        asked("rank beyond", "ranks are 0 and 1", basic, batch_size=1, world_size=2, rank=2),
        asked("start beyond", "the epoch has 15 positions", basic, **small, start=16),
        asked("unknown relation", "there are 29", basic, batch_size=1, relations=ids([29], 1)),
        asked("batch too large", "batch_size times k is over the limit", basic, batch_size=262_145),
        asked("epoch beyond", "its positions would pass 2^64 - 1", basic, **small, epoch=2**61),
        Case("no message of protobuf", "refused", [MALFORMED]),
    ]  # fmt: skip


def _contains_cases() -> list[Case]:
    def configured(*splits: pb.Split.ValueType, dataset: str = "world", **options: Any) -> Message:
        return pb.ContainsRequest(
            configuration=pb.ContainsConfiguration(dataset=dataset, splits=splits, **options)
        )

    def asked(of: pb.Triples) -> Message:
        return pb.ContainsRequest(triples=of)

    training = load("world").splits["training"][::500]
    testing = load("world").splits["testing"][:3]
    rows = np.concatenate([training, testing])
    both = pb.Triples(
        heads=ids(rows[:, 0], 2), relations=ids(rows[:, 1], 1), tails=ids(rows[:, 2], 2)
    )
    outside = triples(1)
    outside.heads.CopyFrom(ids([2571], 2))
    return [
        Case("training", "two messages", [configured(*_TRAINING, **_EXPECTED), asked(triples()),
                                          asked(both)]),
        Case("all splits", "more than 8 flags", [configured(*_ALL_SPLITS), asked(both)]),
        Case("no triples", "no flags", [configured(*_TRAINING), asked(pb.Triples())]),
        Case("no message", "a stream without messages ends well"),
        Case("no splits", "give at least one", [configured()]),
        Case("triples first", "the configuration is missing", [asked(triples())]),
        Case("entity out of range", "what came before is answered",
             [configured(*_TRAINING), asked(triples()), asked(outside)]),
        Case("unknown dataset", "it is not served", [configured(*_TRAINING, dataset="moon")]),
        Case("other fingerprint", "another graph is served", [configured(*_TRAINING, **_WRONG)]),
        Case("no message of protobuf", "refused", [MALFORMED]),
    ]  # fmt: skip


def _cases_by_name(request_class: Any) -> list[Case]:
    """Make the cases of an RPC that takes a name and an expected fingerprint."""
    return [
        Case("world", "the embedded graph", [request_class(dataset="world", **_EXPECTED)]),
        Case("unknown dataset", "it is not served", [request_class(dataset="moon")]),
        Case("other fingerprint", "another graph is served",
             [request_class(dataset="world", **_WRONG)]),
    ]  # fmt: skip


_TOY_SIZES = 4, 2
_TOY = {
    "training": np.array([(0, 0, 1), (1, 1, 2), (3, 0, 0)]),
    "testing": np.array([(0, 1, 2)]),
}
_TOY_SPLITS = {name: split_fingerprint(rows, *_TOY_SIZES) for name, rows in _TOY.items()}
_TOY_FINGERPRINT = graph_fingerprint(_TOY_SPLITS)
#: Pairs of relation and entity by slot; labels of entities, then of relations.
_TOY_TYPES = {"HEAD": [(0, 0), (0, 3), (1, 1)], "TAIL": [(1, 2)]}
_TOY_LABELS = {"ENTITY": ["Ana", "Bór", "C", "d e"], "RELATION": ["likes", "knows"]}


def _type_pairs(slot: str, begin: int, end: int, **changes: Any) -> Message:
    """Make a message of type constraints of the toy."""
    columns = np.array(_TOY_TYPES[slot][begin:end]).T
    relations, allowed = (ids(column, 1) for column in columns)
    fields = {
        "slot": pb.Slot.Value(f"SLOT_{slot}"),
        "first_row": begin,
        "relations": relations,
        "entities": allowed,
        "crc32": zlib.crc32(relations.data + allowed.data),
        **changes,
    }
    return pb.PublishRequest(type_constraints=pb.PublishTypeConstraints(**fields))


def _labels(kind: str, begin: int, end: int, **changes: Any) -> Message:
    """Make a message of labels of the toy."""
    texts = changes.pop("labels", _TOY_LABELS[kind][begin:end])
    fields = {
        "kind": pb.GetVocabularyResponse.Kind.Value(f"KIND_{kind}"),
        "first_id": begin,
        "labels": texts,
        "crc32": zlib.crc32(b"".join(text.encode() + b"\0" for text in texts)),
        **changes,
    }
    return pb.PublishRequest(labels=pb.PublishLabels(**fields))


def _publish_cases() -> list[Case]:
    """Make the cases of ``Publish``, which follow each other on a server of their own."""
    splits = [
        pb.AnnouncedSplit(split=pb.SPLIT_TRAINING, num_triples=3),
        pb.AnnouncedSplit(split=pb.SPLIT_TESTING, num_triples=1),
    ]

    def announced(name: str = "toy", **changes: Any) -> Message:
        fields = {
            "name": name,
            "fingerprint": _TOY_FINGERPRINT,
            "num_entities": _TOY_SIZES[0],
            "num_relations": _TOY_SIZES[1],
            "splits": splits,
            **changes,
        }
        return pb.PublishRequest(announcement=pb.PublishAnnouncement(**fields))

    def chunk(split: str, begin: int, end: int, **changes: Any) -> Message:
        heads, relations, tails = (ids(column, 1) for column in _TOY[split][begin:end].T)
        fields = {
            "split": pb.Split.Value(f"SPLIT_{split.upper()}"),
            "first_row": begin,
            "triples": pb.Triples(heads=heads, relations=relations, tails=tails),
            "crc32": zlib.crc32(heads.data + relations.data + tails.data),
            **changes,
        }
        return pb.PublishRequest(chunk=pb.PublishChunk(**fields))

    first, second, third = chunk("training", 0, 2), chunk("training", 2, 3), chunk("testing", 0, 1)
    typed = types_fingerprint(
        *(np.array(pairs, dtype=np.uint32) for pairs in _TOY_TYPES.values()), *_TOY_SIZES
    )
    labels = [*_TOY_LABELS["ENTITY"], *_TOY_LABELS["RELATION"]]
    whole = announced(
        "whole",
        fingerprint=graph_fingerprint(_TOY_SPLITS, typed),
        type_constraints=pb.AnnouncedTypeConstraints(
            num_heads=len(_TOY_TYPES["HEAD"]), num_tails=len(_TOY_TYPES["TAIL"])
        ),
        labels=pb.AnnouncedLabels(num_bytes=sum(len(label.encode()) for label in labels)),
    )
    all_triples = [whole, first, second, third]
    heads, tails = _type_pairs("HEAD", 0, 3), _type_pairs("TAIL", 0, 1)
    outside = pb.Triples(heads=ids([4], 1), relations=ids([0], 1), tails=ids([1], 1))
    return [
        Case("checksum mismatch", "nothing is kept of it, and the name stays free",
             [announced(), first, chunk("training", 2, 3, crc32=1)]),
        Case("chunk out of order", "row 2 of training is due", [announced(), first, third]),
        Case("end amid an upload", "two of four triples came", [announced(), first]),
        Case("entity out of range", "there are 4",
             [announced(), chunk("training", 0, 1, triples=outside,
                                 crc32=zlib.crc32(b"\x04\x00\x01"))]),
        Case("another graph than announced", "the triples have another fingerprint",
             [announced(fingerprint="0" * 64), first, second, third]),
        Case("uploaded", "three chunks of two splits", [announced(), first, second, third]),
        Case("type constraints out of order", "tails come behind all heads",
             [*all_triples, _type_pairs("HEAD", 0, 2), tails]),
        Case("type constraints unsorted", "(0, 3) was due before (1, 1)",
             [*all_triples, _type_pairs("HEAD", 0, 3, relations=ids([0, 1, 0], 1),
                                        entities=ids([0, 1, 3], 1),
                                        crc32=zlib.crc32(b"\0\1\0\0\1\3"))]),
        Case("entity of type constraints out of range", "there are 4",
             [*all_triples, _type_pairs("HEAD", 0, 1, entities=ids([4], 1),
                                        crc32=zlib.crc32(b"\0\4"))]),
        Case("checksum of labels", "they changed on their way",
             [*all_triples, heads, tails, _labels("ENTITY", 0, 4, crc32=1)]),
        Case("more labels than announced", "by their bytes",
             [*all_triples, heads, tails, _labels("ENTITY", 0, 1, labels=[30 * "x"])]),
        Case("a label twice", "labels of a kind are different",
             [*all_triples, heads, tails, _labels("ENTITY", 0, 4, labels=["Ana", "Ana", "C", "df"]),
              _labels("RELATION", 0, 2, labels=["likes", "knowsss"])]),
        Case("type constraints and labels", "in several messages each",
             [*all_triples, _type_pairs("HEAD", 0, 2), _type_pairs("HEAD", 2, 3), tails,
              _labels("ENTITY", 0, 3), _labels("ENTITY", 3, 4), _labels("RELATION", 0, 2)]),
        Case("already held", "answered at once, nothing is asked for", [announced()]),
        Case("embedded graph", "what is loaded from files is held, too",
             [announced("world", fingerprint=load("world").fingerprint)]),
        Case("name of a published graph", "another graph has it",
             [announced(fingerprint="0" * 64)]),
        Case("name of an embedded graph", "another graph has it", [announced("world")]),
        Case("too large", "refused before a triple is sent",
             [announced("large", splits=[pb.AnnouncedSplit(split=pb.SPLIT_TRAINING,
                                                           num_triples=2**40)])]),
        Case("no name", "a bad announcement", [announced("")]),
        Case("no type constraints", "a graph without leaves them out",
             [announced(type_constraints=pb.AnnouncedTypeConstraints())]),
        Case("no bytes of labels", "each has at least one",
             [announced(labels=pb.AnnouncedLabels(num_bytes=5))]),
        Case("chunk first", "the announcement is missing", [first]),
        Case("no message", "a stream without messages ends well"),
        Case("no message of protobuf", "refused", [MALFORMED]),
    ]  # fmt: skip


#: By file: an RPC, and what its calls are about if not the embedded graph.
CASES: dict[str, list[Case]] = {
    "Sample": [*_sample_cases(), *_sample_refusals()],
    "SampleEpoch": _epoch_cases(),
    "Contains": _contains_cases(),
    "Known": known_cases.cases(),
    "GetServer": [
        Case("limits", "of a server with default options", [pb.GetServerRequest()]),
        Case("no message of protobuf", "refused", [MALFORMED]),
    ],
    "ListDatasets": [Case("all", "one dataset", [pb.ListDatasetsRequest()])],
    "GetDataset": [
        Case("world", "the embedded graph", [pb.GetDatasetRequest(dataset="world")]),
        Case("unknown dataset", "it is not served", [pb.GetDatasetRequest(dataset="moon")]),
        Case("no message of protobuf", "refused", [MALFORMED]),
    ],
    "GetRelationStatistics": _cases_by_name(pb.GetRelationStatisticsRequest),
    "GetVocabulary": _cases_by_name(pb.GetVocabularyRequest),
    "GetSnapshot": snapshot_cases.cases(),
    "Publish": [*_publish_cases(), wide_cases.publication()],
    "Sample.wide": wide_cases.SAMPLE,
    "SampleEpoch.wide": wide_cases.SAMPLE_EPOCH,
    "Known.wide": known_cases.wide(),
}
