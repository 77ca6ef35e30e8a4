"""A client: its transport, and the coroutines that need no dataset."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from negserve._calls.answers import ask, read
from negserve._calls.dataset import RemoteDataset
from negserve._calls.pull import OnBytes, pull
from negserve._protocol.answer_readers import DatasetListReader
from negserve._protocol.descriptions import (
    DatasetDescription,
    dataset_request,
    read_dataset,
    read_server_info,
    server_request,
)
from negserve._transport.transport import Transport
from negserve.types.answers.server_info import ServerInfo

DEFAULT_TARGET = "127.0.0.1:7733"

_Transport = TypeVar("_Transport", bound=Transport)
_Dataset = TypeVar("_Dataset", bound=RemoteDataset)  # type: ignore[type-arg]


class BaseClient(Generic[_Transport, _Dataset]):
    """A transport to a server, opened when it is needed.

    Parameters as of :class:`negserve.Client`.
    """

    _transport_class: type[_Transport]
    _dataset_class: type[_Dataset]

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        timeout: float = 30.0,
        patience: float | None = None,
        spread: bool = True,
    ) -> None:
        self._transport = self._transport_class(target, timeout, patience, spread=spread)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, as they were given."""
        return self._transport.replicas.targets

    @property
    def target(self) -> str:
        """The replica in use for all but the streams of ranks."""
        return self._transport.replicas.target

    def __repr__(self) -> str:
        transport = self._transport
        target = self.targets[0] if len(self.targets) == 1 else list(self.targets)
        return f"Client({target!r}, timeout={transport.timeout}, patience={transport.patience})"

    async def _ask_server_info(self) -> ServerInfo:
        return await ask(self._transport, "GetServer", server_request(), read_server_info)

    async def _read_datasets(self) -> list[str]:
        return await read(self._transport, "ListDatasets", DatasetListReader())

    async def _ask_dataset(self, name: str) -> _Dataset:
        description = await self._describe(name)
        return self._dataset_class(self._transport, description)

    async def _pull(self, name: str, directory: str | Path, on_bytes: OnBytes | None) -> Path:
        dataset = (await self._describe(name)).dataset
        return await pull(
            self._transport, dataset, Path(directory).expanduser().absolute(), on_bytes
        )

    async def _describe(self, name: str) -> DatasetDescription:
        return await ask(
            self._transport, "GetDataset", dataset_request(name), partial(read_dataset, name)
        )
