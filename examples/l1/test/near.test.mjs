// Against the servers that PGHOST and so on, REDIS_SOCKET and REDIS_OTHER name; `make test TAP=recipes/l1` starts them.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, beforeEach, test } from "node:test";
import { promisify } from "node:util";
import Redis from "ioredis";
import { NearCache } from "../near.mjs";

const run = promisify(execFile);
const sql = async (...statements) => (await run("psql", ["-qXAt", "-v", "ON_ERROR_STOP=1", ...statements.flatMap((s) => ["-c", s])])).stdout.trim();
const admin = connect(process.env.REDIS_SOCKET);
const opened = [];

function connect(socket) {
  const client = new Redis({ path: socket, commandTimeout: 5000, maxRetriesPerRequest: 1, retryStrategy: () => 20 });
  client.on("error", () => {});
  return client;
}

function open(options, socket = process.env.REDIS_SOCKET) {
  const redis = connect(socket);
  const near = new NearCache(redis, options);
  opened.push(() => (near.close(), redis.disconnect()));
  return { redis, near };
}

async function until(holds) {
  for (const end = Date.now() + 30_000; !(await holds()); ) {
    assert.ok(Date.now() < end, `never: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const write = (name, id = 1) => sql(`UPDATE users SET name = '${name}' WHERE id = ${id}`, "SELECT cache_aside.wait_delivered()");

// As a repository does after a miss
async function fill(id = 1) {
  await until(async () => {
    const [value, token] = (await sql(`SELECT name, cache_aside.read_token() FROM users WHERE id = ${id}`)).split("|");
    return (await admin.call("FCALL", "cache_aside_fill", 1, `user:${id}`, value, 100_000, token)) === 1;
  });
}

async function warm(near) {
  await until(() => near.listening);
  await fill();
  await near.sync(); // the fill itself was announced
  await near.get("user:1");
  const { hits } = near;
  const value = await near.get("user:1");
  assert.equal(near.hits, hits + 1, "kept");
  return value;
}

// Between the clients and Redis; a NearCache connects first what reads, then its ear
async function proxy() {
  const self = { socket: path.join(os.tmpdir(), `ca-l1-${process.pid}-${opened.length}`), connections: [], refuse: false, stuck: false };
  const listener = net.createServer((client) => {
    if (self.refuse) return client.destroy();
    const server = net.connect(process.env.REDIS_SOCKET);
    self.connections.push(server);
    client.on("data", (data) => server.write(data)).on("close", () => server.destroy()).on("error", () => {});
    server.on("data", (data) => self.stuck || client.write(data)).on("close", () => client.destroy()).on("error", () => {});
  });
  await new Promise((resolve) => listener.listen(self.socket, resolve));
  opened.push(() => (self.connections.forEach((one) => one.destroy()), listener.close()));
  return self;
}

beforeEach(() => write("first"));
after(() => (opened.forEach((close) => close()), admin.disconnect()));

for (const [mode, options] of Object.entries({ broadcast: { prefixes: ["user:"] }, keys: {} })) {
  test(`${mode}: a commit empties it`, async () => {
    const { near } = open(options);
    assert.equal(await warm(near), "first");
    await write("second");
    await near.sync();
    assert.equal(await near.get("user:1"), null);
    await fill();
    assert.equal(await warm(near), "second");
  });

  // Remedy: the marks, in get
  test(`${mode}: an answer that an announcement overtook is not kept`, async () => {
    const { redis, near } = open(options);
    await warm(near);
    await write("second");
    await fill();
    await near.sync();
    const get = redis.get.bind(redis);
    redis.get = async (key) => {
      const value = await get(key);
      await write("third");
      await near.sync();
      return value;
    };
    assert.equal(await near.get("user:1"), "second", "it was right when Redis gave it");
    redis.get = get;
    assert.equal(await near.get("user:1"), null);
  });

  // Remedy: on("close"), of both
  for (const [which, name] of ["redis", "ear"].entries()) {
    test(`${mode}: when the connection of ${name} is lost nothing is known`, async () => {
      const between = await proxy();
      const { near } = open({ ...options, heartbeat: 60_000 }, between.socket);
      await warm(near);
      between.refuse = true;
      between.connections[which].destroy();
      await until(() => near.size === 0 && !near.listening);
      await write("unheard");
      await fill();
      assert.notEqual(await near.get("user:1").catch(() => null), "first");
      between.refuse = false;
      assert.equal(await warm(near), "unheard");
      await write("heard");
      await near.sync();
      assert.equal(await near.get("user:1"), null, "it listens again");
    });
  }

  test(`${mode}: FLUSHALL empties it`, async () => {
    const { near } = open(options);
    await warm(near);
    await admin.flushdb();
    await near.sync();
    assert.equal(near.size, 0);
  });
}

// Remedy: the interval
test("a connection that is dead and not closed is noticed", async () => {
  const between = await proxy();
  const { near } = open({ prefixes: ["user:"], heartbeat: 100 }, between.socket);
  await warm(near);
  between.stuck = true;
  await write("unheard");
  await until(() => near.size === 0 && !near.listening);
});

// Remedy: runId
test("two processes of Redis: nothing is kept", async () => {
  const { redis, near } = open({ prefixes: ["user:"], heartbeat: 20 });
  const duplicate = redis.duplicate.bind(redis);
  redis.duplicate = (options) => duplicate({ ...options, path: process.env.REDIS_OTHER });
  const other = new NearCache(redis, { prefixes: ["user:"], heartbeat: 20 });
  opened.push(() => other.close());
  await warm(near);
  for (let turns = 0; turns < 20; turns++) {
    await other.get("user:1");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.equal(other.size, 0);
  assert.equal(other.listening, false);
});

test("a synchronous commit, then sync(): its own process reads no old value", async () => {
  const { near } = open({ prefixes: ["user:"] });
  await warm(near);
  await sql("SET cache_aside.synchronous = on", "UPDATE users SET name = 'mine' WHERE id = 1");
  await near.sync();
  assert.equal(await near.get("user:1"), null);
});

test("it stays small, and forgets what is old", async () => {
  const { near } = open({ prefixes: ["user:", "x:"], maxEntries: 3, maxAge: 50, decode: JSON.parse });
  await until(() => near.listening);
  for (let i = 0; i < 5; i++) await admin.set(`x:${i}`, `{"i":${i}}`);
  await near.sync();
  for (let i = 0; i < 5; i++) assert.equal((await near.get(`x:${i}`)).i, i);
  assert.equal(near.size, 3);
  assert.equal(await near.get("x:4"), await near.get("x:4"), "the same object");
  await until(async () => {
    const { misses } = near;
    await near.get("x:4");
    return near.misses > misses;
  });
});
