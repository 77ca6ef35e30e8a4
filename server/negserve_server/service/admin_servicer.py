"""The administrators' RPCs: validate, call, encode."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Literal, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from negserve.types.checks.text import shortened
from negserve.v1 import admin_pb2 as pb
from negserve_server.access.caller import CALLER
from negserve_server.administration.dataset_change import DatasetChange
from negserve_server.administration.listed_version import ListedVersion
from negserve_server.administration.server_control import Controlled
from negserve_server.administration.server_status import (
    DatasetStatus,
    PeerStatus,
    RpcCounts,
    ServerStatus,
    sum_of_peers,
)
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.errors import MalformedFile, Refusal
from negserve_server.logs.audit import audit, auditing_refusals
from negserve_server.logs.call import asker, note_dataset
from negserve_server.publishing.datasets import Origin
from negserve_server.service.handlers import one_request
from negserve_server.service.messages import look_up

ADMIN_SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"]

_Item = TypeVar("_Item")

#: Some 1.3 KB each at most.
_PER_MESSAGE = 32
#: Read once, as it comes from the disk.
_VERSION = version("negserve")
#: Bounds of a status, whose datasets and peers clients may make ever more of.
_MOST_DATASETS = 500
_MOST_PEERS = 200
_MOST_DATASETS_OF_A_PEER = 16
_ORIGINS: dict[int, Origin] = {
    pb.DATASET_ORIGIN_COMMAND_LINE: "command line",
    pb.DATASET_ORIGIN_REPOSITORY: "repository",
    pb.DATASET_ORIGIN_PUBLISHED: "published",
}


class Administered(Protocol):
    """What loads, unloads and lists datasets: the repository, or all workers together."""

    async def load(self, name: str) -> DatasetChange:
        """Load a dataset."""
        ...

    async def unload(
        self, name: str, origin: Origin | None = None, *, end_streams: bool = False
    ) -> DatasetChange:
        """Stop to serve a dataset."""
        ...

    async def reload(self) -> list[DatasetChange]:
        """Make the datasets those of the repository."""
        ...

    async def versions(self) -> list[ListedVersion]:
        """Give the versions in memory."""
        ...


class AdminServicer:
    """Answers the RPCs of ``negserve.v1.AdminService``.

    :param repository: changes and lists the datasets
    :param control: reads the status, and drains
    """

    def __init__(self, repository: Administered, control: Controlled) -> None:
        self._repository = repository
        self._control = control

    async def load_dataset(self, request: pb.LoadDatasetRequest) -> pb.LoadDatasetResponse:
        """Answer ``LoadDataset``."""
        with _audited("load", request.name) as changes:
            CALLER.get().check_dataset(request.name)
            with _readable():
                changes.append(change := await self._repository.load(request.name))
        return pb.LoadDatasetResponse(change=_encode_change(change))

    async def unload_dataset(self, request: pb.UnloadDatasetRequest) -> pb.UnloadDatasetResponse:
        """Answer ``UnloadDataset``."""
        with _audited("unload", request.name) as changes:
            CALLER.get().check_dataset(request.name)
            origin = look_up(_ORIGINS, request.origin, "origin") if request.origin else None
            change = await self._repository.unload(
                request.name, origin, end_streams=request.end_streams
            )
            changes.append(change)
        return pb.UnloadDatasetResponse(
            change=_encode_change(change), num_streams=change.num_streams
        )

    async def reload_datasets(
        self, _: pb.ReloadDatasetsRequest
    ) -> AsyncGenerator[pb.ReloadDatasetsResponse, None]:
        """Answer ``ReloadDatasets``."""
        with _audited("reload") as changes:
            CALLER.get().check_every_dataset()
            with _readable():
                changes.extend(await self._repository.reload())
        for some in _runs(changes):
            yield pb.ReloadDatasetsResponse(changes=map(_encode_change, some))

    async def list_versions(
        self, _: pb.ListVersionsRequest
    ) -> AsyncGenerator[pb.ListVersionsResponse, None]:
        """Answer ``ListVersions``."""
        # Encoded before the first is sent, which may take time: a version must not stay for that.
        versions, sees = await self._repository.versions(), CALLER.get().sees
        encoded = [_encode_version(each) for each in versions if sees(each.name)]
        for some in _runs(encoded):
            yield pb.ListVersionsResponse(versions=some)

    async def get_server_status(self, _: pb.GetServerStatusRequest) -> pb.GetServerStatusResponse:
        """Answer ``GetServerStatus``."""
        CALLER.get().check_every_dataset()
        return _encode_status(await self._control.status())

    async def drain_server(self, _: pb.DrainServerRequest) -> pb.DrainServerResponse:
        """Answer ``DrainServer``."""
        with auditing_refusals("drain", "drain"):
            CALLER.get().check_every_dataset()
            num_streams = await self._control.drain()
        audit("drain", "drained by %s: %d streams end", asker(), num_streams)
        return pb.DrainServerResponse(num_streams=num_streams)

    async def resume_server(self, _: pb.ResumeServerRequest) -> pb.ResumeServerResponse:
        """Answer ``ResumeServer``."""
        with auditing_refusals("resume", "resume"):
            CALLER.get().check_every_dataset()
            was_drained = await self._control.resume()
        audit("resume", "back in service by %s", asker())
        return pb.ResumeServerResponse(was_drained=was_drained)


def make_admin_handler(
    servicer: AdminServicer, admission: AdmissionControl
) -> grpc.GenericRpcHandler:
    """Make the handlers of all methods of the service."""
    methods: dict[str, tuple[Callable[[Any], Any], type[Message]]] = {
        "LoadDataset": (servicer.load_dataset, pb.LoadDatasetRequest),
        "UnloadDataset": (servicer.unload_dataset, pb.UnloadDatasetRequest),
        "ReloadDatasets": (servicer.reload_datasets, pb.ReloadDatasetsRequest),
        "ListVersions": (servicer.list_versions, pb.ListVersionsRequest),
        "GetServerStatus": (servicer.get_server_status, pb.GetServerStatusRequest),
        "DrainServer": (servicer.drain_server, pb.DrainServerRequest),
        "ResumeServer": (servicer.resume_server, pb.ResumeServerRequest),
    }
    handlers = {
        rpc: one_request(rpc, method, message_class, admission, outlives_drain=True)
        for rpc, (method, message_class) in methods.items()
    }
    return grpc.method_handlers_generic_handler(ADMIN_SERVICE.full_name, handlers)


@contextmanager
def _readable() -> Iterator[None]:
    """Refuse a call if the repository can't be read."""
    try:
        yield
    except MalformedFile as error:
        raise Refusal(
            str(error), reason="SNAPSHOT_UNUSABLE", value=error.path, complaint=error.why
        ) from error


