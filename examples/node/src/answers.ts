/** Checks of an answer before it is used: docs/protocol.md, Answers that can't be true. */

import { status } from "@grpc/grpc-js";
import { NegserveError } from "./errors.js";
import {
  FilterMode,
  SamplerKind,
  Slot,
  TailRule,
  type CorruptedBatch,
  type Dataset,
  type EpochBatch,
  type EpochConfigured,
  type GetDatasetResponse,
  type GetServerResponse,
  type Ids,
  type SampleConfigured,
  type SampleEpochRequest,
  type SamplerConfig,
} from "./generated/negserve/v1/sampler.js";
import type { TripleColumns } from "./tensors.js";

/** A server's answer can't be true: the server, or a proxy before it, is at fault. */
export class InvalidAnswerError extends NegserveError {
  /**
   * @param rpc RPC of the answer
   * @param field field of the answer
   * @param value received value
   * @param limit expected value
   */
  constructor(rpc: string, field: string, value: unknown, limit: unknown) {
    const texts = { rpc, field, value: String(value), limit: String(limit) };
    super(
      status.DATA_LOSS,
      `the answer to ${rpc} can't be true: ${field} is ${texts.value}, expected ${texts.limit}`,
      "",
      texts,
    );
  }

  /** The server would repeat its answer, so another try is useless. */
  override get isTransient(): boolean {
    return false;
  }
}

/** Throws unless a condition holds. */
export type Check = (holds: boolean, field: string, value: unknown, limit: unknown) => void;

/** Returns a check for answers to an RPC. */
export function checkOf(rpc: string): Check {
  return (holds, field, value, limit) => {
    if (!holds) {
      throw new InvalidAnswerError(rpc, field, value, limit);
    }
  };
}

/** Sizes of the id spaces. */
export type Sizes = Pick<Dataset, "numEntities" | "numRelations">;

const MOST_IDS = 2n ** 32n;
const FINGERPRINT = /^[0-9a-f]{64}$/;

/** Checks an answer to `GetDataset`. */
export function checkDataset(answer: GetDatasetResponse, name: string): void {
  const check = checkOf("GetDataset");
  const { dataset, limits } = answer;
  check(dataset?.name === name, "dataset.name", dataset?.name, name);
  for (const field of ["numEntities", "numRelations"] as const) {
    const size = dataset![field];
    check(size >= 1n && size <= MOST_IDS, `dataset.${field}`, size, `1 to ${MOST_IDS}`);
  }
  const { fingerprint } = dataset!;
  check(FINGERPRINT.test(fingerprint), "dataset.fingerprint", fingerprint, "64 hexadecimal digits");
  for (const field of ["maxNegativesPerPositive", "maxNegativesPerMessage", "maxTriplesPerMessage"] as const) {
    check((limits?.[field] ?? 0) >= 1, `limits.${field}`, limits?.[field], "at least 1");
  }
}

/** Checks an answer to `GetServer`. */
export function checkServer({ version, algorithmVersions, limits }: GetServerResponse): void {
  const check = checkOf("GetServer");
  check(/^\d+\.\d+\.\d+/.test(version), "version", version, "MAJOR.MINOR.PATCH");
  const isAscending = algorithmVersions.every((each, i) => each > (algorithmVersions[i - 1] ?? 0));
  const isThere = algorithmVersions.length > 0 && isAscending;
  check(isThere, "algorithmVersions", algorithmVersions, "ascending, from 1 on");
  for (const field of ["maxRequestBytes", "maxUnansweredMessages", "maxUnansweredBytes"] as const) {
    check((limits?.[field] ?? 0) >= 1, `limits.${field}`, limits?.[field], "at least 1");
  }
}

/** Returns a configuration as servers echo it; version 0 stands for any. */
function filledIn(config: SamplerConfig): SamplerConfig {
  const sorted = <Value extends number>(values: Value[]): Value[] =>
    [...new Set(values)].sort((one, other) => one - other);
  const kinds = config.mixture.length > 0 ? config.mixture.map(({ kind }) => kind) : [config.kind];
  const scheme = config.corruptionScheme;
  return {
    ...config,
    corruptionScheme: sorted(scheme.length > 0 ? scheme : [Slot.SLOT_HEAD, Slot.SLOT_TAIL]),
    filterSplits: sorted(config.filterSplits),
    filterMode: config.filterMode || FilterMode.FILTER_MODE_EXACT,
    chunkSize: config.chunkSize || 1,
    alpha: kinds.includes(SamplerKind.SAMPLER_KIND_DEGREE) ? (config.alpha ?? 0.75) : undefined,
    candidates: undefined,
  };
}

