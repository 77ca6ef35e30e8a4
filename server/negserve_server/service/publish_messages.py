"""Between the messages of ``Publish`` and what uploads take."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from negserve.types.checks.invalid import invalid_configuration
from negserve.types.config import Slot, Split
from negserve.v1 import sampler_pb2 as pb
from negserve_server.config.limits import Limits, check_limit
from negserve_server.errors import InvalidInput
from negserve_server.publishing.publication import Publication
from negserve_server.publishing.upload import Announcement, LabelKind, Upload
from negserve_server.service.messages import (
    SPLITS,
    check_equal_lengths,
    decode_ids,
    decode_splits,
    decode_triples,
    look_up,
)

_CONSTRAINED_SLOTS: dict[int, Slot] = {pb.SLOT_HEAD: "head", pb.SLOT_TAIL: "tail"}
_LABEL_KINDS: dict[int, LabelKind] = {
    pb.GetVocabularyResponse.KIND_ENTITY: "entity",
    pb.GetVocabularyResponse.KIND_RELATION: "relation",
}
_STAGE = pb.PublishProgress.Stage


def decode_announcement(message: pb.PublishAnnouncement) -> Announcement:
    """Decode what a client says of a graph that it publishes.

    :raises InvalidRequestError: naming the field, its value and what is legal
    """
    splits = decode_splits([split.split for split in message.splits], "splits")
    counts = dict(zip(splits, (split.num_triples for split in message.splits), strict=True))
    if len(counts) < len(splits):
        raise invalid_configuration("splits", splits, "give each split once")
    return Announcement(
        name=message.name,
        fingerprint=message.fingerprint,
        num_entities=message.num_entities,
        num_relations=message.num_relations,
        num_triples={split: counts[split] for split in SPLITS.values() if split in counts},
        num_pairs=(
            {
                "head": message.type_constraints.num_heads,
                "tail": message.type_constraints.num_tails,
            }
            if message.HasField("type_constraints")
            else None
        ),
        num_label_bytes=message.labels.num_bytes if message.HasField("labels") else None,
    )


def decode_chunk(message: pb.PublishChunk, limits: Limits) -> tuple[Split, int, NDArray[np.int64]]:
    """Decode split, first row and triples of a chunk.

    :raises InvalidRequestError: for a value that is no split
    :raises InvalidInput: for a wrong checksum, or triples that :func:`decode_triples` refuses
    """
    triples = message.triples
    _check_crc32(message.crc32, triples.heads.data, triples.relations.data, triples.tails.data)
    split = look_up(SPLITS, message.split, "split")
    return split, message.first_row, decode_triples(message.triples, limits)


def decode_type_constraints(
    message: pb.PublishTypeConstraints, limits: Limits
) -> tuple[Slot, int, NDArray[np.int64]]:
    """Decode slot, first row and pairs of relation and entity, shape (n, 2).

    :raises InvalidRequestError: for a value that is no slot, or that of relations
    :raises InvalidInput: for a wrong checksum, columns of unequal length, a bad width, or too many
        pairs
    """
    _check_crc32(message.crc32, message.relations.data, message.entities.data)
    slot = look_up(_CONSTRAINED_SLOTS, message.slot, "slot")
    relations = decode_ids(message.relations, "relations").astype(np.int64)
    entities = decode_ids(message.entities, "entities").astype(np.int64)
    check_equal_lengths(("relations", "entities"), (relations, entities))
    check_limit(
        "pairs", len(relations), limits.max_triples_per_message, "send them in several messages"
    )
    return slot, message.first_row, np.stack([relations, entities], axis=1)


def decode_labels(message: pb.PublishLabels) -> tuple[LabelKind, int, Sequence[str]]:
    """Decode kind, first id and labels.

    :raises InvalidRequestError: for a value that is no kind of labels
    :raises InvalidInput: for a wrong checksum
    """
    _check_crc32(message.crc32, *(label.encode() + b"\0" for label in message.labels))
    kind = look_up(_LABEL_KINDS, message.kind, "kind")
    return kind, message.first_id, message.labels


def _check_crc32(told: int, *pieces: bytes) -> None:
    """Refuse what changed on its way.

    :raises InvalidInput: with ``CHECKSUM_MISMATCH``
    """
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    if checksum != told:
        raise InvalidInput(
            f"the CRC-32 of what arrived is {checksum}, the message says {told}: it changed on the "
            f"way; publish again, and if it recurs look for broken hardware or a proxy",
            reason="CHECKSUM_MISMATCH",
            value=told,
            limit=checksum,
        )


def add_part(upload: Upload, request: pb.PublishRequest, limits: Limits) -> None:
    """Decode a part of a graph, and add it to its upload.

    :raises InvalidRequestError: for an illegal value
    :raises InvalidInput: for a part that changed on its way, or that is not next
    """
    if request.HasField("chunk"):
        upload.add(*decode_chunk(request.chunk, limits))
    elif request.HasField("type_constraints"):
        upload.add_type_constraints(*decode_type_constraints(request.type_constraints, limits))
    else:
        upload.add_labels(*decode_labels(request.labels))


def encode_progress(publication: Publication, is_mine: bool) -> pb.PublishResponse:
    """Encode how far a publication is.

    :param is_mine: whether the client that is told uploads the graph
    """
    stage = _STAGE.STAGE_UPLOADING if is_mine else _STAGE.STAGE_WAITING
    return pb.PublishResponse(
        progress=pb.PublishProgress(
            stage=_STAGE.STAGE_BUILDING if publication.is_building else stage,
            num_received=publication.upload.num_received,
            num_triples=publication.announcement.total,
        )
    )
