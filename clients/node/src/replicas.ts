/**
 * Which replicas there are and what each has replayed: from Redis, where the workers publish it, or from the primary.
 */
import type { Pool } from "pg";
import type { Cache } from "./cache";
import { Failure } from "./link";
import { parseLsn } from "./lsn";

/** @internal */
export interface Replica {
  readonly name: string;
  readonly conninfo: string;
  readonly region: string | null;
  readonly weight: number;
  readonly lsn: bigint;
  readonly lagMs: number | null;
}

/** @internal What a read wants. */
export interface Wish {
  readonly after: string | null;
  readonly region: string | null;
  readonly maxLagMs: number | null;
}

/** @internal */
export interface ReplicaSource {
  /** Those that may serve this read. */
  candidates(wish: Wish): Promise<readonly Replica[]>;
  /** All that are known. */
  known(): readonly Replica[];
}

/** @internal One question to the primary for each read; it names one replica, or none. */
export class AskedReplicas implements ReplicaSource {
  private readonly seen = new Map<string, Replica>();

  constructor(private readonly primary: Pool) {}

  async candidates({ after, region, maxLagMs }: Wish): Promise<readonly Replica[]> {
    const { rows } = await this.primary.query<{ name: string | null; conninfo: string | null; lsn: string | null }>(
      "SELECT name, conninfo, lsn FROM cache_aside.route($1, $2, $3 * interval '1 ms')",
      [after, region, maxLagMs],
    );
    const { name, conninfo, lsn } = rows[0] ?? { name: null, conninfo: null, lsn: null };
    if (name === null || conninfo === null) return [];
    const replica = { name, conninfo, region: null, weight: 1, lsn: parseLsn(lsn ?? "") ?? 0n, lagMs: null };
    this.seen.set(name, replica);
    return [replica];
  }

  known(): readonly Replica[] {
    return [...this.seen.values()];
  }
}

interface Published {
  readonly system?: unknown;
  readonly timeline?: unknown;
  readonly lsn?: unknown;
  readonly conninfo?: unknown;
  readonly region?: unknown;
  readonly weight?: unknown;
  readonly lag_ms?: unknown;
}

/**
 * @internal What the workers publish, read again every `refreshMs`. What a replica has replayed only grows, as long as it
 * is of the primary's history, so a list that is a little old errs on the safe side. Older than TOO_OLD_MS it is none.
 */
export class PublishedReplicas implements ReplicaSource {
  private list: readonly Replica[] = [];
  private readAt = Number.NEGATIVE_INFINITY;
  private reading: Promise<void> | undefined;

  constructor(
    private readonly cache: Cache,
    private readonly refreshMs: number,
  ) {}

  async candidates({ after, maxLagMs }: Wish): Promise<readonly Replica[]> {
    if (this.age() >= this.refreshMs) {
      this.reading ??= this.refresh().finally(() => {
        this.reading = undefined;
      });
      if (this.age() >= TOO_OLD_MS) await this.reading;
    }
    const lsn = after === null ? 0n : parseLsn(after);
    if (lsn === null) return [];
    return this.known().filter(
      (replica) =>
        replica.weight > 0 &&
        replica.lsn >= lsn &&
        (maxLagMs === null || (replica.lagMs !== null && replica.lagMs <= maxLagMs)),
    );
  }

  known(): readonly Replica[] {
    return this.age() < TOO_OLD_MS ? this.list : [];
  }

  private age(): number {
    return performance.now() - this.readAt;
  }

  private async refresh(): Promise<void> {
    const began = performance.now();
    const answers = await this.cache.link.ask([
      ["GET", "cache_aside:primary"],
      ["HGETALL", "cache_aside:replicas"],
    ]);
    if (!answers || answers.some((answer) => answer instanceof Failure)) return;
    this.readAt = began;
    const primary = parsePublished(answers[0]);
    this.list = primary
      ? toEntries(answers[1]).flatMap(([name, text]) => toReplica(name, parsePublished(text), primary))
      : [];
  }
}

const TOO_OLD_MS = 2000;

function parsePublished(text: unknown): Published | null {
  try {
    const value: unknown = typeof text === "string" ? JSON.parse(text) : null;
    return typeof value === "object" ? (value as Published) : null;
  } catch {
    return null;
  }
}

/** Clients differ in what they make of a hash. */
function toEntries(hash: unknown): [string, unknown][] {
  if (hash instanceof Map) return [...hash] as [string, unknown][];
  if (!Array.isArray(hash)) return Object.entries(hash ?? {});
  return Array.from({ length: hash.length >> 1 }, (_, i) => [String(hash[2 * i]), hash[2 * i + 1]]);
}

/** Only of the primary's history: an LSN of another timeline says nothing. */
function toReplica(name: string, entry: Published | null, primary: Published): Replica[] {
  const lsn = typeof entry?.lsn === "string" ? parseLsn(entry.lsn) : null;
  if (!entry || lsn === null || typeof entry.conninfo !== "string") return [];
  if (entry.system !== primary.system || entry.timeline !== primary.timeline) return [];
  return [
    {
      name,
      lsn,
      conninfo: entry.conninfo,
      region: typeof entry.region === "string" ? entry.region : null,
      weight: typeof entry.weight === "number" ? entry.weight : 1,
      lagMs: typeof entry.lag_ms === "number" ? entry.lag_ms : null,
    },
  ];
}
