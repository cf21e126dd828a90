"""The cached repository: get, get_many, update, invalidate, warm.

Writes never touch the cache: the rule deletes entries when a write commits, whoever wrote. Reads take the row and, in the same
statement, the token that proves how fresh it is; a fill that may have missed a write is refused by Redis. Nothing that Redis
does or fails to do fails a read.

A read that has to see a write (`after`, or the token of the request) takes an entry only if everything up to there has been
delivered to this Redis, else it reads a database that has it.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from . import guard
from .cache import AsyncCache, Cache
from .codec import Decoder, make_decoder, to_json
from .context import current_token
from .errors import RuleError, VersionConflictError
from .guard import NONE, Entry, Found
from .keys import MAX_KEY, key_text
from .router import _AS_REQUEST, AsyncRouter, Router, execute, execute_async, query, query_async
from .statements import Reads, reads_of, update_one
from .steps import Ask, Pause, Read, Step, Steps, Write, run, run_async
from .table import DESCRIBE, Table, table_of

T = TypeVar("T")
K = TypeVar("K")

_MISSING = "null"  # as JSON: there is no such row
_BATCH = 100
_MAX_LEASE = 60.0


@dataclass(frozen=True)
class _Known:
    table: Table
    reads: Reads
    decode: Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class _Wanted:
    texts: dict[str, str]
    key: str  # with prefix
    cacheable: bool

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.texts.values())


class _Repository(Generic[T]):
    """What both kinds do, in steps. Options:

    table         the table, with its schema if need be; it needs a rule: SELECT cache_aside.attach('users', 'user:{id}')
    template      which of its rules, if several name one row
    columns       what is cached of a row, by default all; all who share a template say the same
    row           makes what `get` returns of a dict, by default the dict
    decode        by column, a function of the decoded JSON value
    ttl           seconds that an entry lives
    missing_ttl   likewise, that there is no such row; an INSERT ends it as well; 0: not cached
    jitter        part of a time to live that is left to chance, so that not all end at once
    lease         longest time that one reader may take to fill before the next one tries
    version       the column that counts the writes of a row
    recheck       how often the rule is looked up again
    """

    def __init__(
        self,
        database: Any,
        cache: Any,
        *,
        table: str,
        template: str | None = None,
        columns: Sequence[str] | None = None,
        row: Callable[[dict[str, Any]], T] = lambda row: row,  # type: ignore[assignment, return-value]
        decode: Mapping[str, Decoder] = {},
        ttl: float = 300.0,
        missing_ttl: float = 60.0,
        jitter: float = 0.1,
        lease: float = 2.0,
        version: str = "version",
        recheck: float = 60.0,
    ) -> None:
        self._database, self._cache = database, cache
        self._name, self._template, self._columns = table, template, columns
        self._row, self._own = row, decode
        self._ttl, self._missing_ttl, self._jitter = ttl, missing_ttl, jitter
        self._lease, self._version, self._recheck = min(lease, _MAX_LEASE), version, recheck
        self._known: _Known | None = None
        self._checked_at = 0.0
        self._trouble: str | None = None
        self._lock = threading.Lock()
        names = ("hits", "misses", "waits", "database_reads", "stored", "refused", "undecodable")
        self._count = dict.fromkeys(names, 0)

    def health(self) -> dict[str, Any]:
        """What happened here, and what is known of Redis; `trouble`: why reads go past the cache. Asks nobody."""
        template = self._known.table.template.text if self._known else None
        return {"redis": self._cache.health(), "template": template, "trouble": self._trouble, **self._count}

    def _counted(self, what: str, by: int = 1) -> None:
        with self._lock:
            self._count[what] += by

    # ---- the table and its rule

    def _describe(self) -> Steps[_Known]:
        """A description that is there is good enough, whatever fails while it is looked up again."""
        known = self._known
        if known is None:
            return (yield from self._look_up())
        if time.monotonic() - self._checked_at >= self._recheck:
            try:
                return (yield from self._look_up())
            except Exception:  # of a rule: see trouble; of the database: the next read has it, too
                pass
        return known

    def _look_up(self) -> Steps[_Known]:
        self._checked_at = time.monotonic()
        rows = yield Write(DESCRIBE, (self._name,))
        try:
            table = table_of(rows[0] if rows else None, self._name, self._template, self._columns)
        except RuleError as error:
            self._trouble = str(error)  # reads go on, past the cache, if they went before
            raise
        self._trouble = None
        self._known = _Known(table, reads_of(table, self._version), make_decoder(table.columns, self._own))
        return self._known

    def _want(self, known: _Known, key: Any) -> _Wanted:
        table = known.table
        texts = {}
        for column, value in zip(table.key_columns, _key_values(table, key)):
            texts[column.name] = key_text(column.name, column.type, value)
        name = table.prefix + table.template.one_key(texts)
        return _Wanted(texts, name, self._trouble is None and len(name.encode()) <= MAX_KEY)

    # ---- reading

    def _get(self, key: Any, after: str | None) -> Steps[T | None]:
        known = yield from self._describe()
        wanted = self._want(known, key)
        after = current_token() if after is _AS_REQUEST else after
        if not wanted.cacheable or self._cache.is_away():  # the short way: with Redis dead a read costs little more than its statement
            [text], _ = yield from self._read(known, [wanted], False, after)
            return self._decode(known, text)
        found = yield from self._look(known, wanted.key, after)
        hit, row = self._decode_hit(known, found)
        if hit:
            return row
        [text] = yield from self._read_and_fill(known, [wanted], [found], after)
        return self._decode(known, text)

    def _look(self, known: _Known, key: str, after: str | None) -> Steps[Found]:
        """Looks until there is something to do; not longer than a lease lasts."""
        give_up, pause = time.monotonic() + self._lease, 0.002
        while True:
            [found] = yield from guard.look([key], self._lease, known.table.system, after, self._cache.plain)
            if found.kind != "wait":
                return found
            if pause == 0.002:
                self._counted("waits")
            if time.monotonic() >= give_up:
                return NONE
            yield Pause(pause * random.uniform(0.5, 1.5))  # jitter: not all of them at once
            pause = min(pause * 2, 0.05)

    def _get_many(self, keys: Iterable[K], after: str | None) -> Steps[dict[K, T]]:
        known = yield from self._describe()
        after = current_token() if after is _AS_REQUEST else after
        given = [(key, self._want(known, key)) for key in keys]
        unique = list({wanted.values: wanted for _, wanted in given}.values())
        rows: dict[tuple[str, ...], T | None] = {}
        for at in range(0, len(unique), _BATCH):
            yield from self._get_batch(known, unique[at : at + _BATCH], after, rows)
        found = ((key, rows[wanted.values]) for key, wanted in given)
        return {key: row for key, row in found if row is not None}

    def _get_batch(
        self, known: _Known, batch: Sequence[_Wanted], after: str | None, rows: dict[tuple[str, ...], T | None]
    ) -> Steps[None]:
        keys = [one.key for one in batch]
        looks = yield from guard.look(keys, self._lease, known.table.system, after, self._cache.plain)
        missing, leases = [], []
        for wanted, found in zip(batch, looks):
            hit, row = self._decode_hit(known, found if wanted.cacheable else NONE)
            if hit:
                rows[wanted.values] = row
            else:
                missing.append(wanted)
                leases.append(found if wanted.cacheable else NONE)
        texts = (yield from self._read_and_fill(known, missing, leases, after)) if missing else []
        for wanted, text in zip(missing, texts):
            rows[wanted.values] = self._decode(known, text)

    def _warm(self, keys: Iterable[Any]) -> Steps[int]:
        known = yield from self._describe()
        wanted = [self._want(known, key) for key in keys]
        before = self._count["stored"]
        for at in range(0, len(wanted), _BATCH):
            batch = wanted[at : at + _BATCH]
            looks = [Found("fill" if one.cacheable else "none") for one in batch]
            yield from self._read_and_fill(known, batch, looks, current_token())
        return self._count["stored"] - before

    def _read_and_fill(
        self, known: _Known, wanted: Sequence[_Wanted], found: Sequence[Found], after: str | None
    ) -> Steps[list[str]]:
        """Reads rows, stores those that nobody else is about to store, and returns their texts."""
        held = [(one.key, look.text) for one, look in zip(wanted, found) if look.kind == "fill"]
        try:
            texts, token = yield from self._read(known, wanted, bool(held), after)
        except BaseException:
            yield from guard.release(held)
            raise
        entries = [
            self._entry(one.key, look.text, text)
            for one, look, text in zip(wanted, found, texts)
            if look.kind == "fill"
        ]
        yield from self._store(entries, token)
        return texts

    def _entry(self, key: str, lease: str, text: str) -> Entry:
        ttl = self._missing_ttl if text == _MISSING else self._ttl
        return Entry(key, text, ttl * (1 - random.random() * self._jitter), lease)

    def _store(self, entries: Sequence[Entry], token: str | None) -> Steps[None]:
        kept = [entry for entry in entries if entry.ttl > 0]
        yield from guard.release([(entry.key, entry.lease) for entry in entries if entry.ttl <= 0])
        stored = (yield from guard.fill(kept, token, self._cache.plain)) if kept else []
        self._counted("stored", sum(stored))
        self._counted("refused", len(stored) - sum(stored))

    def _read(
        self, known: _Known, wanted: Sequence[_Wanted], stores: bool, after: str | None
    ) -> Steps[tuple[list[str], str | None]]:
        self._counted("misses", len(wanted))
        self._counted("database_reads")
        if len(wanted) == 1:
            rows = yield Read(known.reads.one if stores else known.reads.only, wanted[0].values, after)
            text, token = (*rows[0], None)[:2] if rows else (None, None)
            return [text or _MISSING], token
        arrays = [[one.texts[column.name] for one in wanted] for column in known.table.key_columns]
        rows = yield Read(known.reads.many, arrays, after)
        texts = [_MISSING] * len(wanted)
        for n, text, _ in rows:
            texts[n - 1] = text or _MISSING
        return texts, rows[0][2] if rows else None

    def _decode_hit(self, known: _Known, found: Found) -> tuple[bool, T | None]:
        """An entry that is no row is none: somebody else uses this key, or a column was added."""
        if found.kind != "hit":
            return False, None
        try:
            row = self._decode(known, found.text)
        except Exception:
            self._counted("undecodable")
            return False, None
        self._counted("hits")
        return True, row

    def _decode(self, known: _Known, text: str) -> T | None:
        return None if text == _MISSING else self._row(known.decode(text))

    # ---- writing

    def _update(
        self, key: Any, changes: Mapping[str, Any], expected: int | None, connection: Any
    ) -> Steps[T | None]:
        known = yield from self._describe()
        wanted = self._want(known, key)
        self._check_changes(known.table, changes, expected)
        values = [self._parameter(known.table, name, value) for name, value in changes.items()]
        values += wanted.values
        if expected is not None:
            values.append(expected)
        sql = update_one(known.table, list(changes), self._version if expected is not None else None)
        rows = yield Write(sql, values, connection)
        if rows:
            return self._decode(known, rows[0][0])
        if expected is not None:
            rows = yield Write(known.reads.version, wanted.values, connection)
            if rows:
                raise VersionConflictError(known.table.relation, key, expected, int(rows[0][0]))
        return None

    def _check_changes(self, table: Table, changes: Mapping[str, Any], expected: int | None) -> None:
        if not changes:
            raise TypeError("an update changes at least one column")
        for name in changes:
            if name not in {column.name for column in table.columns}:
                raise TypeError(f'{table.relation} has no column "{name}"')
            if expected is not None and name == self._version:
                raise TypeError(f'column "{name}" is counted; pass what was read as expected_version')

    def _parameter(self, table: Table, name: str, value: Any) -> Any:
        """psycopg does not know what a dict is to be."""
        column = next(column for column in table.columns if column.name == name)
        is_json = column.type in ("json", "jsonb") and not column.is_array
        return to_json(value) if is_json and value is not None else value

    def _invalidate(self, keys: Iterable[Any], connection: Any) -> Steps[None]:
        known = yield from self._describe()
        names = [name for key in keys for name in known.table.template.all_keys(self._want(known, key).texts)]
        if names:
            yield Write("SELECT cache_aside.invalidate(VARIADIC %s::text[])", (names,), connection)


def _key_values(table: Table, key: Any) -> Sequence[Any]:
    """A value if there is one column, else a tuple in the order of the template, or a mapping."""
    if isinstance(key, Mapping):
        lacking = [column.name for column in table.key_columns if column.name not in key]
        if lacking:
            raise TypeError(f'column "{lacking[0]}" is missing in a key of {table.relation}')
        return [key[column.name] for column in table.key_columns]
    values = key if isinstance(key, tuple) else (key,)
    if len(values) != len(table.key_columns):
        raise TypeError(f"a key of {table.relation} has {', '.join(column.name for column in table.key_columns)}")
    return values


class CachedRepository(_Repository[T]):
    """Rows of one table, one by one, through the cache; for threads. T is what a row looks like.

    `database` is a pool of the primary or a `Router`, `cache` a `Cache`. See `_Repository` for the options.
    """

    def ready(self) -> None:
        """Looks up the table and its rule, as the first read does. Raises a RuleError if there is none."""
        run(self._describe(), self._perform)

    def get(self, key: Any, *, after: str | None = _AS_REQUEST) -> T | None:
        """The row, or None. Of many readers that miss at the same moment one reads the database; the others wait for it."""
        return run(self._get(key, after), self._perform)

    def get_many(self, keys: Iterable[K], *, after: str | None = _AS_REQUEST) -> dict[K, T]:
        """The rows that there are, by the keys as they were given. What is missing is read in one statement."""
        return run(self._get_many(keys, after), self._perform)

    def update(
        self, key: Any, changes: Mapping[str, Any], *, expected_version: int | None = None, connection: Any = None
    ) -> T | None:
        """Changes columns of a row and returns the new one, or None if there is none. The cache is the rule's business."""
        return run(self._update(key, changes, expected_version, connection), self._perform)

    def invalidate(self, keys: Iterable[Any], *, connection: Any = None) -> None:
        """Deletes the entries of these rows when this commits, as their rule does; for changes that no rule sees."""
        run(self._invalidate(keys, connection), self._perform)

    def warm(self, keys: Iterable[Any]) -> int:
        """Fills the cache with these rows, a batch at a time; returns how many entries were stored."""
        return run(self._warm(keys), self._perform)

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Ask):
            return self._cache.ask(step.commands)
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Write) and step.connection is not None:
            return execute(step.connection, step.sql, step.values)
        if not isinstance(self._database, Router):
            return query(self._database, step.sql, step.values)
        if isinstance(step, Read):
            return self._database.read(step.sql, step.values, after=step.after)
        with self._database.transaction() as connection:
            return execute(connection, step.sql, step.values)


