/** Books, with Prisma; schema.prisma has the model. */
import { PrismaPg } from "@prisma/adapter-pg";
import { readReplicas } from "@prisma/extension-read-replicas";
import { Redis } from "ioredis";
import pg from "pg";
import { GuardedCache } from "../guarded.js";
import { carryTokens } from "../tokens.js";
import { type Book, Prisma, PrismaClient } from "./generated/client.js";

const max = Number(process.env.POOL_SIZE ?? 10);
const writer = new pg.Pool({ connectionString: process.env.DATABASE_URL, max });
const near = new pg.Pool({ connectionString: process.env.REPLICA_URL, max });
for (const pool of [writer, near]) pool.on("error", () => {});
carryTokens(writer);
const primary = new PrismaClient({ adapter: new PrismaPg(writer) });
const replica = new PrismaClient({ adapter: new PrismaPg(near) });
export const db = primary.$extends(readReplicas({ replicas: [replica] }));

export const redis = new Redis(process.env.REDIS_URL ?? "", { commandTimeout: 100, enableOfflineQueue: false, maxRetriesPerRequest: 0 });
redis.on("error", () => {});
export const cache = new GuardedCache(redis, ["near"]);

/** From the cache, a replica or the primary. */
export function getBook(id: number): Promise<Book | null> {
  return cache.get(`book:${id}`, (where) => readBook(id, where === "replica" ? replica : primary), reviveBook);
}

/** The token of an earlier statement of the same transaction is true of the row. */
async function readBook(id: number, from: PrismaClient) {
  const [[found], row] = await from.$transaction([
    from.$queryRaw<{ token: string | null }[]>`SELECT cache_aside.read_token() AS token`,
    from.book.findUnique({ where: { id } }),
  ]);
  return { row, token: found?.token ?? null };
}

function reviveBook(stored: any): Book {
  const { price, published } = stored;
  return { ...stored, price: price && new Prisma.Decimal(price), published: published && new Date(published) };
}

/** Writes what was read, unless somebody else has written since: then it is error P2025. */
export function saveBook({ id, version }: Book, data: Prisma.BookUpdateInput): Promise<Book> {
  return db.book.update({ where: { id, version }, data });
}

export async function end() {
  await db.$disconnect();
  await Promise.all([writer.end(), near.end()]);
}
