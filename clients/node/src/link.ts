/**
 * A Redis that may be away. Nothing here waits longer than `timeoutMs`, and nothing here fails: an answer is a value, or
 * a `Failure`.
 *
 * The breaker: an answer that does not come, or a connection that breaks, opens it. While it is open no read asks Redis;
 * a PING in the background, first after `retryMs` and then ever more rarely, finds out when it is back. So a Redis that is
 * frozen costs the reads of one moment `timeoutMs`, and no other. An error that Redis answers with (NOAUTH, LOADING,
 * OOM) comes as quickly as a value does and opens nothing.
 */
import type { RedisAdapter, RedisInput } from "./redis";
import { adaptRedis } from "./redis";

/** Redis did not answer, or with an error. */
export class Failure {
  constructor(readonly error: Error) {}
}

/** Limits of what is waited for. */
export interface LinkOptions {
  /** Longest wait for an answer of Redis, in ms. Default 100. */
  readonly timeoutMs?: number;
  /** First attempt after a failure, in ms; the next ones come later and later, up to 5 s. Default 250. */
  readonly retryMs?: number;
  /** Told of every failure of Redis, for a log. */
  readonly onError?: (error: Error) => void;
}

/** What is known of Redis. */
export interface LinkHealth {
  /** `up`: asked; `connecting`: the client has no connection; `down`: the breaker is open. */
  readonly state: "up" | "connecting" | "down";
  /** Commands without an answer, or with an error. */
  readonly failures: number;
  /** Of these, those that timed out. */
  readonly timeouts: number;
  /** Reads that went past Redis because it was not up. */
  readonly skipped: number;
  readonly lastError: { readonly message: string; readonly at: Date } | null;
}

const MAX_RETRY_MS = 5000;
const STALL_MS = 10;
/** Redis's own errors begin so; those of clients do not. */
const ERROR_REPLY = /^-?[A-Z][A-Z_]+ /;

/** @internal */
export class RedisLink {
  private readonly adapter: RedisAdapter;
  private readonly timeoutMs: number;
  private readonly retryMs: number;
  private readonly onError: (error: Error) => void;
  private open = false;
  private failures = 0;
  private timeouts = 0;
  private skipped = 0;
  private lastError: LinkHealth["lastError"] = null;

  constructor(client: RedisInput, options: LinkOptions = {}) {
    this.timeoutMs = options.timeoutMs ?? 100;
    this.retryMs = options.retryMs ?? 250;
    this.onError = options.onError ?? (() => {});
    this.adapter = adaptRedis(client, (error) => this.note(error));
  }

  /** One answer for each command; null when Redis is not to be asked now. */
  async ask(commands: readonly (readonly string[])[]): Promise<unknown[] | null> {
    if (!this.isUsable()) return null;
    return commands.length === 0 ? [] : this.exchange(commands);
  }

  /** Is Redis to be asked now? If not, whoever asks goes past it. */
  isUsable(): boolean {
    if (!this.open && this.adapter.isReady()) return true;
    this.skipped++;
    return false;
  }

  note(error: Error): void {
    this.failures++;
    this.lastError = { message: error.message, at: new Date() };
    try {
      this.onError(error);
    } catch {
      // whoever logs must not fail the read
    }
  }

  health(): LinkHealth {
    const state = this.open ? "down" : this.adapter.isReady() ? "up" : "connecting";
    return {
      state,
      failures: this.failures,
      timeouts: this.timeouts,
      skipped: this.skipped,
      lastError: this.lastError,
    };
  }

  private async exchange(commands: readonly (readonly string[])[]): Promise<unknown[]> {
    const { over, cancel } = this.timer();
    try {
      const answers = this.send(commands).map((sent) => sent.catch((error: Error) => new Failure(error)));
      return await Promise.all(answers.map(async (answer) => this.judge(await Promise.race([answer, over]))));
    } finally {
      cancel();
    }
  }

  private send(commands: readonly (readonly string[])[]): Promise<unknown>[] {
    try {
      return this.adapter.send(commands);
    } catch (error) {
      return commands.map(() => Promise.reject(error));
    }
  }

  /** A timer that is late tells of a stall of this very process: then Redis gets another chance to answer. */
  private timer(): { over: Promise<Failure>; cancel: () => void } {
    let timeout: NodeJS.Timeout | undefined;
    const over = new Promise<Failure>((resolve) => {
      const due = performance.now() + this.timeoutMs;
      const expire = () => resolve(new Failure(new TimeoutError(`Redis did not answer in ${this.timeoutMs} ms`)));
      timeout = setTimeout(() => {
        if (performance.now() < due + STALL_MS) expire();
        else timeout = setTimeout(expire, this.timeoutMs);
      }, this.timeoutMs);
    });
    return { over, cancel: () => clearTimeout(timeout) };
  }

  private judge(answer: unknown): unknown {
    if (answer instanceof Error) return this.judge(new Failure(answer)); // an error within an array
    if (!(answer instanceof Failure)) return answer;
    if (answer.error instanceof TimeoutError) this.timeouts++;
    this.note(answer.error);
    if (!ERROR_REPLY.test(answer.error.message)) this.trip();
    return answer;
  }

  private trip(): void {
    if (this.open) return;
    this.open = true;
    this.probeAfter(this.retryMs);
  }

  private probeAfter(ms: number): void {
    setTimeout(() => void this.probe(ms), ms * (0.75 + Math.random() / 2)).unref();
  }

  private async probe(waited: number): Promise<void> {
    const [answer] = this.adapter.isReady() ? await this.exchange([["PING"]]) : [null];
    const lives = answer !== null && (!(answer instanceof Failure) || ERROR_REPLY.test(answer.error.message));
    if (lives) this.open = false;
    else this.probeAfter(Math.min(waited * 2, MAX_RETRY_MS));
  }
}

class TimeoutError extends Error {
  override readonly name = "TimeoutError";
}
