"""One sampler's stream, opened when it is needed."""

from __future__ import annotations

from negserve._calls.notices import Notices
from negserve._protocol.answers import check_member
from negserve._protocol.sample_exchange import SampleExchange, configuration
from negserve._protocol.sampler_echo import SamplerEcho
from negserve._transport.budget import Budget
from negserve._transport.open_call import OpenCall
from negserve._transport.transport import Transport
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset


class SampleStream:
    """A ``Sample`` stream, for one exchange after the other.

    :param transport: to the dataset's server
    :param dataset: the dataset
    :param config: what to draw
    :param echo: what servers have to say that they draw
    """

    def __init__(
        self, transport: Transport, dataset: Dataset, config: SamplerConfig, echo: SamplerEcho
    ) -> None:
        self._transport = transport
        self._dataset = dataset
        self._configuration = configuration(dataset, config)
        self._echo = echo
        self._notices = Notices()
        self._call: OpenCall | None = None

    async def open(self) -> None:
        """Open the stream, so that the configuration is checked.

        :raises NegserveError: typed by what the server said of the configuration
        """
        await self._transport.persist(self._opened, dataset=self._dataset)

    async def converse(self, exchange: SampleExchange) -> None:
        """Carry out an exchange, over as many streams as it takes.

        :raises NegserveError: typed by what the server said
        """

        async def draw(budget: Budget) -> None:
            call = await self._opened(budget)
            try:
                await call.exchange(exchange, budget)
            except BaseException:
                self.close()  # also after an interrupt: an answer may be under way
                raise

        await self._transport.persist(draw, dataset=self._dataset)
        if exchange.notices and self._call is not None:
            self._notices.tell(self._call.target, exchange.notices)

    def close(self) -> None:
        """End the stream; another one is opened when it is needed."""
        if self._call is not None:
            self._call.close()
            self._call = None

    async def _opened(self, budget: Budget) -> OpenCall:
        if self._call is None or not self._call.is_active:
            call = self._transport.open("Sample")
            try:
                call.send(self._configuration)
                answer = await call.answer(budget)
                with call.saying():
                    check_member("message", answer, "configured")
                    configured = answer.configured
                    self._echo.check("configured", configured.fingerprint, configured.sampler)
            except BaseException:
                call.close()
                raise
            self._call = call
            self._notices.tell(call.target, answer.notices)
        return self._call
