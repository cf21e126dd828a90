/**
 * Templates to keys: exactly the text that the rule in the database makes of the row, or an error.
 *
 *     user:{tenant_id}:{id}     {column} is the row's value, {{ and }} are literal braces
 *     hot:{id#4}                one of four copies of an entry: hot:7#0 ... hot:7#3
 *
 * The rule writes what the type's output function prints, under pinned settings. Only types are taken here whose text
 * follows from the value alone, and for which equal means the same text: a key that differed from the rule's in one
 * character would never be deleted.
 */

/** A value of a column of the key. */
export type KeyValue = string | number | bigint | boolean;

/** The column when there is one, else each column of the template by name. */
export type Key = KeyValue | Readonly<Record<string, KeyValue>>;

/** A column that may be part of a key. */
export interface KeyColumn {
  readonly name: string;
  /** Name of its base type. */
  readonly type: string;
}

interface Part {
  readonly column: string;
  readonly copies: number; // 0: only one
  readonly literal: string; // what follows the value
}

/** A parsed template. */
export interface Template {
  readonly text: string;
  readonly begin: string;
  readonly parts: readonly Part[];
  /** Each column once, in the order of the template. */
  readonly columns: readonly string[];
}

/** Longest key, in bytes; no rule makes a longer one. */
export const MAX_KEY = 8192;

const INTEGERS = new Set(["int2", "int4", "int8", "oid"]);
const TEXTS = new Set(["text", "varchar", "enum"]);
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Parses a template as the database does; `columns` are those of the table. */
export function parseTemplate(text: string, columns: ReadonlySet<string>): Template {
  const pieces: string[] = [""]; // literal, column, literal, column, ..., literal
  for (let at = 0; at < text.length; at++) {
    const char = text[at] as string;
    if ((char === "{" || char === "}") && text[at + 1] === char) {
      pieces[pieces.length - 1] += char;
      at++;
    } else if (char === "{") {
      const end = text.indexOf("}", at);
      if (end < 0) throw new TypeError(`cache key template "${text}" is malformed: a brace is not closed`);
      pieces.push(text.slice(at + 1, end), "");
      at = end;
    } else pieces[pieces.length - 1] += char;
  }
  const parts: Part[] = [];
  for (let i = 1; i < pieces.length; i += 2) {
    parts.push({ ...readPlaceholder(text, pieces[i] as string, columns), literal: pieces[i + 1] as string });
  }
  return { text, begin: pieces[0] as string, parts, columns: [...new Set(parts.map((part) => part.column))] };
}

function readPlaceholder(text: string, name: string, columns: ReadonlySet<string>): { column: string; copies: number } {
  if (columns.has(name)) return { column: name, copies: 0 };
  const sharded = /^(.*)#(\d+)$/.exec(name);
  const column = sharded?.[1] ?? name;
  if (!columns.has(column))
    throw new TypeError(`cache key template "${text}" names column "${column}", which is not there`);
  return { column, copies: Number(sharded?.[2] ?? 0) };
}

/** Can keys of this type be made here? The reason why not, or null. */
export function unfitForKeys(type: string): string | null {
  if (INTEGERS.has(type) || TEXTS.has(type) || type === "uuid" || type === "bool" || type === "date") return null;
  return `${type} has several texts for equal values, or one that depends on the session`;
}

/** The text of a value of a column, as its output function prints it. */
export function keyText(column: KeyColumn, value: KeyValue): string {
  const { type } = column;
  if (INTEGERS.has(type)) return integerText(column, value);
  if (type === "bool" && typeof value === "boolean") return value ? "t" : "f";
  if (typeof value === "string" && type === "uuid" && UUID.test(value.toLowerCase())) return value.toLowerCase();
  if (typeof value === "string" && type === "date" && isDate(value)) return value;
  if (typeof value === "string" && TEXTS.has(type) && value.isWellFormed() && !value.includes("\0")) return value;
  return refuse(column, value);
}

function integerText(column: KeyColumn, value: KeyValue): string {
  if (typeof value === "bigint" || (typeof value === "number" && Number.isSafeInteger(value)))
    return BigInt(value).toString();
  return typeof value === "string" && /^[+-]?\d{1,20}$/.test(value)
    ? BigInt(value.replace("+", "")).toString()
    : refuse(column, value);
}

function isDate(text: string): boolean {
  const time = /^(?!0000)\d{4}-\d\d-\d\d$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text);
}

function refuse(column: KeyColumn, value: unknown): never {
  const shown = value === null ? "null" : `a ${typeof value}`;
  throw new TypeError(`${shown} is no key of column "${column.name}" of type ${column.type}`);
}

/** One key of the row with these texts; of several copies one by chance. */
export function oneKey(template: Template, texts: ReadonlyMap<string, string>): string {
  let key = template.begin;
  for (const { column, copies, literal } of template.parts) {
    key += texts.get(column) + (copies > 0 ? `#${Math.floor(Math.random() * copies)}` : "") + literal;
  }
  return key;
}

/** All keys of the row with these texts. */
export function allKeys(template: Template, texts: ReadonlyMap<string, string>): string[] {
  let keys = [template.begin];
  for (const { column, copies, literal } of template.parts) {
    const endings = copies > 0 ? Array.from({ length: copies }, (_, n) => `#${n}`) : [""];
    keys = keys.flatMap((key) => endings.map((ending) => key + texts.get(column) + ending + literal));
  }
  return keys;
}
