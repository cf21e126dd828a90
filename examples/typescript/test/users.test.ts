/**
 * Against real servers. PostgreSQL: the usual PG* variables; Redis: REDIS_SOCKET, or REDIS_HOST and
 * REDIS_PORT. Makes and drops the table users.
 */
import { after, before, beforeEach, test } from "node:test";
import assert from "node:assert/strict";
import Redis from "ioredis";
import { Pool } from "pg";
import { connectRedis, GuardedCache } from "../src/cache";
import { User, UserRepository } from "../src/users";

const where = process.env.REDIS_SOCKET
  ? { path: process.env.REDIS_SOCKET }
  : { host: process.env.REDIS_HOST ?? "127.0.0.1", port: Number(process.env.REDIS_PORT ?? 6379) };

let pool: Pool;
let redis: Redis;
let users: UserRepository;
const errors: Error[] = [];

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 60_000;
  while (!(await condition())) assert.ok(Date.now() < end, `timed out: ${what}`);
}

/** Everything committed so far has reached Redis. */
async function delivered(): Promise<void> {
  const { rows } = await pool.query("SELECT cache_aside.wait_delivered() AS done");
  assert.equal(rows[0].done, true);
}

/** The worker may have to notice this transaction's past first. */
async function cached(id: number): Promise<void> {
  await until(`user ${id} is cached`, async () => {
    await users.get(id);
    return (await redis.exists(`user:${id}`)) === 1;
  });
}

before(async () => {
  pool = new Pool({ max: 60 });
  redis = connectRedis(where);
  await until("Redis is connected", async () => redis.status === "ready" || (await pause()));
  await pool.query(`CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, email text);
    SELECT cache_aside.attach('users', 'user:{id}')`);
});

async function pause(): Promise<boolean> {
  await new Promise((resolve) => setImmediate(resolve));
  return false;
}

beforeEach(async () => {
  await pool.query(`TRUNCATE users;
    INSERT INTO users SELECT g, 'name ' || g FROM generate_series(1, 1000) g`);
  await delivered();
  users = new UserRepository(pool, new GuardedCache(redis, (error) => errors.push(error)));
  await cached(1000);
  users.databaseReads = 0;
});

after(async () => {
  await pool.query("DROP TABLE users");
  await pool.end();
  redis.disconnect();
  assert.deepEqual(errors, []);
});

test("a hit does not touch the database", async () => {
  await cached(1);
  users.databaseReads = 0;
  assert.deepEqual(await users.get(1), { id: 1, name: "name 1", email: null });
  assert.equal(users.databaseReads, 0);
});

test("an update is seen by the next read", async () => {
  await cached(2);
  const updated = await users.update(2, { name: "Ada", email: "ada@example.com" });
  assert.deepEqual(updated, { id: 2, name: "Ada", email: "ada@example.com" });
  await delivered();
  assert.deepEqual(await users.get(2), updated);
  assert.equal(await users.update(-1, { name: "nobody" }), null);
});

test("an update of one field leaves the other", async () => {
  await users.update(2, { email: "two@example.com" });
  assert.deepEqual(await users.update(2, { name: "two" }),
    { id: 2, name: "two", email: "two@example.com" });
  assert.equal((await users.update(2, { email: null }))?.email, null);
});

test("a reader that sleeps between read and fill stores nothing old", async () => {
  const cache = new GuardedCache(redis);
  const { users: old, token } = await users.read([3]);
  await users.update(3, { name: "newer" });
  await delivered();
  const value = JSON.stringify(old.get(3));
  assert.equal(await cache.fill({ key: "user:3", value }, 60_000, token), false);
  assert.equal((await users.get(3))?.name, "newer");
});

test("a transaction that has written fills nothing", async () => {
  const client = await pool.connect();
  try {
    await client.query("BEGIN; UPDATE users SET name = 'uncommitted' WHERE id = 4");
    const { users: mine, token } = await users.read([4], client);
    assert.equal(mine.get(4)?.name, "uncommitted");
    assert.equal(token, null);
  } finally {
    await client.query("ROLLBACK");
    client.release();
  }
});

