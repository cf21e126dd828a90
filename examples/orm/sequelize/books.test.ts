import pg from "pg";
import { OptimisticLockError } from "sequelize";
import { tell } from "../story.js";
import { Book, cache, db, getBook, redis } from "./books.js";

tell({
  cache,
  redis,
  get: getBook,
  insert: (title) => Book.create({ title }),
  save: (book, title) => book.update({ title }),
  writes: {
    "Model.update()": (title) => Book.update({ title }, { where: { id: 1 } }),
    "increment()": () => Book.increment("price", { where: { id: 1 } }),
    "decrement()": () => Book.decrement("price", { where: { id: 1 } }),
    "upsert()": (title) => Book.upsert({ id: 1, title }),
  },
  isConflict: (error) => error instanceof OptimisticLockError,
  Client: pg.Client,
  end: () => db.close(),
});
