/**
 * LSNs, which are the tokens of a write: `0/3058EA0`, two numbers of 32 bits.
 */

const FORM = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** The LSN as a number, or null when the text is none. */
export function parseLsn(text: string): bigint | null {
  const halves = FORM.exec(text);
  return halves ? (BigInt(`0x${halves[1]}`) << 32n) | BigInt(`0x${halves[2]}`) : null;
}

/** The later one of two tokens; a text that is no LSN counts for nothing. */
export function laterToken(a: string | null, b: string | null): string | null {
  const [first, second] = [a === null ? null : parseLsn(a), b === null ? null : parseLsn(b)];
  if (first === null) return second === null ? null : b;
  return second !== null && second > first ? b : a;
}
