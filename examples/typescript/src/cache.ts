/**
 * Guarded cache entries: reads with a lease, fills that need a token.
 *
 * The functions run inside Redis (cache_aside.lua); PostgreSQL's worker loads them. A fill is stored
 * only if no invalidation that it may have missed was delivered, so nobody has to think about the
 * order of reads, writes and deletes here. Redis that does not answer is a miss, never an error.
 */
import Redis from "ioredis";

export type Lookup =
  | { kind: "hit"; value: string }
  | { kind: "fill"; lease?: string } // missing: read the database, then fill or release
  | { kind: "wait" }; // missing, and somebody else is filling

export interface Entry {
  key: string;
  value: string;
  lease?: string;
}

type Answer = string | [string] | Error | null;

export class GuardedCache {
  constructor(
    private readonly redis: Redis,
    private readonly onError: (error: Error) => void = () => {},
  ) {}

  async get(key: string, leaseMs: number): Promise<Lookup> {
    const [lookup] = await this.getMany([key], leaseMs);
    return lookup;
  }

  async getMany(keys: string[], leaseMs: number): Promise<Lookup[]> {
    try {
      const answers = (await this.redis.call(
        "FCALL", "cache_aside_get_many", keys.length, ...keys, leaseMs,
      )) as Answer[];
      return answers.map(toLookup);
    } catch (error) {
      this.onError(error as Error);
      return keys.map(() => ({ kind: "fill" }));
    }
  }

  /** True if stored. False is no failure: the value may be outdated, so it is used but not cached. */
  async fill(entry: Entry, ttlMs: number, token: string | null): Promise<boolean> {
    const [stored] = await this.fillMany([entry], ttlMs, token);
    return stored;
  }

  /** All values have to come from the transaction that gave the token. */
  async fillMany(entries: Entry[], ttlMs: number, token: string | null): Promise<boolean[]> {
    if (entries.length === 0) return [];
    if (token === null) {
      await this.release(entries);
      return entries.map(() => false);
    }
    try {
      const answers = (await this.redis.call(
        "FCALL", "cache_aside_fill_many", entries.length, ...entries.map((e) => e.key),
        ttlMs, token, ...entries.map((e) => e.value), ...entries.map((e) => e.lease ?? ""),
      )) as Array<number | Error>;
      return answers.map((answer) => answer === 1);
    } catch (error) {
      this.onError(error as Error);
      await this.release(entries); // a Redis that is full refuses a fill before it ends the lease
      return entries.map(() => false);
    }
  }

  /** For whoever has a lease and stores nothing: nobody waits for it any longer. Never fails. */
  async release(entries: Array<Pick<Entry, "key" | "lease">>): Promise<void> {
    const held = entries.filter((entry) => entry.lease);
    if (held.length === 0) return;
    try {
      await this.redis.call(
        "FCALL", "cache_aside_release", held.length, ...held.map((e) => e.key), ...held.map((e) => e.lease!),
      );
    } catch (error) {
      this.onError(error as Error);
    }
  }
}

function toLookup(answer: Answer): Lookup {
  if (typeof answer === "string") return { kind: "hit", value: answer };
  if (Array.isArray(answer)) return { kind: "fill", lease: answer[0] };
  if (answer === null) return { kind: "wait" };
  return { kind: "fill" }; // an error: the key holds something else; do without the cache
}

/** A client that gives up quickly: a cache that is slow to fail is worse than none. */
export function connectRedis(options: { path?: string; host?: string; port?: number }): Redis {
  const redis = new Redis({
    ...options,
    commandTimeout: 200,
    connectTimeout: 500,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    retryStrategy: (attempt) => Math.min(50 * 2 ** attempt, 2000),
  });
  redis.on("error", () => {}); // each command reports its own
  return redis;
}
