/** Refusals, typed: the canonical status, and the server's reason for it. */

import { status, type ServiceError } from "@grpc/grpc-js";
import { ErrorInfo, Status } from "./generated/google/rpc/error.js";

const DETAILS_KEY = "grpc-status-details-bin";
const ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo";
/** Comes along with what passes. */
const RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo";
const DOMAIN = "negserve.dev";

/** Codes that gRPC itself has good words for. */
const PLAIN: ReadonlySet<status> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
]);

/** Why a call ended: docs/protocol.md, Errors, says what to do about each reason. */
export class NegserveError extends Error {
  override readonly name = "NegserveError";

  /**
   * @param code canonical status
   * @param details a sentence for people
   * @param reason the server's reason; empty if the error arose elsewhere
   * @param metadata the offending value, the limit, and what else the reason documents
   * @param passes whether the server said that it does
   */
  constructor(
    readonly code: status,
    readonly details: string,
    readonly reason = "",
    readonly metadata: Readonly<Record<string, string>> = {},
    readonly passes = false,
  ) {
    super(`${reason || status[code]}: ${details}`);
  }

  /** Whether the same request, sent again, may well be answered. */
  get isTransient(): boolean {
    if (this.reason !== "") {
      return this.code === status.UNAVAILABLE || this.passes;
    }
    // No server of negserve said it, but gRPC or a proxy on the way. Elsewhere or later all of it
    // may pass, but for a message that is larger than gRPC takes.
    const isTooLarge = this.details.includes("message larger than max");
    return !(this.code === status.RESOURCE_EXHAUSTED && isTooLarge);
  }
}

/** Reads what a trailer `grpc-status-details-bin` holds; undefined if it is not negserve's. */
export function errorInfo(trailer: Uint8Array): (ErrorInfo & { passes: boolean }) | undefined {
  const { details } = Status.decode(trailer);
  const passes = details.some((detail) => detail.typeUrl === RETRY_INFO);
  for (const detail of details) {
    if (detail.typeUrl === ERROR_INFO) {
      const info = ErrorInfo.decode(detail.value);
      if (info.domain === DOMAIN) {
        return { ...info, passes };
      }
    }
  }
  return undefined;
}

/** Turns what a call ended with into a typed error; other errors stay what they are. */
export function typed(error: unknown): unknown {
  if (!isServiceError(error)) {
    return error;
  }
  const [trailer] = error.metadata.get(DETAILS_KEY);
  const info = Buffer.isBuffer(trailer) ? errorInfo(trailer) : undefined;
  if (info !== undefined) {
    return new NegserveError(error.code, error.details, info.reason, info.metadata, info.passes);
  }
  const ended = PLAIN.has(error.code) ? "" : "the network, or a proxy on the way, ended the call: ";
  return new NegserveError(error.code, ended + error.details);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}
