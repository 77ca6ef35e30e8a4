"""The administrators' calls of one server."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from negserve._transport.channels import CHANNEL_OPTIONS
from negserve._transport.credentials import open_channel
from negserve._transport.statuses import from_rpc_error
from negserve._transport.targets import checked_targets
from negserve.errors import NegserveError, NotAllowedError
from negserve.v1 import admin_pb2 as pb
from negserve.v1.admin_pb2_grpc import AdminServiceStub

_Answer = TypeVar("_Answer", bound=Message)


class AdminClient:
    """Calls ``negserve.v1.AdminService`` of one server, each once: a person sees what fails.

    :param target: ``HOST:PORT`` or ``unix:PATH``
    :param token_file: a file whose first token is that of an administrator; None for the token of
        the environment, as :mod:`.credentials` says
    :param timeout: seconds that a call may take
    :raises InvalidRequestError: if the target is malformed
    :raises CredentialsError: if the file can't be used, or the token would cross the network in
        plain text
    """

    def __init__(self, target: str, token_file: str | None, timeout: float) -> None:
        checked_targets(target)
        self._target = target
        self._timeout = timeout
        self._channel = open_channel(grpc, target, CHANNEL_OPTIONS, token_file)
        self._stub = AdminServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def load(self, name: str) -> pb.DatasetChange:
        """Load a dataset of the repository, or replace it.

        :raises NegserveError: as the server's status says
        """
        answer: pb.LoadDatasetResponse = self._ask(
            self._stub.LoadDataset, pb.LoadDatasetRequest(name=name)
        )
        return answer.change

    def unload(
        self, name: str, origin: pb.DatasetOrigin.ValueType, *, end_streams: bool
    ) -> pb.UnloadDatasetResponse:
        """Stop to serve a dataset of an origin.

        :param end_streams: whether the streams that use it end now
        :raises NegserveError: as the server's status says
        """
        answer: pb.UnloadDatasetResponse = self._ask(
            self._stub.UnloadDataset,
            pb.UnloadDatasetRequest(name=name, origin=origin, end_streams=end_streams),
        )
        return answer

    def reload(self) -> list[pb.DatasetChange]:
        """Make the datasets those of the repository.

        :raises NegserveError: as the server's status says
        """
        answers = self._read(self._stub.ReloadDatasets, pb.ReloadDatasetsRequest())
        return [change for answer in answers for change in answer.changes]

    def versions(self) -> list[pb.DatasetVersion]:
        """Give the versions in memory.

        :raises NegserveError: as the server's status says
        """
        answers = self._read(self._stub.ListVersions, pb.ListVersionsRequest())
        return [version for answer in answers for version in answer.versions]

    def status(self) -> pb.GetServerStatusResponse:
        """Read what the server holds and has done.

        :raises NegserveError: as the server's status says
        """
        answer: pb.GetServerStatusResponse = self._ask(
            self._stub.GetServerStatus, pb.GetServerStatusRequest()
        )
        return answer

    def drain(self) -> int:
        """Take the server out of service; give the number of streams that end for it.

        :raises NegserveError: as the server's status says
        """
        answer: pb.DrainServerResponse = self._ask(self._stub.DrainServer, pb.DrainServerRequest())
        return answer.num_streams

    def resume(self) -> bool:
        """Take the server back into service; tell whether it was out of it.

        :raises NegserveError: as the server's status says
        """
        answer: pb.ResumeServerResponse = self._ask(
            self._stub.ResumeServer, pb.ResumeServerRequest()
        )
        return answer.was_drained

    def _ask(self, method: Any, request: Message) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._error(error) from error

    def _read(self, method: Any, request: Message) -> Iterator[Any]:
        try:
            yield from method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._error(error) from error

    def _error(self, error: grpc.RpcError) -> NegserveError:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return NotAllowedError(
                f"{self._target}: this server takes no such call of administrators: it was started "
                f"without --token-file, or is older than this command",
                target=self._target,
            )
        return from_rpc_error(error, self._target)
