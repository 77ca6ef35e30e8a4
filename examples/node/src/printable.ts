/** Makes untrusted text safe to show. */

/** Characters that move a cursor, end a line, or reorder text. */
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Escapes control characters as `\uXXXX`, which JSON reads as the same string. */
export function printable(text: string): string {
  return text.replace(
    CONTROLS,
    (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
