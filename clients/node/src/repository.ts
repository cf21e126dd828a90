/**
 * The cached repository: get, getMany, update, invalidate, warm.
 *
 * Writes never touch the cache: the rule deletes entries when a write commits, whoever wrote. Reads take the row and, in
 * the same statement, the token that proves how fresh it is; a fill that may have missed a write is refused by Redis.
 * Nothing that Redis does or fails to do fails a read.
 *
 * A read that has to see a write (`after`, or the token of the request) takes an entry only if everything up to there has
 * been delivered to this Redis, else it reads a database that has it.
 */
import type { Pool, QueryResult, QueryResultRow } from "pg";
import type { CacheOptions, Entry, Lookup } from "./cache";
import { Cache } from "./cache";
import type { BigintAs, ColumnDecoder } from "./codec";
import { rowDecoder } from "./codec";
import { currentToken } from "./context";
import type { Database, Transaction } from "./database";
import { databaseOf } from "./database";
import { RuleError, VersionConflictError } from "./errors";
import type { Key } from "./keys";
import { allKeys, keyText, MAX_KEY, oneKey } from "./keys";
import type { LinkHealth } from "./link";
import { parseLsn } from "./lsn";
import { Memory } from "./memory";
import type { Read } from "./reader";
import { RowReader } from "./reader";
import type { RedisInput } from "./redis";
import type { Router } from "./router";
import { selectVersion, updateOne } from "./statements";
import type { Table } from "./table";
import { describeTable } from "./table";

/** Options of a `CachedRepository`. */
export interface RepositoryOptions extends CacheOptions {
  /** The table, with its schema if need be. It needs a rule: `SELECT cache_aside.attach('users', 'user:{id}')`. */
  readonly table: string;
  /** Which of the table's rules, by its template; needed only if several name one row. */
  readonly template?: string;
  /** What is cached of a row. Default: all columns. All who share a template have to say the same. */
  readonly columns?: readonly string[];
  /** How long an entry lives, in ms. Default 300 000. */
  readonly ttlMs?: number;
  /** How long the knowledge that there is no such row lives, in ms; an INSERT ends it as well. Default 60 000; 0: not cached. */
  readonly missingTtlMs?: number;
  /** Part of a time to live that is left to chance, 0 to 1, so that not all end at once. Default 0.1. */
  readonly jitter?: number;
  /** Longest time that one reader may take to fill before the next one tries, in ms. Default 2000. */
  readonly leaseMs?: number;
  /**
   * While Redis refuses fills (after it restarted, or from a replica that lags) what was read may be used again in this
   * process for so many ms, so that the database is spared. It can be stale for so long. Default 0: never.
   */
  readonly staleWhileRefusedMs?: number;
  /** Column that counts the writes of a row. Default `version`. */
  readonly version?: string;
  /** How bigint columns come out. Default `bigint`. */
  readonly bigint?: BigintAs;
  /** Own decoders, by column; each gets PostgreSQL's JSON text of the value, and is not asked for NULL. */
  readonly decode?: Readonly<Record<string, ColumnDecoder>>;
  /** Reads are prepared on each connection, and planned once. Not behind a PgBouncer before 1.21. Default false. */
  readonly prepare?: boolean;
  /** How often the rule is looked up again, in ms. Default 60 000. */
  readonly recheckMs?: number;
}

/** Of one read. */
export interface ReadOptions {
  /** A token: the LSN that this read has to see. Default: that of the request; see `runWithToken`. */
  readonly after?: string | null;
}

/** Of one update. */
export interface UpdateOptions {
  /** The version that was read: another one in the row is a `VersionConflictError`. */
  readonly expectedVersion?: number | bigint | string;
  /** Does it within this client's transaction. */
  readonly client?: Transaction;
}

/** What happened in this repository since the process began, and what is known of Redis and of the rule. */
export interface RepositoryHealth {
  readonly redis: LinkHealth;
  /** The rule's template, when it was looked up. */
  readonly template: string | null;
  /** Why reads go past the cache, or null. */
  readonly trouble: string | null;
  readonly hits: number;
  readonly misses: number;
  /** Reads that waited for another one's fill. */
  readonly waits: number;
  /** Statements that read the table. */
  readonly databaseReads: number;
  readonly stored: number;
  /** Fills that were not stored, because they may have missed a write, or Redis failed. */
  readonly refused: number;
  /** Reads that were answered from the memory of `staleWhileRefusedMs`. */
  readonly stale: number;
  /** Entries that were no row. */
  readonly undecodable: number;
}

interface Wanted {
  readonly texts: ReadonlyMap<string, string>;
  readonly key: string; // with prefix
  readonly cacheable: boolean;
}

const MISSING = "null"; // as JSON: there is no such row
const BATCH = 100;
const MAX_LEASE_MS = 60_000;

