/**
 * The token of a request: the LSN of the last write that its reads have to see.
 *
 * It lives in an AsyncLocalStorage, so nobody has to pass it along. One storage for a process, even if two copies of this
 * package are loaded.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { laterToken } from "./lsn";

/** @internal */
export interface TokenContext {
  token: string | null;
}

const name = Symbol.for("cache-aside-pg.context.1");
const globals = globalThis as typeof globalThis & { [name]?: AsyncLocalStorage<TokenContext> };
globals[name] ??= new AsyncLocalStorage<TokenContext>();
const storage: AsyncLocalStorage<TokenContext> = globals[name];

/** Runs `work` with a token of its own, or none yet. What it writes through a `Router` moves the token on. */
export function runWithToken<T>(token: string | null, work: () => T): T {
  return runInContext({ token: laterToken(token, null) }, work);
}

/** @internal */
export function runInContext<T>(context: TokenContext, work: () => T): T {
  return storage.run(context, work);
}

/** The token that reads here have to see, or null. */
export function currentToken(): string | null {
  return storage.getStore()?.token ?? null;
}

/** Reads here have to see this LSN from now on. A token only goes forward. */
export function noteToken(lsn: string): void {
  const context = storage.getStore();
  if (context) context.token = laterToken(context.token, lsn);
}