test("a hundred readers that miss at once read the database once", async () => {
  const all = await Promise.all(Array.from({ length: 100 }, () => users.get(5)));
  assert.ok(all.every((user: User | null) => user?.name === "name 5"));
  assert.equal(users.databaseReads, 1);
});

test("a reader that dies with the lease holds up the others no longer than the lease", async () => {
  const impatient = new UserRepository(pool, new GuardedCache(redis), { leaseMs: 100 });
  const lease = await new GuardedCache(redis).get("user:6", 100);
  assert.equal(lease.kind, "fill");
  assert.equal((await impatient.get(6))?.name, "name 6");
});

/** Reads that cannot be cached: `what` happens behind each. */
class Hapless extends UserRepository {
  constructor(private readonly what: (result: { token: string | null }) => void) {
    super(pool, new GuardedCache(redis, (error) => errors.push(error)));
  }
  async read(...args: Parameters<UserRepository["read"]>) {
    const result = await super.read(...args);
    await new Promise((resolve) => setTimeout(resolve, 30));
    this.what(result);
    return result;
  }
}

for (const [name, what] of [
  ["have no token", (result: { token: string | null }) => { result.token = null; }],
  ["fail", () => { throw new Error("read failed"); }],
] as const) {
  test(`readers whose reads ${name} do not wait for each other's leases`, async () => {
    const readers = new Hapless(what);
    const id = name === "fail" ? 15 : 14;
    const begun = Date.now();
    await Promise.allSettled(Array.from({ length: 20 }, () => readers.get(id)));
    await Promise.allSettled(Array.from({ length: 20 }, () => readers.getMany([id, id + 10])));
    assert.ok(Date.now() - begun < 1500, "one lease alone lasts two seconds"); // Remedy: release in src
    assert.equal((await users.get(id))?.name, `name ${id}`);
  });
}

test("a user that is not there is cached, until it is inserted", async () => {
  assert.equal(await users.get(2000), null);
  await until("absence is cached", async () => {
    await users.get(2000);
    return (await redis.get("user:2000")) === "null";
  });
  await pool.query("INSERT INTO users VALUES (2000, 'new')");
  await delivered();
  assert.equal((await users.get(2000))?.name, "new");
});

test("getMany reads what is missing in one statement", async () => {
  await cached(7);
  users.databaseReads = 0;
  const found = await users.getMany([7, 8, 9, -9]);
  assert.deepEqual([...found.keys()].sort(), [7, 8, 9]);
  assert.equal(users.databaseReads, 1);
  await users.getMany([7, 8, 9, -9]);
  assert.equal(users.databaseReads, 1);
});

test("invalidate deletes when it commits", async () => {
  await cached(10);
  await users.invalidate(10, 11);
  await delivered();
  assert.equal(await redis.exists("user:10"), 0);
});

test("warm fills in batches", async () => {
  const ids = Array.from({ length: 1000 }, (_, i) => i + 1);
  assert.equal(await users.warm(ids), 1000);
  users.databaseReads = 0;
  assert.equal((await users.getMany(ids)).size, 1000);
  assert.equal(users.databaseReads, 0);
});

test("without Redis everything works, from the database", async () => {
  const nowhere = connectRedis({ path: "/nonexistent/redis.sock" });
  const seen: Error[] = [];
  const alone = new UserRepository(pool, new GuardedCache(nowhere, (error) => seen.push(error)));
  assert.equal((await alone.get(12))?.name, "name 12");
  assert.equal((await alone.getMany([12, 13])).size, 2);
  await alone.update(12, { name: "changed" });
  assert.equal((await alone.get(12))?.name, "changed");
  assert.ok(seen.length > 0);
  nowhere.disconnect();
});
