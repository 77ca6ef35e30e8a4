"""The names of a server's datasets, read over as many streams as it takes."""

from __future__ import annotations

from negserve._calls.described_dataset import check_dataset
from negserve._protocol.answers import invalid
from negserve.v1 import sampler_pb2 as pb


class DatasetList:
    """The names that came over the stream at hand. Does no I/O."""

    def __init__(self) -> None:
        self.request = pb.ListDatasetsRequest()
        self._most = 0
        self.restart()

    def restart(self) -> None:
        """Forget what came: there is another stream."""
        self._names: dict[str, None] = {}

    def take(self, message: pb.ListDatasetsResponse) -> bool:
        """Take a piece; tell whether it goes further than any stream before.

        :raises InvalidAnswerError: naming the field
        """
        for dataset in message.datasets:
            check_dataset("datasets", dataset)
            if dataset.name in self._names:
                raise invalid("datasets.name", repr(dataset.name), "a name that did not come yet")
            self._names[dataset.name] = None
        before, self._most = self._most, max(self._most, len(self._names))
        return self._most > before

    def end(self) -> None:
        """Take note that a stream is over: a list is as long as it is."""

    def result(self) -> list[str]:
        """Give the names in the server's order."""
        return list(self._names)
