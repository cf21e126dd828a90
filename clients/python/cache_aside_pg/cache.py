"""A Redis that may be away. Nothing here waits longer than the client's time-outs, and nothing here fails.

The breaker: an answer that does not come, or a connection that breaks, opens it. While it is open no read asks Redis; a PING
in the background, first after `retry` seconds and then ever more rarely, finds out when it is back. So a Redis that is frozen
costs the reads of one moment the time-out, and no other. An error that Redis answers with (NOPERM, OOM, no functions) comes
as quickly as a value does, and opens nothing.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.retry

from .steps import Command

_LIMITS = {"socket_timeout": 0.1, "socket_connect_timeout": 0.1, "retry_on_timeout": False}

#: For `redis.Redis(**redis_options, host=...)` and `from_url`: no wait longer than 0.1 s, and no command sent a second time.
redis_options: dict[str, Any] = {**_LIMITS, "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0)}

#: The same for `redis.asyncio.Redis`.
async_redis_options: dict[str, Any] = {**_LIMITS, "retry": redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)}

_MAX_RETRY = 5.0

#: plain: for Redis before 7, by GET and SET. A value that was read before a write can come back after it, until it expires.
Mode = Literal["guarded", "plain"]


class _Breaker:
    """What both kinds of cache know of Redis. Its own lock; nothing waits while it is held."""

    def __init__(self, client: Any, retry: float, on_error: Callable[[Exception], None] | None, mode: Mode) -> None:
        if mode not in ("guarded", "plain"):
            raise ValueError(f"a cache is guarded or plain, not {mode!r}")
        if client.connection_pool.connection_kwargs.get("socket_timeout") is None:
            raise TypeError("this Redis client would wait for ever: make it with redis_options, or async_redis_options")
        self.plain = mode == "plain"
        self._first = retry
        self._on_error = on_error
        self._lock = threading.Lock()
        self._open = False
        self._pause = retry
        self._probe_at = 0.0
        self._failures = self._timeouts = self._skipped = 0
        self._last_error: str | None = None

    def health(self) -> dict[str, Any]:
        """What is known of Redis. Asks nobody. `state`: `up`, or `down` while the breaker is open."""
        return {
            "state": "down" if self._open else "up",
            "failures": self._failures,
            "timeouts": self._timeouts,
            "skipped": self._skipped,
            "last_error": self._last_error,
        }

    def is_usable(self) -> bool:
        """Is Redis to be asked now? Counts who goes past it."""
        if self._open:
            with self._lock:
                self._skipped += 1
        return not self._open

    def _is_due(self) -> bool:
        return self._open and time.monotonic() >= self._probe_at

    def _note(self, error: Exception) -> None:
        with self._lock:
            self._failures += 1
            self._timeouts += isinstance(error, (redis.TimeoutError, asyncio.TimeoutError))
            self._last_error = str(error)
        try:
            if self._on_error:
                self._on_error(error)
        except Exception:
            pass  # whoever logs must not fail the read

    def _judge(self, outcome: Any, count: int) -> list[Any]:
        """Answers, or the exception that came instead of all of them."""
        if isinstance(outcome, Exception):
            self._note(outcome)
            with self._lock:
                if not self._open:
                    self._open, self._pause = True, self._first
                    self._wait()
            return [outcome] * count
        for answer in outcome:
            if isinstance(answer, Exception):
                self._note(answer)
        return [_text(answer) for answer in outcome]

    def _probed(self, lives: bool) -> None:
        with self._lock:
            self._open = not lives
            self._pause = min(self._pause * 2, _MAX_RETRY)
            self._wait()

    def _wait(self) -> None:
        self._probe_at = time.monotonic() + self._pause * random.uniform(0.75, 1.25)


def _text(answer: Any) -> Any:
    """The same with and without `decode_responses`."""
    if isinstance(answer, bytes):
        return answer.decode("utf-8", "replace")
    if isinstance(answer, list):
        return [_text(element) for element in answer]
    if isinstance(answer, dict):
        return {_text(name): _text(value) for name, value in answer.items()}
    return answer


class Cache(_Breaker):
    """One Redis, which several repositories and a router can share."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        retry: float = 0.25,
        on_error: Callable[[Exception], None] | None = None,
        mode: Mode = "guarded",
    ) -> None:
        super().__init__(client, retry, on_error, mode)
        self._client = client
        self._prober: threading.Thread | None = None

    def is_away(self) -> bool:
        """Is Redis not to be asked now? Has it looked for, if it is time."""
        if self.is_usable():
            return False
        if self._is_due():
            self._start_probe()
        return True

    def ask(self, commands: Sequence[Command]) -> list[Any] | None:
        """One answer for each command; None when Redis is not to be asked now."""
        return None if self.is_away() else self._judge(self._exchange(commands), len(commands))

    def _exchange(self, commands: Sequence[Command]) -> Any:
        try:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute(raise_on_error=False)
        except Exception as error:  # redis-py has some of its own, such as AttributeError where a time-out has no host
            return error

    def _start_probe(self) -> None:
        """A thread that a fork left behind is not alive."""
        with self._lock:
            if self._prober is None or not self._prober.is_alive():
                self._prober = threading.Thread(target=self._probe, daemon=True)
                self._prober.start()

    def _probe(self) -> None:
        if self._is_due():
            answer = self._exchange([("PING",)])
            if isinstance(answer, Exception):
                self._note(answer)
            self._probed(not isinstance(answer, Exception))


class AsyncCache(_Breaker):
    """The same for `redis.asyncio.Redis`, in one event loop."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        retry: float = 0.25,
        on_error: Callable[[Exception], None] | None = None,
        mode: Mode = "guarded",
    ) -> None:
        super().__init__(client, retry, on_error, mode)
        self._client = client
        self._tasks: set[asyncio.Task[Any]] = set()
        self._prober: asyncio.Task[None] | None = None

    def is_away(self) -> bool:
        """Is Redis not to be asked now? Has it looked for, if it is time."""
        if self.is_usable():
            return False
        if self._is_due() and (self._prober is None or self._prober.done()):
            self._prober = asyncio.ensure_future(self._probe())
        return True

    async def ask(self, commands: Sequence[Command]) -> list[Any] | None:
        """One answer for each command; None when Redis is not to be asked now."""
        return None if self.is_away() else self._judge(await self._protected(commands), len(commands))

    async def _protected(self, commands: Sequence[Command]) -> Any:
        """Whoever asked may be cancelled; what was begun is ended all the same. Else each time costs a connection, and with some
        versions of redis-py before 4.5.5 worse: the next command on it reads the answer to this one (CVE-2023-28858)."""
        task = asyncio.ensure_future(self._exchange(commands))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _exchange(self, commands: Sequence[Command]) -> Any:
        try:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)
        except Exception as error:  # redis-py has some of its own, such as AttributeError where a time-out has no host
            return error

    async def _probe(self) -> None:
        answer = await self._exchange([("PING",)])
        if isinstance(answer, Exception):
            self._note(answer)
        self._probed(not isinstance(answer, Exception))
