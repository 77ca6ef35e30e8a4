/** Held against the golden files of `proto/testdata`: messages, rebuilt negatives, refusals. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { checkOf, type Sizes } from "../src/answers.js";
import { errorInfo, NegserveError, typed } from "../src/errors.js";
import {
  KnownRequest,
  KnownResponse,
  SampleEpochRequest,
  SampleEpochResponse,
  SamplerServiceService,
  SampleRequest,
  SampleResponse,
} from "../src/generated/negserve/v1/sampler.js";
import * as messages from "../src/generated/negserve/v1/sampler.js";
import { KnownAnswer, numIdsOf } from "../src/known.js";
import { rebuild, type Negatives } from "../src/negatives.js";
import { decodeIds, decodeTriples, encodeIds, encodeTriples } from "../src/tensors.js";

interface Message {
  json: object | null;
  hex: string;
}

interface Case {
  name: string;
  requests: Message[];
  responses: Message[];
  status: string;
  error?: {
    domain: string;
    reason: string;
    metadata: Record<string, string | null>;
    "grpc-status-details-bin": string;
  };
  batches?: { negatives: number[][][]; mask: number[][] }[];
}

interface Codec {
  decode(bytes: Uint8Array): unknown;
  encode(message: unknown): { finish(): Uint8Array };
  fromJSON(json: unknown): unknown;
}

/** From build/test to the repository. */
const FOLDER = new URL("../../../../proto/testdata/", import.meta.url);

interface File {
  rpc: string;
  num_entities: number;
  num_relations: number;
  cases: Case[];
}

const FILES: File[] = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".json"))
  .map((name) => JSON.parse(readFileSync(new URL(name, FOLDER), "utf-8")));

function* casesAndSizes(rpc: string): Generator<[Case, Sizes]> {
  for (const file of FILES.filter((each) => each.rpc === rpc)) {
    const sizes = {
      numEntities: BigInt(file.num_entities),
      numRelations: BigInt(file.num_relations),
    };
    for (const one of file.cases) {
      yield [one, sizes];
    }
  }
}

function cases(rpc: string): Case[] {
  return [...casesAndSizes(rpc)].map(([one]) => one);
}

function codec(name: string): Codec {
  return (messages as unknown as Record<string, Codec>)[name]!;
}

function bytes(message: Message): Buffer {
  return Buffer.from(message.hex, "hex");
}

function compare(found: Negatives, expected: { negatives: number[][][]; mask: number[][] }): void {
  assert.deepEqual([...found.triples], expected.negatives.flat(2));
  assert.deepEqual([...found.mask], expected.mask.flat());
}

const RPCS = Object.values(SamplerServiceService).map(({ path }) => path.split("/").at(-1)!);

for (const rpc of RPCS) {
  test(`messages of ${rpc}`, () => {
    for (const { name, requests, responses } of cases(rpc)) {
      for (const [kind, all] of [["Request", requests], ["Response", responses]] as const) {
        for (const message of all.filter(({ json }) => json !== null)) {
          const { decode, encode, fromJSON } = codec(rpc + kind);
          const decoded = decode(bytes(message));
          // From JSON, ts-proto takes numbers without a name as UNRECOGNIZED.
          if (name !== "unknown kind") {
            assert.deepEqual(fromJSON(message.json), decoded);
          }
          assert.deepEqual(decode(encode(decoded).finish()), decoded);
        }
      }
    }
  });

  test(`refusals of ${rpc}`, () => {
    for (const { error, status: code } of cases(rpc)) {
      if (error === undefined) {
        continue;
      }
      const trailer = Buffer.from(error["grpc-status-details-bin"], "hex");
      const metadata = { get: () => [trailer] };
      const refusal = typed(
        Object.assign(new Error(), { code: Reflect.get(status, code), details: "", metadata }),
      );
      assert.ok(refusal instanceof NegserveError);
      assert.equal(status[refusal.code], code);
      assert.equal(refusal.reason, error.reason);
      assert.equal(errorInfo(trailer)!.domain, error.domain);
      assert.deepEqual(Object.keys(refusal.metadata).sort(), Object.keys(error.metadata).sort());
      for (const [key, text] of Object.entries(error.metadata)) {
        assert.ok(text === null || text === refusal.metadata[key]);
      }
    }
  });
}

