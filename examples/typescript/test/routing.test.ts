/**
 * Against a primary and one standby that is registered as a replica: PGHOST, PGPORT, ... name the
 * primary, REPLICA_HOST and REPLICA_PORT the standby. Skipped without them.
 */
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { Pool } from "pg";
import { connectRedis, GuardedCache } from "../src/cache";
import { parseConninfo, Router } from "../src/routing";
import { UserRepository } from "../src/users";

const skip = process.env.REPLICA_PORT ? false : "there is no replica";
const errors: Error[] = [];
let primary: Pool;
let standby: Pool;
let router: Router;

const admin = (sql: string) => standby.query(sql);
const rename = (id: number, name: string) =>
  router.write((client) => client.query("UPDATE people SET name = $2 WHERE id = $1", [id, name]));
const nameOf = async (id: number, after: string | null) =>
  (await router.read<{ name: string }>("SELECT name FROM people WHERE id = $1", [id], { after })).rows[0]?.name;

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 60_000;
  while (!(await condition())) assert.ok(Date.now() < end, `timed out: ${what}`);
}

before(async () => {
  if (skip) return;
  primary = new Pool();
  standby = new Pool({ host: process.env.REPLICA_HOST, port: Number(process.env.REPLICA_PORT), max: 2 });
  router = new Router(primary, (conninfo) => new Pool({ ...parseConninfo(conninfo), max: 4 }),
    (error) => errors.push(error));
  await primary.query(`CREATE TABLE people (id int PRIMARY KEY, name text);
    INSERT INTO people SELECT g, 'name ' || g FROM generate_series(1, 100) g`);
  await primary.query("SELECT cache_aside.add_replica($1, $2)", [
    process.env.REPLICA_NAME, `host='${process.env.REPLICA_HOST}' port=${process.env.REPLICA_PORT} dbname=postgres`]);
});

after(async () => {
  if (skip) return;
  await router.end();
  await standby.end();
  await primary.end();
});

test("a write returns a token, a transaction that wrote nothing does not", { skip }, async () => {
  const { result, token } = await rename(1, "Ada");
  assert.equal(result.rowCount, 1);
  assert.match(token ?? "", /^[0-9A-F]+\/[0-9A-F]+$/);
  assert.equal((await router.write((client) => client.query("SELECT 1"))).token, null);
  await assert.rejects(router.write((client) => client.query("SELECT 1 / 0")), { code: "22012" });
});

test("a transaction that had failed is not taken for one that committed", { skip }, async () => {
  const work = router.write(async (client) => {
    await client.query("UPDATE people SET name = 'lost' WHERE id = 1");
    await client.query("SELECT 1 / 0").catch(() => {});
  });
  await assert.rejects(work, /rolled back/); // Remedy: the look at COMMIT's answer in write()
});

test("reads are served by the replica once it has replayed the token", { skip }, async () => {
  const { token } = await rename(2, "Grace");
  await until("the replica serves it", async () => {
    router.reads.clear();
    assert.equal(await nameOf(2, token), "Grace");
    return router.reads.get(process.env.REPLICA_NAME!) === 1;
  });
});

test("every read after a write sees it, and most stay off the primary", { skip }, async () => {
  router.reads.clear();
  for (let i = 0; i < 500; i++) {
    const { token } = await rename(3, `version ${i}`);
    for (let j = 0; j < 4; j++) assert.equal(await nameOf(3, token), `version ${i}`);
  }
  assert.ok((router.reads.get(process.env.REPLICA_NAME!) ?? 0) > 0);
});

test("a replica that does not replay is not asked for what it lacks", { skip }, async () => {
  await admin("SELECT pg_wal_replay_pause()");
  await until("replay is paused", async () =>
    (await admin("SELECT pg_get_wal_replay_pause_state() AS state")).rows[0].state === "paused");
  const { token } = await rename(4, "Barbara");
  router.reads.clear();
  for (let i = 0; i < 20; i++) assert.equal(await nameOf(4, token), "Barbara");
  assert.equal(router.reads.get("primary"), 20);
  await admin("SELECT pg_wal_replay_resume()");
});

test("a replica that cannot be reached: the primary answers", { skip }, async () => {
  await primary.query("SELECT cache_aside.set_replica($1, 'host=/nonexistent port=1')", [process.env.REPLICA_NAME]);
  errors.length = 0;
  assert.equal(await nameOf(5, null), "name 5");
  assert.ok(errors.length > 0);
  await primary.query("SELECT cache_aside.set_replica($1, $2)", [
    process.env.REPLICA_NAME, `host='${process.env.REPLICA_HOST}' port=${process.env.REPLICA_PORT} dbname=postgres`]);
  await assert.rejects(router.read("SELECT 1 / 0"), { code: "22012" });
});

test("the repository reads its own writes from replicas", { skip }, async () => {
  const nowhere = connectRedis({ path: "/nonexistent/redis.sock" });
  await primary.query("CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, email text); INSERT INTO users VALUES (1, 'a')");
  const users = new UserRepository(primary, new GuardedCache(nowhere), {}, router);
  for (let i = 0; i < 50; i++) {
    const { user, token } = await users.updateWithToken(1, { name: `name ${i}` });
    assert.equal(user?.name, `name ${i}`);
    assert.equal((await users.get(1, token))?.name, `name ${i}`);
  }
  await primary.query("DROP TABLE users");
  nowhere.disconnect();
});

test("connection strings", () => {
  assert.deepEqual(parseConninfo("host='/a b' port = 5433 dbname=x\\ y user='o\\'c'"),
    { host: "/a b", port: "5433", database: "x y", user: "o'c" });
});
