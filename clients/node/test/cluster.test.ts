/** A client of a Redis Cluster: each command names one key, so it finds a node for each. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Cluster, Redis } from "ioredis";
import { Cache, CachedRepository, ioredisOptions } from "../src";
import { atEnd, delivered, makePool, skip, startRedis, until } from "./support";

test("ioredis Cluster", { skip }, async () => {
  const port = Number(process.env["FREE_PORT"]);
  const { path } = await startRedis([
    "--port",
    String(port),
    "--bind",
    "127.0.0.1",
    "--cluster-enabled",
    "yes",
    "--cluster-port",
    process.env["OTHER_PORT"] ?? "",
    "--cluster-announce-ip",
    "127.0.0.1",
  ]);
  const node = new Redis({ ...ioredisOptions, path });
  atEnd(() => node.disconnect());
  await until("connected", () => node.status === "ready");
  await node.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
  await node.call("FUNCTION", "LOAD", readFileSync(process.env["LIBRARY"] ?? ""));
  await until("it is a cluster", async () => String(await node.call("CLUSTER", "INFO")).includes("cluster_state:ok"));
  const cluster = new Cluster([{ host: "127.0.0.1", port }], {
    redisOptions: ioredisOptions,
    enableOfflineQueue: false,
  });
  atEnd(() => cluster.disconnect());
  await until("the client knows it", () => cluster.status === "ready");

  const pool = makePool();
  await pool.query(`DROP TABLE IF EXISTS spread; CREATE TABLE spread (id int PRIMARY KEY);
    INSERT INTO spread SELECT generate_series(1, 100); SELECT cache_aside.attach('spread', 'spread:{id}')`);
  await delivered(pool);
  const ids = Array.from({ length: 100 }, (_, i) => i + 1);

  const plain = new CachedRepository(pool, new Cache(cluster, { mode: "plain" }), { table: "spread" });
  assert.equal(await plain.warm(ids), 100);
  assert.equal((await plain.getMany(ids)).size, 100);
  assert.equal(plain.health().hits, 100);

  await node.flushall();
  const guarded = new CachedRepository(pool, new Cache(cluster), { table: "spread" });
  assert.equal((await guarded.getMany(ids)).size, 100);
  const health = guarded.health();
  assert.equal(health.refused, 100, "leases were given, and no worker admits fills here");
  assert.equal(health.redis.failures, 0, health.redis.lastError?.message);
});
