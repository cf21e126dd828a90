/** Books, with TypeORM. */
import "reflect-metadata";
import { Redis } from "ioredis";
import pg from "pg";
import {
  Column, DataSource, Entity, type EntitySubscriberInterface, EventSubscriber, OptimisticLockVersionMismatchError,
  PrimaryGeneratedColumn, type UpdateEvent, VersionColumn,
} from "typeorm";
import { GuardedCache } from "../guarded.js";
import { carryToken } from "../tokens.js";

@Entity()
export class Book {
  @PrimaryGeneratedColumn("identity")
  id!: number;

  @Column("text")
  title!: string;

  @Column("numeric", { nullable: true })
  price!: string | null;

  @Column("timestamptz", { nullable: true })
  published!: Date | null;

  @VersionColumn()
  version!: number;
}

/** save() of what somebody else has changed is refused: by this, or, if it happens right now, by the database. */
@EventSubscriber()
class Versions implements EntitySubscriberInterface<Book> {
  listenTo() {
    return Book;
  }

  beforeUpdate({ entity, databaseEntity }: UpdateEvent<Book>) {
    if (!(entity instanceof Book) || !databaseEntity) return; // update(): counted by the database
    if (entity.version !== databaseEntity.version)
      throw new OptimisticLockVersionMismatchError("Book", entity.version, databaseEntity.version);
    entity.version++; // is sent, and so compared with the row that is really there
  }
}

class Client extends pg.Client {
  constructor(config: pg.ClientConfig) {
    super(config);
    carryToken(this);
  }
}

export const db = new DataSource({
  type: "postgres",
  entities: [Book],
  subscribers: [Versions],
  replication: { master: { url: process.env.DATABASE_URL }, slaves: [{ url: process.env.REPLICA_URL }], defaultMode: "master" },
  poolSize: Number(process.env.POOL_SIZE ?? 10),
  extra: { Client },
});

export const redis = new Redis(process.env.REDIS_URL ?? "", { commandTimeout: 100, enableOfflineQueue: false, maxRetriesPerRequest: 0 });
redis.on("error", () => {});
export const cache = new GuardedCache(redis, ["near"]);

/** From the cache, a replica or the primary. An object of its own each time; save() takes it. */
export function getBook(id: number): Promise<Book | null> {
  return cache.get(`book:${id}`, (where) => readBook(id, where === "replica" ? "slave" : "master"), reviveBook);
}

async function readBook(id: number, mode: "slave" | "master") {
  const runner = db.createQueryRunner(mode);
  try {
    const { entities, raw } = await db.createQueryBuilder(Book, "book", runner).addSelect("cache_aside.read_token()", "token")
      .where({ id }).getRawAndEntities();
    return { row: entities[0] ?? null, token: raw[0]?.token ?? null };
  } finally {
    await runner.release();
  }
}

function reviveBook(stored: any): Book {
  return db.manager.create(Book, { ...stored, published: stored.published && new Date(stored.published) });
}
