/** Golden answers with a field changed: each is refused, and the field is named. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { checkBatch, checkConfigured, checkEpoch, checkEpochBatch, checkOf, InvalidAnswerError } from "../src/answers.js";
import { NegserveError } from "../src/errors.js";
import {
  KnownResponse,
  SampleEpochRequest,
  SampleEpochResponse,
  SampleRequest,
  SampleResponse,
  type CorruptedBatch,
  type EpochBatch,
  type EpochConfigured,
  type SampleConfigured,
} from "../src/generated/negserve/v1/sampler.js";
import { KnownAnswer } from "../src/known.js";
import { rebuild } from "../src/negatives.js";
import { decodeTriples } from "../src/tensors.js";

const FOLDER = new URL("../../../../proto/testdata/", import.meta.url);
const WORLD = { numEntities: 2571n, numRelations: 29n };

function messages(rpc: string, name: string): { requests: Buffer[]; responses: Buffer[] } {
  const text = readFileSync(new URL(`${rpc}.json`, FOLDER), "utf-8");
  const { cases } = JSON.parse(text) as {
    cases: { name: string; requests: { hex: string }[]; responses: { hex: string }[] }[];
  };
  const found = cases.find((each) => each.name === name)!;
  const bytes = (all: { hex: string }[]): Buffer[] => all.map(({ hex }) => Buffer.from(hex, "hex"));
  return { requests: bytes(found.requests), responses: bytes(found.responses) };
}

function refused(field: string, run: () => unknown): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof InvalidAnswerError && error instanceof NegserveError);
    assert.equal(error.metadata["field"], field);
    assert.ok(!error.isTransient);
    return true;
  });
}

const check = checkOf("Sample");

test("another batch than was asked for", () => {
  const { requests, responses } = messages("Sample", "bernoulli");
  const first = SampleRequest.decode(requests[0]!).message!;
  const second = SampleRequest.decode(requests[1]!).message!;
  assert.ok(first.$case === "configuration" && second.$case === "positives");
  const sampler = first.value.sampler!;
  const positives = decodeTriples(second.value.triples);
  const take = (edit: (batch: CorruptedBatch) => void): void => {
    const batch = SampleResponse.decode(responses[1]!).message!.value as CorruptedBatch;
    edit(batch);
    checkBatch(check, "batch", batch, sampler, second.value.position, positives.heads.length);
    rebuild(batch, positives, sampler, WORLD);
  };
  take(() => undefined);
  const edits: [string, (batch: CorruptedBatch) => void][] = [
    ["batch.position", (batch) => (batch.position = 8n)],
    ["batch.numPositives", (batch) => (batch.numPositives = 2 ** 32 - 1)],
    ["batch.numSaturated", (batch) => (batch.numSaturated = 3)],
    ["batch.replaced.width", (batch) => (batch.replaced!.width = 3)],
    ["batch.replaced.data, bytes", (batch) => (batch.replaced!.data = Buffer.alloc(2))],
    ["batch.replaced.data, bytes", (batch) => (batch.replaced = undefined)],
    ["replaced", (batch) => (batch.replaced!.data = Buffer.alloc(16, 255))],
    ["replaced", (batch) => (batch.replaced!.data = Buffer.from("1f04".repeat(8), "hex"))],
    ["headCounts + relationCounts", (batch) => (batch.headCounts!.data = Buffer.from([5, 0]))],
    ["batch.headCounts.data, bytes", (batch) => (batch.headCounts!.data = Buffer.from([2]))],
    ["relationCounts", (batch) => (batch.relationCounts = { data: Buffer.from([1, 0]), width: 1 })],
    ["batch.mask, bytes", (batch) => (batch.mask = Buffer.alloc(2))],
    ["batch.logQ, bytes", (batch) => (batch.logQ = Buffer.alloc(32))],
  ];
  for (const [field, edit] of edits) {
    refused(field, () => take(edit));
  }
});

test("another configuration than was asked for", () => {
  const { requests, responses } = messages("Sample", "bernoulli");
  const first = SampleRequest.decode(requests[0]!).message!;
  assert.ok(first.$case === "configuration");
  const take = (edit: (answer: SampleConfigured) => void, version = 0): number => {
    const answer = SampleResponse.decode(responses[0]!).message!.value as SampleConfigured;
    edit(answer);
    return checkConfigured(check, answer, first.value, version);
  };
  assert.equal(take(() => undefined), 2);
  refused("configured.fingerprint", () => take((answer) => (answer.fingerprint = "0".repeat(64))));
  refused("configured.sampler.seed", () => take((answer) => (answer.sampler!.seed = 1n)));
  refused("configured.sampler.kind", () => take((answer) => (answer.sampler!.kind = 99 as never)));
  refused("configured.sampler.filterSplits", () => take((answer) => (answer.sampler!.filterSplits = [])));
  refused("configured.sampler.algorithmVersion", () => take(() => undefined, 3));
  for (const { name } of [{ name: "degree by default" }, { name: "chunks" }, { name: "three slots" }]) {
    const golden = messages("Sample", name);
    const asked = SampleRequest.decode(golden.requests[0]!).message!;
    assert.ok(asked.$case === "configuration");
    const answer = SampleResponse.decode(golden.responses[0]!).message!.value as SampleConfigured;
    assert.equal(checkConfigured(check, answer, asked.value, 0), 2);
  }
});

test("another epoch than was asked for", () => {
  for (const name of ["whole epoch", "next epoch", "goes on", "goes on with other ranks", "rank 0",
    "rank 1", "nothing in the tail", "tail is dropped", "tail wraps", "worker 0", "worker 1", "end",
    "large epoch", "all relations", "weights", "chunks", "log probabilities"]) {
    const { requests, responses } = messages("SampleEpoch", name);
    const request = SampleEpochRequest.decode(requests[0]!);
    const [first, ...others] = responses.map((response) => SampleEpochResponse.decode(response).message!);
    const configured = first!.value as EpochConfigured;
    const plan = checkEpoch(check, configured, request);
    refused("configured.numBatches", () =>
      checkEpoch(check, { ...configured, numBatches: configured.numBatches + 1n }, request));
    const batches = others.flatMap((message) => (message.$case === "batches" ? message.value.batches : []));
    batches.forEach((batch, i) => {
      const due = plan.batch(i);
      const position = request.epoch * configured.numPositives + due.begin;
      checkEpochBatch(check, batch, due, request);
      checkBatch(check, "batch", batch.negatives!, request.sampler!, position, due.length);
      const other: EpochBatch = { ...batch, nextStart: batch.nextStart + 1n };
      refused("batches.nextStart", () => checkEpochBatch(check, other, due, request));
    });
  }
});

test("other known values than can be", () => {
  const { responses } = messages("Known", "heads of all splits");
  const golden = (): KnownResponse => KnownResponse.decode(responses[1]!);
  const numPairs = golden().counts!.data.length;
  const parts = (...edits: ((part: KnownResponse) => void)[]): void => {
    const answer = new KnownAnswer(checkOf("Known"), numPairs, WORLD.numEntities);
    for (const edit of edits) {
      const part = golden();
      edit(part);
      answer.take(part);
    }
  };
  const ids = (width: 1 | 2, ...all: number[]): { data: Buffer; width: number } => {
    const data = Buffer.alloc(all.length * width);
    all.forEach((id, i) => data.writeUIntLE(id, i * width, width));
    return { data, width };
  };
  /** The first pair has 1 value in the file; here it has these, and more follow. */
  const begun = (part: KnownResponse): void => {
    Object.assign(part, { counts: ids(1, 2), values: ids(2, 4, 700), isContinued: true });
  };
  parts(() => undefined);
  parts(begun, (part) => Object.assign(part, { counts: ids(1, 1), values: ids(2, 701) }));
  const edits: [string, (part: KnownResponse) => void][] = [
    ["firstPair", (part) => (part.firstPair = 1)],
    ["counts, number", (part) => (part.counts!.data = Buffer.alloc(numPairs + 1))],
    ["counts, number", (part) => (part.counts = undefined)],
    ["counts[0]", (part) => (part.counts = ids(2, ...Array<number>(numPairs).fill(65_535)))],
    ["values.data, bytes", (part) => (part.values!.data = part.values!.data.subarray(2))],
    ["values.width", (part) => (part.values!.width = 3)],
    ["values", (part) => Object.assign(part, { counts: ids(1, 1), values: ids(2, 2571) })],
    ["values[1]", (part) => Object.assign(part, { counts: ids(1, 2), values: ids(2, 5, 5) })],
    ["values[2]", (part) => Object.assign(part, { counts: ids(1, 1, 2), values: ids(2, 9, 8, 7) })],
  ];
  for (const [field, edit] of edits) {
    refused(field, () => parts(edit));
  }
  refused("firstPair", () => parts(begun, (part) => (part.firstPair = 1)));
  refused("values[0]", () =>
    parts(begun, (part) => Object.assign(part, { counts: ids(1, 1), values: ids(2, 700) })));
  refused("counts[0]", () =>
    parts(begun, (part) => Object.assign(part, { counts: ids(1, 0), values: ids(2) })));
  refused("counts, number", () =>
    parts((part) => Object.assign(part, { counts: undefined, values: undefined, isContinued: true })));
});
