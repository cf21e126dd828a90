/** Books, with Sequelize. */
import { Redis } from "ioredis";
import {
  type CreationOptional, DataTypes, type InferAttributes, type InferCreationAttributes, literal, Model, Sequelize,
} from "sequelize";
import { GuardedCache } from "../guarded.js";
import { carryToken } from "../tokens.js";

export const db = new Sequelize({
  dialect: "postgres",
  logging: false,
  replication: { write: server(process.env.DATABASE_URL), read: [server(process.env.REPLICA_URL)] },
  pool: { max: Number(process.env.POOL_SIZE ?? 10) },
});
db.addHook("afterConnect", (connection) => carryToken(connection));

function server(address = "postgresql:") {
  const { hostname, port, username, password, pathname } = new URL(address);
  const [user, secret] = [username, password].map(decodeURIComponent);
  return { host: hostname, port, username: user, password: secret, database: pathname.slice(1) };
}

export class Book extends Model<InferAttributes<Book>, InferCreationAttributes<Book>> {
  declare id: CreationOptional<number>;
  declare title: string;
  declare price: CreationOptional<string | null>;
  declare published: CreationOptional<Date | null>;
  declare version: CreationOptional<number>;
}

Book.init(
  {
    id: { type: DataTypes.INTEGER, autoIncrement: true, primaryKey: true },
    title: { type: DataTypes.TEXT, allowNull: false },
    price: DataTypes.DECIMAL(10, 2),
    published: DataTypes.DATE,
    version: DataTypes.INTEGER,
  },
  { sequelize: db, tableName: "book", timestamps: false, version: true },
);

export const redis = new Redis(process.env.REDIS_URL ?? "", { commandTimeout: 100, enableOfflineQueue: false, maxRetriesPerRequest: 0 });
redis.on("error", () => {});
export const cache = new GuardedCache(redis, ["near"]);

/** From the cache, a replica or the primary. An instance of its own each time; save() takes it. */
export function getBook(id: number): Promise<Book | null> {
  return cache.get(`book:${id}`, (where) => readBook(id, where === "primary"), reviveBook);
}

async function readBook(id: number, useMaster: boolean) {
  const row = await Book.findOne({ where: { id }, attributes: { include: [[literal("cache_aside.read_token()"), "token"]] }, useMaster });
  const values = row?.dataValues as { token?: string } | undefined;
  const token = values?.token ?? null;
  delete values?.token; // it is no column
  return { row, token };
}

function reviveBook(stored: any): Book {
  return Book.build({ ...stored, published: stored.published && new Date(stored.published) }, { isNewRecord: false, raw: true });
}
