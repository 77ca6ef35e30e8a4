"""The client for asyncio: what :mod:`negserve` has, to be awaited. No thread that waits."""

from negserve.aio.client import Client
from negserve.aio.epoch_stream import EpochStream
from negserve.aio.remote_sampler import RemoteSampler
from negserve.aio.triples_factory import RemoteTriplesFactory

__all__ = ["Client", "EpochStream", "RemoteSampler", "RemoteTriplesFactory"]
