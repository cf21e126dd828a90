/**
 * Reads go to the nearest replica that has what they must see, else to the writer; writes tell their token.
 *
 * A token is the LSN of a commit. The server reports it with the COMMIT (cache_aside.report_commit_lsn, set for the
 * transaction), so it costs no round trip; it moves the token of the request on, and later reads of the request see the
 * write. A replica that cannot be reached is no error: the writer answers, and the replica is left alone for a while.
 */
import type { PoolClient, PoolConfig, QueryResult, QueryResultRow } from "pg";
import pg from "pg";
import { Cache } from "./cache";
import { parseConninfo } from "./conninfo";
import { currentToken, noteToken } from "./context";
import type { RedisInput } from "./redis";
import type { Replica, ReplicaSource, Wish } from "./replicas";
import { AskedReplicas, PublishedReplicas } from "./replicas";

/** Options of a `Router`. */
export interface RouterOptions {
  /** Pool of the primary. */
  readonly writer: pg.Pool;
  /** Where the workers publish what each replica has replayed. Without it the primary is asked before each read. */
  readonly redis?: RedisInput | Cache;
  /** Replicas of this region first. */
  readonly region?: string;
  /** `region` (default): those of the region, by weight. `latency`: the one with the least measured round trip. */
  readonly nearest?: "region" | "latency";
  /** Replicas that lag more than so many ms are not asked. */
  readonly maxLagMs?: number;
  /**
   * What connections to replicas need beside host and database, which the registry knows: user, password (a function, for
   * IAM tokens: it is called for each connection), ssl, max, query_timeout. A function gets the replica's name.
   */
  readonly pool?: PoolConfig | ((name: string) => PoolConfig);
  /** How old the list from Redis may be before it is read again, in ms. Default 250. */
  readonly refreshMs?: number;
  /** How often round trips are measured with `latency`, in ms. Default 5000. */
  readonly measureMs?: number;
  /** Told of each failure of a server that was answered by another one, and of idle connections that ended. */
  readonly onError?: (error: Error, server: string) => void;
}

/** Of one read. */
export interface RouteOptions {
  /** A token: the LSN that this read has to see. Default: that of the request; see `runWithToken`. */
  readonly after?: string | null;
  readonly region?: string;
  readonly maxLagMs?: number;
}

/** What is known of one replica. */
export interface ReplicaHealth {
  readonly name: string;
  readonly region: string | null;
  readonly lagMs: number | null;
  /** Measured with `latency` only. */
  readonly roundTripMs: number | null;
  readonly reads: number;
  readonly failures: number;
  /** It failed, and is left alone for a moment. */
  readonly resting: boolean;
  readonly lastError: string | null;
}

/** What is known of the servers. */
export interface RouterHealth {
  readonly writer: {
    readonly reads: number;
    readonly writes: number;
    readonly failures: number;
    readonly lastError: string | null;
  };
  readonly replicas: readonly ReplicaHealth[];
  /** Reads that a replica failed to answer, and the writer did. */
  readonly fallbacks: number;
}

interface Server {
  readonly conninfo: string;
  readonly pool: pg.Pool;
  reads: number;
  failures: number;
  inARow: number;
  restsUntil: number;
  roundTripMs: number | null;
  lastError: string | null;
}

const PARAMETER = "cache_aside.commit_lsn";
const BEGIN = "BEGIN; SET LOCAL cache_aside.report_commit_lsn = on";

/** Routes reads and writes. See the file's head. */
export class Router {
  private readonly source: ReplicaSource;
  private readonly servers = new Map<string, Server>();
  private readonly tokens = new WeakMap<PoolClient, { lsn: string | null }>();
  private readonly timer: NodeJS.Timeout | undefined;
  private readonly writer = { reads: 0, writes: 0, failures: 0, lastError: null as string | null };
  private fallbacks = 0;

