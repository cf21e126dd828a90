/**
 * Real servers, started by test/t/clients/node.pl: PostgreSQL by the usual PG* variables, its standby by REPLICA_*, Redis
 * by REDIS_SOCKET and REDIS_PID. By hand: set them, and `npm test`.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import Redis from "ioredis";
import pg from "pg";
import { createClient } from "redis";
import { ioredisOptions, nodeRedisOptions, type RedisInput } from "../src";

export const skip = process.env["REDIS_SOCKET"] ? false : "there are no servers";
export const socket = process.env["REDIS_SOCKET"] ?? "";

const ends: (() => unknown)[] = [];

/** Ends what was started, the last first. */
after(async () => {
  for (const end of ends.reverse()) await end();
});

export function atEnd(end: () => unknown): void {
  ends.push(end);
}

export function makePool(config: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ max: 10, ...config });
  pool.on("error", () => {});
  atEnd(() => pool.end());
  return pool;
}

export function makeIoredis(path = socket, listens = true): Redis {
  const client = new Redis({ ...ioredisOptions, path });
  if (listens) client.on("error", () => {});
  atEnd(() => client.disconnect());
  return client;
}

export function makeNodeRedis(path = socket) {
  const client = createClient({ ...nodeRedisOptions, socket: { ...nodeRedisOptions.socket, path } });
  client.connect().catch(() => {});
  atEnd(() => client.destroy());
  return client;
}

/** Each client that is understood as it is. Nobody else listens to its errors, which would end the process. */
export const clients: readonly (readonly [string, (path?: string) => RedisInput])[] = [
  ["ioredis", (path) => makeIoredis(path, false)],
  ["node-redis", makeNodeRedis],
];

export async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const end = Date.now() + 30_000;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `timed out: ${what}`);
    await sleep(5);
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Everything that was committed so far has reached Redis. */
export async function delivered(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query("SELECT cache_aside.wait_delivered() AS done");
  assert.equal(rows[0].done, true);
}

/** A private redis-server; it ends with the tests. */
export async function startRedis(
  options: readonly string[] = [],
  path = join(mkdtempSync(join(tmpdir(), "ca-node-")), "redis.sock"),
): Promise<{ path: string; process: ChildProcess }> {
  const child = spawn(process.env["REDIS_SERVER"] ?? "redis-server", [
    ...["--port", "0", "--unixsocket", path, "--save", "", "--dir", join(path, "..")],
    ...options,
  ]);
  child.stdout.resume();
  atEnd(() => child.kill("SIGKILL"));
  await until("a private Redis listens", () => connects(path));
  return { path, process: child };
}

function connects(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = net.connect(path, () => {
      connection.destroy();
      resolve(true);
    });
    connection.on("error", () => resolve(false));
  });
}

/** What a proxy does: how late answers are, and whether it lets anybody through. */
export interface ProxyState {
  ms: number;
  down?: boolean;
}

/** A way to another socket. */
async function startProxy(to: string, path: string, state: ProxyState): Promise<void> {
  const open = new Set<net.Socket>();
  const server = net.createServer((near) => {
    if (state.down) return void near.destroy();
    const far = net.connect(to);
    for (const end of [near, far]) open.add(end.on("error", () => {}));
    near.pipe(far);
    far.on("data", (data) => setTimeout(() => near.write(data), state.ms).unref());
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  atEnd(() => {
    for (const end of open) end.destroy();
    server.close();
  });
}

/** A way to Redis on which answers are late. */
export async function startSlowProxy(state: ProxyState): Promise<string> {
  const path = join(mkdtempSync(join(tmpdir(), "ca-node-")), "slow.sock");
  await startProxy(socket, path, state);
  return path;
}

/** A way to the standby; where it is, as a Pool takes it. */
export async function startStandbyProxy(state: ProxyState): Promise<{ host: string; port: number }> {
  const host = mkdtempSync(join(tmpdir(), "ca-node-"));
  const port = Number(process.env["REPLICA_PORT"]);
  await startProxy(join(process.env["REPLICA_HOST"] ?? "", `.s.PGSQL.${port}`), join(host, `.s.PGSQL.${port}`), state);
  return { host, port };
}
