/**
 * The cached repository: get, getMany, update, invalidate, warm.
 *
 * Writes never touch the cache. The rule `SELECT cache_aside.attach('users', 'user:{id}')` makes each
 * committed write delete its entries, whoever writes. Reads take the value and, in the same
 * statement, the token that proves how fresh it is.
 *
 * With a router, reads of the database go to replicas. `get(id, after)` is for a reader that has just
 * written: its write may not have reached the cache yet, so it reads a database that has it.
 */
import { Pool, PoolClient } from "pg";
import { GuardedCache } from "./cache";
import { Router } from "./routing";

export interface User {
  id: number;
  name: string;
  email: string | null;
}

export interface Options {
  ttlMs: number;
  missingTtlMs: number; // of "there is no such user"; an INSERT ends it as well
  leaseMs: number; // longest time one reader may take to fill before the next one tries
}

const defaults: Options = { ttlMs: 300_000, missingTtlMs: 60_000, leaseMs: 2_000 };
const WARM_BATCH = 100;

export class UserRepository {
  /** Statements that read users; for tests and metrics. */
  databaseReads = 0;
  private readonly options: Options;

  constructor(
    private readonly pool: Pool,
    private readonly cache: GuardedCache,
    options: Partial<Options> = {},
    private readonly router?: Router,
  ) {
    this.options = { ...defaults, ...options };
  }

  /**
   * One of many readers that miss at the same moment gets the lease and reads the database; the others
   * look again after a few milliseconds. Should the one with the lease die, its lease expires and
   * another one gets it; nobody waits longer than that.
   */
  async get(id: number, after: string | null = null): Promise<User | null> {
    if (after !== null) return (await this.read([id], undefined, after)).users.get(id) ?? null;
    const key = userKey(id);
    const giveUp = Date.now() + this.options.leaseMs;
    for (let pause = 2; ; pause = Math.min(pause * 2, 50)) {
      const lookup = await this.cache.get(key, this.options.leaseMs);
      if (lookup.kind === "hit") return JSON.parse(lookup.value);
      if (lookup.kind === "fill") return this.readAndFill(id, lookup.lease);
      if (Date.now() >= giveUp) return (await this.read([id])).users.get(id) ?? null;
      await sleep(pause * (0.5 + Math.random())); // jitter: not all of them at once
    }
  }

  /** Does not wait for those who are filling: what is missing is read in one statement. */
  async getMany(ids: number[]): Promise<Map<number, User>> {
    const found = new Map<number, User>();
    const leases = new Map<number, string | undefined>();
    const lookups = await this.cache.getMany(ids.map(userKey), this.options.leaseMs);
    lookups.forEach((lookup, i) => {
      const user = lookup.kind === "hit" ? (JSON.parse(lookup.value) as User | null) : null;
      if (user) found.set(ids[i], user);
      if (lookup.kind !== "hit") leases.set(ids[i], lookup.kind === "fill" ? lookup.lease : undefined);
    });
    if (leases.size === 0) return found;
    const { users, token } = await this.readFor(leases);
    await this.store(leases, users, token);
    for (const [id, user] of users) found.set(id, user);
    return found;
  }

  /** Undefined fields stay as they are. Returns the new row, or null if there is none. */
  async update(
    id: number, changes: Partial<Omit<User, "id">>, client: Pool | PoolClient = this.pool,
  ): Promise<User | null> {
    const { rows } = await client.query<{ user: User }>(
      `UPDATE users SET name = CASE WHEN $2 THEN $3 ELSE name END,
                        email = CASE WHEN $4 THEN $5 ELSE email END
       WHERE id = $1 RETURNING row_to_json(users) AS "user"`,
      [id, changes.name !== undefined, changes.name, changes.email !== undefined, changes.email],
    );
    return rows[0]?.user ?? null;
  }

  /** The same, with the token that makes the next `get` see it. */
  async updateWithToken(id: number, changes: Partial<Omit<User, "id">>) {
    if (!this.router) throw new Error("tokens need a router");
    const { result, token } = await this.router.write((client) => this.update(id, changes, client));
    return { user: result, token };
  }

  /** For changes that no rule sees, such as a picture in a file. Deleted when this commits. */
  async invalidate(...ids: number[]): Promise<void> {
    await this.pool.query("SELECT cache_aside.invalidate(VARIADIC $1::text[])", [ids.map(userKey)]);
  }

  /** Fills the cache with these users, a batch at a time; returns how many were stored. */
  async warm(ids: number[]): Promise<number> {
    let stored = 0;
    for (let i = 0; i < ids.length; i += WARM_BATCH) {
      const batch = ids.slice(i, i + WARM_BATCH);
      const { users, token } = await this.read(batch);
      stored += await this.store(new Map(batch.map((id) => [id, undefined])), users, token);
    }
    return stored;
  }

  private async readAndFill(id: number, lease?: string): Promise<User | null> {
    const leases = new Map([[id, lease]]);
    const { users, token } = await this.readFor(leases);
    await this.store(leases, users, token);
    return users.get(id) ?? null;
  }

  /** Reads what is to be filled. A read that fails gives the leases back: others need not wait for them. */
  private async readFor(leases: Map<number, string | undefined>) {
    try {
      return await this.read([...leases.keys()]);
    } catch (error) {
      await this.cache.release([...leases].map(([id, lease]) => ({ key: userKey(id), lease })));
      throw error;
    }
  }

  /** Values and token of one statement. The outer row is there even when no user is. */
  async read(ids: number[], client?: PoolClient, after: string | null = null) {
    this.databaseReads++;
    const text = `SELECT (SELECT json_agg(row_to_json(u)) FROM users u WHERE id = ANY ($1)) AS users,
                         cache_aside.read_token() AS token`;
    type Row = { users: User[] | null; token: string | null };
    const { rows } = client || !this.router
      ? await (client ?? this.pool).query<Row>(text, [ids])
      : await this.router.read<Row>(text, [ids], { after });
    const users = new Map((rows[0].users ?? []).map((user) => [user.id, user]));
    return { users, token: rows[0].token };
  }

  /** Users that are not there are cached as null, for a shorter time. */
  private async store(
    leases: Map<number, string | undefined>, users: Map<number, User>, token: string | null,
  ): Promise<number> {
    const entry = ([id, lease]: [number, string | undefined]) =>
      ({ key: userKey(id), value: JSON.stringify(users.get(id) ?? null), lease });
    const all = [...leases];
    const stored = await Promise.all([
      this.cache.fillMany(all.filter(([id]) => users.has(id)).map(entry), this.options.ttlMs, token),
      this.cache.fillMany(
        all.filter(([id]) => !users.has(id)).map(entry), this.options.missingTtlMs, token),
    ]);
    return stored[0].filter(Boolean).length;
  }
}

export function userKey(id: number): string {
  return `user:${id}`;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
