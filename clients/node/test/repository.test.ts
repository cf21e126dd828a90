/** The repository, through each client, against a real PostgreSQL with the extension and its Redis. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import type Redis from "ioredis";
import type pg from "pg";
import { Cache, CachedRepository, type RepositoryOptions, RuleError, runWithToken, VersionConflictError } from "../src";
import { clients, delivered, makeIoredis, makePool, skip, sleep, until } from "./support";

interface Account {
  id: bigint;
  name: string | null;
  balance: string | null;
  tags: string[] | null;
  extra: unknown;
  version: number;
}

const MAX = 9223372036854775807n;
const options: RepositoryOptions = { table: "accounts", timeoutMs: 5000 }; // on a busy machine Redis is late, not away
let pool: pg.Pool;
let redis: Redis;
const raw = (key: string) => redis.get(key);

before(async () => {
  if (skip) return;
  pool = makePool();
  redis = makeIoredis();
});

for (const [kind, connect] of clients) {
  describe(`through ${kind}`, { skip }, () => {
    let accounts: CachedRepository<Account>;
    const make = (more: Partial<RepositoryOptions> = {}) =>
      new CachedRepository<Account>(pool, client, { ...options, ...more });
    let client: ReturnType<typeof connect>;

    /** The worker may have to notice this transaction's past first. */
    const cached = (id: bigint | number, text?: string) =>
      until(`account ${id} is cached`, async () => {
        await accounts.get(id);
        return text === undefined ? (await raw(`account:${id}`)) !== null : (await raw(`account:${id}`)) === text;
      });

    before(async () => {
      client = connect();
      await pool.query(`DROP TABLE IF EXISTS accounts;
        CREATE TABLE accounts (id bigint PRIMARY KEY, name text, balance numeric, tags text[], extra jsonb);
        SELECT cache_aside.attach('accounts', 'account:{id}');
        SELECT cache_aside.enable_versioning('accounts');
        INSERT INTO accounts (id, name, balance) SELECT g, 'name ' || g, 1.50 FROM generate_series(1, 1000) g;
        INSERT INTO accounts (id, name, balance) VALUES (${MAX}, 'last', 12345678901234567890.123400)`);
      await delivered(pool);
      accounts = make();
      await until("Redis is up", async () => {
        await accounts.get(1000);
        return accounts.health().redis.state === "up" && (await raw("account:1000")) !== null;
      });
    });

    test("a miss reads the database, a hit does not", async () => {
      await cached(1);
      const before = accounts.health();
      const row = await accounts.get(1);
      assert.deepEqual(row, { id: 1n, name: "name 1", balance: "1.50", tags: null, extra: null, version: 1 });
      assert.equal(accounts.health().databaseReads, before.databaseReads);
      assert.equal(accounts.health().hits, before.hits + 1);
    });

    test("bigint and numeric come back as they were stored", async () => {
      await cached(MAX);
      for (let i = 0; i < 2; i++) {
        const row = await accounts.get(MAX);
        assert.equal(row?.id, MAX);
        assert.equal(row?.balance, "12345678901234567890.123400");
      }
      assert.match((await raw(`account:${MAX}`)) ?? "", /"balance":12345678901234567890.123400\b/);
      assert.equal((await make({ bigint: "string" }).get(MAX))?.id, String(MAX));
    });

    // Remedy: checked() in reader.ts.
    test("a client that parses JSON whatever it is told is given text", async () => {
      const parsing = Object.assign(Object.create(pool) as typeof pool, {
        query: ({ types: _, ...statement }: pg.QueryConfig) => pool.query(statement),
      });
      for (const keys of [[MAX], [MAX, 1n]]) {
        const repository = new CachedRepository<Account>(parsing, { isReady: () => false, send: () => [] }, options);
        for (const reads of [2, 3]) {
          const rows = await repository.getMany(keys);
          assert.equal(rows.get(MAX)?.balance, "12345678901234567890.123400");
          assert.equal(repository.health().databaseReads, reads, "read again, once");
        }
      }
    });

    test("an update is seen by the next read, and the cache is the rule's business", async () => {
      await cached(2);
      const extra = [1, { a: "b" }];
      const updated = await accounts.update(2, { name: "Ada", tags: ["x", "y"], extra });
      assert.deepEqual(updated, { id: 2n, name: "Ada", balance: "1.50", tags: ["x", "y"], extra, version: 2 });
      await delivered(pool);
      assert.deepEqual(await accounts.get(2), updated);
      assert.equal(await accounts.update(-1, { name: "nobody" }), null);
      await assert.rejects(accounts.update(2, { nothing: 1 } as Partial<Account>), /no column "nothing"/);
      await assert.rejects(accounts.update(2, {}), TypeError);
    });

    test("an update of a version that is gone is a typed error", async () => {
      const read = await accounts.update(3, { name: "one" });
      assert.equal((await accounts.update(3, { name: "two" }, { expectedVersion: read?.version ?? 0 }))?.name, "two");
      const conflict = accounts.update(3, { name: "lost" }, { expectedVersion: read?.version ?? 0 });
      await assert.rejects(conflict, (error) => {
        assert.ok(error instanceof VersionConflictError);
        assert.deepEqual([error.table, error.key, error.expected, error.found], ["accounts", 3, 2n, 3n]);
        return true;
      });
      assert.equal(await accounts.update(-3, { name: "x" }, { expectedVersion: 1 }), null);
      await assert.rejects(accounts.update(3, { version: 9 }, { expectedVersion: 3 }), TypeError);
    });

    test("an update in a transaction that is rolled back changes and deletes nothing", async () => {
      await cached(4);
      const within = await pool.connect();
      try {
        await within.query("BEGIN");
        assert.equal((await accounts.update(4, { name: "no" }, { client: within }))?.name, "no");
        await within.query("ROLLBACK");
      } finally {
        within.release();
      }
      await delivered(pool);
      assert.equal((await accounts.get(4))?.name, "name 4");
      assert.notEqual(await raw("account:4"), null);
    });

    test("a row that is not there is cached, until it is inserted", async () => {
      assert.equal(await accounts.get(5000), null);
      await cached(5000, "null");
      const before = accounts.health().databaseReads;
      assert.equal(await accounts.get(5000), null);
      assert.equal(accounts.health().databaseReads, before);
      await pool.query("INSERT INTO accounts (id, name) VALUES (5000, 'new')");
      await delivered(pool);
      assert.equal((await accounts.get(5000))?.name, "new");
      await pool.query("DELETE FROM accounts WHERE id = 5000");
    });

    test("absence is not cached when that is not wanted, and nobody waits for it", async () => {
      const none = make({ missingTtlMs: 0 });
      const began = Date.now();
      assert.deepEqual(await Promise.all(Array.from({ length: 20 }, () => none.get(6000))), Array(20).fill(null));
      assert.ok(Date.now() - began < 1500, "a lease alone lasts two seconds"); // Remedy: release in store()
      assert.equal(await raw("account:6000"), null);
    });

    test("times to live differ", async () => {
      await make({ jitter: 0.5, ttlMs: 100_000 }).warm(Array.from({ length: 50 }, (_, i) => 100 + i));
      const left = await Promise.all(Array.from({ length: 50 }, (_, i) => redis.pttl(`account:${100 + i}`)));
      assert.ok(Math.max(...left) <= 100_000 && Math.min(...left) > 45_000, String(left));
      assert.ok(Math.max(...left) - Math.min(...left) > 10_000, "jitter"); // Remedy: entry()
      assert.ok(new Set(left.map((ms) => Math.round(ms / 1000))).size > 5);
    });

    test("of twenty readers that miss at once one reads the database", async () => {
      const readers = Array.from({ length: 20 }, () => make());
      await Promise.all(readers.map((reader) => reader.ready()));
      const rows = await Promise.all(readers.map((reader) => reader.get(5)));
      assert.ok(rows.every((row) => row?.name === "name 5"));
      assert.equal(
        readers.reduce((sum, reader) => sum + reader.health().databaseReads, 0),
        1,
      ); // Remedy: look()
      assert.equal(
        readers.reduce((sum, reader) => sum + reader.health().waits, 0),
        19,
      );
    });

    test("a reader that dies with the lease holds up the others no longer than the lease", async () => {
      const lease = (await redis.call("FCALL", "cache_aside_get_1", "1", "account:6", "100")) as unknown[];
      assert.equal(lease.length, 1);
      assert.equal((await make({ leaseMs: 100 }).get(6))?.name, "name 6");
    });

    test("a read that fails gives its lease back", async () => {
      const broken = make({ leaseMs: 60_000 });
      await broken.ready();
      const key = "99999999999999999999";
      await assert.rejects(broken.get(key), { code: "22003" });
      await until(
        "it is free",
        async () => (await redis.call("FCALL", "cache_aside_get_1", "1", `account:${key}`, "9")) !== null,
      ); // Remedy: release in readAndFill()
    });

    test("a reader that sleeps between read and fill stores nothing old", async () => {
      const sleeper = make();
      await sleeper.ready();
      const [name, release] = await whileReading(async () => {
        const reading = sleeper.get(7);
        await until("it has the token", () => sleeper.health().databaseReads === 1);
        return reading;
      });
      await pool.query("UPDATE accounts SET name = 'newer' WHERE id = 7");
      await delivered(pool);
      release();
      assert.equal((await name)?.name, "name 7");
      assert.equal(sleeper.health().refused, 1);
      assert.equal(await raw("account:7"), null);
      assert.equal((await accounts.get(7))?.name, "newer");
    });

    /** Lets a read go as far as its answer of the database, and holds that until it is released. */
    async function whileReading<R>(read: () => Promise<R>): Promise<[Promise<R>, () => void]> {
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      const query = pool.query.bind(pool) as (...args: unknown[]) => Promise<unknown>;
      let reached = () => {};
      const answered = new Promise<void>((resolve) => {
        reached = resolve;
      });
      Object.assign(pool, {
        query: async (...args: unknown[]) => {
          delete (pool as { query?: unknown }).query;
          const answer = await query(...args);
          reached();
          await held;
          return answer;
        },
      });
      const reading = read();
      await answered;
      return [reading, release];
    }

    test("what was refused is used again for a while, if that is wanted", async () => {
      const patient = make({ staleWhileRefusedMs: 60_000 });
      const strict = make();
      await Promise.all([patient.ready(), strict.ready()]);
      await withRefusingRedis(async () => {
        for (let i = 0; i < 3; i++) assert.equal((await patient.get(8))?.name, "name 8");
        for (let i = 0; i < 3; i++) assert.equal((await strict.get(8))?.name, "name 8");
        assert.deepEqual([patient.health().databaseReads, patient.health().stale], [1, 2]); // Remedy: Memory
        assert.equal(strict.health().databaseReads, 3);
        await patient.update(8, { name: "mine" });
        assert.equal((await patient.get(8))?.name, "mine", "an own update ends it");
        await runWithToken("0/1", async () => {
          const before = patient.health().databaseReads;
          await patient.get(8);
          assert.equal(patient.health().databaseReads, before + 1, "a read with a token does not use it");
        });
      });
    });

    /** A Redis that is full refuses every fill. */
    async function withRefusingRedis(work: () => Promise<void>): Promise<void> {
      await redis.config("SET", "maxmemory", "1");
      try {
        await work();
      } finally {
        await redis.config("SET", "maxmemory", "0");
      }
    }

    test("getMany reads what is missing in one statement", async () => {
      await cached(9);
      const before = accounts.health().databaseReads;
      const found = await accounts.getMany([9, 10n, "11", -11, 10]);
      assert.deepEqual([...found.keys()], [9, 10n, "11", 10]);
      assert.deepEqual(
        [...found.values()].map((row) => row.name),
        ["name 9", "name 10", "name 11", "name 10"],
      );
      assert.equal(accounts.health().databaseReads, before + 1);
      await accounts.getMany([9, 10, 11, -11]);
      assert.equal(accounts.health().databaseReads, before + 1, "now all of it is cached, absence too");
      assert.equal((await accounts.getMany([])).size, 0);
    });

    test("invalidate deletes when it commits", async () => {
      await cached(12);
      await accounts.invalidate([12, 13]);
      await delivered(pool);
      assert.equal(await raw("account:12"), null);
    });

    test("warm fills in batches", async () => {
      const ids = Array.from({ length: 950 }, (_, i) => i + 14);
      assert.equal(await accounts.warm(ids), 950);
      const before = accounts.health().databaseReads;
      assert.equal((await accounts.getMany(ids)).size, 950);
      assert.equal(accounts.health().databaseReads, before);
    });

    test("an entry that is no row is a miss", async () => {
      await redis.set("account:15", "rubbish", "PX", 60_000);
      assert.equal((await accounts.get(15))?.name, "name 15");
      await redis.del("account:16");
      await redis.lpush("account:16", "a list");
      assert.equal((await accounts.get(16))?.name, "name 16");
      assert.equal((await accounts.getMany([15, 16])).size, 2);
      assert.ok(accounts.health().undecodable >= 2);
      await redis.del("account:15", "account:16");
    });

    test("plain mode caches without a guard", async () => {
      const plain = new CachedRepository<Account>(pool, new Cache(client, { mode: "plain" }), options);
      await redis.del("account:17");
      assert.equal((await plain.get(17))?.name, "name 17");
      assert.equal((await plain.get(17))?.name, "name 17");
      assert.deepEqual([plain.health().hits, plain.health().stored, plain.health().databaseReads], [1, 1, 1]);
      await runWithToken("0/1", () => plain.get(17));
      assert.equal(plain.health().databaseReads, 2, "a read with a token believes no entry without a guard");
    });

    test("a read with a token believes an entry once everything up to there is delivered", async () => {
      await cached(18);
      await pool.query("UPDATE accounts SET name = 'x' WHERE id = 19");
      await delivered(pool);
      const token = (await pool.query("SELECT pg_current_wal_flush_lsn()::text AS lsn")).rows[0].lsn as string;
      await until("the position is past the token", async () => {
        const before = accounts.health().databaseReads;
        await accounts.get(18, { after: token });
        return accounts.health().databaseReads === before;
      });
      const before = accounts.health().databaseReads;
      assert.equal((await accounts.get(18, { after: "FFFFFF/0" }))?.name, "name 18");
      assert.equal(accounts.health().databaseReads, before + 1); // Remedy: covers()
    });
  });
}

