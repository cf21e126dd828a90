/**
 * What is tested with each ORM, in one order. DATABASE_URL and REPLICA_URL are a primary and its standby with
 * cache_aside, REDIS_URL their Redis; see test/perl/OrmRecipe.pm for what is in them.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { GuardedCache, RedisClient } from "./guarded.js";
import { currentToken, parseLsn, runWithToken } from "./tokens.js";

export interface Book {
  id: number;
  title: string;
  price: unknown;
  published: Date | null;
  version: number;
}

interface Client {
  connect(): Promise<unknown>;
  query(text: string): Promise<{ rows: any[] }>;
  end(): Promise<unknown>;
}

/** One ORM, as its example uses it. */
export interface Orm<B extends Book> {
  cache: GuardedCache;
  redis: RedisClient & { set(key: string, value: string): Promise<unknown>; del(key: string): Promise<unknown>; disconnect(): void };
  get(id: number): Promise<B | null>;
  insert(title: string): Promise<unknown>;
  /** Writes one that was read, and returns it as it is then. */
  save(book: B, title: string): Promise<B>;
  /** Other ways to write that the ORM has. */
  writes: Record<string, (title: string) => Promise<unknown>>;
  /** Is it this ORM's own exception for a write that came too late? */
  isConflict(error: unknown): boolean;
  /** The same for one that came between its check and its UPDATE, if that is another one. */
  isLateConflict?(error: unknown): boolean;
  /** Of node-postgres, for what somebody else does meanwhile. */
  Client: new (config: { connectionString: string | undefined }) => Client;
  end(): Promise<unknown>;
}

const KEY = "book:1";

export function tell<B extends Book>(orm: Orm<B>, more: (told: Told<B>) => void = () => {}): void {
  const told = new Told(orm);
  test("a miss and a hit", () => told.missAndHit());
  test("each way to write deletes the entry, and counts once", () => told.writes());
  test("a reader that was overtaken caches nothing", () => told.overtaken());
  test("a lost update is refused", () => told.lostUpdate());
  test("... also one that waits for the write it would undo", () => told.race((book) => orm.save(book, "lost")));
  more(told);
  test("reads see what their request wrote", () => told.readYourWrites());
  test("what a replica cannot answer the primary does", () => told.replicaGone());
  test("a token goes to the request that wrote", () => told.contention());
  test("without Redis it works, too", () => told.withoutRedis());
  test("end", async () => void (await orm.end()));
}

export class Told<B extends Book> {
  constructor(readonly orm: Orm<B>) {}

  async missAndHit(): Promise<void> {
    await this.until("Redis is connected", () => this.orm.redis.get(KEY).then(() => true, () => false));
    await this.orm.insert("a");
    await this.orm.insert("b");
    await this.sql("UPDATE book SET price = 1.50, published = '2026-11-27 12:00+00' WHERE id = 1");
    await this.delivered();
    const read = await this.cached();
    const entry = JSON.parse((await this.orm.redis.get(KEY)) ?? "");
    await this.orm.redis.set(KEY, JSON.stringify({ ...entry, title: "from the cache" }));
    const hit = await this.get();
    assert.equal(hit.title, "from the cache");
    hit.title = "a";
    assert.deepEqual(JSON.parse(JSON.stringify(hit)), JSON.parse(JSON.stringify(read)));
    for (const book of [read, hit]) {
      assert.equal(String(book.price).replace(/0$/, ""), "1.5");
      assert.equal(book.published?.toISOString(), "2026-11-27T12:00:00.000Z");
      assert.equal(book.constructor, read.constructor);
    }
    await this.orm.redis.del(KEY);
    assert.equal(await this.orm.get(999), null);
  }

