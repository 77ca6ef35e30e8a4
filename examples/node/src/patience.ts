/** How long it is tried again. */

import { setTimeout as sleep } from "node:timers/promises";
import { NegserveError } from "./errors.js";

const FIRST_MS = 50;
const LONGEST_MS = 2_000;

/** Growing, jittered waits between tries, within a budget that progress renews. */
export class Patience {
  #ceiling = FIRST_MS;
  /** Counts from the first failure: how long the caller takes for a batch is its own matter. */
  #deadline: number | undefined;

  constructor(private readonly budgetMs: number) {}

  /** Begins anew. */
  renew(): void {
    this.#ceiling = FIRST_MS;
    this.#deadline = undefined;
  }

  /** Waits before another try, or throws the error: if trying again is no use, or takes too long. */
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
