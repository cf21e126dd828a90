/**
 * What is asked of a Redis client: one command at a time, and whether it would be sent now.
 *
 * ioredis (`Redis` and `Cluster`) and node-redis are understood as they are; anything else can be adapted. No command
 * names two keys, so that a client of a Redis Cluster finds a node for each.
 */

/** A Redis client, as this package uses it. */
export interface RedisAdapter {
  /** Would a command be sent at once, not put into a queue until there is a connection? */
  isReady(): boolean;
  /** Sends commands in one go. One promise each; it rejects when Redis answers with an error, or not at all. */
  send(commands: readonly (readonly string[])[]): Promise<unknown>[];
}

/** The part of ioredis that is used; `Redis` and `Cluster` have it. */
export interface IoredisLike {
  readonly status: string;
  readonly isCluster?: boolean;
  call(command: string, args: string[]): Promise<unknown>;
  pipeline?(commands: unknown[][]): { exec(): Promise<[Error | null, unknown][] | null> };
  on(event: "error", listener: (error: Error) => void): unknown;
}

/** The part of node-redis (`createClient`) that is used. */
export interface NodeRedisLike {
  readonly isReady: boolean;
  sendCommand(args: string[]): Promise<unknown>;
  on(event: "error", listener: (error: Error) => void): unknown;
}

/** What can be handed in as Redis. */
export type RedisInput = RedisAdapter | IoredisLike | NodeRedisLike;

/**
 * Options for `new Redis({...ioredisOptions, host})`, so that ioredis fails at once where it would wait: no queue while
 * there is no connection, no command sent a second time, and a connection on which nothing comes is given up.
 */
export const ioredisOptions = {
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  connectTimeout: 1000,
  socketTimeout: 5000,
  retryStrategy: (attempt: number): number => retryDelay(attempt),
};

/** The same for node-redis: `createClient({...nodeRedisOptions, url})`. */
export const nodeRedisOptions = {
  disableOfflineQueue: true,
  socket: { connectTimeout: 1000, reconnectStrategy: (attempt: number): number => retryDelay(attempt) },
};

function retryDelay(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt, 10), 2000) * (0.5 + Math.random() / 2);
}

/** @internal A client that emits an error nobody listens to would end the process. */
export function adaptRedis(client: RedisInput, onError: (error: Error) => void): RedisAdapter {
  if ("call" in client) return adaptIoredis(client, onError);
  if ("sendCommand" in client) return adaptNodeRedis(client, onError);
  return client;
}

function adaptIoredis(client: IoredisLike, onError: (error: Error) => void): RedisAdapter {
  client.on("error", onError);
  const one = (command: readonly string[]) => client.call(command[0] as string, command.slice(1));
  return {
    isReady: () => client.status === "ready",
    send: (commands) =>
      commands.length > 1 && client.pipeline && !client.isCluster
        ? sendPipeline(client.pipeline(commands.map((command) => ["call", ...command])), commands.length)
        : commands.map(one),
  };
}

function sendPipeline(
  pipeline: { exec(): Promise<[Error | null, unknown][] | null> },
  count: number,
): Promise<unknown>[] {
  const answers = pipeline.exec();
  return Array.from({ length: count }, async (_, i) => {
    const [error, value] = (await answers)?.[i] ?? [new Error("the pipeline was not executed"), null];
    if (error) throw error;
    return value;
  });
}

function adaptNodeRedis(client: NodeRedisLike, onError: (error: Error) => void): RedisAdapter {
  client.on("error", onError);
  return {
    isReady: () => client.isReady,
    send: (commands) => commands.map((command) => client.sendCommand([...command])),
  };
}