/** Rows of one table, one by one, through the cache. T is what a row looks like. */
export class CachedRepository<T extends object> {
  private readonly database: Database;
  private readonly reader: RowReader;
  private readonly cache: Cache;
  private readonly memory: Memory;
  private table: Table | undefined;
  private lookingUp: Promise<Table> | undefined;
  private decode: ((text: string) => Record<string, unknown>) | undefined;
  private checkedAt = 0;
  private trouble: string | null = null;
  private readonly count = {
    hits: 0,
    misses: 0,
    waits: 0,
    stored: 0,
    refused: 0,
    stale: 0,
    undecodable: 0,
  };

  /** `database` is a pool of the primary, or a router. `redis` is a client, or a `Cache` that others share. */
  constructor(
    database: Pool | Router,
    redis: RedisInput | Cache,
    private readonly options: RepositoryOptions,
  ) {
    this.database = databaseOf(database);
    this.reader = new RowReader(this.database, options.prepare ?? false);
    this.cache = redis instanceof Cache ? redis : new Cache(redis, options);
    this.memory = new Memory(options.staleWhileRefusedMs ?? 0);
  }

  /** Looks up the table and its rule, as the first read does. Rejects with a `RuleError` if there is no rule. */
  async ready(): Promise<void> {
    await this.describe();
  }

  /** The row, or null. One of many readers that miss at the same moment reads the database; the others wait for it. */
  async get(key: Key, options: ReadOptions = {}): Promise<T | null> {
    const table = this.described() ?? (await this.describe());
    const wanted = this.want(table, key);
    const after = options.after === undefined ? currentToken() : options.after;
    const found = wanted.cacheable && this.cache.isUsable() ? await this.look(table, wanted, after) : NONE;
    if (found.kind === "hit") {
      const row = this.decodeHit(found.value);
      if (row !== undefined) return row;
    }
    this.count.misses++;
    const remembered = after === null ? this.memory.get(wanted.key) : undefined;
    if (remembered !== undefined) {
      this.count.stale++;
      if (found.kind === "fill") this.cache.release([{ key: wanted.key, lease: found.lease }]);
      return this.decodeRow(remembered);
    }
    const [text] =
      found.kind === "fill"
        ? await this.readAndFill(table, [wanted], [found], after)
        : (await this.read(table, [wanted], false, after)).rows;
    return this.decodeRow(text ?? MISSING);
  }

  /** The rows that there are, by the keys as they were given. What is missing is read in one statement. */
  async getMany<K extends Key>(keys: Iterable<K>, options: ReadOptions = {}): Promise<Map<K, T>> {
    const table = await this.describe();
    const after = options.after === undefined ? currentToken() : options.after;
    const given = [...keys].map((key) => ({ key, wanted: this.want(table, key) }));
    const unique = [...new Map(given.map(({ wanted }) => [rowName(wanted), wanted])).values()];
    const texts = new Map<string, T | null>();
    for (let i = 0; i < unique.length; i += BATCH) {
      await this.getBatch(table, unique.slice(i, i + BATCH), after, texts);
    }
    const found = new Map<K, T>();
    for (const { key, wanted } of given) {
      const row = texts.get(rowName(wanted));
      if (row) found.set(key, row);
    }
    return found;
  }

  /**
   * Changes columns of a row and returns the new one, or null if there is none. Columns that are undefined stay as they
   * are. The cache is the rule's business.
   */
  async update(key: Key, changes: Partial<T>, options: UpdateOptions = {}): Promise<T | null> {
    const table = await this.describe();
    const { texts } = this.want(table, key);
    const version = this.options.version ?? "version";
    const set = Object.entries(changes).filter(([, value]) => value !== undefined);
    const versioned = options.expectedVersion !== undefined;
    this.checkChanges(table, set, versioned ? version : null);
    const values = [...texts.values(), ...set.map(([column, value]) => this.parameter(table, column, value))];
    if (versioned) values.push(String(options.expectedVersion));
    const text = updateOne(
      table,
      set.map(([column]) => column),
      versioned ? version : null,
    );
    const { rows } = await this.run<{ row: string }>(text, values, options.client);
    this.memory.delete(allKeys(table.template, texts), table.prefix);
    if (rows[0]) return this.decodeRow(rows[0].row);
    if (options.expectedVersion !== undefined) await this.refuseVersion(table, key, texts, version, options);
    return null;
  }

  /** Deletes the entries of these rows when this commits, as their rule does; for changes that no rule sees. */
  async invalidate(keys: Iterable<Key>, client?: Transaction): Promise<void> {
    const table = await this.describe();
    const names: string[] = [];
    for (const key of keys) {
      names.push(...allKeys(table.template, this.want(table, key).texts));
    }
    this.memory.delete(names, table.prefix);
    if (names.length > 0) await this.run("SELECT cache_aside.invalidate(VARIADIC $1::text[])", [names], client);
  }

