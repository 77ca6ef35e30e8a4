"""One graph being published, from its announcement until it is served or has failed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from negserve.errors import InvalidRequestError
from negserve_server.access.caller import Caller
from negserve_server.admission.server_stream import ServerStream
from negserve_server.config.limits import SILENT_SECONDS
from negserve_server.errors import Refusal
from negserve_server.publishing.upload import Announcement, Upload

#: Reasons that do not depend on what the uploader sent.
_SHARED_REASONS = {"GRAPH_TOO_LARGE", "STORAGE_FAILED"}


class Publication:
    """A graph that clients announce, and one of them uploads.

    :ivar announcement: which graph
    :ivar caller: who has announced it, and uploads it
    :ivar upload: the data received
    :ivar uploader: the stream that uploads it; None while there is none
    :ivar has_room: whether the upload is complete and room is reserved for it
    :ivar is_building: whether the graph is being built
    :ivar was_evicted: whether its upload was ended for another graph
    """

    def __init__(self, announcement: Announcement, caller: Caller) -> None:
        self.announcement = announcement
        self.caller = caller
        self.upload = Upload(announcement)
        self.uploader: ServerStream[Any] | None = None
        self.has_room = False
        self.is_building = False
        self.was_evicted = False
        self._over = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def has_uploader(self) -> bool:
        """Whether a client uploads it."""
        return self.uploader is not None

    @property
    def owners(self) -> set[str]:
        """Connection and name of the uploader."""
        if self.uploader is None:
            return set()
        return {self.uploader.connection, self.uploader.caller.name} - {""}

    @property
    def silent_seconds(self) -> float:
        """Seconds since the uploader sent something; 0 while nothing is expected from it."""
        return 0.0 if self.uploader is None or self.has_room else self.uploader.silent_seconds

    def evict(self, name: str) -> None:
        """End the upload, because another graph needs the room.

        :param name: name of the other graph
        """
        if self.uploader is None:
            return
        self.was_evicted = True
        if self.silent_seconds > SILENT_SECONDS:
            error = Refusal(
                f"the graph {name!r} needs the room of this upload, which was silent for "
                f"{SILENT_SECONDS:g} seconds; publish it again when it can be sent",
                reason="STREAM_IDLE",
                limit=SILENT_SECONDS,
            )
        else:
            error = Refusal(
                f"the graph {name!r} of another caller needs the room of this upload, one of "
                f"several whose connection or token has more than half of all; try again later",
                reason="GRAPH_TOO_LARGE",
                resource="triples",
                value=self.upload.size,
                limit=0,
            )
        self.uploader.end(error)

    def end(self, failure: Exception | None = None) -> None:
        """Wake all waiting clients."""
        self._failure = failure
        self._over.set()

    async def wait(self, seconds: float, is_mine: bool) -> None:
        """Wait until it has ended, for a limited time.

        :param is_mine: whether the caller uploaded it, and so gets its errors
        :raises Exception: the error of the publication, if it concerns the caller
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        failure = self._failure
        if failure is None:
            return
        if (
            is_mine
            or not isinstance(failure, Refusal | InvalidRequestError)
            or failure.reason in _SHARED_REASONS
        ):
            raise failure
