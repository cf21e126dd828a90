/** Reads on a standby that see what was written, and what happens when it lags or dies. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import type { Redis } from "ioredis";
import type pg from "pg";
import { CachedRepository, currentToken, parseConninfo, Router, type RouterOptions, runWithToken } from "../src";
import { atEnd, delivered, makeIoredis, makePool, type ProxyState, skip, startStandbyProxy, until } from "./support";

const name = process.env["REPLICA_NAME"] ?? "";
const conninfo = `host='${process.env["REPLICA_HOST"]}' port=${process.env["REPLICA_PORT"]} dbname=postgres`;
let writer: pg.Pool;
let standby: pg.Pool;
const routers: Router[] = [];

function makeRouter(options: Partial<RouterOptions> = {}): Router {
  const router = new Router({ writer: makePool(), refreshMs: 20, ...options });
  routers.push(router);
  return router;
}

const rename = (router: Router, id: number, to: string) =>
  router.write((client) => client.query("UPDATE people SET name = $2 WHERE id = $1", [id, to]));
const nameOf = async (router: Router, id: number, after?: string | null) =>
  (
    await router.read<{ name: string }>(
      "SELECT name FROM people WHERE id = $1",
      [id],
      after === undefined ? {} : { after },
    )
  ).rows[0]?.name;
const readsOf = (router: Router) => router.health().replicas.find((replica) => replica.name === name)?.reads ?? 0;

/** The standby replays nothing while `work` runs. */
async function whilePaused(work: () => Promise<void>): Promise<void> {
  await standby.query("SELECT pg_wal_replay_pause()");
  try {
    await until(
      "replay is paused",
      async () => (await standby.query("SELECT pg_get_wal_replay_pause_state() AS state")).rows[0].state === "paused",
    );
    await work();
  } finally {
    await standby.query("SELECT pg_wal_replay_resume()");
  }
}

const ready = setUp();

async function setUp(): Promise<void> {
  if (skip) return;
  writer = makePool();
  standby = makePool({ host: process.env["REPLICA_HOST"], port: Number(process.env["REPLICA_PORT"]), max: 2 });
  await writer.query(`DROP TABLE IF EXISTS people; CREATE TABLE people (id int PRIMARY KEY, name text);
    INSERT INTO people SELECT g, 'name ' || g FROM generate_series(1, 100) g; SELECT cache_aside.attach('people', 'person:{id}');
    SELECT cache_aside.remove_replica(name) FROM cache_aside.replica`);
  await writer.query("SELECT cache_aside.add_replica($1, $2, 'east')", [name, conninfo]);
  await delivered(writer);
}

atEnd(async () => {
  await Promise.all(routers.map((router) => router.end()));
  if (!skip) await writer.query("SELECT cache_aside.remove_replica($1)", [name]);
});

