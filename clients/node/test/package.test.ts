/** The package as its users get it: packed, installed in a fresh project, as ESM and CommonJS, with types; and its README. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { before, describe, test } from "node:test";
import { makePool, skip } from "./support";

const root = join(__dirname, "../..");
const project = mkdtempSync(join(tmpdir(), "ca-node-"));
const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, {
    cwd: project,
    encoding: "utf8",
    timeout: 120_000,
  });
const readme = readFileSync(join(root, "README.md"), "utf8");
const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map((match) => match[1] as string);

describe("in a fresh project", { skip }, () => {
  before(() => {
    const packed = execFileSync("npm", ["pack", "--silent", "--pack-destination", project], {
      cwd: root,
      encoding: "utf8",
    });
    const archive = join(project, packed.trim().split("\n").at(-1) ?? "");
    writeFileSync(join(project, "package.json"), '{ "private": true, "type": "module" }');
    const [install] = blocks("sh");
    assert.equal(install?.trim(), `npm install /path/to/${basename(archive)} pg ioredis`);
    const versions = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).devDependencies;
    const peers = ["pg", "ioredis"].map((name) => `${name}@${versions[name]}`);
    run("npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--no-progress", archive, ...peers);
    mkdirSync(join(project, "node_modules/@types"), { recursive: true });
    for (const name of ["redis", "express", "fastify", "@types/pg", "@types/node", "@types/express"]) {
      symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name));
    }
  });

  test("nothing else came with it", () => {
    const { dependencies } = JSON.parse(
      readFileSync(join(project, "node_modules/cache-aside-pg/package.json"), "utf8"),
    );
    assert.equal(dependencies, undefined);
  });

  test("one copy, by import and by require", () => {
    writeFileSync(
      join(project, "both.mjs"),
      `import { createRequire } from "node:module";
       import * as esm from "cache-aside-pg";
       const cjs = createRequire(import.meta.url)("cache-aside-pg");
       const names = Object.keys(cjs).filter((name) => name !== "__esModule");
       for (const name of names) if (esm[name] !== cjs[name]) throw new Error(name + " differs");
       console.log(names.sort().join(" "));`,
    );
    assert.equal(
      run("node", "both.mjs").trim(),
      "Cache CachedRepository Router RuleError VersionConflictError currentToken expressToken fastifyToken ioredisOptions " +
        "nodeRedisOptions noteToken parseConninfo runWithToken",
    );
  });

  test("types, for ESM and CommonJS, with the clients' own", () => {
    const use = `
      const pool = new pg.Pool();
      const options = { table: "users" };
      interface User { id: bigint; name: string | null; version: number }
      const users = new CachedRepository<User>(pool, new Redis(ioredisOptions), options);
      const shared = new CachedRepository<User>(pool, new Cache(createClient(nodeRedisOptions)), options);
      new CachedRepository<User>(new Router({ writer: pool }), new Cluster([]), options);
      export const row: Promise<User | null> = users.get(42);
      export const many: Promise<Map<number, User>> = shared.getMany([1, 2]);
      void users.update(1, { name: null });
      // @ts-expect-error there is no such column
      void users.update(1, { nothing: 1 });
      fastify().register(fastifyToken, { secret: "x" });
      express().use(expressToken({ secret: "x" }));`;
    const names = "Cache, CachedRepository, expressToken, fastifyToken, ioredisOptions, nodeRedisOptions, Router";
    const imports = `import { ${names} } from "cache-aside-pg"; import { Cluster, Redis } from "ioredis"; import pg from "pg";
      import { createClient } from "redis"; import express from "express"; import fastify from "fastify";`;
    writeFileSync(join(project, "use.mts"), imports + use);
    writeFileSync(join(project, "use.cts"), imports + use);
    const own = {
      compilerOptions: {
        strict: true,
        exactOptionalPropertyTypes: true,
        noEmit: true,
        skipLibCheck: true,
        module: "node16",
        target: "es2022",
        esModuleInterop: true,
        types: ["node"],
      },
      files: ["use.mts", "use.cts"],
    };
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify(own));
    run(join(root, "node_modules/.bin/tsc"));
  });

  test("the code of the README runs as written", async () => {
    const pool = makePool();
    await pool.query("DROP TABLE IF EXISTS users");
    for (const sql of blocks("sql")) await pool.query(sql);
    const program = blocks("js").join("\n");
    assert.equal(
      program.match(/^import /gm)?.length,
      blocks("js")
        .join("")
        .match(/^import /gm)?.length,
    );
    writeFileSync(join(project, "readme.mjs"), `${program}\nprocess.exit(0);\n`);
    const output = run("node", "readme.mjs");
    assert.match(output, /^Barbara$/m);
    assert.match(output, /template: 'user:\{id\}'/);
    await pool.query("DROP TABLE users");
  });
});
