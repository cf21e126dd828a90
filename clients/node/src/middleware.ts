/**
 * A visitor reads what the visitor wrote: the token of a request's writes goes into a cookie, and the next request's reads
 * see them, whichever process or replica serves it.
 *
 * The cookie is set when the headers are sent. A write after that is not in it.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { TokenContext } from "./context";
import { runInContext } from "./context";
import type { CookieOptions } from "./cookie";
import { readCookie, secretsOf, writeCookie } from "./cookie";

/** Middleware of Express, Connect, or any server of node:http. Put it before what reads and writes. */
export function expressToken(
  options: CookieOptions,
): (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void {
  secretsOf(options);
  return (request, response, next) => {
    const { context, cookie } = begin(request.headers.cookie, options);
    const writeHead = response.writeHead;
    response.writeHead = function (this: ServerResponse, ...args: unknown[]): ServerResponse {
      const header = cookie();
      if (header !== null && !this.headersSent) this.appendHeader("Set-Cookie", header);
      return Reflect.apply(writeHead, this, args) as ServerResponse;
    } as typeof writeHead;
    runInContext(context, next);
  };
}

/** The parts of Fastify that are used. */
export interface FastifyLike {
  addHook(
    name: "onRequest",
    hook: (request: FastifyRequestLike, reply: FastifyReplyLike, done: () => void) => void,
  ): unknown;
  addHook(
    name: "onSend",
    hook: (request: FastifyRequestLike, reply: FastifyReplyLike, payload: unknown, done: () => void) => void,
  ): unknown;
}

/** A request of Fastify. */
export interface FastifyRequestLike {
  readonly headers: { readonly cookie?: string | undefined };
}

/** A reply of Fastify. */
export interface FastifyReplyLike {
  header(name: string, value: string): unknown;
}

/** Plugin of Fastify: `app.register(fastifyToken, {secret})`. */
export function fastifyToken(app: FastifyLike, options: CookieOptions, done: (error?: Error) => void): void {
  secretsOf(options);
  const begun = new WeakMap<FastifyRequestLike, Begun>();
  app.addHook("onRequest", (request, _reply, next) => {
    const state = begin(request.headers.cookie, options);
    begun.set(request, state);
    runInContext(state.context, next);
  });
  app.addHook("onSend", (request, reply, _payload, next) => {
    const header = begun.get(request)?.cookie() ?? null;
    if (header !== null) reply.header("set-cookie", header);
    next();
  });
  done();
}

// For the whole application, not only for what the plugin itself registers.
Object.assign(fastifyToken, {
  [Symbol.for("skip-override")]: true,
  [Symbol.for("fastify.display-name")]: "cache-aside-pg",
});

interface Begun {
  readonly context: TokenContext;
  /** What to set, if the token moved since it came. */
  cookie(): string | null;
}

function begin(header: string | undefined, options: CookieOptions): Begun {
  const came = readCookie(header, options);
  const context: TokenContext = { token: came };
  return {
    context,
    cookie: () => (context.token === null || context.token === came ? null : writeCookie(context.token, options)),
  };
}
