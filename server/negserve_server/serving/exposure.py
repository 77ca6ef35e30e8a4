"""Addresses at which anybody may call, or read the traffic."""

from __future__ import annotations

import logging

from negserve_server.config.server_config import ServerConfig
from negserve_server.errors import InsecureAddress
from negserve_server.listening.listen_address import ListenAddress

logger = logging.getLogger(__name__)


def warn_if_metrics_exposed(address: ListenAddress, *, has_page: bool) -> None:
    """Warn if anybody may read the metrics at an address.

    :param has_page: whether the status page is there, too
    """
    if not address.is_local:
        logger.warning(
            "%s gives metrics to everybody who reaches it, without a token: names and fingerprints "
            "of datasets, and how much is drawn%s",
            address.text,
            "; AND LABELS AND TRIPLES OF ALL DATASETS (--status-page). Let only those reach it "
            "whom you trust with these"
            if has_page
            else ". Let only Prometheus reach it",
        )


def check_exposure(address: ListenAddress, config: ServerConfig, *, takes_anybody: bool) -> None:
    """Warn if anybody may call at an address, or read its traffic.

    :param takes_anybody: whether callers need no token
    :raises InsecureAddress: if its traffic can be read, and nobody has said that it may
    """
    if address.is_local:
        return
    if config.tls_cert is None and not config.insecure:
        raise InsecureAddress(address.text)
    if not takes_anybody:
        if config.tls_cert is None:
            logger.warning(
                "%s takes tokens in plain text: who can read the network can read them, and "
                "use them. Give --tls-cert and --tls-key, or let only a proxy with TLS reach "
                "it",
                address.text,
            )
        return
    if config.tls_client_ca is None:
        logger.warning(
            "%s answers everybody who reaches it, as calls need no token: labels and test "
            "triples can be read%s. Give --token-file, or let only those reach it whom you "
            "trust",
            address.text,
            ", AND EVERYBODY CAN PUBLISH GRAPHS (--allow-publish), up to the limits of memory "
            "and disk, and take their names"
            if config.allow_publish
            else "",
        )