  async writes(): Promise<void> {
    const writes = {
      save: async (title: string) => {
        const saved = await this.orm.save(await this.get(), title);
        const [{ version }] = await this.sql("SELECT version FROM book WHERE id = 1");
        assert.equal(saved.version, version, "the ORM knows the version that the database counted");
        await this.orm.save(saved, title + " again"); // so it can go on with it
      },
      ...this.orm.writes,
      SQL: (title: string) => this.sql(`UPDATE book SET title = '${title}' WHERE id = 1`),
    };
    for (const [name, write] of Object.entries(writes)) {
      const before = await this.cached();
      await write(name);
      await this.delivered();
      assert.equal(await this.orm.redis.get(KEY), null, `${name} deletes the entry`);
      const now = await this.get();
      assert.equal(now.version - before.version, name === "save" ? 2 : 1, `${name} counts once`);
      assert.notDeepEqual([now.title, now.price], [before.title, before.price], `${name} is seen`);
    }
  }

  async overtaken(): Promise<void> {
    await this.change("old");
    const { cache } = this.orm;
    const fill = cache.fill;
    cache.fill = async (...entry) => {
      await this.change("new");
      await fill.apply(cache, entry);
    };
    assert.equal((await this.get()).title, "old", "it has what it read");
    cache.fill = fill;
    assert.equal(await this.orm.redis.get(KEY), null);
    assert.equal((await this.cached()).title, "new");
  }

  async lostUpdate(): Promise<void> {
    for (const loser of ["the database", "the cache"]) {
      await this.cached();
      const fromCache = await this.get();
      await this.orm.redis.del(KEY);
      const read = await this.get();
      const [mine, theirs] = loser === "the cache" ? [fromCache, read] : [read, fromCache];
      await this.orm.save(theirs, "theirs");
      await assert.rejects(this.orm.save(mine, "lost"), this.orm.isConflict, `read from ${loser}`);
      await this.isInDatabase("theirs");
      await this.delivered();
      const late = await this.get();
      await this.change("of somebody else");
      await assert.rejects(this.orm.save(late, "lost"), this.orm.isConflict);
      await this.isInDatabase("of somebody else");
      await this.orm.save(await this.get(), "a retry");
      await this.isInDatabase("a retry");
      await this.delivered();
    }
  }

  /** Somebody else commits between whatever the ORM checks before, and its UPDATE. */
  async race(save: (book: B) => Promise<unknown>): Promise<void> {
    const mine = await this.get();
    const title = `quicker than ${mine.version}`;
    const other = new this.orm.Client({ connectionString: process.env.DATABASE_URL });
    await other.connect();
    await other.query(`BEGIN; UPDATE book SET title = '${title}' WHERE id = 1`);
    const refused = assert.rejects(save(mine), (error) => (this.orm.isLateConflict ?? this.orm.isConflict)(error));
    try {
      await this.until("it waits for the row", async () => (await this.sql("SELECT FROM pg_locks WHERE NOT granted")).length > 0);
      await other.query("COMMIT");
    } finally {
      await other.end(); // or what comes next waits for it
    }
    await refused;
    await this.isInDatabase(title);
    await this.delivered();
  }

  /** The standby does not replay for a while: reads go to it unless they have to see more. */
  async readYourWrites(): Promise<void> {
    const replica = process.env.REPLICA_URL ?? "";
    await this.change("replayed");
    await this.until("the replica may be asked", async () => (await this.orm.cache.where()) === "replica" && (await this.replicaHas("replayed")));
    await this.sql("SELECT pg_wal_replay_pause()", replica);
    await this.until("it stands", async () => (await this.sql("SELECT pg_get_wal_replay_pause_state() AS s", replica))[0].s === "paused");
    const old = await this.cached();
    const entry = JSON.stringify(old);
    let token: string | null = null;
    await runWithToken(null, async () => {
      await this.orm.save(old, "written");
      assert.notEqual((token = currentToken()), null, "a write tells its token");
      await this.delivered();
      await this.orm.redis.set(KEY, entry); // as if the write had not been delivered yet
      assert.equal((await this.get()).title, "written", "the request sees its write");
      assert.equal(await this.orm.cache.where(), "primary");
    });
    await this.delivered();
    await this.orm.redis.del(KEY);
    assert.equal((await this.get()).title, "replayed", "others read the replica");
    assert.equal(await this.orm.redis.get(KEY), null, "which fills nothing that is old");
    await runWithToken(token, async () => assert.equal((await this.get()).title, "written", "the next request of the visitor sees it"));
    await this.sql("SELECT pg_wal_replay_resume()", replica);
    await runWithToken(token, async () => {
      await this.until("the replica has it", async () => (await this.orm.cache.where()) === "replica");
      assert.equal((await this.get()).title, "written");
    });
  }

