"""A request for a page that is not answered."""

from __future__ import annotations

from negserve_server.errors import NegserveServerError


class RefusedRequest(NegserveServerError):
    """Says why a request is not answered: the value, the limit and the remedy.

    :param status: of HTTP, such as ``400 Bad Request``
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
