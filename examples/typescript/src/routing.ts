/**
 * Reads go to replicas, and a read that must see a write sees it, or goes to the primary.
 *
 * A write returns a token: the LSN of its commit, which the server reports with it
 * (cache_aside.report_commit_lsn), so it costs no round trip. Keep it where the next request of the same
 * user finds it: a session, a cookie, or `SELECT cache_aside.stick('user:42')` in the transaction. A
 * read hands it in; route() on the primary names a replica that has replayed it.
 */
import { Pool, PoolClient, QueryResult, QueryResultRow } from "pg";

const TOKEN = "cache_aside.commit_lsn";

export interface Wish {
  after?: string | null; // the token this read has to see
  region?: string | null; // replicas of this region first
  maxLag?: string | null; // such as "2 s"
}

interface Choice {
  role: "primary" | "replica";
  name: string | null;
  conninfo: string | null;
}

export class Router {
  /** How many reads each server answered; for tests and metrics. */
  readonly reads = new Map<string, number>();
  private readonly tokens = new WeakMap<object, string>();
  private readonly replicas = new Map<string, Pool>();

  /** `connect` makes the pool for a replica; the registry's conninfo holds no password. */
  constructor(
    private readonly primary: Pool,
    private readonly connect: (conninfo: string) => Pool,
    private readonly onError: (error: Error) => void = () => {},
  ) {
    primary.on("connect", (client) => this.listen(client));
  }

  /** Runs `work` in one transaction on the primary. The token is null if it wrote nothing. */
  async write<T>(work: (client: PoolClient) => Promise<T>): Promise<{ result: T; token: string | null }> {
    const client = await this.primary.connect();
    let failure: Error | undefined;
    try {
      await client.query("BEGIN");
      this.tokens.delete(client);
      const result = await work(client);
      const { command } = await client.query("COMMIT");
      if (command !== "COMMIT") throw new Error("the transaction had failed, and was rolled back");
      return { result, token: this.tokens.get(client) ?? null };
    } catch (error) {
      await client.query("ROLLBACK").catch((broken: Error) => (failure = broken));
      throw error;
    } finally {
      client.release(failure);
    }
  }

  /** One read, where it sees what `wish.after` stands for. Only for statements that do not write. */
  async read<R extends QueryResultRow>(
    text: string, values: unknown[] = [], wish: Wish = {},
  ): Promise<QueryResult<R>> {
    const choice = await this.route(wish);
    if (choice.role === "replica" && choice.conninfo !== null) {
      try {
        return await this.count(choice.name!, this.pool(choice.conninfo).query<R>(text, values));
      } catch (error) {
        if (!isUnavailable(error)) throw error; // the statement's own fault
        this.onError(error as Error);
      }
    }
    return this.count("primary", this.primary.query<R>(text, values));
  }

  async end(): Promise<void> {
    await Promise.all([...this.replicas.values()].map((pool) => pool.end()));
  }

  private async route(wish: Wish): Promise<Choice> {
    const { rows } = await this.primary.query<Choice>(
      "SELECT role, name, conninfo FROM cache_aside.route($1, $2, $3)",
      [wish.after ?? null, wish.region ?? null, wish.maxLag ?? null],
    );
    return rows[0];
  }

  private pool(conninfo: string): Pool {
    let pool = this.replicas.get(conninfo);
    if (!pool) {
      pool = this.connect(conninfo);
      pool.on("error", this.onError); // an idle connection ended: the replica stopped
      this.replicas.set(conninfo, pool);
    }
    return pool;
  }

  private async count<T>(name: string, answer: Promise<T>): Promise<T> {
    const result = await answer;
    this.reads.set(name, (this.reads.get(name) ?? 0) + 1);
    return result;
  }

  /** node-postgres hands on every ParameterStatus, on the connection below the client. */
  private listen(client: PoolClient): void {
    const { connection } = client as unknown as {
      connection: {
        on(event: "parameterStatus", f: (m: { parameterName: string; parameterValue: string }) => void): void;
      };
    };
    connection.on("parameterStatus", (message) => {
      if (message.parameterName === TOKEN) this.tokens.set(client, message.parameterValue);
    });
  }
}

/** Cannot connect, connection lost, shutting down, or cancelled by a conflict with replay. EPIPE is no SQLSTATE. */
function isUnavailable(error: unknown): boolean {
  const code = (error as { code?: string }).code ?? "";
  return !/^(?=.*\d)[0-9A-Z]{5}$/.test(code) || /^(08|53|57|40001)/.test(code);
}

/** `host=a port=5432 dbname=app`, values quoted as libpq does, to what Pool takes. */
export function parseConninfo(conninfo: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [, key, quoted, plain] of conninfo.matchAll(/(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\]|\\.)*))/g)) {
    found[key] = (quoted ?? plain).replace(/\\(.)/g, "$1");
  }
  const { dbname, ...rest } = found;
  return dbname === undefined ? rest : { ...rest, database: dbname };
}
