/** A client of negserve: datasets, vocabularies, negatives of given positives, epochs, known values. */

import {
  credentials,
  Metadata,
  status,
  type CallOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
} from "@grpc/grpc-js";
import {
  checkBatch,
  checkConfigured,
  checkDataset,
  checkEpoch,
  checkEpochBatch,
  checkOf,
  checkPositives,
  checkServer,
  type Due,
  type EpochPlan,
  type Sizes,
} from "./answers.js";
import { NegserveError, typed } from "./errors.js";
import { dividePairs, KnownAnswers, numIdsOf, type KnownValues, type PairColumns } from "./known.js";
import { rebuild, type Negatives } from "./negatives.js";
import { Patience } from "./patience.js";
import {
  GetVocabularyResponse_Kind,
  SamplerServiceClient,
  type CorruptedBatch,
  type Dataset,
  type EpochBatch,
  type EpochBatches,
  type GetDatasetResponse,
  type GetServerResponse,
  type KnownConfiguration,
  type KnownResponse,
  type Positives,
  type SampleConfiguration,
  type SampleResponse,
  type Limits,
  type Notice,
  type Notice_Kind,
  type SampleEpochRequest,
} from "./generated/negserve/v1/sampler.js";
import { countAddresses } from "./targets.js";
import { decodeFloats, decodeTriples, encodeTriples, type TripleColumns } from "./tensors.js";

/** Messages sent ahead of their answers; a few hide the round trip. */
const MESSAGES_AHEAD = 4;

/** Most pairs of a message: the server answers one while the next ones are under way. */
const MOST_PAIRS = 1 << 14;

/** Kinds of notices that are reported: a bound, since a server may send any number. */
const MOST_KINDS = 16;

const CHANNEL_OPTIONS = {
  "grpc.max_receive_message_length": 64 * 1024 * 1024,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
};

/** Replaces characters that could steer a terminal. */
function printable(text: string): string {
  return text.slice(0, 1_000).replace(/\p{Cc}/gu, " ");
}

/** Time limits, in milliseconds. */
export interface Waits {
  /** For a call, or a stream's next message. */
  timeoutMs: number;
  /** For retries without progress; by default the timeout, once for each address of the target. */
  patienceMs: number;
}

/** Labels in the order of their ids. */
export interface Vocabulary {
  entities: string[];
  relations: string[];
}

/** A batch of an epoch. */
export interface Batch {
  /** Where to resume after this batch. */
  nextStart: bigint;
  /** m positives; m may be 0. */
  positives: TripleColumns;
  negatives: Negatives;
  /** Subsampling weights, shape (m,); empty unless requested. */
  weights: Float32Array;
}

/** A server, or several replicas: gRPC accepts targets such as `ipv4:127.0.0.1:1,127.0.0.1:2`. */
export class Client {
  readonly #stub: SamplerServiceClient;
  readonly #waits: Waits;
  readonly #told = new Set<Notice_Kind>();

  /** Called with each kind of notice of the server once. */
  onNotice: (notice: Notice) => void = ({ text }) => console.error(`negserve: ${printable(text)}`);

  /** @throws NegserveError if the target is malformed */
  constructor(target: string, waits: Partial<Waits> = {}) {
    const numAddresses = countAddresses(target);
    this.#stub = new SamplerServiceClient(target, credentials.createInsecure(), CHANNEL_OPTIONS);
    const { timeoutMs = 30_000, patienceMs = timeoutMs * numAddresses } = waits;
    this.#waits = { timeoutMs, patienceMs };
  }

  /** Time limits. */
  get waits(): Readonly<Waits> {
    return this.#waits;
  }

  /** Closes the connection. */
  close(): void {
    this.#stub.close();
  }

