/**
 * Rows as PostgreSQL's own JSON text, which is what stands in Redis, and what becomes of it here.
 *
 * The text is never parsed and printed again on its way from the database to Redis, so nothing is lost there. Decoding
 * loses nothing either: a bigint is a `bigint`, a numeric the text that PostgreSQL prints ("1.50"). JSON.parse would make
 * doubles of both.
 */

/** Decodes one column from its JSON text, which is never `null`. */
export type ColumnDecoder = (json: string) => unknown;

/** What a column is, as far as its text depends on it: the name of its base type, for an array that of its elements. */
export interface ColumnShape {
  readonly name: string;
  readonly type: string;
  readonly isArray: boolean;
}

/** How bigint columns come out. */
export type BigintAs = "bigint" | "string" | "number";

const QUOTE = 34;
const BACKSLASH = 92;
const STRINGS_AND_NUMBERS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

/** Makes the function that turns the JSON text of a row into an object; it throws when the text is no such row. */
export function rowDecoder(
  columns: readonly ColumnShape[],
  bigintAs: BigintAs,
  own: Readonly<Record<string, ColumnDecoder>>,
): (text: string) => Record<string, unknown> {
  const decoders = new Map<string, ColumnDecoder>();
  for (const column of columns) {
    const decoder = Object.hasOwn(own, column.name) ? own[column.name] : exactDecoder(column, bigintAs);
    if (decoder) decoders.set(column.name, decoder);
  }
  const known = new Set(columns.map(({ name }) => name));
  const decode = decoders.size === 0 ? parseObject : (text: string) => decodeFields(text, decoders);
  return (text) => dropUnknown(decode(text), known);
}

/** A column that was added since the table was described might be a bigint: without it until that is done again. */
function dropUnknown(row: Record<string, unknown>, known: ReadonlySet<string>): Record<string, unknown> {
  const names = Object.keys(row);
  if (names.length > known.size) for (const name of names) if (!known.has(name)) delete row[name];
  return row;
}

function exactDecoder({ type, isArray }: ColumnShape, bigintAs: BigintAs): ColumnDecoder | undefined {
  if (type === "int8" && bigintAs === "number") return undefined;
  if (type !== "int8" && type !== "numeric") return undefined;
  const convert = type === "int8" && bigintAs === "bigint" ? BigInt : (text: string) => text;
  return isArray ? (json) => convertAll(quoteNumbers(json), convert) : (json) => convert(unquote(json));
}

function parseObject(text: string): Record<string, unknown> {
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new SyntaxError("not a row");
  return value as Record<string, unknown>;
}

/** "NaN" and "Infinity" of numeric are strings in JSON. */
function unquote(json: string): string {
  return json.startsWith('"') ? (JSON.parse(json) as string) : json;
}

function quoteNumbers(json: string): unknown {
  return JSON.parse(json.replace(STRINGS_AND_NUMBERS, (token) => (token.startsWith('"') ? token : `"${token}"`)));
}

function convertAll(value: unknown, convert: (text: string) => unknown): unknown {
  if (Array.isArray(value)) return value.map((element) => convertAll(element, convert));
  return typeof value === "string" ? convert(value) : value;
}

function decodeFields(text: string, decoders: ReadonlyMap<string, ColumnDecoder>): Record<string, unknown> {
  const row: Record<string, unknown> = {};
  let at = skipBlanks(text, 0);
  if (text[at] !== "{") throw new SyntaxError("not a row");
  at = skipBlanks(text, at + 1);
  while (text[at] !== "}") {
    const nameEnd = endOfValue(text, at);
    const name = JSON.parse(text.slice(at, nameEnd)) as string;
    at = skipBlanks(text, nameEnd);
    if (text[at] !== ":") throw new SyntaxError("a name without a value");
    at = skipBlanks(text, at + 1);
    const valueEnd = endOfValue(text, at);
    setOwn(row, name, decodeField(text.slice(at, valueEnd).trimEnd(), decoders.get(name)));
    at = skipBlanks(text, valueEnd);
    if (text[at] === ",") at = skipBlanks(text, at + 1);
    else if (text[at] !== "}") throw new SyntaxError("a row that does not end");
  }
  if (skipBlanks(text, at + 1) !== text.length) throw new SyntaxError("something follows the row");
  return row;
}

/** A column may be called __proto__. */
function setOwn(row: Record<string, unknown>, name: string, value: unknown): void {
  if (name === "__proto__")
    Object.defineProperty(row, name, { value, enumerable: true, writable: true, configurable: true });
  else row[name] = value;
}

function decodeField(json: string, decoder: ColumnDecoder | undefined): unknown {
  return decoder && json !== "null" ? decoder(json) : JSON.parse(json);
}

function skipBlanks(text: string, from: number): number {
  let at = from;
  while (at < text.length && text.charCodeAt(at) <= 32) at++;
  return at;
}

function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) at++;
    else if (code === QUOTE) return at + 1;
  }
  throw new SyntaxError("a string that does not end");
}

/** Where the value that begins here ends: behind a string, an object or an array, or before the next comma or brace. */
function endOfValue(text: string, from: number): number {
  if (text.charCodeAt(from) === QUOTE) return endOfString(text, from);
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const char = text[at];
    if (char === '"') at = endOfString(text, at) - 1;
    else if (char === "{" || char === "[") depth++;
    else if (char === "}" || char === "]") {
      if (depth === 0) return at;
      if (--depth === 0) return at + 1;
    } else if (char === "," && depth === 0) return at;
  }
  throw new SyntaxError("a row that does not end");
}