test("rebuilt negatives of Sample", () => {
  let numBatches = 0;
  for (const [{ name, requests, responses, batches }, sizes] of casesAndSizes("Sample")) {
    const first = requests[0] && SampleRequest.decode(bytes(requests[0])).message;
    for (const [i, expected] of batches!.entries()) {
      const request = SampleRequest.decode(bytes(requests[i + 1]!)).message;
      const response = SampleResponse.decode(bytes(responses[i + 1]!)).message;
      assert.ok(first?.$case === "configuration", name);
      assert.ok(request?.$case === "positives" && response?.$case === "batch", name);
      const positives = decodeTriples(request.value.triples);
      const negatives = rebuild(response.value, positives, first.value.sampler!, sizes);
      assert.equal(negatives.position, request.value.position);
      compare(negatives, expected);
      numBatches++;
    }
  }
  assert.ok(numBatches > 20);
});

test("rebuilt negatives of SampleEpoch", () => {
  let numBatches = 0;
  for (const [{ requests, responses, batches }, sizes] of casesAndSizes("SampleEpoch")) {
    const encoded = responses
      .map((response) => SampleEpochResponse.decode(bytes(response)).message)
      .flatMap((message) => (message?.$case === "batches" ? message.value.batches : []));
    assert.equal(encoded.length, batches!.length);
    for (const [i, expected] of batches!.entries()) {
      const { sampler } = SampleEpochRequest.decode(bytes(requests[0]!));
      const positives = decodeTriples(encoded[i]!.positives);
      compare(rebuild(encoded[i]!.negatives!, positives, sampler!, sizes), expected);
      numBatches++;
    }
  }
  assert.ok(numBatches > 20);
});

/** Returns the same answer, each value and each pair without values in a message of its own. */
function divided(response: KnownResponse): KnownResponse[] {
  const [counts, values] = [decodeIds(response.counts), decodeIds(response.values)];
  const parts: KnownResponse[] = [];
  let at = 0;
  counts.forEach((count, i) => {
    for (let j = 0; j < Math.max(count, 1); j++) {
      const part = values.subarray(at, count === 0 ? at : ++at);
      parts.push({
        firstPair: response.firstPair + i,
        counts: encodeIds(Uint32Array.of(part.length)),
        values: encodeIds(part),
        isContinued: j + 1 < count,
      });
    }
  });
  return counts.length === 0 ? [response] : parts;
}

test("known values", () => {
  let numAnswers = 0;
  for (const [one, sizes] of casesAndSizes("Known")) {
    const requests = one.requests.map((each) => one.error === undefined ? KnownRequest.decode(bytes(each)).message : undefined);
    for (const [i, response] of one.responses.map((each) => KnownResponse.decode(bytes(each))).entries()) {
      const [first, asked] = [requests[0], requests[i + 1]];
      if (first?.$case !== "configuration" || asked?.$case !== "pairs") {
        continue;
      }
      const numPairs = decodeIds(asked.value.first).length;
      for (const parts of [[response], divided(response)]) {
        const answer = new KnownAnswer(checkOf("Known"), numPairs, numIdsOf(first.value.slot, sizes));
        const isLast = parts.map((part) => answer.take(part));
        assert.deepEqual(isLast, parts.map((_, at) => at === parts.length - 1));
        assert.deepEqual(answer.result.counts, decodeIds(response.counts));
        assert.deepEqual(answer.result.values, decodeIds(response.values));
        numAnswers++;
      }
    }
  }
  assert.ok(numAnswers > 10);
});

test("ids keep their value in the narrowest width", () => {
  for (const [id, width] of [[0, 1], [255, 1], [256, 2], [65_535, 2], [65_536, 4], [2 ** 32 - 1, 4]] as const) {
    const ids = encodeIds(Uint32Array.of(1, id));
    assert.equal(ids.width, width);
    assert.deepEqual([...decodeIds(ids)], [1, id]);
  }
  assert.deepEqual([...decodeIds(undefined)], []);
  assert.throws(() => decodeIds({ data: Buffer.alloc(8, 255), width: 8 }), RangeError);
  assert.throws(() => decodeIds({ data: Buffer.alloc(3), width: 2 }), RangeError);
});

test("a request of given positives is the golden one", () => {
  const { requests } = cases("Sample").find(({ name }) => name === "bernoulli")!;
  const { triples } = SampleRequest.decode(bytes(requests[1]!)).message!.value as messages.Positives;
  assert.deepEqual(encodeTriples(decodeTriples(triples), 0, 2), triples);
});
