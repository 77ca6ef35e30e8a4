/** Text of others moves no cursor and begins no line. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { printable } from "../src/printable.js";

test("control characters are escaped, and nothing else", () => {
  assert.equal(printable("\u001b[2Ja\r\nb\u009bc\u202ed"), "\\u001b[2Ja\\u000d\\u000ab\\u009bc\\u202ed");
  assert.equal(printable("Grüße aus 東京 👩‍🚀"), "Grüße aus 東京 👩‍🚀");
});

test("JSON stays the same value", () => {
  const value = Array.from({ length: 0x3000 }, (_, i) => String.fromCharCode(i));
  assert.deepEqual(JSON.parse(printable(JSON.stringify(value))), value);
});
