/**
 * What the database says about a table: its columns, its unique keys, and the rule that deletes its entries.
 *
 * A repository caches only what a rule invalidates, so it takes the template from there, or compares. One statement;
 * asked again now and then, so that a rule that was taken off is noticed: reads go past the cache from then on.
 */
import type { Database } from "./database";
import { RuleError } from "./errors";
import type { Template } from "./keys";
import { parseTemplate, unfitForKeys } from "./keys";

/** @internal */
export interface Column {
  readonly name: string;
  /** Base type: its name if it is one of pg_catalog, "enum" for an enum, else "other"; of an array, its elements'. */
  readonly type: string;
  readonly isArray: boolean;
  /** The base type in SQL. */
  readonly sql: string;
  /** Does equal mean the same text? */
  readonly exact: boolean;
}

interface Rule {
  readonly template: string;
  readonly columns: string[] | null;
  readonly enabled: string;
}

interface Described {
  readonly relation: string | null;
  readonly prefix: string;
  readonly system: string;
  readonly columns: Column[];
  readonly uniques: { readonly columns: string[]; readonly primary: boolean }[];
  readonly rules: Rule[];
}

/** @internal */
export interface Table {
  /** Its name as SQL has it. */
  readonly relation: string;
  readonly system: string;
  readonly prefix: string;
  readonly template: Template;
  /** Of the key, in the order of the template. */
  readonly keyColumns: readonly Column[];
  /** What is cached of a row. */
  readonly columns: readonly Column[];
  /** Is that all? */
  readonly whole: boolean;
}

const DESCRIBE = `
WITH RECURSIVE relation AS (SELECT pg_catalog.to_regclass($1)::pg_catalog.oid AS oid),
base AS (
  SELECT a.attnum, a.attname, a.attcollation, a.atttypid AS type
    FROM pg_catalog.pg_attribute a, relation
   WHERE a.attrelid = relation.oid AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, b.attname, b.attcollation, t.typbasetype
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype = 'd'),
shape AS (
  SELECT b.attnum, b.attname, e.oid <> t.oid AS is_array, pg_catalog.format_type(t.oid, NULL) AS sql,
         CASE WHEN e.typtype = 'e' THEN 'enum'
              WHEN e.typnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN e.typname ELSE 'other' END AS type,
         COALESCE(c.collisdeterministic, true) AS exact
    FROM base b
    JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
    JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN t.typelem ELSE t.oid END
    LEFT JOIN pg_catalog.pg_collation c ON c.oid = b.attcollation)
SELECT relation.oid::pg_catalog.regclass::text AS relation,
       COALESCE(pg_catalog.current_setting('cache_aside.key_prefix', true), '') AS prefix,
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS system,
       COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', attname, 'type', type,
                   'isArray', is_array, 'sql', sql, 'exact', exact) ORDER BY attnum) FROM shape), '[]') AS columns,
       COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('primary', i.indisprimary, 'columns',
                   (SELECT pg_catalog.json_agg(a.attname ORDER BY k.n)
                      FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, n)
                      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                     WHERE k.n <= i.indnkeyatts)))
          FROM pg_catalog.pg_index i
         WHERE i.indrelid = relation.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
           AND i.indexprs IS NULL), '[]') AS uniques,
       COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('template', r.template, 'columns', r.columns,
                   'enabled', r.enabled) ORDER BY r.template)
          FROM cache_aside.rules r WHERE r.relation = relation.oid AND r.template IS NOT NULL), '[]') AS rules
  FROM relation`;