  constructor(private readonly options: RouterOptions) {
    const { writer, redis } = options;
    writer.on("error", (error) => this.noteWriter(error));
    const cache = redis === undefined || redis instanceof Cache ? redis : new Cache(redis);
    this.source = cache ? new PublishedReplicas(cache, options.refreshMs ?? 250) : new AskedReplicas(writer);
    if (options.nearest === "latency")
      this.timer = setInterval(() => void this.measure(), options.measureMs ?? 5000).unref();
  }

  /**
   * Runs `work` in one transaction on the primary. What it wrote is seen by later reads of the request, and by those that
   * are given `token()`.
   */
  async write<T>(work: (client: PoolClient) => Promise<T>, onToken: (token: string) => void = () => {}): Promise<T> {
    const client = await this.options.writer.connect();
    let broken: Error | undefined;
    try {
      const heard = this.listen(client);
      await client.query(BEGIN);
      heard.lsn = null;
      const result = await work(client);
      const { command } = await client.query("COMMIT");
      if (command !== "COMMIT") throw new Error("the transaction had failed, and was rolled back");
      this.writer.writes++;
      if (heard.lsn !== null) {
        noteToken(heard.lsn);
        onToken(heard.lsn);
      }
      return result;
    } catch (error) {
      broken = await client.query("ROLLBACK").then(
        () => undefined,
        (failure: Error) => failure,
      );
      throw error;
    } finally {
      client.release(broken);
    }
  }

  /** One statement that does not write, where it sees what `after` stands for. With a name it is prepared. */
  async read<R extends QueryResultRow>(
    statement: string | { readonly name?: string; readonly text: string },
    values: unknown[] = [],
    options: RouteOptions = {},
  ): Promise<QueryResult<R>> {
    const query = typeof statement === "string" ? { text: statement, values } : { ...statement, values };
    const replica = await this.choose(options);
    if (replica) {
      const server = this.server(replica);
      try {
        const result = await server.pool.query<R>(query);
        server.reads++;
        server.inARow = 0;
        return result;
      } catch (error) {
        if (!isUnavailable(error)) throw error; // the statement's own fault
        this.rest(server, replica.name, error as Error);
        this.fallbacks++;
      }
    }
    this.writer.reads++;
    return this.options.writer.query<R>(query);
  }

  /** What is known of the servers. Asks nobody. */
  health(): RouterHealth {
    const now = Date.now();
    const replicas = this.source.known().map(({ name, region, lagMs }) => {
      const server = this.servers.get(name);
      return {
        name,
        region,
        lagMs,
        roundTripMs: server?.roundTripMs ?? null,
        reads: server?.reads ?? 0,
        failures: server?.failures ?? 0,
        resting: (server?.restsUntil ?? 0) > now,
        lastError: server?.lastError ?? null,
      };
    });
    return { writer: { ...this.writer }, replicas, fallbacks: this.fallbacks };
  }

  /** Ends the pools of replicas; the writer's is whose it was. */
  async end(): Promise<void> {
    clearInterval(this.timer);
    const pools = [...this.servers.values()].map(({ pool }) => pool);
    this.servers.clear();
    await Promise.all(pools.map((pool) => pool.end()));
  }

  /** Measures the round trip to each replica that is known; done regularly with `latency`. */
  async measure(): Promise<void> {
    await this.source.candidates({ after: null, region: null, maxLagMs: null });
    await Promise.all(this.source.known().map((replica) => this.measureOne(replica)));
  }

  // ---- which replica

  private async choose(options: RouteOptions): Promise<Replica | undefined> {
    const wish: Wish = {
      after: options.after === undefined ? currentToken() : options.after,
      region: options.region ?? this.options.region ?? null,
      maxLagMs: options.maxLagMs ?? this.options.maxLagMs ?? null,
    };
    const now = Date.now();
    const all = await this.source.candidates(wish);
    const awake = all.filter(({ name }) => (this.servers.get(name)?.restsUntil ?? 0) <= now);
    return this.options.nearest === "latency" ? this.quickest(awake) : byWeight(ofRegion(awake, wish.region));
  }

