"""``Sample`` streams: negatives of the positives that clients send."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator

from negserve.types.corrupted_batch import CorruptedBatch, join_batches
from negserve.v1 import sampler_pb2 as pb
from negserve_server.access.caller import CALLER
from negserve_server.admission.fair_queue import Flow
from negserve_server.admission.scheduler import Scheduler
from negserve_server.admission.send_budget import SendBudget
from negserve_server.admission.server_stream import ServerStream
from negserve_server.config.limits import Limits, check_limit
from negserve_server.graph import TriplesFactory
from negserve_server.graph.first_positives import FirstPositives
from negserve_server.metrics.message_record import MessageRecord
from negserve_server.metrics.server_metrics import ServerMetrics
from negserve_server.publishing.datasets import Datasets
from negserve_server.sampling import Sampler
from negserve_server.sampling.slices import slices_of, work_of
from negserve_server.service import messages
from negserve_server.service.operator_warnings import OperatorWarnings
from negserve_server.service.streams.requests import (
    expect,
    find_dataset,
    read_configuration,
)


class SampleStreams:
    """Answers ``Sample`` streams.

    :param datasets: the graphs
    :param limits: how much callers may ask for
    :param scheduler: runs the work of streams
    :param send_budget: bounds the memory of answers
    :param warnings: tells operators about streams
    :param metrics: count and time the negatives
    """

    def __init__(
        self,
        datasets: Datasets,
        limits: Limits,
        scheduler: Scheduler,
        send_budget: SendBudget,
        warnings: OperatorWarnings,
        metrics: ServerMetrics,
    ) -> None:
        self._metrics = metrics
        self._datasets = datasets
        self._limits = limits
        self._scheduler = scheduler
        self._send_budget = send_budget
        self._warnings = warnings

    async def answer(
        self, stream: ServerStream[pb.SampleRequest]
    ) -> AsyncGenerator[pb.SampleResponse | bytes, None]:
        """Answer a stream."""
        configuration = await read_configuration(stream)
        if configuration is None:
            return
        factory = find_dataset(
            self._datasets, configuration.dataset, configuration.expected_fingerprint
        )
        name = configuration.dataset
        with self._datasets.in_use(name), self._send_budget.open(CALLER.get()) as budget:
            sampler = await self._scheduler.run_blocking(
                self._configure, factory, configuration.sampler
            )
            del configuration  # which may be large
            yield pb.SampleResponse(
                configured=pb.SampleConfigured(
                    fingerprint=factory.fingerprint, sampler=messages.encode_config(sampler.config)
                )
            )
            self._warnings.warn_of_leakage(
                name, factory, sampler.config.filter_splits, epochs=False
            )
            first_positives = FirstPositives(name, factory)
            flow, answered = Flow(), time.monotonic()
            config, most = sampler.config, self._limits.max_triples_per_message
            k = config.num_negs_per_pos
            meter = self._metrics.draws(name, config.kind, k, is_masked=config.masked)
            while (request := await stream.read()) is not None:
                flow.record_pause(time.monotonic() - answered)
                expect(request.WhichOneof("message"), "positives")
                count = min(messages.count_ids(request.positives.triples.heads), most)
                size = messages.batch_bytes(sampler, count)
                await budget.reserve(size)
                await stream.spend(count * k)
                work, record = work_of(count, k), meter.begin()
                steps = self._corrupt(sampler, request.positives, first_positives, record)
                answer = await self._scheduler.run_anywhere(flow, work, steps)
                del request
                stream.use.drew(count, k, record.queue, record.make)
                meter.made(record)
                budget.begin_sending(size)
                yield answer
                budget.end_sending()
                meter.sent(record)
                answered = time.monotonic()

    def _configure(self, factory: TriplesFactory, message: pb.SamplerConfig) -> Sampler:
        return factory.sampler(messages.decode_config(message, self._limits))

    def _corrupt(
        self,
        sampler: Sampler,
        request: pb.Positives,
        first_positives: FirstPositives,
        record: MessageRecord,
    ) -> Generator[None, None, bytes]:
        """Make the answer to positives, in steps."""
        record.begun()
        positives = messages.decode_triples(request.triples, self._limits)
        k = sampler.config.num_negs_per_pos
        check_limit(
            "triples",
            len(positives),
            self._limits.negatives_per_message(sampler.config.log_q) // k,
            f"with {k} negatives each; split the batch over several messages",
        )
        batches: list[CorruptedBatch] = []
        for part in slices_of(len(positives), k):
            if batches:
                record.drawn()
                yield
                record.begun()
            with messages.rows_after(part.start):
                batches.append(sampler.sample(positives[part], request.position + part.start))
        record.drawn()
        first_positives.add(positives)
        answer = pb.SampleResponse()
        # In place: a message is copied into another.
        batch = join_batches(batches)
        messages.encode_batch(batch, answer.batch)
        if first_positives.are_complete and (text := first_positives.check()):
            self._warnings.warn_of_unknown_positives(first_positives.factory, text)
            answer.notices.add(kind=pb.Notice.KIND_UNKNOWN_POSITIVES, text=text)
        encoded = answer.SerializeToString()
        record.encoded(batch.num_positives, batch.num_saturated, batch.mask)
        return encoded