/**
 * Checks a server's echo of its configuration.
 *
 * @param asked the request
 * @param version the version of the first answer; 0 before it
 * @returns the version in use
 */
export function checkConfigured(
  check: Check,
  answer: SampleConfigured | EpochConfigured,
  asked: { expectedFingerprint: string; sampler?: SamplerConfig | undefined },
  version: number,
): number {
  const { expectedFingerprint: expected } = asked;
  check(
    expected === "" ? FINGERPRINT.test(answer.fingerprint) : answer.fingerprint === expected,
    "configured.fingerprint", answer.fingerprint, expected || "64 hexadecimal digits",
  );
  const due = filledIn(asked.sampler!);
  due.algorithmVersion ||= version || answer.sampler?.algorithmVersion || -1;
  for (const [field, limit] of Object.entries(due)) {
    const value: unknown = answer.sampler?.[field as keyof SamplerConfig];
    check(text(value) === text(limit), `configured.sampler.${field}`, text(value), text(limit));
  }
  return due.algorithmVersion;
}

function text(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? String(each) : each)) ?? "";
}

/** Checks the form of a tensor of ids. */
export function checkIds(check: Check, field: string, ids: Ids | undefined, length: number): void {
  const { data, width } = ids ?? { data: new Uint8Array(), width: 0 };
  check([1, 2, 4, 8].includes(width) || (data.length === 0 && width === 0), `${field}.width`, width, "1, 2, 4 or 8");
  check(data.length === length * (width || 1), `${field}.data, bytes`, data.length, `${length} ids of width ${width}`);
  const isLarge = width === 8 && data.some((byte, i) => i % 8 > 3 && byte > 0);
  check(!isLarge, field, "an id of more than 4 bytes", `below ${MOST_IDS}`);
}

/**
 * Checks a batch before memory is allocated for it; its values are checked while it is rebuilt.
 *
 * @param path name of the batch in errors
 * @param position position of the first positive
 * @param n expected number of positives
 */
export function checkBatch(
  check: Check,
  path: string,
  batch: CorruptedBatch,
  sampler: SamplerConfig,
  position: bigint,
  n: number,
): void {
  const k = sampler.numNegsPerPos;
  check(batch.position === position, `${path}.position`, batch.position, position);
  check(batch.numPositives === n, `${path}.numPositives`, batch.numPositives, n);
  check(batch.numSaturated <= n, `${path}.numSaturated`, batch.numSaturated, `at most ${n}`);
  const c = BigInt(sampler.chunkSize || 1);
  const rows = n === 0 ? 0 : Number((position % c + BigInt(n - 1)) / c) + 1;
  checkIds(check, `${path}.replaced`, batch.replaced, rows * k);
  for (const field of ["headCounts", "relationCounts"] as const) {
    const counts = batch[field];
    checkIds(check, `${path}.${field}`, counts, (counts?.data.length ?? 0) > 0 ? n : 0);
  }
  const isMasked = sampler.filterSplits.length > 0 || sampler.distinct || c > 1n;
  const numBytes = batch.mask.length;
  check(numBytes === 0 || (isMasked && numBytes === Math.ceil((n * k) / 8)), `${path}.mask, bytes`, numBytes, `flags of ${n * k} negatives, or none`);
  const numLogQ = sampler.logQ ? 4 * n * k : 0;
  check(batch.logQ.length === numLogQ, `${path}.logQ, bytes`, batch.logQ.length, numLogQ);
}

