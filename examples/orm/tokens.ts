/**
 * The token of a request: the LSN of the last write that its reads have to see. To copy.
 *
 * The server tells it with each commit (cache_aside.report_commit_lsn = on, set for the application's role), and
 * node-postgres hands it on; it is kept with the request whose statement it was, whatever ORM sent it.
 */
import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";

interface Request {
  token: string | null;
}

const requests = new AsyncLocalStorage<Request>();

/** Runs a request; `token` is what its visitor brought along, such as in a signed cookie. */
export function runWithToken<T>(token: string | null, work: () => T): T {
  return requests.run({ token }, work);
}

/** What the visitor's next request has to bring along. */
export function currentToken(): string | null {
  return requests.getStore()?.token ?? null;
}

export function parseLsn(lsn: string): bigint {
  const [high, low] = lsn.split("/");
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}

/** For each new connection (a Client of node-postgres) to the primary. */
export function carryToken(client: any): void {
  let request: Request | undefined;
  const query = client.query;
  client.query = function (...statement: unknown[]) {
    request = requests.getStore(); // a connection serves one request at a time
    return query.apply(this, statement);
  };
  client.connection.on("parameterStatus", (told: { parameterName: string; parameterValue: string }) => {
    if (told.parameterName !== "cache_aside.commit_lsn" || !request) return;
    const newer = request.token === null || parseLsn(told.parameterValue) > parseLsn(request.token);
    if (newer) request.token = told.parameterValue;
  });
}

/**
 * For a Pool of node-postgres. Who has to wait for a connection is called back by the request that gave it up, and would
 * be taken for that one; bound, it is itself.
 */
export function carryTokens(pool: any): void {
  pool.on("connect", carryToken);
  const connect = pool.connect;
  pool.connect = function (callback?: (...result: unknown[]) => void) {
    return connect.call(this, callback && AsyncResource.bind(callback));
  };
}
