"""Redis that is dead, frozen, or refuses: no read fails, and none waits longer than it must."""

from __future__ import annotations

import asyncio
import contextlib
import time
import unittest
from typing import Any

from cache_aside_pg import AsyncCachedRepository

from .support import SOCKET, Proxy, Tasks, admin, both, delivered, raw, until


def make_things() -> None:
    admin.execute("""DROP TABLE IF EXISTS things; CREATE TABLE things (id int PRIMARY KEY, name text);
        INSERT INTO things SELECT g, 'name ' || g FROM generate_series(1, 100) g; SELECT cache_aside.attach('things', 'thing:{id}')""")
    delivered()


class Faults:
    flavor: Any

    def setUp(self) -> None:
        make_things()
        self.proxy = Proxy(SOCKET)
        self.errors: list[Exception] = []
        cache = self.flavor.cache(self.proxy.path, retry=0.05, on_error=self.note)
        self.things = self.flavor.repository(self.flavor.pool(), cache, table="things")
        until("it is used", self.is_a_hit)

    def note(self, error: Exception) -> None:
        self.errors.append(error)
        raise RuntimeError("whoever logs cannot fail a read")

    def is_a_hit(self) -> bool:
        before = self.things.health()["hits"]
        self.works(3)
        return self.things.health()["hits"] > before

    def works(self, key: int) -> None:
        self.assertEqual(self.things.get(key)["name"], f"name {key}")

    def works_without(self) -> None:
        """Everything works, from the database, and at once."""
        began = time.monotonic()
        for key in range(4, 54):
            self.works(key)
        self.assertEqual(len(self.things.get_many([3, 4, -1])), 2)
        self.assertEqual(self.things.update(4, {"name": "name 4"})["name"], "name 4")
        self.assertEqual(self.things.warm([4]), 0)
        self.assertLess(time.monotonic() - began, 2.5)  # fifty time-outs would be five seconds. Remedy: _judge() in cache.py
        self.assertEqual(self.things.health()["redis"]["state"], "down")

    def test_a_redis_that_dies_and_comes_back(self) -> None:
        self.proxy.go("down")
        self.works_without()
        self.assertTrue(self.errors)
        self.proxy.go("open")
        until("it is used again", self.is_a_hit)  # Remedy: the probe
        self.assertEqual(self.things.health()["redis"]["state"], "up")

    def test_a_redis_that_is_frozen(self) -> None:
        self.proxy.go("frozen")
        began = time.monotonic()
        self.works(3)
        self.assertLess(time.monotonic() - began, 1.5)  # Remedy: redis_options
        self.works_without()
        self.assertGreaterEqual(self.things.health()["redis"]["timeouts"], 1)
        self.proxy.go("open")
        until("it is used again", self.is_a_hit)

    def test_a_redis_without_the_functions(self) -> None:
        with self.renamed_function():
            self.works(5)
        self.assertIn("unction", self.things.health()["redis"]["last_error"])
        self.assertEqual(self.things.health()["redis"]["state"], "up")

    @contextlib.contextmanager
    def renamed_function(self) -> Any:
        from cache_aside_pg import guard

        name, guard._GET = guard._GET, "cache_aside_get_99"
        try:
            yield
        finally:
            guard._GET = name


FaultsThreads, FaultsTasks = both(Faults)


class Cancelled(unittest.TestCase):
    def test_a_request_that_is_cancelled_costs_no_connection_and_leaves_no_answer_to_another(self) -> None:
        make_things()
        flavor, proxy = Tasks(), Proxy(SOCKET)
        things = AsyncCachedRepository(flavor.pool(), flavor.cache(proxy.path), table="things")

        async def work() -> None:
            while things.health()["hits"] < 1:
                await things.get(1)
            connections = raw.info("stats")["total_connections_received"]
            for n in range(20):
                proxy.go("frozen")
                task = asyncio.ensure_future(things.get(1))
                await asyncio.sleep(0.01)
                task.cancel()
                proxy.go("open")
                row = await things.get(2 + n)
                assert row and row["name"] == f"name {2 + n}", row
                await asyncio.wait([task])
            connections = raw.info("stats")["total_connections_received"] - connections
            assert connections < 10, connections  # Remedy: _protected() in cache.py

        flavor.wait(work())