@contextmanager
def _audited(
    order: Literal["load", "unload", "reload"], name: str = ""
) -> Iterator[list[DatasetChange]]:
    """Log who has changed what, or was refused; what has changed is to be added to the list."""
    note_dataset(name)
    changes: list[DatasetChange] = []
    with auditing_refusals(order, order):
        yield changes
    done = ", ".join(f"{change.action} {change.name}" for change in changes)
    audit(
        order,
        "%s by %s: %s",
        order,
        asker(),
        done or "nothing to do",
        changes={change.name: change.action for change in changes},
    )


def _runs(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for first in range(0, len(items), _PER_MESSAGE):
        yield items[first : first + _PER_MESSAGE]


def _encode_change(change: DatasetChange) -> pb.DatasetChange:
    return pb.DatasetChange(
        name=change.name,
        action=pb.DatasetAction.Value(f"DATASET_ACTION_{change.action.upper()}"),
        fingerprint=change.fingerprint,
        previous_fingerprint=change.previous_fingerprint,
        problem=change.problem,
    )


def _encode_version(version: ListedVersion) -> pb.DatasetVersion:
    origin = version.origin.upper().replace(" ", "_")
    return pb.DatasetVersion(
        name=version.name,
        fingerprint=version.fingerprint,
        origin=pb.DatasetOrigin.Value(f"DATASET_ORIGIN_{origin}"),
        is_current=version.is_current,
        num_streams=version.num_streams,
        num_triples=version.num_triples,
    )


def _encode_status(status: ServerStatus) -> pb.GetServerStatusResponse:
    datasets = sorted(
        status.datasets, key=lambda each: (-each.num_streams, -each.num_negatives, each.name)
    )
    peers = sorted(
        status.peers,
        key=lambda each: (-each.num_streams, -each.num_negatives, each.caller, each.address),
    )
    others = peers[_MOST_PEERS:]
    return pb.GetServerStatusResponse(
        version=_VERSION,
        uptime_seconds=status.uptime_seconds,
        is_drained=status.is_drained,
        num_workers=status.num_workers,
        num_worker_restarts=status.num_worker_restarts,
        resident_bytes=status.resident_bytes,
        ahead_bytes=status.ahead_bytes,
        max_ahead_bytes=status.max_ahead_bytes,
        table_bytes=sum(each.table_bytes for each in status.datasets),
        max_table_bytes=status.max_table_bytes,
        num_calls=status.num_calls,
        num_waiting=sum(each.num_waiting for each in status.datasets),
        num_queued=status.num_queued,
        datasets=map(_encode_dataset, datasets[:_MOST_DATASETS]),
        num_other_datasets=max(len(datasets) - _MOST_DATASETS, 0),
        peers=map(_encode_peer, peers[:_MOST_PEERS]),
        num_other_peers=len(others),
        other_peers=_encode_peer(sum_of_peers(others), num_datasets=0) if others else None,
        rpcs=_encode_rpcs(status.rpcs),
    )


def _encode_dataset(dataset: DatasetStatus) -> pb.DatasetStatus:
    return pb.DatasetStatus(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        num_versions=len(dataset.versions),
        table_bytes=dataset.table_bytes,
        num_streams=dataset.num_streams,
        num_waiting=dataset.num_waiting,
        num_positives=dataset.num_positives,
        num_negatives=dataset.num_negatives,
        **dataset.times._asdict(),
        rpcs=_encode_rpcs(dataset.rpcs),
    )


def _encode_peer(peer: PeerStatus, num_datasets: int = _MOST_DATASETS_OF_A_PEER) -> pb.PeerStatus:
    datasets = sorted(peer.datasets.items(), key=lambda each: (-each[1], each[0]))
    return pb.PeerStatus(
        caller=shortened(peer.caller),
        address=peer.address,
        num_streams=peer.num_streams,
        datasets=[
            pb.PeerDataset(name=name, num_streams=count) for name, count in datasets[:num_datasets]
        ],
        ahead_bytes=peer.ahead_bytes,
        num_negatives=peer.num_negatives,
        **peer.times._asdict(),
        oldest_stream_seconds=peer.oldest_stream_seconds,
    )


def _encode_rpcs(rpcs: RpcCounts) -> list[pb.RpcStatus]:
    return [
        pb.RpcStatus(rpc=rpc, num_calls=num_calls, num_requests=num_requests)
        for rpc, (num_calls, num_requests) in sorted(rpcs.items())
    ]