  /** Fills the cache with these rows, a batch at a time; returns how many entries were stored. */
  async warm(keys: Iterable<Key>): Promise<number> {
    const table = await this.describe();
    const wanted = [...keys].map((key) => this.want(table, key));
    const before = this.count.stored;
    for (let i = 0; i < wanted.length; i += BATCH) {
      const batch = wanted.slice(i, i + BATCH);
      await this.readAndFill(
        table,
        batch,
        batch.map(() => ({ kind: "fill", lease: "" })),
        currentToken(),
      );
    }
    return this.count.stored - before;
  }

  /** What happened here, and what is known of Redis. Asks nobody. */
  health(): RepositoryHealth {
    return {
      redis: this.cache.health(),
      template: this.table?.template.text ?? null,
      trouble: this.trouble,
      databaseReads: this.reader.count,
      ...this.count,
    };
  }

  // ---- the table and its rule

  private describe(): Promise<Table> {
    const table = this.described();
    if (table) return Promise.resolve(table);
    this.lookingUp ??= this.lookUp().finally(() => {
      this.lookingUp = undefined;
    });
    return this.lookingUp;
  }

  /** A description that is there is used while it is looked up again. */
  private described(): Table | undefined {
    if (this.table && Date.now() - this.checkedAt >= (this.options.recheckMs ?? 60_000)) {
      void this.lookUp().catch(() => {}); // of a rule: see trouble; of the database: the next read has it, too
    }
    return this.table;
  }

  private async lookUp(): Promise<Table> {
    this.checkedAt = Date.now();
    try {
      const described = await describeTable(this.database, this.options.table, this.options);
      this.decode = rowDecoder(described.columns, this.options.bigint ?? "bigint", this.options.decode ?? {});
      this.table = described;
      this.trouble = null;
      return described;
    } catch (error) {
      if (this.table && error instanceof RuleError) this.trouble = error.message; // reads go on, past the cache
      throw error;
    }
  }

  private want(table: Table, key: Key): Wanted {
    const [only, ...more] = table.keyColumns;
    if (typeof key !== "object" && (!only || more.length > 0)) {
      throw new TypeError(`a key of ${table.relation} is an object with ${table.template.columns.join(", ")}`);
    }
    const texts = new Map<string, string>();
    for (const column of table.keyColumns) {
      const value = typeof key === "object" ? key?.[column.name] : key;
      if (value === undefined) throw new TypeError(`column "${column.name}" is missing in a key of ${table.relation}`);
      texts.set(column.name, keyText(column, value));
    }
    const name = table.prefix + oneKey(table.template, texts);
    return { texts, key: name, cacheable: this.trouble === null && Buffer.byteLength(name) <= MAX_KEY };
  }

  // ---- the cache

  /** Looks until there is something to do; not longer than a lease lasts. */
  private async look(table: Table, { key }: Wanted, after: string | null): Promise<Lookup> {
    const leaseMs = Math.min(this.options.leaseMs ?? 2000, MAX_LEASE_MS);
    const giveUp = Date.now() + leaseMs;
    for (let pause = 2; ; pause = Math.min(pause * 2, 50)) {
      const found = await this.lookOnce(table, key, leaseMs, after);
      if (found.kind !== "wait") return found;
      if (pause === 2) this.count.waits++;
      if (Date.now() >= giveUp) return NONE;
      await sleep(pause * (0.5 + Math.random())); // jitter: not all of them at once
    }
  }

  /** An entry that may be older than `after` is none; nor is it waited for. */
  private async lookOnce(table: Table, key: string, leaseMs: number, after: string | null): Promise<Lookup> {
    const lsn = after === null ? null : parseLsn(after);
    if (lsn === null) return (await this.cache.look([key], leaseMs))[0] ?? NONE;
    const { found, current } = await this.cache.lookAfter(key, leaseMs, table.system, lsn);
    return current || found.kind === "fill" ? found : NONE;
  }

  private async getBatch(
    table: Table,
    batch: readonly Wanted[],
    after: string | null,
    rows: Map<string, T | null>,
  ): Promise<void> {
    const leaseMs = Math.min(this.options.leaseMs ?? 2000, MAX_LEASE_MS);
    const lookups =
      after === null
        ? await this.cache.look(
            batch.map(({ key }) => key),
            leaseMs,
          )
        : await Promise.all(batch.map(({ key }) => this.lookOnce(table, key, leaseMs, after)));
    const missing: Wanted[] = [];
    const leases: Lookup[] = [];
    for (const [i, wanted] of batch.entries()) {
      const found = (wanted.cacheable && lookups[i]) || NONE;
      const row = found.kind === "hit" ? this.decodeHit(found.value) : undefined;
      if (row === undefined) {
        this.count.misses++;
        missing.push(wanted);
        leases.push(found);
      } else rows.set(rowName(wanted), row);
    }
    const texts = missing.length > 0 ? await this.readAndFill(table, missing, leases, after) : [];
    for (const [i, wanted] of missing.entries()) rows.set(rowName(wanted), this.decodeRow(texts[i] ?? MISSING));
  }

