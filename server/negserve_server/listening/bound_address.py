"""An address that gRPC listens on."""

from __future__ import annotations

import grpc

from negserve_server.errors import UnusableAddress
from negserve_server.listening.certificates import Certificates
from negserve_server.listening.listen_address import ListenAddress


def bind(
    server: grpc.aio.Server,
    address: ListenAddress,
    certificates: Certificates | None,
    *,
    is_reserved: bool,
) -> str:
    """Bind an address, and return it with its actual port.

    :param is_reserved: whether this server holds it already
    :raises UnusableAddress: if it is not available any more
    """
    if not is_reserved:
        address.check()  # again, since loading may have taken minutes
    try:
        if certificates is None or address.path:
            port = server.add_insecure_port(address.text)
        else:
            port = server.add_secure_port(address.text, certificates.credentials())
    except RuntimeError as error:
        raise UnusableAddress(address.text, str(error)) from error
    return address.text if address.path else f"{address.text.rpartition(':')[0]}:{port}"
