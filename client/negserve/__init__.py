"""The client: exact, reproducible negative samples for knowledge graphs, from a shared server.

The samplers with PyKEEN's API, which need torch, are in :mod:`negserve.sampling`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negserve._local.triples_factory import LocalTriplesFactory
    from negserve._sync.client import Client
    from negserve._sync.epoch_stream import EpochStream
    from negserve._sync.remote_sampler import RemoteSampler
    from negserve._sync.triples_factory import RemoteTriplesFactory
    from negserve.errors import (
        ChecksumError,
        ClosedError,
        CredentialsError,
        FingerprintMismatchError,
        InvalidAnswerError,
        InvalidRequestError,
        LimitExceededError,
        LocalStorageError,
        ManifestMismatchError,
        NegserveError,
        NotAllowedError,
        OverloadedError,
        RequestError,
        ServerFaultError,
        ServiceError,
        StalledError,
        StorageFailedError,
        UnavailableError,
        UnknownDatasetError,
    )
    from negserve.types.answers.known_values import KnownValues
    from negserve.types.answers.publish_progress import PublishProgress
    from negserve.types.answers.relation_statistics import RelationStatistics
    from negserve.types.answers.server_info import ServerInfo, ServerLimits
    from negserve.types.config import SamplerConfig
    from negserve.types.corrupted_batch import CorruptedBatch
    from negserve.types.dataset import Limits
    from negserve.types.epoch import EpochBatch, EpochConfig
    from negserve.types.warning_categories import (
        LeakageWarning,
        NegserveWarning,
        SwappedColumnsWarning,
        UnknownPositivesWarning,
    )

    __version__: str

__all__ = [
    "ChecksumError",
    "Client",
    "ClosedError",
    "CorruptedBatch",
    "CredentialsError",
    "EpochBatch",
    "EpochConfig",
    "EpochStream",
    "FingerprintMismatchError",
    "InvalidAnswerError",
    "InvalidRequestError",
    "KnownValues",
    "LeakageWarning",
    "LimitExceededError",
    "Limits",
    "LocalStorageError",
    "LocalTriplesFactory",
    "ManifestMismatchError",
    "NegserveError",
    "NegserveWarning",
    "NotAllowedError",
    "OverloadedError",
    "PublishProgress",
    "RelationStatistics",
    "RemoteSampler",
    "RemoteTriplesFactory",
    "RequestError",
    "SamplerConfig",
    "ServerFaultError",
    "ServerInfo",
    "ServerLimits",
    "ServiceError",
    "StalledError",
    "StorageFailedError",
    "SwappedColumnsWarning",
    "UnavailableError",
    "UnknownDatasetError",
    "UnknownPositivesWarning",
    "__version__",
]

# Imported on first use, so that the command starts, and handles Ctrl-C, before it imports numpy and
# grpc.
_MODULE_OF = {
    "ChecksumError": "errors",
    "Client": "_sync.client",
    "ClosedError": "errors",
    "CorruptedBatch": "types.corrupted_batch",
    "CredentialsError": "errors",
    "EpochBatch": "types.epoch",
    "EpochConfig": "types.epoch",
    "EpochStream": "_sync.epoch_stream",
    "FingerprintMismatchError": "errors",
    "InvalidAnswerError": "errors",
    "InvalidRequestError": "errors",
    "KnownValues": "types.answers.known_values",
    "LeakageWarning": "types.warning_categories",
    "LimitExceededError": "errors",
    "Limits": "types.dataset",
    "LocalStorageError": "errors",
    "LocalTriplesFactory": "_local.triples_factory",
    "ManifestMismatchError": "errors",
    "NegserveError": "errors",
    "NegserveWarning": "types.warning_categories",
    "NotAllowedError": "errors",
    "OverloadedError": "errors",
    "PublishProgress": "types.answers.publish_progress",
    "RelationStatistics": "types.answers.relation_statistics",
    "RemoteSampler": "_sync.remote_sampler",
    "RemoteTriplesFactory": "_sync.triples_factory",
    "RequestError": "errors",
    "SamplerConfig": "types.config",
    "ServerFaultError": "errors",
    "ServerInfo": "types.answers.server_info",
    "ServerLimits": "types.answers.server_info",
    "ServiceError": "errors",
    "StalledError": "errors",
    "StorageFailedError": "errors",
    "SwappedColumnsWarning": "types.warning_categories",
    "UnavailableError": "errors",
    "UnknownDatasetError": "errors",
    "UnknownPositivesWarning": "types.warning_categories",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("negserve")
    elif name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