  private quickest(replicas: readonly Replica[]): Replica | undefined {
    const time = ({ name }: Replica) => this.servers.get(name)?.roundTripMs ?? Number.MAX_VALUE;
    const least = Math.min(...replicas.map(time));
    return byWeight(replicas.filter((replica) => time(replica) <= least * 1.2)); // as good as the best
  }

  private async measureOne(replica: Replica): Promise<void> {
    const server = this.server(replica);
    try {
      const client = await server.pool.connect(); // so that the time to connect does not count
      const began = performance.now();
      try {
        await client.query("SELECT 1");
      } finally {
        client.release();
      }
      const took = performance.now() - began;
      server.roundTripMs = server.roundTripMs === null ? took : server.roundTripMs * 0.7 + took * 0.3;
    } catch (error) {
      server.roundTripMs = null;
      this.rest(server, replica.name, error as Error);
    }
  }

  // ---- servers

  /** Another connection string under the same name is another server. */
  private server({ name, conninfo }: Replica): Server {
    const known = this.servers.get(name);
    if (known?.conninfo === conninfo) return known;
    if (known) void known.pool.end().catch(() => {});
    const { pool: given } = this.options;
    const config = {
      connectionTimeoutMillis: 1000,
      ...parseConninfo(conninfo),
      ...(typeof given === "function" ? given(name) : given),
    };
    const pool = new pg.Pool(config);
    const server: Server = {
      conninfo,
      pool,
      reads: 0,
      failures: 0,
      inARow: 0,
      restsUntil: 0,
      roundTripMs: null,
      lastError: null,
    };
    pool.on("error", (error) => this.rest(server, name, error)); // an idle connection ended: the replica stopped
    this.servers.set(name, server);
    return server;
  }

  /** 250 ms, and twice as long each time in a row, up to 30 s. */
  private rest(server: Server, name: string, error: Error): void {
    server.failures++;
    server.lastError = error.message;
    server.restsUntil = Date.now() + Math.min(250 * 2 ** Math.min(server.inARow++, 10), 30_000);
    this.options.onError?.(error, name);
  }

  private noteWriter(error: Error): void {
    this.writer.failures++;
    this.writer.lastError = error.message;
    this.options.onError?.(error, "writer");
  }

  /** node-postgres hands on each ParameterStatus, on the connection below the client. */
  private listen(client: PoolClient): { lsn: string | null } {
    const known = this.tokens.get(client);
    if (known) return known;
    const heard: { lsn: string | null } = { lsn: null };
    const { connection } = client as unknown as { connection: ParameterSource };
    connection.on("parameterStatus", ({ parameterName, parameterValue }) => {
      if (parameterName === PARAMETER) heard.lsn = parameterValue;
    });
    this.tokens.set(client, heard);
    return heard;
  }
}

interface ParameterSource {
  on(event: "parameterStatus", listener: (message: { parameterName: string; parameterValue: string }) => void): void;
}

function ofRegion(replicas: readonly Replica[], region: string | null): readonly Replica[] {
  const near = replicas.filter((replica) => replica.region === region);
  return region !== null && near.length > 0 ? near : replicas;
}

function byWeight(replicas: readonly Replica[]): Replica | undefined {
  let left = Math.random() * replicas.reduce((sum, { weight }) => sum + weight, 0);
  for (const replica of replicas) {
    left -= replica.weight;
    if (left < 0) return replica;
  }
  return undefined;
}

/**
 * @internal Cannot connect, not allowed in, no such database, connection lost, shutting down, or a conflict with replay. A SQLSTATE
 * has a digit; EPIPE is none.
 */
export function isUnavailable(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return typeof code !== "string" || !/^(?=.*\d)[0-9A-Z]{5}$/.test(code) || /^(08|28|3D|53|57P|58|40001)/.test(code);
}
