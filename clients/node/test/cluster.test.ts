/** A client of a Redis Cluster: each command names one key, so it finds a node for each. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Cluster, Redis } from "ioredis";
import { Cache, CachedRepository, ioredisOptions } from "../src";
import { atEnd, delivered, makePool, skip, startRedis, until } from "./support";

/** A node of a cluster, whose first port is the one clients use. */
async function startNode(port: number, bus: number): Promise<Redis> {
  const more = {
    port,
    bind: "127.0.0.1",
    "cluster-enabled": "yes",
    "cluster-port": bus,
    "cluster-announce-ip": "127.0.0.1",
  };
  const { path } = await startRedis(Object.entries(more).flatMap(([name, value]) => [`--${name}`, String(value)]));
  const node = new Redis({ ...ioredisOptions, path });
  atEnd(() => node.disconnect());
  await until("connected", () => node.status === "ready");
  await node.call("FUNCTION", "LOAD", readFileSync(process.env["LIBRARY"] ?? ""));
  return node;
}

test("ioredis Cluster", { skip }, async () => {
  const [port = 0, bus = 0, port2 = 0, bus2 = 0] = (process.env["FREE_PORTS"] ?? "").split(" ").map(Number);
  const nodes = [await startNode(port, bus), await startNode(port2, bus2)] as const;
  await nodes[0].call("CLUSTER", "ADDSLOTSRANGE", "0", "8191");
  await nodes[1].call("CLUSTER", "ADDSLOTSRANGE", "8192", "16383");
  await nodes[0].call("CLUSTER", "MEET", "127.0.0.1", String(port2), String(bus2));
  for (const node of nodes) {
    await until("it is a cluster", async () => String(await node.call("CLUSTER", "INFO")).includes("cluster_state:ok"));
  }
  const cluster = new Cluster([{ host: "127.0.0.1", port }], { redisOptions: ioredisOptions });
  atEnd(() => cluster.disconnect());
  await until("the client knows it", () => cluster.status === "ready");

  const pool = makePool();
  await pool.query(`DROP TABLE IF EXISTS spread; CREATE TABLE spread (id int PRIMARY KEY);
    INSERT INTO spread SELECT generate_series(1, 100); SELECT cache_aside.attach('spread', 'spread:{id}')`);
  await delivered(pool);
  const ids = Array.from({ length: 100 }, (_, i) => i + 1);

  const plain = new CachedRepository(pool, new Cache(cluster, { mode: "plain" }), { table: "spread" });
  assert.equal(await plain.warm(ids), 100, JSON.stringify(plain.health().redis));
  assert.equal((await plain.getMany(ids)).size, 100);
  assert.equal(plain.health().hits, 100);

  assert.ok((await nodes[0].dbsize()) > 20 && (await nodes[1].dbsize()) > 20, "on both"); // Remedy: isCluster in redis.ts
  for (const node of nodes) await node.flushall();
  const guarded = new CachedRepository(pool, new Cache(cluster), { table: "spread" });
  assert.equal((await guarded.getMany(ids)).size, 100);
  const health = guarded.health();
  assert.equal(health.refused, 100, "leases were given, and no worker admits fills here");
  assert.equal(health.redis.failures, 0, health.redis.lastError?.message);
});
