"""All who may call: those of a file, which may change while the server runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
from dataclasses import replace
from pathlib import Path

from negserve_server.access.caller import Caller, Quotas
from negserve_server.access.callers_file import ANYBODY, Entry, read_callers
from negserve_server.access.negative_rate import NegativeRate
from negserve_server.access.watched_files import WatchedFiles
from negserve_server.errors import MalformedFile

logger = logging.getLogger(__name__)


class Callers:
    """The callers of a file of tokens.

    A change of the file takes effect within a second or so. If it can't be read then, the previous
    callers stay, and an error is logged.

    :param path: the file
    :param num_workers: processes that share each quota
    :param has_certificates: whether callers have certificates that are checked
    :raises MalformedFile: naming file, place and limit, never a token
    """

    def __init__(self, path: Path, num_workers: int, *, has_certificates: bool) -> None:
        self._path = path
        self._num_workers = num_workers
        self._has_certificates = has_certificates
        self._files = WatchedFiles([path])
        self._rates: dict[str, NegativeRate] = {}
        self._read()

    def __repr__(self) -> str:
        return f"Callers({str(self._path)!r}, {len(self._by_name)} of them)"

    def with_token(self, token: bytes) -> Caller | None:
        """Give the caller with a token, in constant time; None if nobody has it."""
        self._reload_if_changed()
        given = hashlib.sha256(token).digest()
        found = [each for digest, each in self._by_digest if hmac.compare_digest(given, digest)]
        return found[0] if found else None

    def named(self, name: str) -> Caller | None:
        """Give the caller of a name, or with a certificate of that subject; None if nobody is."""
        self._reload_if_changed()
        return self._by_name.get(name)

    @property
    def anybody(self) -> Caller | None:
        """Who calls without a token and without a certificate of the file; None if nobody may."""
        return self.named(ANYBODY)

    def read(self) -> None:
        """Read the file again now, changed or not.

        :raises MalformedFile: as the constructor; the previous callers stay then
        """
        self._files.note()
        self._read()

    def _read(self) -> None:
        entries = read_callers(self._path)
        made = [(each.digest, self._caller(each)) for each in entries]
        self._by_digest = [(digest, caller) for digest, caller in made if digest]
        self._by_name = {caller.name: caller for _, caller in made}
        self._rates = {each.name: each.rate for _, each in made if each.rate is not None}

    def _caller(self, entry: Entry) -> Caller:
        if entry.kind == "certificate" and not self._has_certificates:
            raise MalformedFile(
                self._path,
                None,
                f"has an entry [[certificate]] {entry.name!r}, and nobody's certificate is "
                f"checked; give --tls-client-ca, too, or remove the entry",
            )
        quotas = self._share(entry)
        rate = None
        if quotas.negatives_per_second is not None:
            # Kept where it is unchanged: reading again must not fill the bucket.
            rate = self._rates.get(entry.name)
            per_second = entry.quotas.negatives_per_second or 1
            if rate is None or rate.per_second != per_second / self._num_workers:
                rate = NegativeRate(per_second / self._num_workers, entry.name)
        return Caller(
            name=entry.name,
            scopes=entry.scopes,
            datasets=entry.datasets,
            quotas=quotas,
            rate=rate,
        )

    def _share(self, entry: Entry) -> Quotas:
        """Give the quotas of one of the processes; one of them takes all published graphs.

        :raises MalformedFile: for a quota that is too small to be shared
        """
        shared = {}
        for key in ("max_streams", "negatives_per_second", "max_ahead_bytes"):
            value = getattr(entry.quotas, key)
            if value is None:
                continue
            if value < self._num_workers:
                raise MalformedFile(
                    self._path,
                    None,
                    f"{entry.name} has {key} = {value}, which {self._num_workers} workers share; "
                    f"give at least {self._num_workers}, or fewer --workers",
                )
            shared[key] = value // self._num_workers
        return replace(entry.quotas, **shared)

    def _reload_if_changed(self) -> None:
        if not self._files.have_changed():
            return
        try:
            self._read()
        except MalformedFile as error:
            logger.error("the previous tokens stay valid: %s", error)
        else:
            logger.info("%d tokens read again from %s", len(self._by_name), self._path)