class AsyncCachedRepository(_Repository[T]):
    """The same for tasks of one event loop: an `AsyncPool` or an `AsyncRouter`, and an `AsyncCache`."""

    async def ready(self) -> None:
        """Looks up the table and its rule, as the first read does. Raises a RuleError if there is none."""
        await run_async(self._describe(), self._perform)

    async def get(self, key: Any, *, after: str | None = _AS_REQUEST) -> T | None:
        """The row, or None. Of many readers that miss at the same moment one reads the database; the others wait for it."""
        return await run_async(self._get(key, after), self._perform)

    async def get_many(self, keys: Iterable[K], *, after: str | None = _AS_REQUEST) -> dict[K, T]:
        """The rows that there are, by the keys as they were given. What is missing is read in one statement."""
        return await run_async(self._get_many(keys, after), self._perform)

    async def update(
        self, key: Any, changes: Mapping[str, Any], *, expected_version: int | None = None, connection: Any = None
    ) -> T | None:
        """Changes columns of a row and returns the new one, or None if there is none. The cache is the rule's business."""
        return await run_async(self._update(key, changes, expected_version, connection), self._perform)

    async def invalidate(self, keys: Iterable[Any], *, connection: Any = None) -> None:
        """Deletes the entries of these rows when this commits, as their rule does; for changes that no rule sees."""
        await run_async(self._invalidate(keys, connection), self._perform)

    async def warm(self, keys: Iterable[Any]) -> int:
        """Fills the cache with these rows, a batch at a time; returns how many entries were stored."""
        return await run_async(self._warm(keys), self._perform)

    async def _perform(self, step: Step) -> Any:
        if isinstance(step, Ask):
            return await self._cache.ask(step.commands)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Write) and step.connection is not None:
            return await execute_async(step.connection, step.sql, step.values)
        if not isinstance(self._database, AsyncRouter):
            return await query_async(self._database, step.sql, step.values)
        if isinstance(step, Read):
            return await self._database.read(step.sql, step.values, after=step.after)
        async with self._database.transaction() as connection:
            return await execute_async(connection, step.sql, step.values)
