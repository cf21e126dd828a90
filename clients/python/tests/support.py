"""Real servers, started by test/t/clients/python.pl: PostgreSQL by the usual PG* variables, its standby by REPLICA_*, Redis by
REDIS_SOCKET. Each story runs twice: for threads, and for tasks of an event loop that another thread runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import socket
import tempfile
import threading
import time
import unittest
from typing import Any

import psycopg
import redis
import redis.asyncio

import cache_aside_pg as ca

SOCKET = os.environ["REDIS_SOCKET"]
STANDBY = f"host='{os.environ['REPLICA_HOST']}' port={os.environ['REPLICA_PORT']} dbname=postgres"
raw = redis.Redis(unix_socket_path=SOCKET, decode_responses=True)
admin = psycopg.connect("", autocommit=True)


def value(sql: str, *values: Any) -> Any:
    row = admin.execute(sql, values).fetchone()
    return row[0] if row else None


def delivered() -> None:
    """Everything that was committed so far has reached Redis."""
    assert value("SELECT cache_aside.wait_delivered()")


def until(what: str, condition: Any) -> Any:
    end = time.monotonic() + 60
    while not (answer := condition()):
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.005)
    return answer


def setting(name: str, text: str) -> contextlib.AbstractContextManager[None]:
    """A setting of Redis, for a while."""

    @contextlib.contextmanager
    def change() -> Any:
        before = raw.config_get(name)[name]
        raw.config_set(name, text)
        try:
            yield
        finally:
            raw.config_set(name, before)

    return change()


class Threads:
    """Makes what is tested: for threads."""

    def cache(self, path: str = SOCKET, login: Any = {}, **options: Any) -> Any:
        return ca.Cache(redis.Redis(unix_socket_path=path, **login, **ca.redis_options), **options)

    def pool(self, conninfo: str = "", **options: Any) -> Any:
        return ca.Pool(conninfo, **options)

    def repository(self, database: Any, cache: Any, **options: Any) -> Any:
        return ca.CachedRepository(database, cache, **options)

    def router(self, *arguments: Any, **options: Any) -> Any:
        return ca.Router(*arguments, **options)


class Tasks:
    """The same for tasks. Whatever awaits is awaited here, so that stories can be told once."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def wait(self, awaitable: Any) -> Any:
        async def work() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(work(), self.loop).result()

    def cache(self, path: str = SOCKET, login: Any = {}, **options: Any) -> Any:
        return ca.AsyncCache(redis.asyncio.Redis(unix_socket_path=path, **login, **ca.async_redis_options), **options)

    def pool(self, conninfo: str = "", **options: Any) -> Any:
        return ca.AsyncPool(conninfo, **options)

    def repository(self, database: Any, cache: Any, **options: Any) -> Any:
        return Awaited(self, ca.AsyncCachedRepository(_inner(database), cache, **options))

    def router(self, *arguments: Any, **options: Any) -> Any:
        return Awaited(self, ca.AsyncRouter(*arguments, **options))


class Awaited:
    def __init__(self, flavor: Tasks, inner: Any) -> None:
        self.flavor, self.inner = flavor, inner

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            arguments = tuple(_inner(argument) for argument in arguments)
            answer = getattr(self.inner, name)(*arguments, **{key: _inner(of) for key, of in options.items()})
            if inspect.isawaitable(answer):
                return self.flavor.wait(answer)
            return self._manage(answer) if hasattr(answer, "__aenter__") else answer

        return call

    @contextlib.contextmanager
    def _manage(self, manager: Any) -> Any:
        entered = self.flavor.wait(manager.__aenter__())
        try:
            yield Awaited(self.flavor, entered)
        except BaseException as error:
            if not self.flavor.wait(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self.flavor.wait(manager.__aexit__(None, None, None))


def _inner(thing: Any) -> Any:
    return thing.inner if isinstance(thing, Awaited) else thing


def both(cases: type) -> tuple[type, type]:
    """Two test cases of one."""
    return tuple(  # type: ignore[return-value]
        type(f"{cases.__name__}{kind.__name__}", (cases, unittest.TestCase), {"flavor": kind()})
        for kind in (Threads, Tasks)
    )


class Proxy:
    """A way to a socket, which can be `open`, `frozen` (nothing comes back), or `down`."""

    def __init__(self, to: str, name: str = "redis.sock") -> None:
        self.to, self.state = to, "open"
        self.directory = tempfile.mkdtemp(prefix="ca-py-")
        self.path = os.path.join(self.directory, name)
        self._ends: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def go(self, state: str) -> None:
        self.state = state
        if state == "down":
            for end in self._ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._ends.clear()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self.state == "down":
                near.close()
                continue
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.to)
            self._ends += [near, far]
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while back and self.state == "frozen":
                    time.sleep(0.005)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
