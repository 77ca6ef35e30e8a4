"""negserve's client: exact, reproducible negatives of knowledge graphs from a shared service.

The samplers, which need torch, are in :mod:`negserve.sampling`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negserve.client import Client
    from negserve.config import SamplerConfig
    from negserve.corrupted_batch import CorruptedBatch
    from negserve.dataset import Limits
    from negserve.epoch import EpochBatch, EpochConfig
    from negserve.epoch_stream import EpochStream
    from negserve.errors import (
        ChecksumError,
        ClosedError,
        CredentialsError,
        FingerprintMismatchError,
        InvalidAnswerError,
        InvalidRequestError,
        LimitExceededError,
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
    from negserve.publish import PublishProgress
    from negserve.relation_statistics import RelationStatistics
    from negserve.remote_sampler import RemoteSampler
    from negserve.server_info import ServerInfo, ServerLimits
    from negserve.triples_factory import RemoteTriplesFactory
    from negserve.warning_categories import (
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
    "LeakageWarning",
    "LimitExceededError",
    "Limits",
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

# Imported when they are first asked for: so the command is under way, and can be interrupted in
# order, before numpy and grpc are there.
_MODULE_OF = {
    "ChecksumError": "errors",
    "Client": "client",
    "ClosedError": "errors",
    "CorruptedBatch": "corrupted_batch",
    "CredentialsError": "errors",
    "EpochBatch": "epoch",
    "EpochConfig": "epoch",
    "EpochStream": "epoch_stream",
    "FingerprintMismatchError": "errors",
    "InvalidAnswerError": "errors",
    "InvalidRequestError": "errors",
    "LeakageWarning": "warning_categories",
    "LimitExceededError": "errors",
    "Limits": "dataset",
    "NegserveError": "errors",
    "NegserveWarning": "warning_categories",
    "NotAllowedError": "errors",
    "OverloadedError": "errors",
    "PublishProgress": "publish",
    "RelationStatistics": "relation_statistics",
    "RemoteSampler": "remote_sampler",
    "RemoteTriplesFactory": "triples_factory",
    "RequestError": "errors",
    "SamplerConfig": "config",
    "ServerFaultError": "errors",
    "ServerInfo": "server_info",
    "ServerLimits": "server_info",
    "ServiceError": "errors",
    "StalledError": "errors",
    "StorageFailedError": "errors",
    "SwappedColumnsWarning": "warning_categories",
    "UnavailableError": "errors",
    "UnknownDatasetError": "errors",
    "UnknownPositivesWarning": "warning_categories",
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
