/** Two requests of one visitor: the second sees what the first wrote, through a cookie, whatever the standby has. */
import assert from "node:assert/strict";
import type { AddressInfo } from "node:net";
import { before, describe, test } from "node:test";
import express from "express";
import fastify from "fastify";
import type pg from "pg";
import { expressToken, fastifyToken, Router } from "../src";
import { atEnd, makeIoredis, makePool, skip, sleep, until } from "./support";

const name = process.env["REPLICA_NAME"] ?? "";
const options = { secret: "for tests", secure: false };
let writer: pg.Pool;
let standby: pg.Pool;
let router: Router;

const write = (to: string) => router.write((client) => client.query("UPDATE visits SET name = $1 WHERE id = 1", [to]));
const read = async () => (await router.read<{ name: string }>("SELECT name FROM visits WHERE id = 1")).rows[0]?.name;

const ready = setUp();

async function setUp(): Promise<void> {
  if (skip) return;
  writer = makePool();
  standby = makePool({ host: process.env["REPLICA_HOST"], port: Number(process.env["REPLICA_PORT"]), max: 2 });
  router = new Router({ writer, redis: makeIoredis(), refreshMs: 20 });
  await writer.query(
    "DROP TABLE IF EXISTS visits; CREATE TABLE visits (id int PRIMARY KEY, name text); INSERT INTO visits VALUES (1, 'old')",
  );
  await writer.query("SELECT cache_aside.add_replica($1, $2)", [
    name,
    `host='${process.env["REPLICA_HOST"]}' port=${process.env["REPLICA_PORT"]} dbname=postgres`,
  ]);
  await until(
    "the replica serves",
    async () => (await read()) === "old" && (router.health().replicas[0]?.reads ?? 0) > 0,
  );
  await standby.query("SELECT pg_wal_replay_pause()");
}

atEnd(async () => {
  if (skip) return;
  await standby.query("SELECT pg_wal_replay_resume()");
  await writer.query("SELECT cache_aside.remove_replica($1)", [name]);
  await router.end();
});

async function startExpress(): Promise<string> {
  const app = express();
  app.use(expressToken(options));
  app.use(express.json());
  app.post("/", async (request, response) => {
    await write(request.body.name);
    response.cookie("other", "1").json({ done: true });
  });
  app.get("/", async (_request, response) => {
    response.json({ name: await read() });
  });
  const server = app.listen(0, "127.0.0.1");
  atEnd(() => server.close());
  await until("it listens", () => server.listening);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

async function startFastify(): Promise<string> {
  const app = fastify();
  app.register(fastifyToken, options);
  app.post<{ Body: { name: string } }>("/", async (request, reply) => {
    await write(request.body.name);
    reply.header("set-cookie", "other=1");
    return { done: true };
  });
  app.get("/", async () => ({ name: await read() }));
  atEnd(() => app.close());
  return `${await app.listen({ port: 0, host: "127.0.0.1" })}/`;
}

/** In two pieces: the second comes when the middleware has long been passed. */
async function post(url: string, body: string): Promise<Response> {
  const stream = new ReadableStream({
    async start(controller) {
      controller.enqueue(new TextEncoder().encode(body.slice(0, 5)));
      await sleep(30);
      controller.enqueue(new TextEncoder().encode(body.slice(5)));
      controller.close();
    },
  });
  const headers = { "content-type": "application/json" };
  return fetch(url, { method: "POST", headers, body: stream, duplex: "half" } as RequestInit);
}

for (const [kind, start] of [
  ["Express", startExpress],
  ["Fastify", startFastify],
] as const) {
  describe(kind, { skip }, () => {
    before(() => ready);

    test("the visitor reads the visitor's write; another one does not have to", async () => {
      const url = await start();
      const body = JSON.stringify({ name: `by ${kind}` });
      const written = await post(url, body);
      assert.equal(written.status, 200);
      const cookies = written.headers.getSetCookie();
      assert.equal(cookies.length, 2, "the application's own cookie is there, too");
      const token = cookies.find((cookie) => cookie.startsWith("cache_aside="))?.split(";")[0] ?? "";
      assert.match(token, /^cache_aside=[0-9A-F]+\/[0-9A-F]+\./); // Remedy: runInContext, also behind a body that comes late
      for (let i = 0; i < 5; i++) {
        const mine = await fetch(url, { headers: { cookie: `a=b; ${token}` } });
        assert.deepEqual(await mine.json(), { name: `by ${kind}` });
        assert.deepEqual(mine.headers.getSetCookie(), [], "nothing new to remember");
      }
      for (const cookie of ["", token.replace(/.$/, (last) => (last === "A" ? "B" : "A"))]) {
        const other = await fetch(url, { headers: { cookie } });
        assert.deepEqual(await other.json(), { name: "old" }, "nor is a forged cookie believed");
      }
    });

    test("visitors at the same time do not see each other's tokens", async () => {
      const url = await start();
      const answers = await Promise.all(
        Array.from({ length: 20 }, async (_, i) => {
          if (i % 2) return (await fetch(url)).headers.getSetCookie().length;
          const headers = { "content-type": "application/json" };
          return (await fetch(url, { method: "POST", body: '{"name":"x"}', headers })).headers.getSetCookie().length;
        }),
      );
      assert.deepEqual(
        answers,
        answers.map((_, i) => (i % 2 ? 0 : 2)),
      );
    });
  });
}

test("a secret is wanted", () => {
  assert.throws(() => expressToken({ secret: "" }), TypeError);
  assert.throws(() => expressToken({ secret: [] }), TypeError);
});
