"""The administrators' RPCs: validate, call the repository, encode."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol, TypeVar

import grpc

from negserve.v1 import admin_pb2 as pb
from negserve_server.access.caller import CALLER
from negserve_server.administration.dataset_change import DatasetChange
from negserve_server.administration.listed_version import ListedVersion
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.errors import MalformedFile, Refusal
from negserve_server.logs.audit import audit, auditing_refusals
from negserve_server.logs.call import asker, note_dataset
from negserve_server.service.handlers import one_request

ADMIN_SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"]

_Item = TypeVar("_Item")

#: Some 1.3 KB each at most.
_PER_MESSAGE = 32


class Administered(Protocol):
    """What loads, unloads and lists datasets: the repository, or all workers together."""

    async def load(self, name: str) -> DatasetChange:
        """Load a dataset."""
        ...

    async def unload(self, name: str) -> DatasetChange:
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
    """

    def __init__(self, repository: Administered) -> None:
        self._repository = repository

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
            changes.append(change := await self._repository.unload(request.name))
        return pb.UnloadDatasetResponse(change=_encode_change(change))

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


def make_admin_handler(
    servicer: AdminServicer, admission: AdmissionControl
) -> grpc.GenericRpcHandler:
    """Make the handlers of all methods of the service."""
    handlers = {
        "LoadDataset": one_request(
            "LoadDataset", servicer.load_dataset, pb.LoadDatasetRequest, admission
        ),
        "UnloadDataset": one_request(
            "UnloadDataset", servicer.unload_dataset, pb.UnloadDatasetRequest, admission
        ),
        "ReloadDatasets": one_request(
            "ReloadDatasets", servicer.reload_datasets, pb.ReloadDatasetsRequest, admission
        ),
        "ListVersions": one_request(
            "ListVersions", servicer.list_versions, pb.ListVersionsRequest, admission
        ),
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