for (const [kind, options] of [
  ["what is published in Redis", () => ({ redis: makeIoredis() })],
  ["the primary's route()", () => ({})],
] as const) {
  describe(`by ${kind}`, { skip }, () => {
    let router: Router;

    before(async () => {
      await ready;
      await writer.query("UPDATE people SET name = 'name ' || id");
      router = makeRouter(options());
      await until("the replica serves", async () => (await nameOf(router, 1)) === "name 1" && readsOf(router) > 0);
    });

    test("a write tells its token, without any setting", async () => {
      const tokens: string[] = [];
      await router.write(
        (client) => client.query("UPDATE people SET name = 'Ada' WHERE id = 1"),
        (token) => tokens.push(token),
      );
      assert.match(tokens[0] ?? "", /^[0-9A-F]+\/[0-9A-F]+$/);
      await router.write(
        (client) => client.query("SELECT 1"),
        (token) => tokens.push(token),
      );
      assert.equal(tokens.length, 1, "nothing was written");
      await assert.rejects(
        router.write((client) => client.query("SELECT 1 / 0")),
        { code: "22012" },
      );
    });

    test("a transaction that had failed is not taken for one that committed", async () => {
      const work = router.write((client) => client.query("SELECT 1 / 0").catch(() => "never mind"));
      await assert.rejects(work, /rolled back/); // Remedy: the look at COMMIT's answer in write()
    });

    test("every read of a request sees its writes, and most stay off the primary", async () => {
      const before = readsOf(router);
      await runWithToken(null, async () => {
        for (let i = 0; i < 50; i++) {
          await rename(router, 2, `version ${i}`);
          for (let j = 0; j < 4; j++) assert.equal(await nameOf(router, 2), `version ${i}`);
        }
        const token = currentToken();
        assert.ok(token);
        await until("the replica serves it", async () => {
          const served = readsOf(router);
          assert.equal(await nameOf(router, 2), "version 49");
          return readsOf(router) > served;
        });
      });
      assert.ok(readsOf(router) > before);
    });

    test("a standby that does not replay is not asked for what it lacks", async () => {
      await whilePaused(async () => {
        await runWithToken(null, async () => {
          await rename(router, 3, "Barbara");
          const before = readsOf(router);
          for (let i = 0; i < 20; i++) assert.equal(await nameOf(router, 3), "Barbara"); // Remedy: candidates()
          assert.equal(readsOf(router), before);
        });
        const before = readsOf(router);
        assert.equal(await nameOf(router, 3), "name 3", "another request has no such wish");
        assert.ok(readsOf(router) > before);
      });
    });

    test("a repository reads its own writes through a standby that lags, and through the cache", async () => {
      const people = new CachedRepository<{ id: number; name: string }>(router, makeIoredis(), { table: "people" });
      await until("cached", async () => (await people.get(4)) !== null && people.health().hits > 0);
      await whilePaused(async () => {
        await runWithToken(null, async () => {
          for (let i = 0; i < 10; i++) {
            await people.update(4, { name: `name ${i}` });
            assert.equal((await people.get(4))?.name, `name ${i}`); // Remedy: lookOnce()
            assert.equal((await people.getMany([4, 5])).get(4)?.name, `name ${i}`);
          }
        });
      });
    });

    test("a connection of a replica that ends is no error, and the next read is answered", async () => {
      await until("it serves", async () => {
        const before = readsOf(router);
        await nameOf(router, 5);
        return readsOf(router) > before;
      });
      await standby.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
      );
      for (let i = 0; i < 10; i++) assert.equal(await nameOf(router, 5), "name 5"); // Remedy: pool.on("error") in server()
    });

    test("the statement's own fault is not the replica's", async () => {
      const { fallbacks } = router.health();
      await assert.rejects(router.read("SELECT 1 / 0"), { code: "22012" });
      assert.equal(router.health().fallbacks, fallbacks);
    });

    test("a replica that cannot be reached: the writer answers, and it is left alone for a while", async () => {
      const errors: string[] = [];
      const state = { ms: 0, down: true };
      const pool = await startStandbyProxy(state);
      const alone = makeRouter({ ...options(), pool, onError: (_error, server) => errors.push(server) });
      await until("it is tried", async () => {
        assert.equal(await nameOf(alone, 6), "name 6"); // Remedy: the catch in read()
        return errors.includes(name);
      });
      const { fallbacks } = alone.health();
      for (let i = 0; i < 20; i++) assert.equal(await nameOf(alone, 6), "name 6");
      assert.ok(alone.health().fallbacks - fallbacks < 5, "it rests"); // Remedy: rest()
      assert.equal(alone.health().writer.failures, 0);
      state.down = false;
      await until("it serves again", async () => (await nameOf(alone, 6)) === "name 6" && readsOf(alone) > 0);
    });
  });
}

