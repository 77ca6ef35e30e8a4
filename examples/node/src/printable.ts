/** Text of others, as it may be shown. */

/** What moves a cursor, ends a line, or shows text in another order than it has. */
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Escapes control characters as `\uXXXX`; in a string of JSON that is the same string. */
export function printable(text: string): string {
  return text.replace(
    CONTROLS,
    (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
