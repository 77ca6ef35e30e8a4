/** The command-line program: `node build/src/main.js --help`. */

import { createWriteStream } from "node:fs";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Client } from "./client.js";
import { NegserveError } from "./errors.js";
import {
  FilterMode,
  SampleEpochRequest,
  SamplerConfig,
  SamplerKind,
  Slot,
  Split,
  TailRule,
} from "./generated/negserve/v1/sampler.js";
import { printable } from "./printable.js";
import type { TripleColumns } from "./tensors.js";

const HELP = `Usage: node build/src/main.js [options] COMMAND

Commands:
  server    print the server's version
  datasets  list the server's datasets
  sample    read positives as labels from standard input, one head<TAB>relation<TAB>tail a line;
            print a JSON object for each, with its negatives
  epoch     stream an epoch, print its size, and write its negatives to --out

Options of all commands:
  --target TARGET          address of the server [NEGSERVE_TARGET, or 127.0.0.1:7733]
  --timeout SECONDS        for a call, or a stream's next message [30]
  --patience SECONDS       for retries without progress
                           [the timeout, once for each address of the target]
Options of sample and epoch:
  --dataset NAME           [world]
  --kind KIND              basic, bernoulli, pseudotyped, typed or degree [basic]
  -k N                     negatives per positive [1]
  --slot SLOT              head, relation or tail; repeatable [head and tail]
  --split SPLIT            training, validation or testing: never draw its triples; repeatable
  --mask                   draw the triples of --split, and flag them
  --distinct               draw no value twice for a positive and slot
  --chunk-size N           number of consecutive positions that share one set of values [1]
  --seed N                 [0]
Options of sample:
  --position N             position of the first positive [0]
Options of epoch:
  --epoch N                [0]
  --start N                position within the epoch at which to begin [0]
  --batch-size N           [1024]
  --rank N                 [0]
  --world-size N           [1]
  --worker N               number of this worker [0]
  --num-workers N          how many workers share the rank's batches [1]
  --tail RULE              short, drop or wrap [short]
  --out FILE               file for each batch of m positives: the rebuilt negatives, uint32
                           little-endian (m, k, 3), then their mask, one byte each`;

const OPTIONS = {
  help: { type: "boolean" },
  target: { type: "string", default: process.env["NEGSERVE_TARGET"] ?? "127.0.0.1:7733" },
  timeout: { type: "string", default: "30" },
  patience: { type: "string" },
  dataset: { type: "string", default: "world" },
  kind: { type: "string", default: "basic" },
  k: { type: "string", short: "k", default: "1" },
  slot: { type: "string", multiple: true, default: [] as string[] },
  split: { type: "string", multiple: true, default: [] as string[] },
  mask: { type: "boolean", default: false },
  distinct: { type: "boolean", default: false },
  "chunk-size": { type: "string", default: "1" },
  seed: { type: "string", default: "0" },
  position: { type: "string", default: "0" },
  epoch: { type: "string", default: "0" },
  start: { type: "string", default: "0" },
  "batch-size": { type: "string", default: "1024" },
  rank: { type: "string", default: "0" },
  "world-size": { type: "string", default: "1" },
  worker: { type: "string", default: "0" },
  "num-workers": { type: "string", default: "1" },
  tail: { type: "string", default: "short" },
  out: { type: "string" },
} as const;

/** An error in the command line. */
class UsageError extends Error {}

type Options = ReturnType<typeof parse>["values"];

function parse() {
  return parseArgs({ options: OPTIONS, allowPositionals: true });
}

function integer(text: string, name: string): bigint {
  if (!/^\d+$/.test(text)) {
    throw new UsageError(`--${name} ${text} is not a number`);
  }
  return BigInt(text);
}