describe("which replica", { skip }, () => {
  let redis: Redis;

  before(async () => {
    await ready;
    redis = makeIoredis();
    await until("near is published", async () =>
      redis.status === "ready" ? (await redis.hget("cache_aside:replicas", name)) !== null : false,
    );
  });

  /** Publishes others beside `near`, as it is but for these fields; the workers remove what they do not know. */
  async function withOthers(others: Record<string, object | null>, work: () => Promise<void>): Promise<void> {
    const entry = JSON.parse((await redis.hget("cache_aside:replicas", name)) ?? "{}");
    const lies = Object.entries(others).flatMap(([other, fields]) => [
      other,
      JSON.stringify(fields && { ...entry, ...fields }),
    ]);
    const lying = setInterval(() => void redis.hset("cache_aside:replicas", ...lies), 2);
    try {
      await work();
    } finally {
      clearInterval(lying);
      await redis.hdel("cache_aside:replicas", ...Object.keys(others));
    }
  }

  async function startFar(state: ProxyState): Promise<object> {
    const { host, port } = await startStandbyProxy(state);
    return { conninfo: `host='${host}' port=${port} dbname=postgres`, region: "west", lsn: "FFFF/0" };
  }

  const known = (router: Router, count: number) =>
    until(
      `${count} are known`,
      async () => (await nameOf(router, 7)) !== undefined && router.health().replicas.length >= count,
    );
  const ofFar = (router: Router) => router.health().replicas.find((replica) => replica.name === "far");

  test("that of the region", async () => {
    await withOthers({ far: await startFar({ ms: 0 }) }, async () => {
      const router = makeRouter({ redis: makeIoredis(), region: "east" });
      await known(router, 2);
      const before = ofFar(router)?.reads ?? 0;
      for (let i = 0; i < 20; i++) await nameOf(router, 7);
      assert.equal(ofFar(router)?.reads, before); // Remedy: ofRegion()
      const west = makeRouter({ redis: makeIoredis(), region: "west" });
      await until(
        "the other serves",
        async () => (await nameOf(west, 7)) === "name 7" && (ofFar(west)?.reads ?? 0) > 0,
      );
    });
  });

  test("that with the least round trip", async () => {
    await withOthers({ far: await startFar({ ms: 30 }) }, async () => {
      const router = makeRouter({ redis: makeIoredis(), nearest: "latency", measureMs: 20 });
      await until("measured", () => {
        const times = router.health().replicas.map(({ roundTripMs }) => roundTripMs);
        return times.length === 2 && !times.includes(null);
      });
      const before = ofFar(router)?.reads ?? 0;
      for (let i = 0; i < 20; i++) assert.equal(await nameOf(router, 8), "name 8");
      assert.equal(ofFar(router)?.reads, before); // Remedy: quickest()
      assert.ok((ofFar(router)?.roundTripMs ?? 0) >= 25);
    });
  });

  test("one of another history is none, nor is what is no entry", async () => {
    const others = { like: {}, timeline: { timeline: 99 }, system: { system: "1" }, none: null, lsn: { lsn: "x" } };
    await withOthers(others, async () => {
      const router = makeRouter({ redis: makeIoredis() });
      await known(router, 2);
      assert.deepEqual(
        router
          .health()
          .replicas.map((replica) => replica.name)
          .sort(),
        ["like", name],
      ); // Remedy: toReplica()
    });
  });

  test("a connection string that asks for TLS gets it, or nothing", async () => {
    const { CA_FILE: ca, OTHER_CA_FILE: other, REPLICA_PORT: port } = process.env;
    const secure = async (mode: string, host: string, file = ca) => {
      const conninfo = `host=${host} port=${port} dbname=postgres sslmode=${mode} sslrootcert='${file}'`;
      const pool = makePool(parseConninfo(conninfo));
      const { rows } = await pool.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
      return rows[0].ssl;
    };
    assert.equal(await secure("verify-full", "localhost"), true);
    assert.equal(await secure("verify-ca", "127.0.0.1"), true);
    assert.equal(await secure("require", "127.0.0.1"), true);
    await assert.rejects(secure("verify-full", "127.0.0.1"), /does not match certificate/); // Remedy: sslOf()
    await assert.rejects(secure("verify-full", "localhost", other), /certificate/);
    await assert.rejects(secure("verify-ca", "localhost", other), /certificate/);
    await assert.rejects(secure("disable", "localhost"), /pg_hba.conf/);
    await withOthers(
      {
        far: {
          conninfo: `host=127.0.0.1 port=${port} dbname=postgres sslmode=verify-full sslrootcert='${ca}'`,
          region: "west",
        },
      },
      async () => {
        const router = makeRouter({ redis: makeIoredis(), region: "west" });
        await until(
          "it is tried",
          async () => (await nameOf(router, 7)) !== undefined && router.health().fallbacks > 0,
        );
      },
    );
  });

  test("none that lags more than is wanted", async () => {
    const router = makeRouter({ redis: makeIoredis(), maxLagMs: -1 });
    for (let i = 0; i < 5; i++) assert.equal(await nameOf(router, 10), "name 10");
    assert.equal(readsOf(router), 0);
  });

  test("user, password and further options come from the application", async () => {
    let asked = 0;
    const password = async () => {
      asked++;
      return "secret";
    };
    await writer.query(
      "DROP ROLE IF EXISTS iam; CREATE ROLE iam LOGIN PASSWORD 'secret'; GRANT SELECT ON people TO iam",
    );
    const router = makeRouter({
      redis: makeIoredis(),
      pool: (server) => ({ user: "iam", password, application_name: server }),
    });
    await until("as that user", async () => {
      const { rows } = await router.read<{ who: string }>(
        "SELECT current_user || '@' || current_setting('application_name') AS who",
      );
      return rows[0]?.who === `iam@${name}`;
    });
    assert.ok(asked > 0, "the password is asked for when a connection is made");
  });
});
