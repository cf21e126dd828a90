/**
 * What a read costs when Redis is dead: `get` of a repository, against the same statement through the same pool (`same`),
 * and against the one that an application without a cache would send (`direct`).
 *
 *     PGHOST=... PGPORT=... [ROUNDS=30] [READS=1000] [READERS=4] [PREPARE=1] npm run bench
 *
 * Both in turn, in short rounds, so that whatever else the machine does meets both; the ratios are those of the
 * p99 of each round, and the median of them is printed. Needs a server with the extension; makes and drops a table.
 */
import { Redis } from "ioredis";
import pg from "pg";
import { CachedRepository, ioredisOptions } from "../src";

const ROUNDS = Number(process.env["ROUNDS"] ?? 30);
const READS = Number(process.env["READS"] ?? 1000);
const PREPARE = process.env["PREPARE"] === "1";
const READERS = Number(process.env["READERS"] ?? 4);

async function measure(read: (id: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  const reader = async () => {
    while (times.length < READS) {
      const began = performance.now();
      await read(1 + Math.floor(Math.random() * 1000));
      times.push(performance.now() - began);
    }
  };
  await Promise.all(Array.from({ length: READERS }, reader));
  return times;
}

function quantile(times: readonly number[], part: number): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * part)] ?? Number.NaN;
}

function report(all: ReadonlyMap<string, readonly number[][]>): void {
  const p99s = (name: string) => (all.get(name) ?? []).map((times) => quantile(times, 0.99));
  const repository = p99s("repository");
  for (const [name, rounds] of all) {
    const times = rounds.flat();
    const [p50, p99] = [0.5, 0.99].map((part) => quantile(times, part).toFixed(3));
    console.log(`${name.padEnd(10)}  p50 ${p50} ms  p99 ${p99} ms  (${times.length} reads, ${READERS} at a time)`);
  }
  for (const name of ["same", "direct"]) {
    const ratios = p99s(name).map((ms, i) => (repository[i] ?? Number.NaN) / ms);
    console.log(
      `p99 of a repository with Redis dead / ${name}: ${quantile(ratios, 0.5).toFixed(2)}, median of ${ROUNDS} rounds`,
    );
  }
}

async function main(): Promise<void> {
  const pool = new pg.Pool({ max: READERS });
  await pool.query(`DROP TABLE IF EXISTS bench_users; CREATE TABLE bench_users (id bigint PRIMARY KEY, name text, credit numeric);
    INSERT INTO bench_users SELECT g, 'name ' || g, g FROM generate_series(1, 1000) g;
    SELECT cache_aside.attach('bench_users', 'bench-user:{id}')`);
  await pool.query("ANALYZE bench_users");
  const redis = new Redis({ ...ioredisOptions, path: "/nonexistent/redis.sock" });
  const users = new CachedRepository(pool, redis, { table: "bench_users", prepare: PREPARE });
  const query = (name: string, text: string, types?: pg.CustomTypesConfig) => (id: number) =>
    pool.query({ ...(PREPARE ? { name } : {}), ...(types ? { types } : {}), text, values: [String(id)] });
  const text = 'SELECT pg_catalog.row_to_json(t.*) AS row FROM bench_users t WHERE t."id" = $1';
  const same = query("same", text, { getTypeParser: () => String });
  const kinds: Record<string, (id: number) => Promise<unknown>> = {
    direct: query("direct", "SELECT * FROM bench_users WHERE id = $1"),
    same: async (id) => JSON.parse((await same(id)).rows[0].row),
    repository: (id) => users.get(id),
  };
  for (const read of Object.values(kinds)) await measure(read); // warm
  const all = new Map<string, number[][]>(Object.keys(kinds).map((name) => [name, []]));
  for (let round = 0; round < ROUNDS; round++) {
    const order = Object.entries(kinds);
    for (const [name, read] of round % 2 ? order.reverse() : order) all.get(name)?.push(await measure(read));
  }
  report(all);
  await pool.query("DROP TABLE bench_users");
  redis.disconnect();
  await pool.end();
}

void main();
