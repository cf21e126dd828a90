/**
 * The two things that a repository wants from a database: to read where `after` can be seen, and to write.
 */
import type { Pool, PoolClient, QueryResult, QueryResultRow } from "pg";
import { Router } from "./router";

/** @internal A statement; with a name it is prepared on each connection, and planned once. */
export interface Statement {
  readonly name?: string;
  readonly text: string;
  readonly values: unknown[];
  /** What becomes of columns. */
  readonly types?: { getTypeParser(): (value: string) => string };
}

/** @internal */
export interface Database {
  read<R extends QueryResultRow>(statement: Statement, after: string | null): Promise<QueryResult<R>>;
  write<R extends QueryResultRow>(statement: Statement): Promise<QueryResult<R>>;
}

/** A client in whose transaction something is done. */
export type Transaction = Pick<PoolClient, "query">;

/** @internal */
export function databaseOf(given: Pool | Router): Database {
  if (given instanceof Router) {
    return {
      read: (statement, after) => given.read(statement, statement.values, { after }),
      write: (statement) => given.write((client) => client.query(statement)),
    };
  }
  given.on("error", () => {}); // an idle connection ended; the pool makes another one, and the process lives
  return { read: (statement) => given.query(statement), write: (statement) => given.query(statement) };
}