/** Names of the kinds, the same in all clients. */
const KINDS = {
  basic: SamplerKind.SAMPLER_KIND_BASIC,
  bernoulli: SamplerKind.SAMPLER_KIND_BERNOULLI,
  pseudotyped: SamplerKind.SAMPLER_KIND_PSEUDO_TYPED,
  typed: SamplerKind.SAMPLER_KIND_TYPED,
  degree: SamplerKind.SAMPLER_KIND_DEGREE,
};
const SLOTS = { head: Slot.SLOT_HEAD, relation: Slot.SLOT_RELATION, tail: Slot.SLOT_TAIL };
const SPLITS = {
  training: Split.SPLIT_TRAINING,
  validation: Split.SPLIT_VALIDATION,
  testing: Split.SPLIT_TESTING,
};
const TAILS = {
  short: TailRule.TAIL_RULE_SHORT,
  drop: TailRule.TAIL_RULE_DROP,
  wrap: TailRule.TAIL_RULE_WRAP,
};

/** Looks a name up. */
function value<Value>(names: Readonly<Record<string, Value>>, text: string): Value {
  if (!Object.hasOwn(names, text)) {
    throw new UsageError(`${text} is unknown; choose from ${Object.keys(names).join(", ")}`);
  }
  return names[text]!;
}

function sampler(options: Options): SamplerConfig {
  return SamplerConfig.create({
    kind: value(KINDS, options.kind),
    numNegsPerPos: Number(integer(options.k, "k")),
    corruptionScheme: options.slot.map((slot) => value(SLOTS, slot)),
    filterSplits: options.split.map((split) => value(SPLITS, split)),
    filterMode: options.mask ? FilterMode.FILTER_MODE_MASK : FilterMode.FILTER_MODE_UNSPECIFIED,
    distinct: options.distinct,
    chunkSize: Number(integer(options["chunk-size"], "chunk-size")),
    seed: integer(options.seed, "seed"),
  });
}

async function server(client: Client): Promise<void> {
  const { version, algorithmVersions, limits } = await client.server();
  console.log(`${version}\tsampling function ${algorithmVersions.join(", ")}`);
  for (const [name, limit] of Object.entries(limits!)) {
    console.log(`${name}\t${limit}`);
  }
}

async function datasets(client: Client): Promise<void> {
  for (const dataset of await client.listDatasets()) {
    const splits = dataset.splits.map(({ split, numTriples }) => `${numTriples} ${Split[split]}`);
    console.log(
      `${printable(dataset.name)}\t${dataset.numEntities} entities\t${dataset.numRelations} relations\t` +
        `${splits.join(", ")}\t${dataset.fingerprint}`,
    );
  }
}

/** Reads positives as labels. */
async function read(entities: string[], relations: string[]): Promise<TripleColumns> {
  const ids = [entities, relations, entities].map(
    (labels) => new Map(labels.map((label, id) => [label, id])),
  );
  const columns: number[][] = [[], [], []];
  for await (const line of createInterface({ input: process.stdin })) {
    const fields = line.split("\t");
    if (fields.length !== 3) {
      throw new UsageError(`${JSON.stringify(line)}: expected 3 tab-separated fields`);
    }
    fields.forEach((label, column) => {
      const id = ids[column]!.get(label);
      if (id === undefined) {
        throw new UsageError(`${label} is not in the vocabulary`);
      }
      columns[column]!.push(id);
    });
  }
  const [heads, relations_, tails] = columns.map((column) => Uint32Array.from(column));
  return { heads: heads!, relations: relations_!, tails: tails! };
}

