"""Connections that are made when they are needed, and kept: no thread, no task, and a server that is away is told at once.

In autocommit mode, so that a read is one round trip. Whatever has `connection()`, such as psycopg_pool's, does as well.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

#: What psycopg.connect() needs beside the connection string; a function is asked for each connection (IAM tokens).
Connect = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


class PoolBusy(psycopg.OperationalError):
    """All connections are in use, and none came back in time."""


class _Pool:
    def __init__(self, conninfo: str = "", *, size: int = 10, timeout: float = 1.0, connect: Connect = {}) -> None:
        self._conninfo, self._size, self._timeout, self._connect = conninfo, size, timeout, connect
        self._idle: list[Any] = []  # the last one first
        self._closed = False

    def _arguments(self) -> dict[str, Any]:
        given = self._connect() if callable(self._connect) else self._connect
        return {"conninfo": self._conninfo, "connect_timeout": 2, **given, "autocommit": True}

    def _take(self) -> Any | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _keep(self, connection: Any) -> None:
        """Keeps it, if it can be used again. A server that ended one has ended the others."""
        if connection.closed or connection.broken:
            self._end()
        elif self._closed or connection.info.transaction_status != TransactionStatus.IDLE:
            connection.pgconn.finish()
        else:
            self._idle.append(connection)

    def _end(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.pgconn.finish()

    def retire(self) -> None:
        """Idle connections end now, the others as they come back."""
        self._closed = True
        self._end()


class Pool(_Pool):
    """Connections for threads."""

    def __init__(self, conninfo: str = "", *, size: int = 10, timeout: float = 1.0, connect: Connect = {}) -> None:
        super().__init__(conninfo, size=size, timeout=timeout, connect=connect)
        self._slots = threading.Semaphore(size)

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        if not self._slots.acquire(timeout=self._timeout):
            raise PoolBusy(f"all {self._size} connections are in use")
        try:
            connection = self._take() or psycopg.connect(**self._arguments())
            try:
                yield connection
            finally:
                self._keep(connection)
        finally:
            self._slots.release()

    def close(self) -> None:
        self.retire()


class AsyncPool(_Pool):
    """Connections for tasks of one event loop."""

    def __init__(self, conninfo: str = "", *, size: int = 10, timeout: float = 1.0, connect: Connect = {}) -> None:
        super().__init__(conninfo, size=size, timeout=timeout, connect=connect)
        self._slots = asyncio.Semaphore(size)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        try:
            await asyncio.wait_for(self._slots.acquire(), self._timeout)
        except asyncio.TimeoutError:
            raise PoolBusy(f"all {self._size} connections are in use") from None
        try:
            connection = self._take() or await psycopg.AsyncConnection.connect(**self._arguments())
            try:
                yield connection
            finally:
                self._keep(connection)
        finally:
            self._slots.release()

    async def close(self) -> None:
        self.retire()
