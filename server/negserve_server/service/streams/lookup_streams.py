"""``Contains`` and ``Known`` streams: what the filter index knows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import numpy as np
from numpy.typing import NDArray

from negserve.v1 import sampler_pb2 as pb
from negserve_server.access.caller import CALLER
from negserve_server.admission.fair_queue import Flow
from negserve_server.admission.scheduler import Scheduler
from negserve_server.admission.send_budget import SendBudget
from negserve_server.admission.server_stream import ServerStream
from negserve_server.config.limits import Limits
from negserve_server.index import FilterIndex
from negserve_server.publishing.datasets import Datasets
from negserve_server.sampling.slices import slices_of, work_of
from negserve_server.service import messages
from negserve_server.service.streams.known_messages import KnownAnswer
from negserve_server.service.streams.requests import (
    expect,
    find_dataset,
    read_configuration,
)


class LookupStreams:
    """Answers ``Contains`` and ``Known`` streams.

    :param datasets: the graphs
    :param limits: how much callers may ask for
    :param scheduler: runs the work of streams
    :param send_budget: bounds the memory of answers
    """

    def __init__(
        self, datasets: Datasets, limits: Limits, scheduler: Scheduler, send_budget: SendBudget
    ) -> None:
        self._datasets = datasets
        self._limits = limits
        self._scheduler = scheduler
        self._send_budget = send_budget

    async def contains(
        self, stream: ServerStream[pb.ContainsRequest]
    ) -> AsyncGenerator[pb.ContainsResponse | bytes, None]:
        """Answer a ``Contains`` stream."""
        configuration = await read_configuration(stream)
        if configuration is None:
            return
        factory = find_dataset(
            self._datasets, configuration.dataset, configuration.expected_fingerprint
        )
        splits = messages.decode_splits(configuration.splits, "splits")
        with (
            self._datasets.in_use(configuration.dataset),
            self._send_budget.open(CALLER.get()) as budget,
        ):
            index = await self._scheduler.run_blocking(factory.filter_index, splits)
            flow, most = Flow(), self._limits.max_triples_per_message
            while (request := await stream.read()) is not None:
                expect(request.WhichOneof("message"), "triples")
                count = min(messages.count_ids(request.triples.heads), most)
                size = count // 8 + 64
                await budget.reserve(size)
                answer = await self._scheduler.run_steps(
                    flow, work_of(count, 0), self._look_up(index, request.triples)
                )
                del request
                budget.begin_sending(size)
                yield answer
                budget.end_sending()

    def _look_up(self, index: FilterIndex, message: pb.Triples) -> Generator[None, None, bytes]:
        """Make the answer to triples, in steps."""
        triples = messages.decode_triples(message, self._limits)
        found: list[NDArray[np.bool_]] = []
        for part in slices_of(len(triples), 0):
            if found:
                yield
            with messages.rows_after(part.start):
                found.append(index.contains(triples[part]))
        known = np.concatenate(found)
        return pb.ContainsResponse(
            num_triples=len(known), known=messages.encode_flags(known)
        ).SerializeToString()

    async def known(
        self, stream: ServerStream[pb.KnownRequest]
    ) -> AsyncGenerator[pb.KnownResponse | bytes, None]:
        """Answer a ``Known`` stream."""
        configuration = await read_configuration(stream)
        if configuration is None:
            return
        factory = find_dataset(
            self._datasets, configuration.dataset, configuration.expected_fingerprint
        )
        splits = messages.decode_splits(configuration.splits, "splits")
        slot = messages.look_up(messages.SLOTS, configuration.slot, "slot")
        with (
            self._datasets.in_use(configuration.dataset),
            self._send_budget.open(CALLER.get()) as budget,
        ):
            index = await self._scheduler.run_blocking(factory.filter_index, splits)
            # It may have to be built, which can't be cut. The stream holds it until its end.
            pairs = await self._scheduler.run_blocking(index.by_slot, slot)
            flow, most = Flow(), self._limits.max_triples_per_message
            while (request := await stream.read()) is not None:
                expect(request.WhichOneof("message"), "pairs")
                count = min(messages.count_ids(request.pairs.first), most)
                answer = KnownAnswer(index, pairs, slot)
                steps = answer.find(request.pairs, self._limits)
                await self._scheduler.run_steps(flow, work_of(count, 0), steps)
                del request
                for piece in answer.pieces():
                    await budget.reserve(piece.num_bytes)
                    message = await self._scheduler.run(flow, piece.work, answer.encode, piece)
                    budget.begin_sending(piece.num_bytes)
                    yield message
                    budget.end_sending()
