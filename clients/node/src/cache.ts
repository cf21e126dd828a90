/**
 * Entries of the cache: looks with a lease, and fills that need a token.
 *
 * The functions that are called run inside Redis; PostgreSQL's worker loads them. A fill is stored only if no invalidation
 * that its reader may have missed was delivered. Their names end in the number of the protocol that is spoken here.
 */

import type { LinkHealth, LinkOptions } from "./link";
import { Failure, RedisLink } from "./link";
import { parseLsn } from "./lsn";
import type { RedisInput } from "./redis";

const PROTOCOL = 1;
const GET = `cache_aside_get_${PROTOCOL}`;
const FILL = `cache_aside_fill_${PROTOCOL}`;
const RELEASE = `cache_aside_release_${PROTOCOL}`;

/** @internal What a look found. */
export type Lookup =
  | { readonly kind: "hit"; readonly value: string }
  | { readonly kind: "fill"; readonly lease: string } // missing: read the database, then fill or release
  | { readonly kind: "wait" } // missing, and somebody else is filling
  | { readonly kind: "none" }; // do without the cache

/** @internal An entry to be stored. */
export interface Entry {
  readonly key: string;
  readonly value: string;
  readonly ttlMs: number;
  readonly lease: string;
}

/** Options of a `Cache`. */
export interface CacheOptions extends LinkOptions {
  /**
   * `guarded` (default) needs Redis 7 or Valkey. `plain` uses GET and SET: there are no leases, and a value that was read
   * before a write can be put back after its invalidation, until it expires. See `cache_aside.redelete`.
   */
  readonly mode?: "guarded" | "plain";
}

const NONE: Lookup = { kind: "none" };

/** One Redis, which several repositories and a router can share. */
export class Cache {
  /** @internal */
  readonly link: RedisLink;
  /** @internal */
  readonly guarded: boolean;

  constructor(redis: RedisInput, options: CacheOptions = {}) {
    this.link = new RedisLink(redis, options);
    this.guarded = options.mode !== "plain";
  }

  /** What is known of Redis. Asks nobody. */
  health(): LinkHealth {
    return this.link.health();
  }

  /** @internal Is Redis to be asked now? */
  isUsable(): boolean {
    return this.link.isUsable();
  }

  /** @internal One answer for each key. */
  async look(keys: readonly string[], leaseMs: number): Promise<Lookup[]> {
    const answers = await this.link.ask(keys.map((key) => this.lookCommand(key, leaseMs)));
    return answers ? answers.map((answer) => this.toLookup(answer)) : keys.map(() => NONE);
  }

  /**
   * @internal A look that has to see what was committed up to `after`. `current`: all of it was delivered here when the
   * look was made. The position is read before the entry, on one connection: what it covers is deleted already.
   */
  async lookAfter(
    key: string,
    leaseMs: number,
    system: string,
    after: bigint,
  ): Promise<{ found: Lookup; current: boolean }> {
    const answers = await this.link.ask([["GET", `cache_aside:position:${system}`], this.lookCommand(key, leaseMs)]);
    if (!answers) return { found: NONE, current: false };
    return { found: this.toLookup(answers[1]), current: this.guarded && covers(answers[0], after) };
  }

  /** @internal Which were stored; a lease ends with it. All values are of the transaction that gave the token. */
  async fill(entries: readonly Entry[], token: string | null): Promise<boolean[]> {
    if (this.guarded && token === null) {
      this.release(entries);
      return entries.map(() => false);
    }
    const answers = await this.link.ask(entries.map((entry) => this.fillCommand(entry, token ?? "")));
    if (!answers) return entries.map(() => false);
    this.release(entries.filter((_, i) => answers[i] instanceof Failure)); // a full Redis refuses before the lease ends
    return answers.map((answer) => answer === 1 || answer === "OK");
  }

  /** @internal For whoever has a lease and stores nothing. Nobody waits for the answer. */
  release(held: readonly { readonly key: string; readonly lease: string }[]): void {
    const leased = held.filter(({ lease }) => lease !== "");
    if (leased.length > 0) void this.link.ask(leased.map(({ key, lease }) => ["FCALL", RELEASE, "1", key, lease]));
  }

  private lookCommand(key: string, leaseMs: number): string[] {
    return this.guarded ? ["FCALL", GET, "1", key, String(leaseMs)] : ["GET", key];
  }

  private fillCommand({ key, value, ttlMs, lease }: Entry, token: string): string[] {
    if (!this.guarded) return ["SET", key, value, "PX", String(ttlMs)];
    return ["FCALL", FILL, "1", key, value, String(ttlMs), token, ...(lease === "" ? [] : [lease])];
  }

  private toLookup(answer: unknown): Lookup {
    if (typeof answer === "string") return { kind: "hit", value: answer };
    if (Array.isArray(answer)) return { kind: "fill", lease: String(answer[0]) };
    if (answer === null) return this.guarded ? { kind: "wait" } : { kind: "fill", lease: "" };
    return NONE; // an error, or something else than a string under this key
  }
}

/** "<timeline> <LSN up to which everything was delivered> ... <state> ..." */
function covers(position: unknown, after: bigint): boolean {
  if (typeof position !== "string") return false;
  const words = position.split(" ");
  const delivered = parseLsn(words[1] ?? "");
  return delivered !== null && delivered >= after && words[4] === "ok";
}
