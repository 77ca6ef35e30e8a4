/** Refusals, typed: the canonical status, and the server's reason for it. */

import { status, type ServiceError } from "@grpc/grpc-js";
import { ErrorInfo, Status } from "./generated/google/rpc/error.js";

const DETAILS_KEY = "grpc-status-details-bin";
const ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo";
const DOMAIN = "negserve.dev";

/** Why a call ended: docs/protocol.md, Errors, says what to do about each reason. */
export class NegserveError extends Error {
  override readonly name = "NegserveError";

  /**
   * @param code canonical status
   * @param details a sentence for people
   * @param reason the server's reason; empty if the error arose elsewhere
   * @param metadata the offending value, the limit, and what else the reason documents
   */
  constructor(
    readonly code: status,
    readonly details: string,
    readonly reason = "",
    readonly metadata: Readonly<Record<string, string>> = {},
  ) {
    super(`${reason || status[code]}: ${details}`);
  }

  /** Whether the same request, sent again, may well be answered. */
  get isTransient(): boolean {
    return this.code === status.UNAVAILABLE || this.reason === "STREAM_IDLE";
  }
}

/** Reads what a trailer `grpc-status-details-bin` holds; undefined if it is not negserve's. */
export function errorInfo(trailer: Uint8Array): ErrorInfo | undefined {
  for (const detail of Status.decode(trailer).details) {
    if (detail.typeUrl === ERROR_INFO) {
      const info = ErrorInfo.decode(detail.value);
      if (info.domain === DOMAIN) {
        return info;
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
  // This client tells calls that it cancels itself apart; others were cut by a server or proxy.
  const code = error.code === status.CANCELLED ? status.UNAVAILABLE : error.code;
  return new NegserveError(code, error.details, info?.reason, info?.metadata);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}
