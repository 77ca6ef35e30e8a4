/** Addresses that no server can have are refused at once; patience is counted for each address. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/client.js";
import { countAddresses } from "../src/targets.js";

const WRONG: Readonly<Record<string, string>> = {
  "": "is empty",
  "http://127.0.0.1:7733": "is a URL; give its address alone, 127.0.0.1:7733",
  "https://negserve.example/": "is a URL; give its address alone, negserve.example",
  "127.0.0.1:7733 127.0.0.1:7734": "has a blank",
  "7733": "has no host",
  ":7733": "has no host",
  localhost: "has no port",
  "[::1]": "has no port",
  "::1:7733": "has an IPv6 address without brackets",
  "127.0.0.1:99999": "give 1 to 65535",
  "127.0.0.1:0": "give 1 to 65535",
  "127.0.0.1:http": "give 1 to 65535",
  "127.0.0.1/x:7733": "has a path",
  "unix:": "has no path",
  [`unix:/${"x".repeat(120)}`]: "has a path of 121 bytes",
};

test("what no server can have is refused by the client", () => {
  for (const [target, told] of Object.entries(WRONG)) {
    assert.throws(() => new Client(target), { message: new RegExp(`^INVALID_ARGUMENT: .*${told}`) });
  }
});

test("addresses are counted", () => {
  for (const target of ["127.0.0.1:7733", "[::1]:1", "dns:server:1", "unix:/x", "dns:7733"]) {
    assert.equal(countAddresses(target), 1, target);
  }
  assert.equal(countAddresses("ipv4:127.0.0.1:1,127.0.0.1:2"), 2);
});

test("patience is the timeout for each address, unless it is given", () => {
  const waits = (target: string, given: object) => {
    const client = new Client(target, given);
    client.close();
    return client.waits;
  };
  assert.deepEqual(waits("127.0.0.1:1", {}), { timeoutMs: 30_000, patienceMs: 30_000 });
  const replicas = "ipv4:127.0.0.1:1,127.0.0.1:2";
  assert.equal(waits(replicas, { timeoutMs: 5_000 }).patienceMs, 10_000);
  assert.equal(waits(replicas, { timeoutMs: 5_000, patienceMs: 1 }).patienceMs, 1);
});
