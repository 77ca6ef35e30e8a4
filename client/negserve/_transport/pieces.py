"""An answer that comes in pieces, over as many streams as it takes."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

_Result_co = TypeVar("_Result_co", covariant=True)


class Pieces(Protocol[_Result_co]):
    """What a stream has brought of an answer. Does no I/O.

    :ivar request: what each stream is opened with
    """

    request: Any

    def restart(self) -> None:
        """Forget what came: there is another stream, which begins anew."""

    def take(self, message: Any) -> bool:
        """Take a piece; tell whether it goes further than any stream before.

        :raises InvalidAnswerError: if it does not go on where the one before ended
        """

    def end(self) -> None:
        """Take note that a stream is over.

        :raises InvalidAnswerError: if something is missing
        """

    def result(self) -> _Result_co:
        """Give the answer, once a stream is over."""
