/** Books, with MikroORM. */
import { defineConfig, Entity, type EntityManager, Formula, MikroORM, PrimaryKey, Property } from "@mikro-orm/postgresql";
import { Redis } from "ioredis";
import { GuardedCache } from "../guarded.js";
import { carryToken } from "../tokens.js";

@Entity()
export class Book {
  @PrimaryKey({ type: "integer" })
  id!: number;

  @Property({ type: "text" })
  title!: string;

  @Property({ type: "decimal", nullable: true })
  price!: string | null;

  @Property({ type: "datetime", nullable: true })
  published!: Date | null;

  @Property({ type: "integer", version: true })
  version!: number;

  @Formula("cache_aside.read_token()", { type: "text", lazy: true, hidden: true })
  token?: string | null;
}

const replica = new URL(process.env.REPLICA_URL ?? "postgresql:");

function afterCreate(connection: unknown, done: (error: unknown, connection: unknown) => void) {
  carryToken(connection);
  done(null, connection);
}

export const orm = await MikroORM.init(
  defineConfig({
    entities: [Book],
    clientUrl: process.env.DATABASE_URL ?? "",
    replicas: [{ name: "near", host: replica.hostname, port: Number(replica.port) }],
    preferReadReplicas: false,
    useBatchUpdates: false, // an UPDATE of several rows has no versions in its WHERE
    pool: { min: 0, max: Number(process.env.POOL_SIZE ?? 10) },
    driverOptions: { pool: { afterCreate } },
  }),
);

export const redis = new Redis(process.env.REDIS_URL ?? "", { commandTimeout: 100, enableOfflineQueue: false, maxRetriesPerRequest: 0 });
redis.on("error", () => {});
export const cache = new GuardedCache(redis, ["near"]);

/** An entity of this EntityManager: its own, from the cache, a replica or the primary. */
export async function getBook(em: EntityManager, id: number): Promise<Book | null> {
  const known = em.getUnitOfWork().getById<Book>("Book", id);
  if (known) return known; // with what was changed in it
  return cache.get(`book:${id}`, (where) => readBook(em, id, where === "replica" ? "read" : "write"), (stored) => em.map(Book, stored));
}

async function readBook(em: EntityManager, id: number, connectionType: "read" | "write") {
  const row = await em.findOne(Book, id, { populate: ["token"], connectionType });
  return { row, token: row?.token ?? null }; // of one statement
}
