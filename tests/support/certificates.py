"""Certificates of an authority made for a test."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography import x509


class Authority:
    """An authority, its certificates as files of a folder.

    :ivar ca: file of its own certificate
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, *names: str, common_name: str | None = None) -> tuple[str, str]:
        """Issue a certificate; return its file, and that of its key.

        :param names: of servers, or their addresses
        :param common_name: that of its subject; None for a subject without one
        """
        issued = self._authority.issue_cert(*names, common_name=common_name)
        stem = common_name or names[0]
        cert, key = (str(self._folder / f"{stem}.{kind}.pem") for kind in ("cert", "key"))
        issued.cert_chain_pems[0].write_to_path(cert)
        issued.private_key_pem.write_to_path(key)
        return cert, key

    @staticmethod
    def subject(cert: str) -> str:
        """Give the subject of a certificate, as a server writes it."""
        return x509.load_pem_x509_certificate(Path(cert).read_bytes()).subject.rfc4514_string()
