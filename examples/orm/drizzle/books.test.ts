/** Remedy: the version in the WHERE of saveBook(), books.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DrizzleQueryError, eq, sql } from "drizzle-orm";
import pg from "pg";
import { tell } from "../story.js";
import { books, cache, ConflictError, db, end, getBook, redis, saveBook } from "./books.js";

const first = eq(books.id, 1);

tell(
  {
    cache,
    redis,
    get: getBook,
    insert: (title) => db.insert(books).values({ title }),
    save: (book, title) => saveBook(book, { title }),
    writes: {
      "update()": (title) => db.update(books).set({ title }).where(first),
      "the row's own version": (title) => db.update(books).set({ title, version: sql`${books.version} + 1` }).where(first),
      "a transaction": (title) => db.transaction((tx) => tx.update(books).set({ title }).where(first)),
      "onConflictDoUpdate()": (title) =>
        db.insert(books).values({ id: 1, title }).onConflictDoUpdate({ target: books.id, set: { title } }),
    },
    isConflict: (error) => error instanceof ConflictError,
    Client: pg.Client,
    end,
  },
  (told) =>
    test("the database refuses a version that is sent, whatever WHERE says", async () => {
      const { version } = await told.get();
      await told.change("theirs");
      const late = db.update(books).set({ title: "lost", version: version + 1 }).where(first);
      await assert.rejects(late, (error) => error instanceof DrizzleQueryError && (error.cause as { code?: string }).code === "40001");
    }),
);
