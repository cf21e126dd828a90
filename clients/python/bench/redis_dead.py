"""What a read costs when Redis is dead: `get` of a repository, against the same statement through the same pool, its row decoded
alike (`same`), and against the one that an application without a cache would send (`direct`).

    PGHOST=... PGPORT=... [ROUNDS=30] [READS=1000] PYTHONPATH=. python3 bench/redis_dead.py

All in turn, in short rounds, so that whatever else the machine does meets all; the ratios are those of the p99 of each
round, and the median of them is printed. Needs a server with the extension; makes and drops a table.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import psycopg
import redis
import redis.asyncio

import cache_aside_pg as ca
from cache_aside_pg.router import query, query_async

ROUNDS = int(os.environ.get("ROUNDS", 30))
READS = int(os.environ.get("READS", 1000))
NOWHERE = "/nonexistent/redis.sock"
SAME = 'SELECT pg_catalog.row_to_json(t.*)::text FROM bench_users t WHERE t."id" = %s'
DIRECT = "SELECT * FROM bench_users WHERE id = %s"


def measure(read: Callable[[int], Any]) -> list[float]:
    times = []
    for _ in range(READS):
        key = random.randint(1, 1000)
        began = time.perf_counter()
        read(key)
        times.append(time.perf_counter() - began)
    return times


async def measure_async(read: Callable[[int], Any]) -> list[float]:
    times = []
    for _ in range(READS):
        key = random.randint(1, 1000)
        began = time.perf_counter()
        await read(key)
        times.append(time.perf_counter() - began)
    return times


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def report(name: str, all: dict[str, list[list[float]]]) -> None:
    for kind, rounds in all.items():
        times = sorted(time for one in rounds for time in one)
        print(f"{name} {kind:10}  p50 {statistics.median(times) * 1000:.3f} ms  p99 {p99(times) * 1000:.3f} ms")
    for kind in ("same", "direct"):
        ratios = [p99(a) / p99(b) for a, b in zip(all["repository"], all[kind])]
        print(f"{name}: p99 of a repository with Redis dead / {kind}: {statistics.median(ratios):.2f}")


def threads() -> None:
    pool = ca.Pool()
    cache = ca.Cache(redis.Redis(unix_socket_path=NOWHERE, **ca.redis_options))
    users = ca.CachedRepository(pool, cache, table="bench_users")
    kinds: dict[str, Callable[[int], Any]] = {
        "direct": lambda key: query(pool, DIRECT, (str(key),)),
        "same": lambda key: users._known.decode(query(pool, SAME, (str(key),))[0][0]),
        "repository": users.get,
    }
    users.ready()
    for read in kinds.values():
        measure(read)
    all: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for turn in range(ROUNDS):
        for kind in list(kinds)[:: 1 if turn % 2 else -1]:
            all[kind].append(measure(kinds[kind]))
    report("threads", all)


async def tasks() -> None:
    pool = ca.AsyncPool()
    cache = ca.AsyncCache(redis.asyncio.Redis(unix_socket_path=NOWHERE, **ca.async_redis_options))
    users = ca.AsyncCachedRepository(pool, cache, table="bench_users")

    async def direct(key: int) -> Any:
        return await query_async(pool, DIRECT, (str(key),))

    async def same(key: int) -> Any:
        return users._known.decode((await query_async(pool, SAME, (str(key),)))[0][0])

    kinds: dict[str, Callable[[int], Any]] = {"direct": direct, "same": same, "repository": users.get}
    await users.ready()
    for read in kinds.values():
        await measure_async(read)
    all: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for turn in range(ROUNDS):
        for kind in list(kinds)[:: 1 if turn % 2 else -1]:
            all[kind].append(await measure_async(kinds[kind]))
    report("tasks", all)


with psycopg.connect("", autocommit=True) as admin:
    admin.execute("""DROP TABLE IF EXISTS bench_users; CREATE TABLE bench_users (id bigint PRIMARY KEY, name text, credit numeric);
        INSERT INTO bench_users SELECT g, 'name ' || g, g FROM generate_series(1, 1000) g;
        SELECT cache_aside.attach('bench_users', 'bench-user:{id}'); ANALYZE bench_users""")
    threads()
    asyncio.run(tasks())
    admin.execute("DROP TABLE bench_users")
