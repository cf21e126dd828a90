"""Reads go to a replica that has what they must see, else to the writer; writes tell their token.

A token is the LSN of a commit. The server reports it with the COMMIT (cache_aside.report_commit_lsn, set for the transaction),
so it costs no round trip; it moves the token of the request on, and later reads of the request see the write. A replica that
cannot be reached is no error: the writer answers, and the replica is left alone for a while.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Generic, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from .cache import AsyncCache, Cache
from .context import current_token, note_token
from .pool import AsyncPool, Connect, Pool
from .replicas import AskedReplicas, PublishedReplicas, Replica, Wish, choose
from .steps import Ask, Rows, Step, Steps, Write, run, run_async

PoolT = TypeVar("PoolT", Pool, AsyncPool)
OnToken = Callable[[str], None]
OnError = Callable[[Exception, str], None]

_PARAMETER = "cache_aside.commit_lsn"
_BEGIN = "BEGIN; SET LOCAL cache_aside.report_commit_lsn = on"
_AS_REQUEST: Any = object()  # the token of the request


class _Server(Generic[PoolT]):
    def __init__(self, conninfo: str, pool: PoolT) -> None:
        self.conninfo = conninfo
        self.pool: PoolT = pool
        self.reads = self.failures = self.in_a_row = 0
        self.rests_until = 0.0
        self.last_error: str | None = None


class _Routing(Generic[PoolT]):
    """What both kinds of router know of the servers."""

    _pool_type: type[PoolT]

    def __init__(
        self,
        writer: Any,
        cache: Any = None,
        *,
        region: str | None = None,
        max_lag: float | None = None,
        connect: Mapping[str, Any] | Callable[[str], Mapping[str, Any]] = {},
        pool_size: int = 10,
        refresh: float = 0.25,
        on_error: OnError | None = None,
    ) -> None:
        """`writer`: a pool of the primary. `cache`: where the workers publish; without it the primary is asked each time.
        `connect`: what connections to replicas need beside the registry's connection string: user, password, ...; a function
        gets the replica's name, and is asked for each connection."""
        self._writer, self._cache = writer, cache
        self._region, self._max_lag, self._connect, self._size = region, max_lag, connect, pool_size
        self._on_error = on_error
        self._source: AskedReplicas | PublishedReplicas = AskedReplicas() if cache is None else PublishedReplicas(refresh)
        self._servers: dict[str, _Server[PoolT]] = {}
        self._lock = threading.Lock()
        self._count = {"reads": 0, "writes": 0, "fallbacks": 0}

    def health(self) -> dict[str, Any]:
        """What is known of the servers. Asks nobody."""
        now = time.monotonic()
        replicas = []
        for replica in self._source.known():
            server = self._servers.get(replica.name)
            replicas.append({
                "name": replica.name,
                "region": replica.region,
                "lag": replica.lag,
                "reads": server.reads if server else 0,
                "failures": server.failures if server else 0,
                "resting": bool(server and server.rests_until > now),
                "last_error": server.last_error if server else None,
            })
        return {
            "writer": {"reads": self._count["reads"], "writes": self._count["writes"]},
            "replicas": replicas,
            "fallbacks": self._count["fallbacks"],
        }

    def _choose(self, after: str | None, region: str | None, max_lag: float | None) -> Steps[_Server[PoolT] | None]:
        wish = Wish(
            current_token() if after is _AS_REQUEST else after,
            region if region is not None else self._region,
            max_lag if max_lag is not None else self._max_lag,
        )
        now = time.monotonic()
        candidates = yield from self._source.candidates(wish)
        awake = [one for one in candidates if one.name not in self._servers or self._servers[one.name].rests_until <= now]
        replica = choose(awake, wish.region)
        return self._server(replica) if replica else None

    def _server(self, replica: Replica) -> _Server[PoolT]:
        """Another connection string under the same name is another server; the old connections end as they come back."""
        with self._lock:
            server = self._servers.get(replica.name)
            if server is None or server.conninfo != replica.conninfo:
                if server:
                    server.pool.retire()
                pool = self._pool_type(replica.conninfo, size=self._size, connect=self._connect_to(replica.name))
                server = _Server[PoolT](replica.conninfo, pool)
                self._servers[replica.name] = server
            return server

    def _connect_to(self, name: str) -> Connect:
        given = self._connect
        if isinstance(given, Mapping):
            return given
        asked = given
        return lambda: asked(name)

    def _answered(self, server: _Server[PoolT]) -> None:
        with self._lock:
            server.reads += 1
            server.in_a_row = 0

    def _failed(self, server: _Server[PoolT], error: Exception) -> None:
        """It rests 250 ms, and twice as long each time in a row, up to 30 s."""
        with self._lock:
            self._count["fallbacks"] += 1
            server.failures += 1
            server.last_error = str(error)
            server.rests_until = time.monotonic() + min(0.25 * 2 ** min(server.in_a_row, 10), 30.0)
            server.in_a_row += 1
        if self._on_error:
            with suppress(Exception):
                self._on_error(error, next((name for name, one in self._servers.items() if one is server), "?"))

    def _counted(self, what: str) -> None:
        with self._lock:
            self._count[what] += 1


def _token_of(connection: Any) -> str | None:
    return connection.info.parameter_status(_PARAMETER)  # type: ignore[no-any-return]


def _check_commit(answer: str | None) -> None:
    if answer != "COMMIT":
        raise psycopg.errors.InFailedSqlTransaction("the transaction had failed, and was rolled back")


