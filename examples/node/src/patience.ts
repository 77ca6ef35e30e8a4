/** Time limit and pauses of retries. */

import { setTimeout as sleep } from "node:timers/promises";
import { NegserveError } from "./errors.js";

const FIRST_MS = 50;
const LONGEST_MS = 2_000;

/** Growing, jittered pauses between tries, within a time that each progress renews. */
export class Patience {
  #ceiling = FIRST_MS;
  /** Set by the first failure, so that the caller's own time for a batch does not count. */
  #deadline: number | undefined;

  constructor(private readonly budgetMs: number) {}

  /** Resets the time and the pauses, after progress. */
  renew(): void {
    this.#ceiling = FIRST_MS;
    this.#deadline = undefined;
  }

  /** Pauses before another try, or throws the error if a retry is useless or the time is over. */
  async wait(error: unknown): Promise<void> {
    if (!(error instanceof NegserveError && error.isTransient)) {
      throw error;
    }
    this.#deadline ??= performance.now() + this.budgetMs;
    const wait = (0.5 + Math.random() / 2) * this.#ceiling;
    if (performance.now() + wait > this.#deadline) {
      throw error;
    }
    await sleep(wait);
    this.#ceiling = Math.min(2 * this.#ceiling, LONGEST_MS);
  }
}
