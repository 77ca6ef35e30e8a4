"""Snapshots of a server, downloaded or found on this machine."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from negserve._protocol.snapshot_answers import (
    Place,
    SnapshotDescription,
    read_description,
    read_piece,
    snapshot_request,
)
from negserve._snapshots.download import Download
from negserve._snapshots.local_copy import default_cache_dir, is_copy, shared_folder
from negserve._transport.statuses import ended
from negserve._transport.transport import RetryBudget, Transport
from negserve.errors import LocalStorageError, StalledError
from negserve.types.dataset import Dataset

logger = logging.getLogger(__name__)

#: Called with the bytes that have arrived, and all bytes of the files.
OnBytes: TypeAlias = Callable[[int, int], object]

_LOOK_SECONDS = 0.1
#: Answers in a row of replicas that have another snapshot each, without a byte of a file.
_MOST_CHANGES = 4


async def map_or_pull(transport: Transport, dataset: Dataset, cache_dir: Path | None) -> Path:
    """Give a folder of this machine with the snapshot of a dataset.

    That is the server's own, if it is on this machine; else one in a folder of caches, to which
    the snapshot is downloaded unless it is there.

    :param cache_dir: the folder of caches; None for the user's
    :raises LocalStorageError: if it can't be written
    :raises NegserveError: as the server's status says
    """
    description = await _describe(transport, dataset)
    folder = await transport.work(shared_folder, description)
    if folder is not None:
        logger.info("dataset %s: mapped from the server's folder %s", dataset.name, folder)
        return folder
    base = default_cache_dir() if cache_dir is None else cache_dir
    return await _pull(
        transport, dataset, description, lambda each: base / each.sha256, _drop_damaged
    )


async def pull(
    transport: Transport, dataset: Dataset, directory: Path, on_bytes: OnBytes | None = None
) -> Path:
    """Download the snapshot of a dataset to a folder, unless it is there.

    :param directory: where it goes
    :raises LocalStorageError: if something else is there, or it can't be written
    :raises NegserveError: as the server's status says
    """

    def check(final: Path) -> None:
        if final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise LocalStorageError(
                f"{final} has something else than the present snapshot of {dataset.name!r}; remove "
                f"it, or choose another folder"
            )

    description = await _describe(transport, dataset)
    return await _pull(transport, dataset, description, lambda _: directory, check, on_bytes)


async def _describe(transport: Transport, dataset: Dataset) -> SnapshotDescription:
    async def ask(budget: RetryBudget) -> SnapshotDescription:
        with await transport.open("GetSnapshot", snapshot_request(dataset, None, Place())) as call:
            answer = await call.answer(budget)
            with call.answering():
                return read_description(dataset, answer)

    return await transport.retry(ask, dataset=dataset)


async def _pull(
    transport: Transport,
    dataset: Dataset,
    description: SnapshotDescription,
    place_of: Callable[[SnapshotDescription], Path],
    prepare: Callable[[Path], None],
    on_bytes: OnBytes | None = None,
) -> Path:
    """Download a snapshot to its place, unless it is there.

    :param place_of: gives the place of a snapshot: a replica may have another one of the dataset
    :param prepare: called with the place before the download, if the snapshot is not there
    """
    changes = 0
    while True:
        final = place_of(description)
        if await transport.work(is_copy, final, description):
            return final
        await transport.work(prepare, final)
        download = Download(final, description)
        try:
            await _begin(transport, download)
            other = await _fill(transport, dataset, download, on_bytes)
            if other is None:
                await transport.work(download.finish)
                logger.info(
                    "dataset %s: snapshot of %d bytes in %s, of which %d were downloaded now",
                    dataset.name,
                    description.num_bytes,
                    final,
                    download.num_taken,
                )
                return final
        finally:
            await transport.work(download.close)
        changes = changes + 1 if download.num_taken == 0 else 0
        if changes == _MOST_CHANGES:
            raise ended(transport.replicas.target, "since each answer was about another snapshot")
        description = other


async def _begin(transport: Transport, download: Download) -> None:
    """Wait until no other process downloads to the same place, as long as it makes progress."""
    arrived, since = -1, time.monotonic()
    while not await transport.work(download.begin):
        now = await transport.work(download.num_bytes_on_disk)
        if now != arrived:
            arrived, since = now, time.monotonic()
        elif time.monotonic() - since > transport.patience:
            raise StalledError(
                f"another process downloads to {download.final}, and got nothing for "
                f"{transport.patience:g} seconds; end it, or give another folder"
            )
        await transport.pause(_LOOK_SECONDS)


async def _fill(
    transport: Transport, dataset: Dataset, download: Download, on_bytes: OnBytes | None
) -> SnapshotDescription | None:
    """Download what is left; give the description of another snapshot that a replica has instead.

    A stream that breaks is opened again where it stood, on the next replica if there are several.
    """
    description = download.description
    furthest = download.num_arrived

    async def attempt(budget: RetryBudget) -> SnapshotDescription | None:
        nonlocal furthest
        await transport.work(download.take, b"")
        while not download.is_complete:
            request = snapshot_request(dataset, description, download.place)
            before = download.place
            with await transport.open("GetSnapshot", request) as call:
                answer = await call.answer(budget)
                with call.answering():
                    found = read_description(dataset, answer)
                if found.sha256 != description.sha256:
                    return found
                while not download.is_complete:
                    message = await call.next(budget.limit())
                    if message is None:
                        break
                    with call.answering():
                        data = read_piece(description, download.place, message)
                        await transport.work(download.take, data)
                    # A file that arrives again, since its checksum was wrong, is no progress.
                    if download.num_arrived > furthest:
                        furthest = download.num_arrived
                        budget.note_progress()
                    if on_bytes is not None:
                        on_bytes(download.num_arrived, description.num_bytes)
            if not download.is_complete and download.place == before:
                raise ended(call.target, "without a byte of the snapshot")
        return None

    return await transport.retry(attempt, dataset=dataset)


def _drop_damaged(final: Path) -> None:
    """Remove a snapshot of the cache that is not complete."""
    if final.exists():
        logger.warning("%s is damaged, and is downloaded again", final)
        shutil.rmtree(final, ignore_errors=True)
