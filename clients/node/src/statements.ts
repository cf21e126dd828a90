/**
 * The statements of a repository. Names come from the catalog and are quoted here; values are parameters.
 *
 * A read whose rows are to be stored selects, with them, the token of the very snapshot that they were read in.
 */
import { createHash } from "node:crypto";
import type { Table } from "./table";

/** @internal The statements that read. */
export interface Reads {
  readonly only: ReadStatement;
  readonly one: ReadStatement;
  readonly many: ReadStatement;
}

/** @internal With a name, it is prepared; node-postgres wants one name for each text. */
export interface ReadStatement {
  readonly name?: string;
  readonly text: string;
}

/** @internal */
export function readsOf(table: Table, prepare: boolean, cast: boolean): Reads {
  const row = rowJson(table) + (cast ? "::text" : "");
  const statement = (text: string) =>
    prepare ? { name: `cache_aside_${createHash("sha1").update(text).digest("hex")}`, text } : { text };
  return {
    only: statement(selectOnly(table, row)),
    one: statement(selectOne(table, row)),
    many: statement(selectMany(table, row)),
  };
}

function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Row t as JSON. All of it is planned and printed in less time than a list of its columns. */
function rowJson(table: Table): string {
  if (table.whole) return "pg_catalog.row_to_json(t.*)"; // t alone might be a column
  const list = table.columns.map((column) => `t.${quoteName(column.name)}`).join(", ");
  return `(SELECT pg_catalog.row_to_json(r) FROM (SELECT ${list}) r)`;
}

/** The same where t may be missing. */
function rowOrNull(table: Table, row: string): string {
  return table.whole ? row : `CASE WHEN t.tableoid IS NOT NULL THEN ${row} END`;
}

/** Restricts t to one row. */
function byKey(table: Table): string {
  return table.keyColumns.map(({ name }, i) => `t.${quoteName(name)} = $${i + 1}`).join(" AND ");
}

/** The row, if there is one; for a reader that stores nothing. */
function selectOnly(table: Table, row: string): string {
  return `SELECT ${row} AS row FROM ${table.relation} t WHERE ${byKey(table)}`;
}

/** The row or NULL, and the token of the snapshot in which that was so. */
function selectOne(table: Table, row: string): string {
  return `SELECT ${rowOrNull(table, row)} AS row, cache_aside.read_token() AS token
            FROM (SELECT) o LEFT JOIN ${table.relation} t ON ${byKey(table)}`;
}

/** One row for each key: n, counted from 1, and the row or NULL. */
function selectMany(table: Table, row: string): string {
  const arrays = table.keyColumns.map(({ sql }, i) => `$${i + 1}::${sql}[]`).join(", ");
  const names = table.keyColumns.map((_, i) => `k${i}`).join(", ");
  const join = table.keyColumns.map(({ name }, i) => `t.${quoteName(name)} = k.k${i}`).join(" AND ");
  return `SELECT k.n::int AS n, ${rowOrNull(table, row)} AS row, s.token
            FROM (SELECT cache_aside.read_token() AS token) s,
                 ROWS FROM (pg_catalog.unnest(${arrays})) WITH ORDINALITY AS k (${names}, n)
            LEFT JOIN ${table.relation} t ON ${join}`;
}

/** @internal Sets `columns`; with `version`, only if that column still has the value of the last parameter. */
export function updateOne(table: Table, columns: readonly string[], version: string | null): string {
  const keys = table.keyColumns.length;
  const set = columns.map((name, i) => `${quoteName(name)} = $${keys + 1 + i}`);
  let where = byKey(table);
  if (version !== null) {
    const counter = `COALESCE(t.${quoteName(version)}, 0)`;
    set.push(`${quoteName(version)} = ${counter} + 1`); // a step of its own presents nothing, whatever the table expects
    where += ` AND ${counter} = $${keys + 1 + columns.length}::bigint`;
  }
  return `UPDATE ${table.relation} t SET ${set.join(", ")} WHERE ${where} RETURNING ${rowJson(table)}::text AS row`;
}

/** @internal */
export function selectVersion(table: Table, version: string): string {
  return `SELECT COALESCE(t.${quoteName(version)}, 0)::text AS version FROM ${table.relation} t WHERE ${byKey(table)}`;
}
