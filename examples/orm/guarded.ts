/**
 * Rows that an ORM reads, through Redis. To copy, with tokens.ts.
 *
 * get() takes the entry of Redis, else what `read` finds; that is stored with the token of the read. Redis refuses a fill
 * that may have missed a write, however long the process slept in between. Redis that does not answer is a miss.
 */
import { currentToken, parseLsn } from "./tokens.js";

/** Of ioredis, with short time-outs; see connectRedis() of each example. */
export interface RedisClient {
  get(key: string): Promise<string | null>;
  hgetall(key: string): Promise<Record<string, string>>;
  call(command: string, args: (string | number)[]): Promise<unknown>;
}

/** A row, and cache_aside.read_token() of the same transaction: selected with the row, or before it. */
export interface Read<T> {
  row: T | null;
  token: string | null;
}

export type Where = "replica" | "primary";

export class GuardedCache {
  /** `replicas`: the names, in cache_aside.replica, of those that the ORM may choose from. */
  constructor(
    private readonly redis: RedisClient,
    private readonly replicas: readonly string[] = [],
    private readonly ttlMs = 300_000,
  ) {}

  /** `revive` makes of parsed JSON what `read` would have returned. */
  async get<T>(key: string, read: (where: Where) => Promise<Read<T>>, revive: (stored: any) => T): Promise<T | null> {
    // What this request wrote may not have reached Redis yet: then a database that has it is asked.
    const found = currentToken() === null ? await this.redis.get(key).catch(() => null) : null;
    if (found !== null) return revive(JSON.parse(found));
    const { row, token } = await this.read(read);
    if (row !== null && token !== null) await this.fill(key, JSON.stringify(row), token);
    return row;
  }

  /** Where anything can be read that this request has to see. */
  async where(): Promise<Where> {
    const able = this.replicas.length > 0 ? await this.caughtUp() : [];
    return able.length > 0 && able.length === this.replicas.length ? "replica" : "primary";
  }

  /** The replicas that have replayed what this request has to see, by what the workers publish in Redis. */
  async caughtUp(): Promise<string[]> {
    try {
      const after = parseLsn(currentToken() ?? "0/0");
      const [text, all] = await Promise.all([this.redis.get("cache_aside:primary"), this.redis.hgetall("cache_aside:replicas")]);
      const primary = JSON.parse(text ?? "{}");
      return this.replicas.filter((name) => {
        const { lsn, system, timeline } = JSON.parse(all[name] ?? "{}");
        return lsn && system === primary.system && timeline === primary.timeline && parseLsn(lsn) >= after;
      });
    } catch {
      return []; // nobody knows
    }
  }

  /** A refusal is no error: what was read is right to use, and not stored. */
  async fill(key: string, json: string, token: string): Promise<void> {
    await this.redis.call("FCALL", ["cache_aside_fill", 1, key, json, this.ttlMs, token]).catch(() => {});
  }

  /** What a replica cannot answer, for any reason, the primary can, or says why not. */
  private async read<T>(read: (where: Where) => Promise<Read<T>>): Promise<Read<T>> {
    if ((await this.where()) === "primary") return read("primary");
    return read("replica").catch(() => read("primary"));
  }
}
