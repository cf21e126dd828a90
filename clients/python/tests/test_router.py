"""Reads on a standby that see what was written, and what happens when it lags or is away."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import psycopg

from cache_aside_pg import current_token, use_token

from .support import STANDBY, Proxy, admin, both, delivered, until, value

NAME = os.environ["REPLICA_NAME"]
PORT = os.environ["REPLICA_PORT"]
standby = psycopg.connect(STANDBY, autocommit=True)


@contextlib.contextmanager
def paused() -> Any:
    """The standby replays nothing."""
    standby.execute("SELECT pg_wal_replay_pause()")
    try:
        until("paused", lambda: standby.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",))
        yield
    finally:
        standby.execute("SELECT pg_wal_replay_resume()")


class Routing:
    flavor: Any
    published = True

    def setUp(self) -> None:
        admin.execute("""DROP TABLE IF EXISTS people; CREATE TABLE people (id int PRIMARY KEY, name text);
            INSERT INTO people SELECT g, 'name ' || g FROM generate_series(1, 20) g; SELECT cache_aside.attach('people', 'person:{id}');
            SELECT cache_aside.remove_replica(name) FROM cache_aside.replica""")
        admin.execute("SELECT cache_aside.add_replica(%s, %s, 'east')", (NAME, STANDBY))
        delivered()
        self.writer = self.flavor.pool()
        self.router = self.make()
        until("the replica serves", lambda: self.name_of(1, after=value("SELECT pg_current_wal_lsn()::text")) and self.served() > 0)

    def make(self, **options: Any) -> Any:
        sources = (self.flavor.cache(),) if self.published else ()
        return self.flavor.router(self.writer, *sources, **{"refresh": 0.02, **options})

    def tearDown(self) -> None:
        self.router.close()

    def name_of(self, key: int, router: Any = None, **options: Any) -> str:
        return (router or self.router).read("SELECT name FROM people WHERE id = %s", [key], **options)[0][0]

    def rename(self, key: int, name: str) -> None:
        with self.router.transaction() as connection:
            connection.execute("UPDATE people SET name = %s WHERE id = %s", (name, key))

    def served(self, router: Any = None) -> int:
        return sum(one["reads"] for one in (router or self.router).health()["replicas"])

    def test_a_write_tells_its_token(self) -> None:
        tokens: list[str] = []
        for sql in ("UPDATE people SET name = 'Ada' WHERE id = 1", "SELECT 1", "UPDATE people SET name = 'Eve' WHERE id = 1"):
            with self.router.transaction(tokens.append) as connection:
                connection.execute(sql)
        self.assertEqual(len(tokens), 2)  # nothing, where nothing was written. Remedy: _tell()
        self.assertTrue(value("SELECT %s::pg_lsn < %s::pg_lsn", *tokens))
        self.assertIsNone(current_token())

    def test_a_transaction_that_had_failed_is_not_taken_for_one_that_committed(self) -> None:
        with self.assertRaisesRegex(psycopg.errors.InFailedSqlTransaction, "rolled back"):  # Remedy: _check_commit()
            with self.router.transaction() as connection:
                connection.execute("UPDATE people SET name = 'lost' WHERE id = 1")
                with contextlib.suppress(psycopg.errors.DivisionByZero):
                    connection.execute("SELECT 1 / 0")
        with self.assertRaises(psycopg.errors.DivisionByZero), self.router.transaction() as connection:
            connection.execute("SELECT 1 / 0")
        self.assertEqual(value("SELECT name FROM people WHERE id = 1"), "name 1")
        self.rename(1, "the connection can be used again")

    def test_every_read_of_a_request_sees_its_writes(self) -> None:
        before = self.served()
        with use_token():
            for n in range(30):
                self.rename(2, f"version {n}")
                for _ in range(4):
                    self.assertEqual(self.name_of(2), f"version {n}")
            until("the replica serves it", lambda: self.name_of(2) == "version 29" and self.served() > before)

    def test_a_standby_that_does_not_replay_is_not_asked_for_what_it_lacks(self) -> None:
        people = self.flavor.repository(self.router, self.flavor.cache(), table="people")
        until("cached", lambda: people.get(4) and people.health()["hits"])
        with paused():
            with use_token():
                self.rename(3, "Barbara")
                before = self.served()
                for _ in range(10):
                    self.assertEqual(self.name_of(3), "Barbara")  # Remedy: candidates() in replicas.py
                self.assertEqual(self.served(), before)
                for n in range(5):
                    people.update(4, {"name": f"name {n}"})
                    self.assertEqual(people.get(4)["name"], f"name {n}")
                    self.assertEqual(people.get_many([4, 5])[4]["name"], f"name {n}")
            self.assertEqual(self.name_of(3), "name 3")  # another request has no such wish
            self.assertGreater(self.served(), before)

    def test_a_replica_that_cannot_be_reached(self) -> None:
        proxy = Proxy(f"{os.environ['REPLICA_HOST']}/.s.PGSQL.{PORT}", f".s.PGSQL.{PORT}")
        errors: list[str] = []
        router = self.make(connect=lambda name: {"host": proxy.directory}, on_error=lambda error, name: errors.append(name))
        until("it serves", lambda: self.name_of(6, router) == "name 6" and self.served(router) > 0)
        proxy.go("down")
        for _ in range(20):
            self.assertEqual(self.name_of(6, router), "name 6")  # Remedy: the except in read()
        fallbacks = router.health()["fallbacks"]
        self.assertTrue(1 <= fallbacks < 5, fallbacks)  # it rests. Remedy: rests_until in _failed()
        self.assertEqual(errors, [NAME] * fallbacks)
        proxy.go("open")
        served = self.served(router)
        until("it serves again", lambda: self.name_of(6, router) == "name 6" and self.served(router) > served)
        router.close()

    def test_the_fault_of_a_statement_is_not_the_replicas(self) -> None:
        with self.assertRaises(psycopg.errors.DivisionByZero):
            self.router.read("SELECT 1 / 0")
        self.assertEqual(self.router.health()["fallbacks"], 0)

    def test_a_pool_whose_server_ended_one_connection_has_ended_all(self) -> None:
        router = self.flavor.router(self.flavor.pool("application_name=pooled"))
        with router.transaction(), router.transaction(), router.transaction():
            pass
        self.assertEqual(value("SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE application_name = 'pooled'"), 3)
        with self.assertRaises(psycopg.OperationalError), router.transaction():
            pass
        with router.transaction() as connection:  # Remedy: _keep() in pool.py
            connection.execute("SELECT 1")

    def test_a_pool_is_bounded(self) -> None:
        pool = self.flavor.pool(size=1, timeout=0.05)
        router = self.flavor.router(pool)
        with router.transaction():
            with self.assertRaisesRegex(psycopg.OperationalError, "all 1 connections are in use"), router.transaction():
                pass
        with router.transaction() as connection:
            self.assertTrue(connection.execute("SELECT 1"))


class RoutingAsked(Routing):
    published = False


RoutingThreads, RoutingTasks = both(Routing)
AskedThreads, AskedTasks = both(RoutingAsked)
