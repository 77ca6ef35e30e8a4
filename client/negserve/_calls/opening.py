"""Opens a server's dataset in this process."""

from __future__ import annotations

from pathlib import Path

from negserve._calls.pull import map_or_pull
from negserve._local.engine import check_engine
from negserve._local.triples_factory import LocalTriplesFactory
from negserve._transport.transport import Transport
from negserve.errors import InvalidRequestError
from negserve.types.dataset import Dataset


def check_compute(compute: object, cache_dir: object) -> None:
    """Check where a dataset is to be computed.

    :raises InvalidRequestError: if it is neither of the two places, or for a cache without use
    """
    if compute not in {"server", "client"}:
        raise InvalidRequestError(f"compute={compute!r}; give 'server' or 'client'")
    if compute == "server" and cache_dir is not None:
        raise InvalidRequestError(
            f"cache_dir={cache_dir!r} has no effect with compute='server'; give compute='client', "
            f"or leave it out"
        )


async def open_local(
    transport: Transport, dataset: Dataset, cache_dir: str | Path | None
) -> LocalTriplesFactory:
    """Map the snapshot of a dataset, the server's own or a copy.

    :param cache_dir: folder of copies; None for that of the user's caches
    :raises MissingLibraryError: without the extra ``server``
    :raises LocalStorageError: if a copy can't be written
    :raises NegserveError: as the server's status says
    """
    await transport.work(check_engine)  # before a download in vain
    base = None if cache_dir is None else Path(cache_dir).expanduser().absolute()
    folder = await map_or_pull(transport, dataset, base)
    return await transport.work(LocalTriplesFactory, dataset.name, folder, dataset.fingerprint)
