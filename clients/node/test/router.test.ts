/** Reads on a standby that see what was written, and what happens when it lags or dies. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type pg from "pg";
import { CachedRepository, currentToken, Router, type RouterOptions, runWithToken } from "../src";
import { atEnd, delivered, makeIoredis, makePool, skip, until } from "./support";

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
      const alone = makeRouter({ ...options(), onError: (_error, server) => errors.push(server) });
      await writer.query("SELECT cache_aside.set_replica($1, 'host=/nonexistent port=1')", [name]);
      try {
        await until("it is tried", async () => {
          assert.equal(await nameOf(alone, 6), "name 6"); // Remedy: the catch in read()
          return errors.includes(name);
        });
        const { fallbacks } = alone.health();
        for (let i = 0; i < 20; i++) assert.equal(await nameOf(alone, 6), "name 6");
        assert.ok(alone.health().fallbacks - fallbacks < 5, "it rests"); // Remedy: rest()
        assert.equal(alone.health().writer.failures, 0);
      } finally {
        await writer.query("SELECT cache_aside.set_replica($1, $2)", [name, conninfo]);
      }
      await until("it serves again", async () => (await nameOf(alone, 6)) === "name 6" && readsOf(alone) > 0);
    });
  });
}

describe("which replica", { skip }, () => {
  before(async () => {
    await ready;
    await writer.query("SELECT cache_aside.add_replica('far', 'host=/nonexistent port=2', 'west')");
  });
  after(async () => {
    await writer.query("SELECT cache_aside.remove_replica('far')");
  });

  /** `far` is none, but says that it is there: an entry of its own. */
  async function withFar(work: () => Promise<void>): Promise<void> {
    const redis = makeIoredis();
    await until("connected", () => redis.status === "ready");
    await until("near is published", async () => (await redis.hget("cache_aside:replicas", name)) !== null);
    const entry = (await redis.hget("cache_aside:replicas", name)) ?? "{}";
    const lie = setInterval(() => {
      void redis.hset(
        "cache_aside:replicas",
        "far",
        JSON.stringify({ ...JSON.parse(entry), conninfo: "host=/nonexistent port=2", region: "west", lsn: "FFFF/0" }),
      );
    }, 2);
    try {
      await work();
    } finally {
      clearInterval(lie);
      await redis.hdel("cache_aside:replicas", "far");
    }
  }

  test("that of the region", async () => {
    await withFar(async () => {
      const router = makeRouter({ redis: makeIoredis(), region: "east" });
      await until(
        "both are known",
        async () => (await nameOf(router, 7)) !== undefined && router.health().replicas.length === 2,
      );
      for (let i = 0; i < 20; i++) await nameOf(router, 7);
      assert.equal(router.health().replicas.find((replica) => replica.name === "far")?.failures, 0);
      const west = makeRouter({ redis: makeIoredis(), region: "west" });
      await until(
        "the other is tried",
        async () => (await nameOf(west, 7)) === "name 7" && west.health().fallbacks > 0,
      );
    });
  });

  test("that with the least round trip", async () => {
    await withFar(async () => {
      const router = makeRouter({ redis: makeIoredis(), nearest: "latency", measureMs: 20 });
      await until("measured", () => router.health().replicas.some((replica) => replica.roundTripMs !== null));
      const { fallbacks } = router.health();
      for (let i = 0; i < 20; i++) assert.equal(await nameOf(router, 8), "name 8");
      assert.equal(router.health().fallbacks, fallbacks); // Remedy: quickest()
      assert.equal(router.health().replicas.find((replica) => replica.name === "far")?.roundTripMs, null);
    });
  });

  test("one of another history is none", async () => {
    const redis = makeIoredis();
    await until("connected", () => redis.status === "ready");
    const router = makeRouter({ redis });
    await until("known", async () => (await nameOf(router, 9)) !== undefined && router.health().replicas.length > 0);
    const entry = JSON.parse((await redis.hget("cache_aside:replicas", name)) ?? "{}");
    await redis.hset(
      "cache_aside:replicas",
      "other",
      JSON.stringify({ ...entry, timeline: 99 }),
      "junk",
      "{",
      "null",
      "null",
    );
    await until("read again", async () => (await nameOf(router, 9)) !== undefined);
    assert.deepEqual(
      router.health().replicas.filter((replica) => !["far", name].includes(replica.name)),
      [],
    );
    await redis.hdel("cache_aside:replicas", "other", "junk", "null");
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
