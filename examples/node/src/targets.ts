/** Checks of server addresses, before the first call. */

import { status } from "@grpc/grpc-js";
import { NegserveError } from "./errors.js";

/** Schemes of gRPC's name resolvers. */
const RESOLVERS: ReadonlySet<string> = new Set([
  "dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds",
]);
const FORM = "give HOST:PORT, such as 127.0.0.1:7733, or unix:PATH";
/** Longest path in the system's address of a unix socket, without its final zero byte. */
const MOST_PATH_BYTES = 107;

/**
 * Counts the addresses of a target: replicas listed after `ipv4:` or `ipv6:`, else one.
 *
 * @throws NegserveError for a malformed target, with the fault and the remedy
 */
export function countAddresses(target: string): number {
  const wrong = problem(target);
  if (wrong !== undefined) {
    throw new NegserveError(status.INVALID_ARGUMENT, `target ${JSON.stringify(target)} ${wrong}`);
  }
  return /^ipv[46]:/.test(target) ? target.split(",").length : 1;
}

function problem(target: string): string | undefined {
  if (target === "") {
    return `is empty; ${FORM}`;
  }
  if (/[\s\p{C}]/u.test(target)) {
    return `has a blank or a control character; ${FORM}`;
  }
  const url = /^([a-z][a-z0-9+.-]*):\/\/([^/]*)/i.exec(target);
  if (url !== null && !RESOLVERS.has(url[1]!)) {
    return `is a URL; give its address alone, ${url[2] || "HOST:PORT"}`;
  }
  if (target.startsWith("unix:")) {
    return pathProblem(target.slice("unix:".length));
  }
  const [resolver = "", ...rest] = target.split(":");
  if (RESOLVERS.has(resolver) && (resolver === "unix-abstract" || /[:/]/.test(rest.join(":")))) {
    return undefined;
  }
  return hostAndPortProblem(target);
}

function pathProblem(path: string): string | undefined {
  if (/^\/*$/.test(path)) {
    return "has no path; give unix:PATH";
  }
  const numBytes = Buffer.byteLength(path);
  return numBytes > MOST_PATH_BYTES
    ? `has a path of ${numBytes} bytes; the most for a unix socket are ${MOST_PATH_BYTES}`
    : undefined;
}

function hostAndPortProblem(target: string): string | undefined {
  const at = target.lastIndexOf(":");
  const host = target.slice(0, Math.max(at, 0));
  const port = target.slice(at + 1);
  if (at < 0 || port.endsWith("]")) {
    return `has no ${/^\d+$/.test(target) ? "host" : "port"}; ${FORM}`;
  }
  if (target.includes("/")) {
    return `has a path; ${FORM}`;
  }
  if (host === "") {
    return `has no host; ${FORM}`;
  }
  if (host.includes(":") && !/^\[.*\]$/.test(host)) {
    return "has an IPv6 address without brackets; give it as in [::1]:7733";
  }
  const isPort = /^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535;
  return isPort ? undefined : `has ${JSON.stringify(port)} in place of a port; give 1 to 65535`;
}
