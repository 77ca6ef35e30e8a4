/** Rebuilds whole triples from compact batches: docs/protocol.md, Rebuilding negatives. */

import type { CorruptedBatch, SamplerConfig } from "./generated/negserve/v1/sampler.js";
import { checkCounts, checkOf, type Check, type Sizes } from "./answers.js";
import { decodeFlags, decodeFloats, decodeIds, type TripleColumns } from "./tensors.js";

/** The negatives of n positives, k each. */
export interface Negatives {
  /** Position of the first positive. */
  position: bigint;
  /** n */
  numPositives: number;
  /** Head, relation, tail; head, relation, ...: shape (n, k, 3), row-major. */
  triples: Uint32Array;
  /** 1 for a valid negative; shape (n, k), row-major. */
  mask: Uint8Array;
  /** Number of positives with fewer legal values than they need. */
  numSaturated: number;
  /** Log probabilities, shape (n, k), row-major; empty unless requested. */
  logQ: Float32Array;
}

/**
 * Rebuilds the negatives of a batch whose form was checked.
 *
 * @throws InvalidAnswerError for impossible counts and ids
 */
export function rebuild(
  batch: CorruptedBatch,
  positives: TripleColumns,
  sampler: SamplerConfig,
  sizes: Sizes,
  check: Check = checkOf("Sample"),
): Negatives {
  const n = batch.numPositives;
  const k = sampler.numNegsPerPos;
  const replaced = decodeIds(batch.replaced);
  const headCounts = decodeIds(batch.headCounts);
  const relationCounts = decodeIds(batch.relationCounts);
  const chunkSize = BigInt(sampler.chunkSize || 1);
  const withinChunk = Number(batch.position % chunkSize);
  const mask = decodeFlags(batch.mask, n * k);
  const logQ = decodeFloats(batch.logQ);
  check(logQ.every((each) => Number.isFinite(each) && each <= 1e-6), "logQ", "a number", "finite, at most 0");
  const sizeOf = [sizes.numEntities, sizes.numRelations, sizes.numEntities].map(Number);
  const triples = new Uint32Array(n * k * 3);
  for (let i = 0; i < n; i++) {
    const row = Math.floor((withinChunk + i) / Number(chunkSize));
    const headEnd = headCounts.length === 0 ? 0 : headCounts[i]!;
    const relationEnd = headEnd + (relationCounts.length === 0 ? 0 : relationCounts[i]!);
    checkCounts(check, sampler, headEnd, relationEnd - headEnd);
    for (let j = 0; j < k; j++) {
      const slot = j < headEnd ? 0 : j < relationEnd ? 1 : 2;
      const at = (i * k + j) * 3;
      triples[at] = positives.heads[i]!;
      triples[at + 1] = positives.relations[i]!;
      triples[at + 2] = positives.tails[i]!;
      const id = replaced[row * k + j]!;
      if (id >= sizeOf[slot]!) {
        check(false, "replaced", id, `below ${sizeOf[slot]}`);
      }
      if (id === triples[at + slot] && !(chunkSize > 1n && mask[i * k + j] === 0)) {
        check(false, "replaced", id, "another id than the positive's");
      }
      triples[at + slot] = id;
    }
  }
  return {
    position: batch.position,
    numPositives: n,
    triples,
    mask,
    numSaturated: batch.numSaturated,
    logQ,
  };
}
