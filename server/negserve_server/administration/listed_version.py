"""A version of a dataset, as administrators see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from negserve_server.publishing.datasets import Datasets, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedVersion:
    """A graph in memory, and its name.

    :ivar name: that it has or had
    :ivar fingerprint: of the graph
    :ivar origin: where it comes from
    :ivar is_current: whether new streams get it
    :ivar num_streams: open streams that use it
    :ivar num_triples: of all splits
    :ivar serial: number that no other version has
    """

    name: str
    fingerprint: str
    origin: Origin
    is_current: bool
    num_streams: int
    num_triples: int
    serial: int


def list_versions(datasets: Datasets) -> list[ListedVersion]:
    """List the versions of one process: current ones first."""
    return [
        ListedVersion(
            name=version.name,
            fingerprint=version.factory.fingerprint,
            origin=version.origin,
            is_current=is_current,
            num_streams=version.num_streams,
            num_triples=sum(map(len, version.factory.columns.values())),
            serial=version.serial,
        )
        for version, is_current in datasets.versions()
    ]


def merge_versions(lists: Iterable[Iterable[ListedVersion]]) -> list[ListedVersion]:
    """Make one list of those of several processes: streams are added, current ones come first."""
    merged: dict[int, ListedVersion] = {}
    for versions in lists:
        for version in versions:
            known = merged.get(version.serial)
            num_streams = version.num_streams + (0 if known is None else known.num_streams)
            merged[version.serial] = replace(version, num_streams=num_streams)
    return sorted(merged.values(), key=lambda version: (not version.is_current, version.serial))
