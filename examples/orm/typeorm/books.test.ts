/** Remedy: class Versions in books.ts. */
import pg from "pg";
import { OptimisticLockVersionMismatchError, QueryFailedError } from "typeorm";
import { tell } from "../story.js";
import { Book, cache, db, getBook, redis } from "./books.js";

const books = () => db.getRepository(Book);

await db.initialize();
tell({
  cache,
  redis,
  get: getBook,
  insert: (title) => books().save({ title }),
  save: (book, title) => books().save(Object.assign(book, { title })),
  writes: {
    "update()": (title) => books().update(1, { title }),
    "query builder": (title) => books().createQueryBuilder().update().set({ title }).where("id = 1").execute(),
  },
  isConflict: (error) => error instanceof OptimisticLockVersionMismatchError,
  isLateConflict: (error) => error instanceof QueryFailedError && error.driverError.code === "40001",
  Client: pg.Client,
  end: () => db.destroy(),
});