def _tell(before: str | None, after: str | None, on_token: OnToken | None) -> None:
    """What was told for an earlier transaction stands there until the next one that writes."""
    if after is not None and after != before:
        note_token(after)
        if on_token:
            on_token(after)


def is_unavailable(error: Exception) -> bool:
    """Cannot connect, not allowed in, connection lost, shutting down, or a conflict with replay."""
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    return error.sqlstate is None or re.match("08|28|3D|53|57P|58|40001", error.sqlstate) is not None


class Router(_Routing[Pool]):
    """Routes reads and writes of threads."""

    _pool_type = Pool

    @contextmanager
    def transaction(self, on_token: OnToken | None = None) -> Iterator[psycopg.Connection[Any]]:
        """A transaction on the primary; its token is noted for the request, and given to `on_token`."""
        with self._writer.connection() as connection:
            autocommit, connection.autocommit = connection.autocommit, True
            try:
                connection.execute(_BEGIN)
                before = _token_of(connection)
                yield connection
                _check_commit(connection.execute("COMMIT").statusmessage)
                after = _token_of(connection)
            finally:
                if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    connection.execute("ROLLBACK")
                if not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE:
                    connection.autocommit = autocommit
        self._counted("writes")
        _tell(before, after, on_token)

    def read(
        self,
        sql: str,
        values: Sequence[Any] = (),
        *,
        after: str | None = _AS_REQUEST,
        region: str | None = None,
        max_lag: float | None = None,
        row_factory: Any = tuple_row,
    ) -> list[Any]:
        """The rows of a statement that does not write, where it sees `after`; by default the token of the request."""
        server = run(self._choose(after, region, max_lag), self._perform)
        if server:
            try:
                rows = query(server.pool, sql, values, row_factory)
            except psycopg.Error as error:
                if not is_unavailable(error):
                    raise  # the statement's own fault
                self._failed(server, error)
            else:
                self._answered(server)
                return rows
        self._counted("reads")
        return query(self._writer, sql, values, row_factory)

    def close(self) -> None:
        """Ends the connections to replicas; the writer's are whose they were."""
        for server in self._servers.values():
            server.pool.close()

    def _perform(self, step: Step) -> list[Any] | None:
        if isinstance(step, Ask):
            return self._cache.ask(step.commands)  # type: ignore[no-any-return]
        assert isinstance(step, Write)
        return query(self._writer, step.sql, step.values)


class AsyncRouter(_Routing[AsyncPool]):
    """Routes reads and writes of tasks."""

    _pool_type = AsyncPool

    @asynccontextmanager
    async def transaction(self, on_token: OnToken | None = None) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A transaction on the primary; its token is noted for the request, and given to `on_token`."""
        async with self._writer.connection() as connection:
            autocommit = connection.autocommit
            await connection.set_autocommit(True)
            try:
                await connection.execute(_BEGIN)
                before = _token_of(connection)
                yield connection
                _check_commit((await connection.execute("COMMIT")).statusmessage)
                after = _token_of(connection)
            finally:
                if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    await connection.execute("ROLLBACK")
                if not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE:
                    await connection.set_autocommit(autocommit)
        self._counted("writes")
        _tell(before, after, on_token)

    async def read(
        self,
        sql: str,
        values: Sequence[Any] = (),
        *,
        after: str | None = _AS_REQUEST,
        region: str | None = None,
        max_lag: float | None = None,
        row_factory: Any = tuple_row,
    ) -> list[Any]:
        """The rows of a statement that does not write, where it sees `after`; by default the token of the request."""
        server = await run_async(self._choose(after, region, max_lag), self._perform)
        if server:
            try:
                rows = await query_async(server.pool, sql, values, row_factory)
            except psycopg.Error as error:
                if not is_unavailable(error):
                    raise  # the statement's own fault
                self._failed(server, error)
            else:
                self._answered(server)
                return rows
        self._counted("reads")
        return await query_async(self._writer, sql, values, row_factory)

    async def close(self) -> None:
        """Ends the connections to replicas; the writer's are whose they were."""
        for server in self._servers.values():
            await server.pool.close()

    async def _perform(self, step: Step) -> list[Any] | None:
        if isinstance(step, Ask):
            return await self._cache.ask(step.commands)  # type: ignore[no-any-return]
        assert isinstance(step, Write)
        return await query_async(self._writer, step.sql, step.values)


def query(pool: Any, sql: str, values: Sequence[Any], row_factory: Any = tuple_row) -> Rows:
    """One statement on a connection of the pool."""
    with pool.connection() as connection:
        return execute(connection, sql, values, row_factory)


def execute(connection: Any, sql: str, values: Sequence[Any], row_factory: Any = tuple_row) -> Rows:
    with connection.cursor(row_factory=row_factory) as cursor:
        cursor.execute(sql, values)
        rows: Rows = cursor.fetchall() if cursor.description else []
        return rows


async def query_async(pool: Any, sql: str, values: Sequence[Any], row_factory: Any = tuple_row) -> Rows:
    async with pool.connection() as connection:
        return await execute_async(connection, sql, values, row_factory)


async def execute_async(connection: Any, sql: str, values: Sequence[Any], row_factory: Any = tuple_row) -> Rows:
    async with connection.cursor(row_factory=row_factory) as cursor:
        await cursor.execute(sql, values)
        rows: Rows = await cursor.fetchall() if cursor.description else []
        return rows
