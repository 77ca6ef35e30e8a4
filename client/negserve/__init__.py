"""negserve's client: exact, reproducible negatives of knowledge graphs from a shared service.

The samplers, which need torch, are in :mod:`negserve.sampling`.
"""

from negserve.client import Client
from negserve.config import SamplerConfig
from negserve.corrupted_batch import CorruptedBatch
from negserve.dataset import Limits
from negserve.described_dataset import RelationStatistics
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
    UnavailableError,
    UnknownDatasetError,
)
from negserve.publish import PublishProgress
from negserve.remote_sampler import RemoteSampler
from negserve.triples_factory import RemoteTriplesFactory

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
    "LimitExceededError",
    "Limits",
    "NegserveError",
    "NotAllowedError",
    "OverloadedError",
    "PublishProgress",
    "RelationStatistics",
    "RemoteSampler",
    "RemoteTriplesFactory",
    "RequestError",
    "SamplerConfig",
    "ServerFaultError",
    "ServiceError",
    "StalledError",
    "UnavailableError",
    "UnknownDatasetError",
]
