"""What the database says about a table: its columns, its unique keys, and the rule that deletes its entries.

A repository caches only what a rule invalidates, so it takes the template from there, or compares. One statement; asked
again now and then, so that a rule that was taken off is noticed: reads go past the cache from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import RuleError
from .keys import Template, parse_template, unfit_for_keys


@dataclass(frozen=True)
class Column:
    """A column; of an array the type is that of its elements."""

    name: str
    type: str  # of pg_catalog its name, "enum" for an enum, else "other"
    is_array: bool
    sql: str  # the base type in SQL
    exact: bool  # does equal mean the same text?


@dataclass(frozen=True)
class Rule:
    """A rule of the table that has a template."""

    template: str
    columns: list[str] | None
    enabled: str


@dataclass(frozen=True)
class Table:
    """What a repository knows of its table."""

    relation: str  # as SQL has it
    system: str
    prefix: str
    template: Template
    key_columns: tuple[Column, ...]  # in the order of the template
    columns: tuple[Column, ...]  # what is cached of a row
    whole: bool  # is that all?


DESCRIBE = """
WITH RECURSIVE relation AS (SELECT pg_catalog.to_regclass(%s)::pg_catalog.oid AS oid),
base AS (
  SELECT a.attnum, a.attname, a.attcollation, a.atttypid AS type
    FROM pg_catalog.pg_attribute a, relation
   WHERE a.attrelid = relation.oid AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, b.attname, b.attcollation, t.typbasetype
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype = 'd'),
shape AS (
  SELECT b.attnum, b.attname, e.oid <> t.oid AS is_array, pg_catalog.format_type(t.oid, NULL) AS sql,
         CASE WHEN e.typtype = 'e' THEN 'enum'
              WHEN e.typnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN e.typname ELSE 'other' END AS type,
         COALESCE(c.collisdeterministic, true) AS exact
    FROM base b
    JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
    JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN t.typelem ELSE t.oid END
    LEFT JOIN pg_catalog.pg_collation c ON c.oid = b.attcollation)
SELECT relation.oid::pg_catalog.regclass::text AS relation,
       COALESCE(pg_catalog.current_setting('cache_aside.key_prefix', true), '') AS prefix,
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS system,
       COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', attname, 'type', type,
                   'isArray', is_array, 'sql', sql, 'exact', exact) ORDER BY attnum) FROM shape), '[]') AS columns,
       COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('primary', i.indisprimary, 'columns',
                   (SELECT pg_catalog.json_agg(a.attname ORDER BY k.n)
                      FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, n)
                      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                     WHERE k.n <= i.indnkeyatts)))
          FROM pg_catalog.pg_index i
         WHERE i.indrelid = relation.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
           AND i.indexprs IS NULL), '[]') AS uniques,
       COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('template', r.template, 'columns', r.columns,
                   'enabled', r.enabled) ORDER BY r.template)
          FROM cache_aside.rules r WHERE r.relation = relation.oid AND r.template IS NOT NULL), '[]') AS rules
  FROM relation"""


def table_of(row: tuple[Any, ...] | None, name: str, template: str | None, wanted: Sequence[str] | None) -> Table:
    """Makes a table of the answer to DESCRIBE. Raises a RuleError when it cannot be cached as asked."""
    if row is None or row[0] is None:
        raise RuleError(f'relation "{name}" does not exist')
    relation, prefix, system, columns, uniques, rules = row
    shape = {column["name"]: _column(column) for column in columns}
    cached = [_find(shape, relation, column) for column in (wanted if wanted is not None else shape)]
    chooser = _Chooser(relation, shape, cached, uniques)
    rule = chooser.choose([Rule(**of) for of in rules], template)
    parsed = parse_template(rule.template, set(shape))
    key_columns = tuple(shape[column] for column in parsed.columns)
    for column in key_columns:
        _require_fit(rule, column)
    return Table(relation, system, _first(prefix), parsed, key_columns, tuple(cached), wanted is None)


def _column(of: dict[str, Any]) -> Column:
    return Column(of["name"], of["type"], of["isArray"], of["sql"], of["exact"])


def _find(shape: dict[str, Column], relation: str, name: str) -> Column:
    if name not in shape:
        raise RuleError(f'column "{name}" of {relation} does not exist')
    return shape[name]


def _first(setting: str) -> str:
    """Of a list separated by commas the first; the SQL functions fill under that one, too."""
    return setting.split(",")[0].strip(" \t")


class _Chooser:
    """Chooses the rule that names one row and sees all that is cached of it."""

    def __init__(
        self, relation: str, shape: dict[str, Column], cached: Sequence[Column], uniques: list[dict[str, Any]]
    ) -> None:
        self.relation, self.shape, self.cached, self.uniques = relation, shape, cached, uniques

    def choose(self, rules: Sequence[Rule], template: str | None) -> Rule:
        problems, fit = [], []
        for rule in rules:
            if template is not None and rule.template != template:
                continue
            problem = self._problem(rule)
            if problem is None:
                fit.append(rule)
            else:
                problems.append(f'rule "{rule.template}" {problem}')
        if not fit:
            raise RuleError(self._no_rule(template, problems))
        if len(fit) > 1:
            names = ", ".join(f'"{rule.template}"' for rule in fit)
            raise RuleError(
                f"{self.relation} has several rules that name one row: {names}; choose one with the option template"
            )
        return fit[0]

    def _no_rule(self, template: str | None, problems: Sequence[str]) -> str:
        keys = sorted(self.uniques, key=lambda unique: not unique["primary"])
        key = keys[0]["columns"] if keys and keys[0]["columns"] else ["id"]
        suggested = template or f"{self.relation}:" + ":".join(f"{{{name}}}" for name in key)
        which = "that names one row" if template is None else f'with template "{template}"'
        why = f" ({'; '.join(problems)})" if problems else ""
        return (
            f"{self.relation} has no cache rule {which}, so nothing would delete what is cached of it{why}.\n"
            f"Run, as the table's owner:  SELECT cache_aside.attach({_literal(self.relation)}, {_literal(suggested)});"
        )

    def _problem(self, rule: Rule) -> str | None:
        try:
            in_key = parse_template(rule.template, set(self.shape)).columns
        except ValueError as error:
            return f"is malformed: {error}"
        if rule.enabled not in ("always", "origin"):
            return f"is {rule.enabled}: see cache_aside.gaps"
        if not any(set(unique["columns"] or [None]) <= set(in_key) for unique in self.uniques):
            return "may name several rows"
        if rule.columns is not None:
            for column in self.cached:
                if column.name not in rule.columns and column.name not in in_key:
                    return f'does not see changes of column "{column.name}"; name what to cache with the option columns'
        return None


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _require_fit(rule: Rule, column: Column) -> None:
    problem = "an array has several texts" if column.is_array else unfit_for_keys(column.type)
    if problem is None and not column.exact:
        problem = "its collation is nondeterministic: different texts, and so different keys, are equal"
    if problem is not None:
        raise RuleError(
            f'rule "{rule.template}" cannot be used here, because of column "{column.name}": {problem}'
        )