async function sample(client: Client, options: Options): Promise<void> {
  const { dataset } = options;
  const { entities, relations } = await client.vocabulary(dataset);
  const positives = await read(entities, relations);
  const expectedFingerprint = (await client.getDataset(dataset)).dataset!.fingerprint;
  const config = sampler(options);
  const first = integer(options.position, "position");
  const answers = await client.sample(
    { dataset, expectedFingerprint, sampler: config },
    first,
    positives,
  );
  const named = (triple: ArrayLike<number>): string[] => [
    entities[triple[0]!]!,
    relations[triple[1]!]!,
    entities[triple[2]!]!,
  ];
  const k = config.numNegsPerPos;
  for (const { position, numPositives, triples, mask } of answers) {
    for (let i = 0; i < numPositives; i++) {
      const at = Number(position - first) + i;
      const row = Array.from({ length: k }, (_, j) => i * k + j);
      const columns = [positives.heads[at]!, positives.relations[at]!, positives.tails[at]!];
      const line = {
        positive: named(columns),
        negatives: row.map((m) => named(triples.subarray(m * 3, m * 3 + 3))),
        mask: row.map((m) => mask[m] === 1),
      };
      // A position may exceed the integers of JavaScript's numbers.
      const json = printable(JSON.stringify(line));
      console.log(`{"position":${position + BigInt(i)},${json.slice(1)}`);
    }
  }
}

async function epoch(client: Client, options: Options): Promise<void> {
  const { dataset } = options;
  const request = SampleEpochRequest.create({
    dataset,
    expectedFingerprint: (await client.getDataset(dataset)).dataset!.fingerprint,
    sampler: sampler(options),
    epoch: integer(options.epoch, "epoch"),
    start: integer(options.start, "start"),
    batchSize: Number(integer(options["batch-size"], "batch-size")),
    rank: Number(integer(options.rank, "rank")),
    worldSize: Number(integer(options["world-size"], "world-size")),
    worker: Number(integer(options.worker, "worker")),
    numWorkers: Number(integer(options["num-workers"], "num-workers")),
    tail: value(TAILS, options.tail),
  });
  const out = options.out === undefined ? undefined : createWriteStream(options.out);
  let [numBatches, numPositives, numNegatives, numInvalid] = [0, 0, 0, 0];
  let { start } = request;
  for await (const { nextStart, negatives } of client.epoch(request)) {
    numBatches++;
    numPositives += negatives.numPositives;
    numNegatives += negatives.mask.length;
    numInvalid += negatives.mask.reduce((count, flag) => count + 1 - flag, 0);
    start = nextStart;
    if (out !== undefined) {
      out.write(littleEndian(negatives.triples));
      if (!out.write(negatives.mask)) {
        await once(out, "drain");
      }
    }
  }
  if (out !== undefined) {
    out.end();
    await once(out, "finish");
  }
  console.log(
    `${numBatches} batches, ${numPositives} positives, ${numNegatives} negatives, ` +
      `${numInvalid} of them not valid; the next start is ${start}`,
  );
}

function littleEndian(values: Uint32Array): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, i) => bytes.setUint32(i * 4, value, true));
  return new Uint8Array(bytes.buffer);
}

async function main(): Promise<number> {
  const { values: options, positionals } = parse();
  const [command] = positionals;
  if (options.help === true || command === undefined) {
    console.log(HELP);
    return options.help === true ? 0 : 2;
  }
  const { patience } = options;
  let client: Client | undefined;
  try {
    client = new Client(options.target, {
      timeoutMs: 1_000 * Number(integer(options.timeout, "timeout")),
      ...(patience === undefined
        ? {}
        : { patienceMs: 1_000 * Number(integer(patience, "patience")) }),
    });
    if (command === "server") {
      await server(client);
    } else if (command === "datasets") {
      await datasets(client);
    } else if (command === "sample") {
      await sample(client, options);
    } else if (command === "epoch") {
      await epoch(client, options);
    } else {
      throw new UsageError(`${command} is not a command; see --help`);
    }
    return 0;
  } catch (error) {
    if (error instanceof NegserveError) {
      console.error(printable(`${error.message} ${JSON.stringify(error.metadata)}`));
      return 1;
    }
    if (error instanceof UsageError) {
      console.error(printable(error.message));
      return 2;
    }
    throw error;
  } finally {
    client?.close();
  }
}

process.exitCode = await main();
