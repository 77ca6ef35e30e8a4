"""One graph on its way, from its announcement until it is served or given up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from negserve.errors import InvalidRequestError
from negserve_server.admission.stream import ServerStream
from negserve_server.config.limits import SILENT_SECONDS
from negserve_server.errors import Refusal
from negserve_server.publishing.upload import Announcement, Upload

#: What is wrong with the server, not with what the uploader sent.
_OF_ALL = {"GRAPH_TOO_LARGE", "STORAGE_FAILED"}


class Publication:
    """A graph that clients announce, and one of them uploads.

    :ivar announcement: which graph
    :ivar upload: what has come of it
    :ivar uploader: the stream over which its triples come; None while there is none
    :ivar has_room: whether all have come, and found room
    :ivar is_building: whether the graph is made of them
    :ivar gave_way: whether its upload was ended for another graph
    """

    def __init__(self, announcement: Announcement) -> None:
        self.announcement = announcement
        self.upload = Upload(announcement)
        self.uploader: ServerStream[Any] | None = None
        self.has_room = False
        self.is_building = False
        self.gave_way = False
        self._over = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def has_uploader(self) -> bool:
        """Whether a client sends its triples."""
        return self.uploader is not None

    @property
    def owners(self) -> set[str]:
        """Connection and token of the uploader, of which others may have more uploads."""
        if self.uploader is None:
            return set()
        return {self.uploader.connection, self.uploader.token} - {""}

    @property
    def silent_seconds(self) -> float:
        """How long the uploader has sent nothing; 0 while there is nothing to wait for."""
        return 0.0 if self.uploader is None or self.has_room else self.uploader.silent_seconds

    def give_way(self, name: str) -> None:
        """End the upload: another graph needs the room.

        :param name: of that one
        """
        if self.uploader is None:
            return
        self.gave_way = True
        if self.silent_seconds > SILENT_SECONDS:
            error = Refusal(
                f"the graph {name!r} needs the room of this upload, of which nothing came for "
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
        """Wake all who wait."""
        self._failure = failure
        self._over.set()

    async def wait(self, seconds: float, is_mine: bool) -> None:
        """Wait until it is over, one way or the other, or the time is.

        :param is_mine: whether the caller sent the triples, and is told what is wrong with them
        :raises Exception: what made the server fail
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        failure = self._failure
        if failure is None:
            return
        if (
            is_mine
            or not isinstance(failure, Refusal | InvalidRequestError)
            or failure.reason in _OF_ALL
        ):
            raise failure
