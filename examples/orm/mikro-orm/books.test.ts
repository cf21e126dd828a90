/** Remedy: useBatchUpdates: false in books.ts. */
import { test } from "node:test";
import { type EntityManager, OptimisticLockError, wrap } from "@mikro-orm/postgresql";
import pg from "pg";
import { tell } from "../story.js";
import { Book, cache, getBook, orm, redis } from "./books.js";

tell(
  {
    cache,
    redis,
    get: (id) => getBook(orm.em.fork(), id),
    insert: async (title) => {
      const em = orm.em.fork();
      em.create(Book, { title } as Book);
      await em.flush();
    },
    save: async (book, title) => {
      book.title = title;
      await wrap(book, true).__em?.flush();
      return book;
    },
    writes: {
      "nativeUpdate()": (title) => orm.em.fork().nativeUpdate(Book, { id: 1 }, { title }),
      "upsert()": (title) => orm.em.fork().upsert(Book, { id: 1, title } as Book),
    },
    isConflict: (error) => error instanceof OptimisticLockError,
    Client: pg.Client,
    end: () => orm.close(),
  },
  (told) =>
    test("a flush of several is as safe as one of one", () =>
      told.race(async (book) => {
        const em = wrap(book, true).__em as EntityManager;
        (await em.findOneOrFail(Book, 2)).title = "of two";
        book.title = "lost";
        await em.flush();
      })),
);