/** @internal Throws a RuleError when the table cannot be cached as asked. */
export async function describeTable(
  database: Database,
  name: string,
  wanted: { readonly template?: string | undefined; readonly columns?: readonly string[] | undefined },
): Promise<Table> {
  const { rows } = await database.write<Described>({ text: DESCRIBE, values: [name] });
  const described = rows[0];
  if (!described?.relation) throw new RuleError(`relation "${name}" does not exist`);
  const columns = chooseColumns(described, wanted.columns);
  const rule = chooseRule(described, columns, wanted.template);
  const template = parseTemplate(rule.template, new Set(described.columns.map((column) => column.name)));
  const keyColumns = template.columns.map((column) => findColumn(described, column));
  for (const column of keyColumns) requireFit(rule, column);
  return {
    relation: described.relation,
    system: described.system,
    prefix: firstPrefix(described.prefix),
    template,
    keyColumns,
    columns,
    whole: wanted.columns === undefined,
  };
}

function findColumn(described: Described, name: string): Column {
  const column = described.columns.find((candidate) => candidate.name === name);
  if (!column) throw new RuleError(`column "${name}" of ${described.relation} does not exist`);
  return column;
}

function chooseColumns(described: Described, wanted: readonly string[] | undefined): readonly Column[] {
  return wanted ? wanted.map((name) => findColumn(described, name)) : described.columns;
}

function chooseRule(described: Described, columns: readonly Column[], template: string | undefined): Rule {
  const problems: string[] = [];
  const fit: Rule[] = [];
  for (const rule of described.rules) {
    if (template !== undefined && rule.template !== template) continue;
    const problem = ruleProblem(described, rule, columns);
    if (problem === null) fit.push(rule);
    else problems.push(`rule "${rule.template}" ${problem}`);
  }
  const [rule, another] = fit;
  if (!rule) throw new RuleError(noRule(described, template, problems));
  if (another) {
    const names = fit.map((candidate) => JSON.stringify(candidate.template)).join(", ");
    throw new RuleError(
      `${described.relation} has several rules that name one row: ${names}; choose one with the option template`,
    );
  }
  return rule;
}

function noRule(described: Described, template: string | undefined, problems: readonly string[]): string {
  const key = (described.uniques.find((unique) => unique.primary) ?? described.uniques[0])?.columns;
  const suggested = template ?? `${described.relation}:${(key ?? ["id"]).map((name) => `{${name}}`).join(":")}`;
  const which = template === undefined ? "that names one row" : `with template "${template}"`;
  const why = problems.length > 0 ? ` (${problems.join("; ")})` : "";
  return (
    `${described.relation} has no cache rule ${which}, so nothing would delete what is cached of it${why}.\n` +
    `Run, as the table's owner:  SELECT cache_aside.attach(${literal(described.relation ?? "")}, ${literal(suggested)});`
  );
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Why this rule does not do, or null. */
function ruleProblem(described: Described, rule: Rule, columns: readonly Column[]): string | null {
  const names = new Set(described.columns.map((column) => column.name));
  let inKey: readonly string[];
  try {
    inKey = parseTemplate(rule.template, names).columns;
  } catch (error) {
    return `is malformed: ${(error as Error).message}`;
  }
  if (rule.enabled !== "always" && rule.enabled !== "origin") return `is ${rule.enabled}: see cache_aside.gaps`;
  if (!described.uniques.some((unique) => unique.columns.every((column) => inKey.includes(column))))
    return "may name several rows";
  const unseen =
    rule.columns && columns.find((column) => !rule.columns?.includes(column.name) && !inKey.includes(column.name));
  return unseen ? `does not see changes of column "${unseen.name}"; name what to cache with the option columns` : null;
}

function requireFit(rule: Rule, column: Column): void {
  const problem = column.isArray ? "an array has several texts" : unfitForKeys(column.type);
  if (problem)
    throw new RuleError(`rule "${rule.template}" cannot be used here, because of column "${column.name}": ${problem}`);
  if (!column.exact) {
    throw new RuleError(
      `rule "${rule.template}" cannot be used here: column "${column.name}" has a nondeterministic ` +
        "collation, by which different texts, and so different keys, are equal",
    );
  }
}

/** Of a list separated by commas the first, without blanks around it; the SQL functions fill under that one, too. */
function firstPrefix(setting: string): string {
  return (setting.split(",")[0] ?? "").replace(/^[ \t]+|[ \t]+$/g, "");
}