  /** It dies before anybody knows. */
  async replicaGone(): Promise<void> {
    const [{ file }] = await this.sql("SELECT pg_read_file('postmaster.pid') AS file", process.env.REPLICA_URL);
    process.kill(Number.parseInt(file, 10), "SIGINT");
    await this.until("it is gone", () => this.sql("SELECT", process.env.REPLICA_URL).then(() => false, () => true));
    this.orm.cache.where = async () => "replica";
    await this.orm.redis.del(KEY);
    assert.equal((await this.get()).title, "written");
  }

  /** The pool has one connection. Remedy: bind() in carryTokens(), tokens.ts, where the ORM asks by callback. */
  async contention(): Promise<void> {
    const book = await this.get();
    const tokens = await Promise.all(
      ["first", "second", "third"].map((title) =>
        runWithToken(null, async () => {
          await this.orm.insert(title);
          return currentToken();
        }),
      ),
    );
    const lsns = tokens.map((token) => parseLsn(token ?? "0/0"));
    assert.ok(lsns.every((lsn) => lsn > 0n), `each has one: ${tokens}`);
    assert.equal(new Set(lsns).size, 3, `its own: ${tokens}`);
    assert.equal((await this.get()).title, book.title);
  }

  async withoutRedis(): Promise<void> {
    this.orm.redis.disconnect();
    await this.sql("UPDATE book SET title = 'without' WHERE id = 1");
    assert.equal((await this.get()).title, "without");
  }

  async sql(text: string, connectionString = process.env.DATABASE_URL): Promise<any[]> {
    const client = new this.orm.Client({ connectionString });
    await client.connect();
    try {
      return (await client.query(text)).rows;
    } finally {
      await client.end();
    }
  }

  async get(): Promise<B> {
    const book = await this.orm.get(1);
    assert.ok(book);
    return book;
  }

  /** Reads until it is cached: a bucket of the guard may have been raised by another key. */
  async cached(): Promise<B> {
    let book: B | undefined;
    await this.until("it is cached", async () => {
      book = await this.get();
      return (await this.orm.redis.get(KEY)) !== null;
    });
    return book as B;
  }

  async change(title: string): Promise<void> {
    await this.sql(`UPDATE book SET title = '${title}' WHERE id = 1`);
    await this.delivered();
  }

  /** In Redis, and on the standby: a read without a token may go there, and see what it has by then. */
  async delivered(): Promise<void> {
    const [{ done, lsn }] = await this.sql("SELECT cache_aside.wait_delivered() AS done, pg_current_wal_flush_lsn() AS lsn");
    assert.equal(done, true);
    await this.until("the replica has it", () => this.replicaIsAt(lsn));
  }

  /** Or it is not to replay, or gone. */
  private async replicaIsAt(lsn: string): Promise<boolean> {
    const query = `SELECT pg_last_wal_replay_lsn() >= '${lsn}' OR pg_get_wal_replay_pause_state() <> 'not paused' AS is_there`;
    return this.sql(query, process.env.REPLICA_URL).then(([{ is_there }]) => is_there, () => true);
  }

  async isInDatabase(title: string): Promise<void> {
    assert.equal((await this.sql("SELECT title FROM book WHERE id = 1"))[0].title, title);
  }

  private async replicaHas(title: string): Promise<boolean> {
    return (await this.sql("SELECT title FROM book WHERE id = 1", process.env.REPLICA_URL))[0].title === title;
  }

  async until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const end = Date.now() + 30_000;
    while (!(await condition())) {
      assert.ok(Date.now() < end, `timed out: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