describe("tables and rules", { skip }, () => {
  const at = (more: RepositoryOptions) => new CachedRepository<Record<string, unknown>>(pool, redis, more);

  test("keys are those of the rule", async () => {
    await pool.query(`DROP SCHEMA IF EXISTS odd CASCADE; CREATE SCHEMA odd;
      CREATE TYPE odd.mood AS ENUM ('so so', 'b}ad'); CREATE DOMAIN odd.number AS bigint;
      CREATE TABLE odd."Ta""ble" (i int2, n odd.number, o oid, t text, v varchar(20), u uuid, b bool, d date, m odd.mood,
        "c#2" text, PRIMARY KEY (i, n, o, t, v, u, b, d, m, "c#2"));
      SELECT cache_aside.attach('odd."Ta""ble"', '{{{i}}}/{n}/{o}/{t}/{v}/{u}/{b}/{d}/{m}/{c#2}|é')`);
    const values: Record<string, string | number | boolean> = {
      i: -7,
      n: "9007199254740993",
      o: 4294967295,
      t: "ü {} * \\ 😀",
      v: " blanks ",
      d: "0044-03-15",
      u: "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
      b: true,
      m: "b}ad",
      "c#2": "#",
    }; // prettier-ignore
    const table = at({ table: 'odd."Ta""ble"' });
    assert.equal(await table.get(values), null);
    const { rows } = await pool.query(`SELECT cache_aside.keys('odd."Ta""ble"', $1) AS key`, [JSON.stringify(values)]);
    assert.equal(rows.length, 1);
    await until("its absence is cached under the rule's key", async () => {
      await table.get(values);
      return (await raw(rows[0].key)) === "null";
    });
    await pool.query(`INSERT INTO odd."Ta""ble" SELECT * FROM json_populate_record(NULL::odd."Ta""ble", $1)`, [
      JSON.stringify(values),
    ]);
    await delivered(pool);
    assert.equal((await table.get(values))?.["t"], values["t"]);
    assert.equal((await table.getMany([values])).size, 1);
  });

  test("copies of a hot key are chosen among, and all deleted", async () => {
    await pool.query(`DROP TABLE IF EXISTS hot; CREATE TABLE hot (id int PRIMARY KEY, n int);
      INSERT INTO hot VALUES (1, 1); SELECT cache_aside.attach('hot', 'hot:{id#4}')`);
    await delivered(pool);
    const hot = at({ table: "hot" });
    const copies = () => redis.keys("hot:1#?");
    await until("four copies", async () => {
      await hot.get(1);
      return (await copies()).length === 4;
    });
    await hot.invalidate([1]);
    await delivered(pool);
    assert.deepEqual(await copies(), []);
  });

  test("without a rule that fits there is no cache, and the error has the statement", async () => {
    await pool.query(`DROP TABLE IF EXISTS bare, odd_key;
      CREATE TABLE bare (id int PRIMARY KEY, a int, b int); CREATE TABLE odd_key (t timestamptz PRIMARY KEY);
      INSERT INTO bare VALUES (1, 1, 1)`);
    const refused = (more: RepositoryOptions, message: RegExp) =>
      assert.rejects(at(more).ready(), (error) => error instanceof RuleError && message.test(error.message));
    await refused({ table: "bare" }, /SELECT cache_aside\.attach\('bare', 'bare:\{id\}'\);/);
    await refused({ table: "nothing" }, /does not exist/);
    await pool.query("SELECT cache_aside.attach('bare', 'by-a:{a}')");
    await refused({ table: "bare" }, /"by-a:\{a\}" may name several rows/);
    await refused({ table: "bare", template: "x:{id}" }, /with template "x:\{id\}".*\n.*attach\('bare', 'x:\{id\}'\)/s);
    await pool.query("SELECT cache_aside.attach('bare', 'part:{id}', columns => '{a}')");
    await refused({ table: "bare" }, /does not see changes of column "b"/);
    assert.deepEqual(await at({ table: "bare", columns: ["id", "a"] }).get(1), { id: 1, a: 1 });
    await pool.query("SELECT cache_aside.attach('bare', 'b1:{id}'), cache_aside.attach('bare', 'b2:{id}')");
    await refused({ table: "bare" }, /several rules.*"b1:\{id\}", "b2:\{id\}"/);
    assert.deepEqual(await at({ table: "bare", template: "b2:{id}" }).get(1), { id: 1, a: 1, b: 1 });
    await pool.query("SELECT cache_aside.attach('odd_key', 'o:{t}')");
    await refused({ table: "odd_key" }, /timestamptz has several texts/);
    await pool.query("ALTER TABLE bare DISABLE TRIGGER ALL");
    await refused({ table: "bare", template: "b1:{id}" }, /is disabled/);
  });

  test("a rule that is taken off is noticed, and reads go past the cache", async () => {
    await pool.query(`DROP TABLE IF EXISTS gone; CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone VALUES (1);
      SELECT cache_aside.attach('gone', 'gone:{id}')`);
    await delivered(pool);
    const gone = at({ table: "gone", recheckMs: 10 });
    await until("cached", async () => (await gone.get(1)) !== null && (await raw("gone:1")) !== null);
    await pool.query("SELECT cache_aside.detach('gone')");
    await until("noticed", async () => (await gone.get(1)) !== null && gone.health().trouble !== null);
    const before = gone.health();
    await gone.get(1);
    assert.equal(gone.health().hits, before.hits); // Remedy: cacheable in want()
    await pool.query("SELECT cache_aside.attach('gone', 'gone:{id}')");
    await until("back", async () => (await gone.get(1)) !== null && gone.health().trouble === null);
  });

  test("key_prefix is the rule's, too", async () => {
    await pool.query(`DROP TABLE IF EXISTS prefixed; CREATE TABLE prefixed (id int PRIMARY KEY);
      SELECT cache_aside.attach('prefixed', 'p:{id}')`);
    await pool.query("ALTER SYSTEM SET cache_aside.key_prefix = ' app: , old:'");
    await pool.query("SELECT pg_reload_conf()");
    try {
      await until(
        "in force",
        async () => (await pool.query("SHOW cache_aside.key_prefix")).rows[0]["cache_aside.key_prefix"] !== "",
      );
      await sleep(50);
      const prefixed = at({ table: "prefixed" });
      await until("under the first", async () => (await prefixed.get(1)) === null && (await raw("app:p:1")) === "null");
    } finally {
      await pool.query("ALTER SYSTEM RESET cache_aside.key_prefix");
      await pool.query("SELECT pg_reload_conf()");
    }
  });

  test("a key that is none is a TypeError, before anybody is asked", async () => {
    const accounts = at(options);
    await assert.rejects(accounts.get({}), /column "id" is missing/);
    await assert.rejects(accounts.get(1.5), TypeError);
    await assert.rejects(accounts.get(null as unknown as number), TypeError);
    await assert.rejects(at({ table: 'odd."Ta""ble"' }).get(1), /is an object with i, n, o/);
  });
});
