/** Books, with Drizzle. */
import { and, eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { integer, numeric, pgTable, text, timestamp, withReplicas } from "drizzle-orm/pg-core";
import { Redis } from "ioredis";
import pg from "pg";
import { GuardedCache } from "../guarded.js";
import { carryTokens } from "../tokens.js";

export const books = pgTable("book", {
  id: integer().primaryKey().generatedByDefaultAsIdentity(),
  title: text().notNull(),
  price: numeric({ precision: 10, scale: 2 }),
  published: timestamp({ withTimezone: true }),
  version: integer().notNull().default(1),
});
export type Book = typeof books.$inferSelect;

const max = Number(process.env.POOL_SIZE ?? 10);
const writer = new pg.Pool({ connectionString: process.env.DATABASE_URL, max });
const near = new pg.Pool({ connectionString: process.env.REPLICA_URL, max });
for (const pool of [writer, near]) pool.on("error", () => {});
carryTokens(writer);
export const db = withReplicas(drizzle(writer), [drizzle(near)]);

export const redis = new Redis(process.env.REDIS_URL ?? "", { commandTimeout: 100, enableOfflineQueue: false, maxRetriesPerRequest: 0 });
redis.on("error", () => {});
export const cache = new GuardedCache(redis, ["near"]);

/** From the cache, a replica or the primary. */
export function getBook(id: number): Promise<Book | null> {
  return cache.get(`book:${id}`, (where) => readBook(id, where === "primary" ? db.$primary : db), reviveBook);
}

async function readBook(id: number, from: Pick<typeof db, "select">) {
  const [found] = await from.select({ row: books, token: sql<string | null>`cache_aside.read_token()` }).from(books).where(eq(books.id, id));
  return found ?? { row: null, token: null };
}

function reviveBook(stored: any): Book {
  return { ...stored, published: stored.published && new Date(stored.published) };
}

export class ConflictError extends Error {}

/** Writes what was read, unless somebody else has written since. */
export async function saveBook({ id, version }: Book, changes: Partial<typeof books.$inferInsert>): Promise<Book> {
  const [saved] = await db.update(books).set(changes).where(and(eq(books.id, id), eq(books.version, version))).returning();
  if (!saved) throw new ConflictError(`book ${id} is no longer at version ${version}`);
  return saved;
}

export const end = () => Promise.all([writer.end(), near.end()]);
