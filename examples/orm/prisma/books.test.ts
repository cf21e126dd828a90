/** Remedy: the version in the WHERE of saveBook(), books.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import pg from "pg";
import { tell } from "../story.js";
import { cache, db, end, getBook, redis, saveBook } from "./books.js";
import { Prisma } from "./generated/client.js";

const where = { id: 1 };
const is = (error: unknown, code: string) => error instanceof Prisma.PrismaClientKnownRequestError && error.code === code;

tell(
  {
    cache,
    redis,
    get: getBook,
    insert: (title) => db.book.create({ data: { title } }),
    save: (book, title) => saveBook(book, { title }),
    writes: {
      "update()": (title) => db.book.update({ where, data: { title } }),
      "updateMany()": (title) => db.book.updateMany({ where, data: { title } }),
      "increment": (title) => db.book.update({ where, data: { title, version: { increment: 1 } } }),
      "upsert()": (title) => db.book.upsert({ where, create: { title }, update: { title } }),
      "a transaction": (title) => db.$transaction((tx) => tx.book.update({ where, data: { title } })),
    },
    isConflict: (error) => is(error, "P2025"),
    Client: pg.Client,
    end,
  },
  (told) =>
    test("the database refuses a version that is sent, whatever WHERE says", async () => {
      const { version } = await told.get();
      await told.change("theirs");
      const late = db.book.update({ where, data: { title: "lost", version: version + 1 } });
      await assert.rejects(late, (error) => is(error, "P2034"));
    }),
);