  /** Reads rows, stores those that nobody else is about to store, and returns their texts. */
  private async readAndFill(
    table: Table,
    wanted: readonly Wanted[],
    found: readonly Lookup[],
    after: string | null,
  ): Promise<readonly (string | null)[]> {
    if (!found.some(({ kind }) => kind === "fill")) return (await this.read(table, wanted, false, after)).rows;
    const leases = wanted.map(({ key }, i) => ({ key, lease: leaseOf(found[i]) }));
    let read: Read;
    try {
      read = await this.read(table, wanted, true, after);
    } catch (error) {
      this.cache.release(leases.map(({ key, lease }) => ({ key, lease: lease ?? "" })));
      throw error;
    }
    const entries = leases.flatMap(({ key, lease }, i) =>
      lease === null ? [] : [this.entry(key, lease, read.rows[i] ?? null)],
    );
    await this.store(entries, read.token);
    return read.rows;
  }

  private entry(key: string, lease: string, row: string | null): Entry {
    const ttlMs = row === null ? (this.options.missingTtlMs ?? 60_000) : (this.options.ttlMs ?? 300_000);
    const jitter = Math.random() * (this.options.jitter ?? 0.1);
    return { key, lease, value: row ?? MISSING, ttlMs: Math.round(ttlMs * (1 - jitter)) };
  }

  private async store(entries: readonly Entry[], token: string | null): Promise<void> {
    const kept = entries.filter(({ ttlMs }) => ttlMs > 0);
    this.cache.release(entries.filter(({ ttlMs }) => ttlMs <= 0));
    if (kept.length === 0) return;
    const stored = await this.cache.fill(kept, token);
    for (const [i, { key, value }] of kept.entries()) {
      this.count[stored[i] ? "stored" : "refused"]++;
      if (!stored[i]) this.memory.set(key, value);
    }
  }

  // ---- the database

  private read(table: Table, wanted: readonly Wanted[], stores: boolean, after: string | null): Promise<Read> {
    const keys = wanted.map(({ texts }) => [...texts.values()]);
    return this.reader.read(table, keys, stores, after);
  }

  private run<R extends QueryResultRow>(
    text: string,
    values: unknown[],
    client?: Transaction,
  ): Promise<QueryResult<R>> {
    const statement = { text, values };
    return client ? client.query<R>(statement) : this.database.write<R>(statement);
  }

  /** node-postgres makes an array of PostgreSQL of a JavaScript array, also for a column of JSON. */
  private parameter(table: Table, name: string, value: unknown): unknown {
    const column = table.columns.find((candidate) => candidate.name === name);
    const isJson = column?.type === "json" || column?.type === "jsonb";
    const plain = value === null || column?.isArray || Object.hasOwn(this.options.decode ?? {}, name);
    return isJson && !plain ? JSON.stringify(value) : value;
  }

  private checkChanges(table: Table, set: readonly [string, unknown][], version: string | null): void {
    for (const [name] of set) {
      if (!table.columns.some((column) => column.name === name))
        throw new TypeError(`${table.relation} has no column "${name}"`);
      if (name === version) throw new TypeError(`column "${name}" is counted; pass what was read as expectedVersion`);
    }
    if (set.length === 0) throw new TypeError("an update changes at least one column");
  }

  private async refuseVersion(
    table: Table,
    key: Key,
    texts: ReadonlyMap<string, string>,
    version: string,
    { expectedVersion, client }: UpdateOptions,
  ): Promise<void> {
    const { rows } = await this.run<{ version: string }>(selectVersion(table, version), [...texts.values()], client);
    if (rows[0])
      throw new VersionConflictError(table.relation, key, BigInt(expectedVersion ?? 0), BigInt(rows[0].version));
  }

  // ---- rows

  /** Undefined: the entry is no row; somebody else uses this key. */
  private decodeHit(text: string): T | null | undefined {
    try {
      const row = this.decodeRow(text);
      this.count.hits++;
      return row;
    } catch {
      this.count.undecodable++;
      return undefined;
    }
  }

  private decodeRow(text: string): T | null {
    if (text === MISSING) return null;
    if (!this.decode) throw new Error("the table is not described");
    return this.decode(text) as T;
  }
}

const NONE: Lookup = { kind: "none" };

/** The lease to fill with, "" for none that is needed; null: do not fill. */
function leaseOf(found: Lookup | undefined): string | null {
  return found?.kind === "fill" ? found.lease : null;
}

function rowName({ texts }: Wanted): string {
  return JSON.stringify([...texts.values()]);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
