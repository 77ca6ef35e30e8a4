/** Typed errors: the canonical status, and the server's reason. */

import { status, type ServiceError } from "@grpc/grpc-js";
import { ErrorInfo, Status } from "./generated/google/rpc/error.js";

const DETAILS_KEY = "grpc-status-details-bin";
const ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo";
/** Part of a refusal that is temporary. */
const RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo";
const DOMAIN = "negserve.dev";

/** Codes for which gRPC's own message is clear. */
const PLAIN: ReadonlySet<status> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
]);

/** Why a call ended: docs/protocol.md, Errors, says how to react to each reason. */
export class NegserveError extends Error {
  override readonly name = "NegserveError";

  /**
   * @param code canonical status
   * @param details a sentence for people
   * @param reason the server's reason; empty if the error is not a server's
   * @param metadata the offending value, the limit, and further keys documented with the reason
   * @param isTemporary whether the server said that the refusal is
   */
  constructor(
    readonly code: status,
    readonly details: string,
    readonly reason = "",
    readonly metadata: Readonly<Record<string, string>> = {},
    readonly isTemporary = false,
  ) {
    super(`${reason || status[code]}: ${details}`);
  }

  /** Whether a retry of the same request may succeed. */
  get isTransient(): boolean {
    if (this.reason !== "") {
      return this.code === status.UNAVAILABLE || this.isTemporary;
    }
    // Without a reason, the status comes from gRPC or a proxy. A retry may succeed for all of
    // these, except for a message that is larger than gRPC accepts.
    const isTooLarge = this.details.includes("message larger than max");
    return !(this.code === status.RESOURCE_EXHAUSTED && isTooLarge);
  }
}

/** Decodes the trailer `grpc-status-details-bin`; undefined if it is not negserve's. */
export function errorInfo(trailer: Uint8Array): (ErrorInfo & { isTemporary: boolean }) | undefined {
  const { details } = Status.decode(trailer);
  const isTemporary = details.some((detail) => detail.typeUrl === RETRY_INFO);
  for (const detail of details) {
    if (detail.typeUrl === ERROR_INFO) {
      const info = ErrorInfo.decode(detail.value);
      if (info.domain === DOMAIN) {
        return { ...info, isTemporary };
      }
    }
  }
  return undefined;
}

/** Converts the error of a call to a typed error; returns other errors unchanged. */
export function typed(error: unknown): unknown {
  if (!isServiceError(error)) {
    return error;
  }
  const [trailer] = error.metadata.get(DETAILS_KEY);
  const info = Buffer.isBuffer(trailer) ? errorInfo(trailer) : undefined;
  if (info !== undefined) {
    return new NegserveError(error.code, error.details, info.reason, info.metadata, info.isTemporary);
  }
  const ended = PLAIN.has(error.code) ? "" : "the network, or a proxy on the way, ended the call: ";
  return new NegserveError(error.code, ended + error.details);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}