/** Checks the counts of one positive. */
export function checkCounts(
  check: Check,
  sampler: SamplerConfig,
  numHeads: number,
  numRelations: number,
): void {
  const k = sampler.numNegsPerPos;
  const scheme = sampler.corruptionScheme;
  const isIn = (slot: Slot): boolean =>
    scheme.length === 0 ? slot !== Slot.SLOT_RELATION : scheme.includes(slot);
  check(numHeads === 0 || isIn(Slot.SLOT_HEAD), "headCounts", numHeads, 0);
  check(numRelations === 0 || isIn(Slot.SLOT_RELATION), "relationCounts", numRelations, 0);
  const sum = numHeads + numRelations;
  check(isIn(Slot.SLOT_TAIL) ? sum <= k : sum === k, "headCounts + relationCounts", sum, k);
}

/** The place of a batch in its epoch. */
export interface Due {
  nextStart: bigint;
  /** Position within the epoch. */
  begin: bigint;
  length: number;
}

/** The batches of an epoch from `request.start` on: docs/sampling.md, Order of an epoch. */
export class EpochPlan {
  readonly #request: SampleEpochRequest;
  readonly #numPositives: bigint;

  constructor(request: SampleEpochRequest, numPositives: bigint) {
    this.#request = request;
    this.#numPositives = numPositives;
  }

  get #step(): bigint {
    return BigInt(this.#request.batchSize) * BigInt(this.#request.worldSize || 1);
  }

  /** Number of these batches. */
  get numBatches(): bigint {
    const { start, tail, worker, numWorkers } = this.#request;
    const left = this.#numPositives - start;
    const isDropped = tail === TailRule.TAIL_RULE_DROP;
    const ofRank = isDropped ? left / this.#step : (left + this.#step - 1n) / this.#step;
    const workers = BigInt(numWorkers || 1);
    const behind = ofRank - BigInt(worker);
    return behind <= 0n ? 0n : (behind + workers - 1n) / workers;
  }

  /** Returns the place of one batch. */
  batch(index: number): Due {
    const { start, tail, rank, worker, numWorkers, batchSize, worldSize } = this.#request;
    const n = this.#numPositives;
    const [r, w] = [BigInt(rank), BigInt(worldSize || 1)];
    const first = start + (BigInt(worker) + BigInt(index) * BigInt(numWorkers || 1)) * this.#step;
    const next = first + this.#step;
    const nextStart = next < n ? next : n;
    if (tail === TailRule.TAIL_RULE_WRAP || next <= n) {
      return { nextStart, begin: first + r * BigInt(batchSize), length: batchSize };
    }
    const left = n - first;
    const begin = (left * r) / w;
    return { nextStart, begin: first + begin, length: Number((left * (r + 1n)) / w - begin) };
  }
}

/** Checks the first message of an epoch; returns the plan of its batches. */
export function checkEpoch(
  check: Check,
  configured: EpochConfigured,
  request: SampleEpochRequest,
): EpochPlan {
  const { numPositives, numBatches } = configured;
  check(numPositives >= request.start && numPositives <= MOST_IDS ** 2n, "configured.numPositives", numPositives, `at least ${request.start}`);
  const plan = new EpochPlan(request, numPositives);
  check(numBatches === plan.numBatches, "configured.numBatches", numBatches, plan.numBatches);
  return plan;
}

/** Checks the positives and weights of a batch of an epoch. */
export function checkEpochBatch(
  check: Check,
  encoded: EpochBatch,
  due: Due,
  request: SampleEpochRequest,
): void {
  check(encoded.nextStart === due.nextStart, "batches.nextStart", encoded.nextStart, due.nextStart);
  for (const field of ["heads", "relations", "tails"] as const) {
    checkIds(check, `batches.positives.${field}`, encoded.positives?.[field], due.length);
  }
  const numBytes = request.weights ? 4 * due.length : 0;
  check(encoded.weights.length === numBytes, "batches.weights, bytes", encoded.weights.length, numBytes);
}

/** Checks that ids are in the id spaces. */
export function checkPositives(check: Check, positives: TripleColumns, sizes: Sizes): void {
  for (const field of ["heads", "relations", "tails"] as const) {
    const size = field === "relations" ? sizes.numRelations : sizes.numEntities;
    const largest = positives[field].reduce((most, id) => Math.max(most, id), 0);
    check(positives[field].length === 0 || BigInt(largest) < size, `batches.positives.${field}`, largest, `below ${size}`);
  }
}
