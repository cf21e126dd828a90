/**
 * Reads rows of a table as PostgreSQL's own JSON text, one or many, in one statement.
 *
 * The columns are of type json and are handed over as they came. A cast to text on the server would say the same, and take
 * a tenth of what the whole statement does. A client that parses JSON whatever it is told (pg-native) has lost digits by
 * then: it is noticed, and gets the cast.
 */
import type { Database } from "./database";
import type { ReadStatement, Reads } from "./statements";
import { readsOf } from "./statements";
import type { Table } from "./table";

/** @internal A row each, or null, in the order of the keys; and the token of their snapshot, if it was asked for. */
export interface Read {
  readonly rows: readonly (string | null)[];
  readonly token: string | null;
}

interface Answer {
  readonly n?: string;
  readonly row: unknown;
  readonly token?: string | null;
}

/** As node-postgres takes it: what becomes of a column that is not NULL. */
const AS_IT_CAME = { getTypeParser: () => String };

/** @internal */
export class RowReader {
  /** Statements that were sent. */
  count = 0;
  private cast = false;
  private statements: { readonly table: Table; readonly cast: boolean; readonly reads: Reads } | undefined;

  constructor(
    private readonly database: Database,
    private readonly prepare: boolean,
  ) {}

  /**
   * @param keys of each row the texts of the key's columns, in the order of the template
   * @param stores is anything of it to be stored, so that a token is needed?
   */
  async read(table: Table, keys: readonly (readonly string[])[], stores: boolean, after: string | null): Promise<Read> {
    const { only, one, many } = this.readsOf(table);
    const [key, ...more] = keys;
    if (!key || more.length > 0) {
      const columns = table.keyColumns.map((_, i) => keys.map((texts) => texts[i]));
      const answers = await this.send(many, columns, after);
      const rows: unknown[] = keys.map(() => null);
      for (const { n, row } of answers) rows[Number(n) - 1] = row;
      return this.checked(rows, answers) ?? this.read(table, keys, stores, after);
    }
    const answers = await this.send(stores ? one : only, [...key], after);
    return this.checked([answers[0]?.row ?? null], answers) ?? this.read(table, keys, stores, after);
  }

  private async send(
    { name, text }: ReadStatement,
    values: unknown[],
    after: string | null,
  ): Promise<readonly Answer[]> {
    this.count++;
    const statement = { text, values, types: AS_IT_CAME };
    return (await this.database.read<Answer>(name === undefined ? statement : { name, ...statement }, after)).rows;
  }

  /** Undefined: it was parsed, and is to be read again. */
  private checked(rows: readonly unknown[], answers: readonly Answer[]): Read | undefined {
    for (const row of rows) {
      if (row === null || typeof row === "string") continue;
      if (this.cast) throw new TypeError("text was expected of the database client");
      this.cast = true;
      return undefined;
    }
    return { rows: rows as readonly (string | null)[], token: answers[0]?.token ?? null };
  }

  private readsOf(table: Table): Reads {
    if (this.statements?.table !== table || this.statements.cast !== this.cast)
      this.statements = { table, cast: this.cast, reads: readsOf(table, this.prepare, this.cast) };
    return this.statements.reads;
  }
}
