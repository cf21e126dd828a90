/**
 * Users over HTTP. Reads come from the cache, a replica or the primary, whichever has what the visitor has written;
 * a signed cookie carries that from one request to the next. Nothing here deletes a key.
 */
import { CachedRepository, expressToken, ioredisOptions, Router } from "cache-aside-pg";
import express from "express";
import { Redis } from "ioredis";
import pg from "pg";

const redis = new Redis(process.env.REDIS_URL, ioredisOptions);
redis.on("error", () => {}); // reads go on without it; /health tells
const { PGUSER: user, PGPASSWORD: password, COOKIE_SECRET: secret } = process.env;
const router = new Router({ writer: new pg.Pool(), redis, pool: { user, password } });
const users = new CachedRepository(router, redis, { table: "users" });

const app = express();
app.set("json replacer", (_, value) => (typeof value === "bigint" ? value.toString() : value));
app.use(express.json());
app.use(expressToken({ secret, secure: false })); // secure: false, since this is plain HTTP

app.get("/users/:id", async (request, response) => {
  const found = await users.get(request.params.id);
  found ? response.json(found) : response.status(404).json({ error: "no such user" });
});

app.put("/users/:id", async (request, response) => {
  const found = await users.update(request.params.id, { name: String(request.body.name) });
  found ? response.json(found) : response.status(404).json({ error: "no such user" });
});

app.get("/health", (_, response) => {
  response.json({ users: users.health(), router: router.health() });
});

app.listen(process.env.PORT ?? 3000);