  /** Returns version, sampling functions and limits of the server. */
  async server(): Promise<GetServerResponse> {
    const answer = await this.#unary<GetServerResponse>((options, done) =>
      this.#stub.getServer({}, new Metadata(), options, done),
    );
    checkServer(answer);
    return answer;
  }

  /** Lists the server's datasets. */
  async listDatasets(): Promise<Dataset[]> {
    const patience = new Patience(this.#waits.patienceMs);
    for (;;) {
      const datasets: Dataset[] = [];
      try {
        for await (const piece of this.#messages(this.#stub.listDatasets({}))) {
          datasets.push(...piece.datasets);
        }
        return datasets;
      } catch (error) {
        await patience.wait(error);
      }
    }
  }

  /** Returns counts, fingerprints and limits of a dataset. */
  async getDataset(dataset: string): Promise<GetDatasetResponse> {
    const answer = await this.#unary<GetDatasetResponse>((options, done) =>
      this.#stub.getDataset({ dataset }, new Metadata(), options, done),
    );
    checkDataset(answer, dataset);
    return answer;
  }

  /** Reads the labels of a dataset; no labels if it has no vocabulary. */
  async vocabulary(dataset: string): Promise<Vocabulary> {
    const patience = new Patience(this.#waits.patienceMs);
    for (;;) {
      const vocabulary: Vocabulary = { entities: [], relations: [] };
      const call = this.#stub.getVocabulary({ dataset, expectedFingerprint: "" });
      try {
        for await (const { kind, labels } of this.#messages(call)) {
          const isEntity = kind === GetVocabularyResponse_Kind.KIND_ENTITY;
          vocabulary[isEntity ? "entities" : "relations"].push(...labels);
        }
        return vocabulary;
      } catch (error) {
        await patience.wait(error);
      }
    }
  }

  /**
   * Draws negatives.
   *
   * A broken stream is opened again, and messages without an answer are sent again: the same
   * positions give the same negatives.
   *
   * @param configuration of the stream: dataset, fingerprint, sampler
   * @param position position of the first positive
   * @param positives any number of positives
   * @returns one entry for each message into which the positives were divided
   */
  async sample(
    configuration: SampleConfiguration,
    position: bigint,
    positives: TripleColumns,
  ): Promise<Negatives[]> {
    const { dataset, limits } = await this.getDataset(configuration.dataset);
    const messages = divide(configuration, position, positives, limits!);
    const check = checkOf("Sample");
    let version = 0;
    const answers: Negatives[] = [];
    const patience = new Patience(this.#waits.patienceMs);
    while (answers.length < messages.length) {
      try {
        const due = messages.slice(answers.length).map((positives) => ({
          message: { $case: "positives" as const, value: positives },
        }));
        const first = { message: { $case: "configuration" as const, value: configuration } };
        const isAnswer = ({ message }: SampleResponse): boolean => message?.$case === "batch";
        const responses = this.#exchange(this.#stub.sample(), [first, ...due], isAnswer);
        for await (const { message, notices } of responses) {
          this.#tell(notices);
          if (message?.$case === "configured") {
            version = checkConfigured(check, message.value, configuration, version);
            continue;
          }
          check(message?.$case === "batch" && version > 0, "message", message?.$case, "a batch");
          const request = messages[answers.length]!;
          const columns = decodeTriples(request.triples);
          const batch = message!.value as CorruptedBatch;
          const sampler = configuration.sampler!;
          checkBatch(check, "batch", batch, sampler, request.position, columns.heads.length);
          answers.push(rebuild(batch, columns, sampler, dataset!, check));
          patience.renew();
        }
        if (answers.length < messages.length) {
          throw new NegserveError(status.UNAVAILABLE, "the stream was ended before its last answer");
        }
      } catch (error) {
        await patience.wait(error);
      }
    }
    return answers;
  }

  #tell(notices: Notice[]): void {
    for (const notice of notices) {
      if (!this.#told.has(notice.kind) && this.#told.size < MOST_KINDS) {
        this.#told.add(notice.kind);
        this.onNotice(notice);
      }
    }
  }

  /**
   * Finds the known values of one slot for pairs of ids of the other two.
   *
   * A broken stream is opened again, and messages whose answer is incomplete are sent again.
   *
   * @param configuration of the stream: dataset, fingerprint, splits, slot
   * @param pairs any number of pairs, in the order head, relation, tail
   */
  async known(configuration: KnownConfiguration, pairs: PairColumns): Promise<KnownValues> {
    const { dataset, limits } = await this.getDataset(configuration.dataset);
    const messages = dividePairs(pairs, Math.min(limits!.maxTriplesPerMessage, MOST_PAIRS));
    const numIds = numIdsOf(configuration.slot, dataset!);
    const answers = new KnownAnswers(checkOf("Known"), messages, numIds);
    const patience = new Patience(this.#waits.patienceMs);
    const take = (response: KnownResponse): boolean => {
      const { isLast, hasAdvanced } = answers.take(response);
      if (hasAdvanced) {
        patience.renew();
      }
      return isLast;
    };
    while (!answers.isComplete) {
      const due = answers.start().map((value) => ({ message: { $case: "pairs" as const, value } }));
      const first = { message: { $case: "configuration" as const, value: configuration } };
      try {
        const responses = this.#exchange(this.#stub.known(), [first, ...due], take);
        while (!(await responses.next()).done);
        if (!answers.isComplete) {
          throw new NegserveError(status.UNAVAILABLE, "the stream was ended before its last answer");
        }
      } catch (error) {
        await patience.wait(error);
      }
    }
    return answers.result;
  }

  /**
   * Sends messages over one stream, a few ahead of the answers.
   *
   * @param requests the configuration, and what follows
   * @param isAnswer takes each message, and returns whether it completes the answer to a request
   */
  async *#exchange<Request, Response>(
    call: ClientDuplexStream<Request, Response>,
    [first, ...others]: Request[],
    isAnswer: (response: Response) => boolean,
  ): AsyncGenerator<Response> {
    let numSent = 0;
    const send = (): void => {
      if (numSent < others.length) {
        call.write(others[numSent]!);
      } else if (numSent === others.length) {
        call.end();
      }
      numSent++;
    };
    call.write(first!);
    for (let i = 0; i < MESSAGES_AHEAD; i++) {
      send();
    }
    for await (const response of this.#messages(call)) {
      if (isAnswer(response)) {
        send();
      }
      yield response;
    }
  }

  /**
   * Streams an epoch from `request.start` on.
   *
   * A stream that breaks, stalls or is ended by a server's shutdown is opened again at the
   * `nextStart` of the last batch. No batch is lost or repeated, and the bytes are the same.
   */
  async *epoch(request: SampleEpochRequest): AsyncGenerator<Batch> {
    const check = checkOf("SampleEpoch");
    const sizes = (await this.getDataset(request.dataset)).dataset!;
    let version = 0;
    let due = { ...request, numEpochs: 1 };
    const patience = new Patience(this.#waits.patienceMs);
    for (;;) {
      let numLeft: bigint | undefined;
      let plan: EpochPlan | undefined;
      let numTaken = 0;
      let epochBegin = 0n;
      try {
        for await (const { message } of this.#messages(this.#stub.sampleEpoch(due))) {
          if (message?.$case === "configured") {
            check(plan === undefined, "message", "configured", "batches");
            version = checkConfigured(check, message.value, request, version);
            plan = checkEpoch(check, message.value, due);
            numLeft = message.value.numBatches;
            epochBegin = request.epoch * message.value.numPositives;
          } else {
            check(message?.$case === "batches" && plan !== undefined, "message", message?.$case, "configured, then batches");
            const { batches } = message!.value as EpochBatches;
            check(batches.length > 0 && BigInt(batches.length) <= numLeft!, "batches", batches.length, `1 to ${numLeft}`);
            for (const encoded of batches) {
              const at = plan!.batch(numTaken++);
              checkEpochBatch(check, encoded, at, request);
              const batch = decodeBatch(encoded, request, at, epochBegin, sizes);
              numLeft!--;
              // Counted from the new start, this worker's next batch is the last in a round of workers.
              const worker = Math.max(1, due.numWorkers) - 1;
              due = { ...due, start: batch.nextStart, worker };
              patience.renew();
              yield batch;
            }
          }
          if (numLeft === 0n) {
            return;
          }
        }
        throw new NegserveError(status.UNAVAILABLE, "the stream was ended before its last batch");
      } catch (error) {
        await patience.wait(error);
      }
    }
  }

  /** Makes a unary call, with retries. */
  async #unary<Answer>(
    start: (
      options: CallOptions,
      done: (error: Error | null, answer: Answer) => void,
    ) => unknown,
  ): Promise<Answer> {
    const patience = new Patience(this.#waits.patienceMs);
    for (;;) {
      try {
        return await new Promise<Answer>((resolve, reject) => {
          const deadline = Date.now() + this.#waits.timeoutMs;
          start({ deadline }, (error, answer) => (error ? reject(typed(error)) : resolve(answer)));
        });
      } catch (error) {
        await patience.wait(error);
      }
    }
  }

  /** Reads a stream; each message must arrive within the timeout. */
  async *#messages<Message>(call: ClientReadableStream<Message>): AsyncGenerator<Message> {
    const { timeoutMs } = this.#waits;
    let isStalled = false;
    const stall = (): NodeJS.Timeout =>
      setTimeout(() => {
        isStalled = true;
        call.cancel();
      }, timeoutMs);
    let timer = stall();
    // Errors reach the iteration below; an error after its end does not matter.
    call.on("error", () => undefined);
    try {
      for await (const message of call) {
        // The caller's own time for a message does not count.
        clearTimeout(timer);
        yield message as Message;
        timer = stall();
      }
    } catch (error) {
      if (isStalled) {
        throw new NegserveError(status.UNAVAILABLE, `no message for ${timeoutMs} ms`);
      }
      throw typed(error);
    } finally {
      clearTimeout(timer);
      call.cancel();
    }
  }
}

