/** Known values of pairs, joined from the messages that answer one message of pairs. */

import { checkIds, type Check, type Sizes } from "./answers.js";
import { Slot, type KnownResponse, type Pairs } from "./generated/negserve/v1/sampler.js";
import { decodeIds, encodeIds } from "./tensors.js";

/** Pairs as two columns of equal length n: the ids of the slots that are not asked for, in order. */
export interface PairColumns {
  first: Uint32Array;
  second: Uint32Array;
}

/** Known values of n pairs. */
export interface KnownValues {
  /** Number of values of each pair, shape (n,). */
  counts: Uint32Array;
  /** Those of the first pair, then those of the second and so on, each ascending. */
  values: Uint32Array;
}

/** Checks the messages that answer a message of pairs, and joins them. */
export class KnownAnswer {
  readonly #counts: Uint32Array;
  readonly #parts: Uint32Array[] = [];
  #numValues = 0;
  /** Pairs all of whose values have come. */
  #numComplete = 0;
  /** Largest value so far of the next pair, if some of its values have come. */
  #largest: number | undefined;

  /**
   * @param numPairs number of pairs that were asked for
   * @param numIds size of the slot's id space
   */
  constructor(
    private readonly check: Check,
    numPairs: number,
    private readonly numIds: bigint,
  ) {
    this.#counts = new Uint32Array(numPairs);
  }

  /** How much has come: complete pairs and values. */
  get progress(): number {
    return this.#numComplete + this.#numValues;
  }

  /** The values, once the answer is complete. */
  get result(): KnownValues {
    return { counts: this.#counts, values: joined(this.#parts) };
  }

  /** Takes a message, and returns whether it is the last one. */
  take({ firstPair, counts: encoded, values: ids, isContinued }: KnownResponse): boolean {
    const { check } = this;
    check(firstPair === this.#numComplete, "firstPair", firstPair, this.#numComplete);
    const most = this.#counts.length - this.#numComplete;
    const length = (encoded?.data.length ?? 0) / (encoded?.width || 1);
    // A message without pairs would never complete them.
    const least = isContinued ? 1 : Math.min(most, 1);
    check(length >= least && length <= most, "counts, number", length, `${least} to ${most}`);
    checkIds(check, "counts", encoded, length);
    const counts = decodeIds(encoded);
    let sum = 0;
    for (const [i, count] of counts.entries()) {
      const isPart = (i === 0 && this.#largest !== undefined) || (i === length - 1 && isContinued);
      check(count >= (isPart ? 1 : 0) && count <= this.numIds, `counts[${i}]`, count, `${isPart ? 1 : 0} to ${this.numIds}`);
      sum += count;
    }
    checkIds(check, "values", ids, sum);
    const values = decodeIds(ids);
    this.#checkOrder(counts, values);
    counts.forEach((count, i) => (this.#counts[this.#numComplete + i]! += count));
    this.#parts.push(values);
    this.#numValues += sum;
    this.#numComplete += length - Number(isContinued);
    this.#largest = isContinued ? values.at(-1) : undefined;
    return this.#numComplete === this.#counts.length;
  }

  /** Checks that ids are in the id space and ascend, also from one message to the next. */
  #checkOrder(counts: Uint32Array, values: Uint32Array): void {
    let at = 0;
    counts.forEach((count, i) => {
      let before = i === 0 ? (this.#largest ?? -1) : -1;
      for (const end = at + count; at < end; at++) {
        const value = values[at]!;
        this.check(value > before, `values[${at}]`, value, `above ${before}`);
        before = value;
      }
      this.check(before < this.numIds, "values", before, `below ${this.numIds}`);
    });
  }
}

/** The answers to all messages of a call, over as many streams as it takes. */
export class KnownAnswers {
  readonly #complete: KnownValues[] = [];
  #answer!: KnownAnswer;
  /** How much came of the first incomplete answer, by any stream. */
  #mostCame = 0;

  constructor(
    private readonly check: Check,
    private readonly messages: Pairs[],
    private readonly numIds: bigint,
  ) {}

  /** Returns the messages to send on a stream, whose first one is answered anew. */
  start(): Pairs[] {
    const due = this.messages.slice(this.#complete.length);
    const { data, width } = due[0]?.first ?? { data: new Uint8Array(), width: 0 };
    this.#answer = new KnownAnswer(this.check, data.length / (width || 1), this.numIds);
    return due;
  }

  /** Whether everything is answered. */
  get isComplete(): boolean {
    return this.#complete.length === this.messages.length;
  }

  /**
   * Takes an answer.
   *
   * @returns whether it is the last one to a message, and whether it tells more than earlier streams
   */
  take(response: KnownResponse): { isLast: boolean; hasAdvanced: boolean } {
    this.check(!this.isComplete, "message", "another", "nothing");
    const isLast = this.#answer.take(response);
    const { progress } = this.#answer;
    const hasAdvanced = isLast || progress > this.#mostCame;
    this.#mostCame = isLast ? 0 : Math.max(progress, this.#mostCame);
    if (isLast) {
      this.#complete.push(this.#answer.result);
      this.start();
    }
    return { isLast, hasAdvanced };
  }

  /** The values of all pairs, once everything is answered. */
  get result(): KnownValues {
    return {
      counts: joined(this.#complete.map(({ counts }) => counts)),
      values: joined(this.#complete.map(({ values }) => values)),
    };
  }
}

/** Concatenates arrays. */
function joined(parts: Uint32Array[]): Uint32Array {
  const whole = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let begin = 0;
  for (const part of parts) {
    whole.set(part, begin);
    begin += part.length;
  }
  return whole;
}

/** Returns the size of a slot's id space. */
export function numIdsOf(slot: Slot, { numEntities, numRelations }: Sizes): bigint {
  return slot === Slot.SLOT_RELATION ? numRelations : numEntities;
}

/** Divides pairs into messages; none at all make an empty one, which checks the configuration. */
export function dividePairs({ first, second }: PairColumns, most: number): Pairs[] {
  const messages = [];
  for (let begin = 0; begin < Math.max(first.length, 1); begin += most) {
    messages.push({
      first: encodeIds(first.subarray(begin, begin + most)),
      second: encodeIds(second.subarray(begin, begin + most)),
    });
  }
  return messages;
}
