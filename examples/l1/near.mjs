/**
 * A cache in this process in front of Redis. Redis says what changes (CLIENT TRACKING), so an entry goes here right after
 * the worker of cache_aside has deleted it there.
 *
 *   ear    a connection of its own on which Redis announces keys, in the order in which they changed
 *   redis  the connection that reads
 *
 * Only what GET has answered is kept. What a reader took from the database is not: the fill may have been refused, because
 * the deletion that it missed has been announced already, and none would come any more.
 *
 * An answer and an announcement come over two connections and may overtake each other. So a GET leaves a mark before it is sent;
 * the announcement takes the mark away, and an answer without its mark is used, not kept.
 *
 * Of what was said while a connection was down nobody knows: as soon as one of the two closes everything is forgotten, and nothing is kept until
 * both are up, on the same process of Redis. A connection may be dead and not closed: the ear is asked every `heartbeat` ms.
 */
const CHANNEL = "__redis__:invalidate";

export class NearCache {
  #redis;
  #ear;
  #options;
  #timer;
  #on = false; // does Redis announce what changes?
  #turn = 0;
  #entries = new Map(); // key -> { value, until }; the one used last comes last
  #asked = new Map(); // key -> the mark of the GET that is under way
  hits = 0;
  misses = 0;

  /**
   * @param redis a client of ioredis, with time-outs
   * @param options prefixes: keys that begin so are announced, whoever read them (BCAST). Without it Redis remembers which
   *   keys this connection has read, and announces those. maxAge: ms that an entry is kept at most. decode: what is
   *   made of a value, once; every caller gets the same.
   */
  constructor(redis, options = {}) {
    this.#redis = redis;
    this.#options = { prefixes: null, maxEntries: 10_000, maxAge: 30_000, heartbeat: 1000, decode: (text) => text, ...options };
    this.#ear = redis.duplicate({ autoResubscribe: false, enableOfflineQueue: false, commandTimeout: this.#options.heartbeat });
    this.#ear.on("error", () => {});
    this.#ear.on("messageBuffer", (_, keys) => (keys === null ? this.#forget() : keys.forEach((key) => this.#drop(String(key)))));
    this.#ear.on("close", this.#stop);
    redis.on("close", this.#deafen);
    for (const client of [this.#ear, redis]) client.on("ready", this.#listen);
    this.#timer = setInterval(this.#deafenIfDead, this.#options.heartbeat);
    this.#timer.unref();
  }

  /** The value, or null. From here or from Redis, whose errors are the caller's. */
  async get(key) {
    const entry = this.#entries.get(key);
    if (entry !== undefined && entry.until > performance.now()) {
      this.hits++;
      this.#entries.delete(key);
      this.#entries.set(key, entry);
      return entry.value;
    }
    this.misses++;
    const mark = {};
    if (this.#on) this.#asked.set(key, mark);
    const text = await this.#redis.get(key).catch((error) => {
      this.#asked.delete(key);
      throw error;
    });
    const value = text === null ? null : this.#options.decode(text);
    if (this.#asked.get(key) === mark) {
      this.#asked.delete(key);
      if (text !== null) this.#keep(key, value);
    }
    return value;
  }

  /** Resolves when all that Redis had announced before this call has been forgotten here. */
  async sync() {
    if (!this.#on) return;
    const turn = this.#turn;
    await this.#ear.ping().catch(() => turn === this.#turn && this.#deafen());
  }

  /** Does it keep anything now? */
  get listening() {
    return this.#on;
  }

  get size() {
    return this.#entries.size;
  }

  close() {
    clearInterval(this.#timer);
    this.#redis.off("close", this.#deafen);
    this.#redis.off("ready", this.#listen);
    this.#stop();
    this.#ear.disconnect();
  }

  #keep(key, value) {
    this.#entries.delete(key);
    this.#entries.set(key, { value, until: performance.now() + this.#options.maxAge });
    if (this.#entries.size > this.#options.maxEntries) this.#entries.delete(this.#entries.keys().next().value);
  }

  #drop(key) {
    this.#entries.delete(key);
    this.#asked.delete(key);
  }

  #forget() {
    this.#entries.clear();
    this.#asked.clear();
  }

  #stop = () => {
    this.#turn++;
    this.#on = false;
    this.#forget();
  };

  // The ear connects again, and #listen follows.
  #deafen = () => {
    this.#stop();
    this.#ear.disconnect(true);
  };

  #deafenIfDead = () => this.sync();

  #listen = async () => {
    this.#stop();
    const turn = this.#turn;
    if (this.#ear.status !== "ready" || this.#redis.status !== "ready") return;
    try {
      const [here, there] = await Promise.all([this.#ear, this.#redis].map(runId));
      if (here !== there) throw new Error("two processes of Redis");
      await this.#track(await this.#ear.client("ID"));
      await this.#ear.subscribe(CHANNEL);
      if (turn === this.#turn) this.#on = true;
    } catch {
      if (turn === this.#turn) setTimeout(() => turn === this.#turn && this.#deafen(), this.#options.heartbeat).unref();
    }
  };

  #track(id) {
    const { prefixes } = this.#options;
    if (!prefixes) return this.#redis.client("TRACKING", "ON", "REDIRECT", id);
    return this.#ear.client("TRACKING", "ON", "REDIRECT", id, "BCAST", ...prefixes.flatMap((prefix) => ["PREFIX", prefix]));
  }
}

async function runId(client) {
  return /^run_id:(\w+)/m.exec(await client.info("server"))[1];
}