/** Divides positives into messages within the server's limits. */
function divide(
  configuration: SampleConfiguration,
  position: bigint,
  positives: TripleColumns,
  limits: Limits,
): Positives[] {
  const { numNegsPerPos = 0, logQ = false } = configuration.sampler ?? {};
  const most = Math.floor(limits.maxNegativesPerMessage / (logQ ? 2 : 1));
  const fitting = Math.floor(most / Math.max(1, numNegsPerPos));
  const step = Math.max(1, Math.min(fitting, limits.maxTriplesPerMessage));
  const messages = [];
  for (let begin = 0; begin < positives.heads.length; begin += step) {
    const triples = encodeTriples(positives, begin, begin + step);
    messages.push({ position: position + BigInt(begin), triples });
  }
  return messages;
}

function decodeBatch(
  encoded: EpochBatch,
  request: SampleEpochRequest,
  due: Due,
  epochBegin: bigint,
  sizes: Sizes,
): Batch {
  const check = checkOf("SampleEpoch");
  const positives = decodeTriples(encoded.positives);
  checkPositives(check, positives, sizes);
  const { negatives } = encoded;
  check(negatives !== undefined, "batches.negatives", "nothing", "negatives");
  const position = epochBegin + due.begin;
  checkBatch(check, "batches.negatives", negatives!, request.sampler!, position, due.length);
  return {
    nextStart: encoded.nextStart,
    positives,
    negatives: rebuild(negatives!, positives, request.sampler!, sizes, check),
    weights: decodeFloats(encoded.weights),
  };
}
