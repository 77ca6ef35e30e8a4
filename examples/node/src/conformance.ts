/** Performs tasks of `python -m negserve.conformance`, one line of JSON each: docs/clients.md. */

import { createInterface } from "node:readline";
import { Client } from "./client.js";
import { NegserveError } from "./errors.js";
import { KnownConfiguration, SampleConfiguration, SampleEpochRequest } from "./generated/negserve/v1/sampler.js";
import type { Negatives } from "./negatives.js";
import type { TripleColumns } from "./tensors.js";

type Row = [number, number, number];

interface Task {
  id: number;
  target: string;
  task: string;
  configuration?: object;
  messages?: { position: string; triples: Row[]; pairs: [number, number][] }[];
  request?: object;
}

function columns(rows: Row[]): TripleColumns {
  const column = (slot: number): Uint32Array => Uint32Array.from(rows, (row) => row[slot]!);
  return { heads: column(0), relations: column(1), tails: column(2) };
}

function rows(values: ArrayLike<number>, width: number): number[][] {
  return Array.from({ length: values.length / width }, (_, i) =>
    Array.from({ length: width }, (_, j) => values[i * width + j]!),
  );
}

/** Returns n lists of k triples, and n lists of k flags. */
function plain({ triples, mask }: Pick<Negatives, "triples" | "mask">, k: number): object {
  return {
    negatives: rows(triples, 3 * k).map((row) => rows(row, 3)),
    mask: rows(mask, k),
  };
}

async function sample(client: Client, { configuration, messages }: Task): Promise<object> {
  const parsed = SampleConfiguration.fromJSON(configuration);
  const batches = [];
  for (const { position, triples } of messages!) {
    const parts = await client.sample(parsed, BigInt(position), columns(triples));
    const whole = {
      triples: Uint32Array.from(parts.flatMap((part) => [...part.triples])),
      mask: Uint8Array.from(parts.flatMap((part) => [...part.mask])),
    };
    batches.push(plain(whole, parsed.sampler!.numNegsPerPos));
  }
  return { batches };
}

/** Returns for each message a list of values for each of its pairs. */
async function known(client: Client, { configuration, messages }: Task): Promise<object> {
  const parsed = KnownConfiguration.fromJSON(configuration);
  const answers = [];
  for (const { pairs } of messages!) {
    const column = (index: 0 | 1): Uint32Array => Uint32Array.from(pairs, (pair) => pair[index]);
    const { counts, values } = await client.known(parsed, { first: column(0), second: column(1) });
    let end = 0;
    answers.push(Array.from(counts, (count) => [...values.subarray(end, (end += count))]));
  }
  return { known: answers };
}

async function epoch(client: Client, task: Task): Promise<object> {
  const request = SampleEpochRequest.fromJSON(task.request);
  const batches = [];
  for await (const { nextStart, positives, negatives } of client.epoch(request)) {
    const { heads, relations, tails } = positives;
    batches.push({
      nextStart: String(nextStart),
      positives: Array.from(heads, (head, i) => [head, relations[i], tails[i]]),
      ...plain(negatives, request.sampler!.numNegsPerPos),
    });
  }
  return { batches };
}

async function perform(client: Client, task: Task): Promise<object> {
  if (task.task === "server") {
    const { version, algorithmVersions } = await client.server();
    return { version, algorithmVersions };
  }
  if (task.task === "datasets") {
    return { datasets: (await client.listDatasets()).map(({ name }) => name) };
  }
  if (task.task === "sample") {
    return await sample(client, task);
  }
  if (task.task === "known") {
    return await known(client, task);
  }
  return task.task === "epoch" ? await epoch(client, task) : { leftOut: true };
}

for await (const line of createInterface({ input: process.stdin })) {
  const task = JSON.parse(line) as Task;
  const client = new Client(task.target);
  let result: object;
  try {
    result = await perform(client, task);
  } catch (error) {
    if (!(error instanceof NegserveError)) {
      throw error;
    }
    result = { error: { reason: error.reason, metadata: error.metadata } };
  } finally {
    client.close();
  }
  console.log(JSON.stringify({ id: task.id, ...result }));
}
