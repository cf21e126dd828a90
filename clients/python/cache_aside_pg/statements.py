"""The statements of a repository. Names come from the catalog and are quoted here; values are parameters.

A read whose row is to be stored selects, with it, the token of the very snapshot that it was read in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .table import Table


@dataclass(frozen=True)
class Reads:
    """The statements that read."""

    only: str  # the row, if there is one; for a reader that stores nothing
    one: str  # the row or NULL, and the token of the snapshot in which that was so
    many: str  # for each key n, counted from 1, the row or NULL, and the token
    version: str


def reads_of(table: Table, version: str) -> Reads:
    token = "cache_aside.read_token()"
    arrays = ", ".join(f"%s::{_plain(column.sql)}[]" for column in table.key_columns)
    names = ", ".join(f"k{i}" for i in range(len(table.key_columns)))
    join = " AND ".join(f"t.{_quote(column.name)} = k.k{i}" for i, column in enumerate(table.key_columns))
    relation = _plain(table.relation)
    return Reads(
        only=f"SELECT {_row(table)} FROM {relation} t WHERE {_by_key(table)}",
        one=f"SELECT {_row_or_null(table)}, {token} FROM (SELECT) o LEFT JOIN {relation} t ON {_by_key(table)}",
        many=f"SELECT k.n::int, {_row_or_null(table)}, s.token FROM (SELECT {token} AS token) s, "
        f"ROWS FROM (pg_catalog.unnest({arrays})) WITH ORDINALITY AS k ({names}, n) LEFT JOIN {relation} t ON {join}",
        version=f"SELECT COALESCE(t.{_quote(version)}, 0) FROM {relation} t WHERE {_by_key(table)}",
    )


def update_one(table: Table, columns: Sequence[str], version: str | None) -> str:
    """Values: those of the columns, of the key, and then the version, if it is to be compared."""
    sets = [f"{_quote(name)} = %s" for name in columns]
    where = _by_key(table)
    if version is not None:
        counter = f"COALESCE(t.{_quote(version)}, 0)"
        sets.append(f"{_quote(version)} = {counter} + 1")  # a step of its own presents nothing, whatever the table expects
        where += f" AND {counter} = %s::bigint"
    return f"UPDATE {_plain(table.relation)} t SET {', '.join(sets)} WHERE {where} RETURNING {_row(table)}"


def _plain(sql: str) -> str:
    """psycopg looks for % everywhere."""
    return sql.replace("%", "%%")


def _quote(name: str) -> str:
    return _plain('"' + name.replace('"', '""') + '"')


def _row(table: Table) -> str:
    """Row t as JSON text. All of it is planned and printed in less time than a list of its columns."""
    if table.whole:
        return "pg_catalog.row_to_json(t.*)::text"  # t alone might be a column
    columns = ", ".join(f"t.{_quote(column.name)}" for column in table.columns)
    return f"(SELECT pg_catalog.row_to_json(r)::text FROM (SELECT {columns}) r)"


def _row_or_null(table: Table) -> str:
    """The same where t may be missing."""
    return _row(table) if table.whole else f"CASE WHEN t.tableoid IS NOT NULL THEN {_row(table)} END"


def _by_key(table: Table) -> str:
    return " AND ".join(f"t.{_quote(column.name)} = %s" for column in table.key_columns)
