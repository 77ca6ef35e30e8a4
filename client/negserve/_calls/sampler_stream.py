"""The stream of one sampler, opened when it is needed, and the server's notices about it."""

from __future__ import annotations

from collections.abc import Iterable

from numpy.typing import ArrayLike

from negserve._calls.process_rank import process_rank
from negserve._protocol.pipelines import SamplePipeline, sample_configuration
from negserve._protocol.sampler_answers import (
    UNKNOWN_POSITIVES,
    BatchReader,
    Notice,
    SamplerEcho,
    read_notices,
)
from negserve._transport.transport import RetryBudget, ServerCall, Transport
from negserve.errors import InvalidRequestError
from negserve.types.checks.text import printable
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.dataset import Dataset
from negserve.types.warning_categories import NegserveWarning, UnknownPositivesWarning, warn

_CATEGORIES: dict[int, type[NegserveWarning]] = {UNKNOWN_POSITIVES: UnknownPositivesWarning}
_MOST_CHARACTERS = 1000
_MOST_KINDS = 16


class SamplerStream:
    """A ``Sample`` stream that answers one call of a sampler after the other.

    :param transport: to the dataset's server
    :param dataset: the dataset
    :param config: which negatives to draw
    :param echo: checks the configuration that servers confirm
    """

    def __init__(
        self, transport: Transport, dataset: Dataset, config: SamplerConfig, echo: SamplerEcho
    ) -> None:
        self._transport = transport
        self._dataset = dataset
        self._reader = BatchReader(dataset, config)
        k = config.num_negs_per_pos
        self._positives_per_message = dataset.limits.positives_per_message(k, config.log_q)
        self._configuration = sample_configuration(dataset, config)
        self._echo = echo
        self._notices = Notices()
        self._call: ServerCall | None = None

    def pipeline(self, ahead: int) -> SamplePipeline:
        """Make a pipeline for calls of the sampler.

        :param ahead: how many calls there are at most at the same time
        """
        return SamplePipeline(
            self._dataset,
            self._reader,
            self._positives_per_message,
            ahead,
        )

    async def open(self) -> None:
        """Open the stream, so that the server checks the configuration.

        :raises NegserveError: as the server's status says
        """
        await self._transport.retry(self._opened, dataset=self._dataset)

    async def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Carry out one call.

        :param positives: as of :meth:`.SamplePipeline.add`, and so is ``position``
        :raises NegserveError: as the server's status says
        """
        return await self.run(
            SamplePipeline(
                self._dataset,
                self._reader,
                self._positives_per_message,
                calls=[(positives, position)],
            )
        )

    async def run(self, pipeline: SamplePipeline) -> CorruptedBatch:
        """Carry out the first call of a pipeline, over as many streams as it takes.

        Requests of the later ones are sent, too.

        :raises NegserveError: as the server's status says
        """

        async def draw(budget: RetryBudget) -> None:
            while True:
                call = await self._opened(budget)
                try:
                    await call.run(pipeline, budget)
                except BaseException as error:
                    self.close()  # also after an interrupt: an answer may be under way
                    if not (isinstance(error, InvalidRequestError) and pipeline.divide()):
                        raise
                else:
                    return

        await self._transport.retry(draw, dataset=self._dataset)
        if pipeline.notices and self._call is not None:
            self._notices.tell(self._call.target, pipeline.notices)
        return pipeline.pop()

    def close(self) -> None:
        """End the stream; the next call opens another."""
        if self._call is not None:
            self._call.close()
            self._call = None

    async def _opened(self, budget: RetryBudget) -> ServerCall:
        if self._call is None or not self._call.is_active:
            call = await self._transport.open_busy("Sample", budget, number=process_rank())
            try:
                call.send_all([self._configuration])
                answer = await call.answer(budget)
                with call.answering():
                    self._echo.confirm(answer)
            except BaseException:
                call.close()
                raise
            self._call = call
            self._notices.tell(call.target, read_notices(answer))
        return self._call


class Notices:
    """Turns a server's notices into Python warnings, once per kind over all streams.

    A kind that this client does not know, from a newer server, is a :class:`NegserveWarning`.
    """

    def __init__(self) -> None:
        self._told: set[int] = set()

    def tell(self, target: str, notices: Iterable[Notice]) -> None:
        """Warn of new kinds.

        :param target: the replica that sent them
        :raises NegserveWarning: where Python is told to raise it
        """
        for notice in notices:
            if notice.kind not in self._told and len(self._told) < _MOST_KINDS:
                self._told.add(notice.kind)
                category = _CATEGORIES.get(notice.kind, NegserveWarning)
                warn(f"{target}: {printable(notice.text[:_MOST_CHARACTERS])}", category)
