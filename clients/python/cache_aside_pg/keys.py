"""Templates to keys: exactly the text that the rule in the database makes of the row, or an error.

    user:{tenant_id}:{id}     {column} is the row's value, {{ and }} are literal braces
    hot:{id#4}                one of four copies of an entry: hot:7#0 ... hot:7#3

The rule writes what the type's output function prints, under pinned settings. Only types are taken here whose text
follows from the value alone, and for which equal means the same text: a key that differed from the rule's in one character
would never be deleted.
"""

from __future__ import annotations

import datetime
import random
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Longest key, in bytes; no rule makes a longer one.
MAX_KEY = 8192

_INTEGERS = {"int2", "int4", "int8", "oid"}
_TEXTS = {"text", "varchar", "enum"}
_PIECE = re.compile(r"\{\{|\}\}|\{([^}]*)\}|(\{)|([^{}]+|\})")


@dataclass(frozen=True)
class Part:
    """A placeholder, and the literal text behind it."""

    column: str
    copies: int  # 0: only one
    literal: str


@dataclass(frozen=True)
class Template:
    """A parsed template."""

    text: str
    begin: str
    parts: tuple[Part, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Each column once, in the order of the template."""
        return tuple(dict.fromkeys(part.column for part in self.parts))

    def one_key(self, texts: Mapping[str, str]) -> str:
        """One key of the row with these texts; of several copies one by chance."""
        key = self.begin
        for part in self.parts:
            copy = f"#{random.randrange(part.copies)}" if part.copies else ""
            key += texts[part.column] + copy + part.literal
        return key

    def all_keys(self, texts: Mapping[str, str]) -> list[str]:
        """All keys of the row with these texts."""
        keys = [self.begin]
        for part in self.parts:
            copies = [f"#{n}" for n in range(part.copies)] or [""]
            keys = [key + texts[part.column] + copy + part.literal for key in keys for copy in copies]
        return keys


def parse_template(text: str, columns: set[str]) -> Template:
    """Parses a template as the database does; `columns` are those of the table."""
    pieces = [""]  # literal, placeholder, literal, ..., literal
    for match in _PIECE.finditer(text):
        if match[2]:
            raise ValueError(f'cache key template "{text}" is malformed: a brace is not closed')
        if match[1] is not None:
            pieces += [match[1], ""]
        else:
            pieces[-1] += match[3] or match[0][0]
    parts = [
        Part(*_placeholder(text, pieces[i], columns), literal=pieces[i + 1]) for i in range(1, len(pieces), 2)
    ]
    return Template(text, pieces[0], tuple(parts))


def _placeholder(text: str, name: str, columns: set[str]) -> tuple[str, int]:
    if name in columns:
        return name, 0
    sharded = re.fullmatch(r"(.*)#([0-9]+)", name, re.DOTALL)
    column, copies = (sharded[1], int(sharded[2])) if sharded else (name, 0)
    if column not in columns:
        raise ValueError(f'cache key template "{text}" names column "{column}", which is not there')
    return column, copies


def unfit_for_keys(kind: str) -> str | None:
    """Can keys of this type be made here? The reason why not, or None."""
    if kind in _INTEGERS or kind in _TEXTS or kind in ("uuid", "bool", "date"):
        return None
    return f"{kind} has several texts for equal values, or one that depends on the session"


def key_text(name: str, kind: str, value: Any) -> str:
    """The text of a value of a column, as its output function prints it."""
    text = _text(kind, value)
    if text is None:
        raise TypeError(f'{type(value).__name__} is no key of column "{name}" of type {kind}, or its value is none')
    return text


def _text(kind: str, value: Any) -> str | None:
    if kind in _INTEGERS:
        return _integer(value)
    if kind == "bool":
        return ("t" if value else "f") if isinstance(value, bool) else None
    if kind == "uuid":
        return _uuid(value)
    if kind == "date":
        return _date(value)
    if kind in _TEXTS and isinstance(value, str) and "\0" not in value and _is_well_formed(value):
        return str(value)
    return None


def _integer(value: Any) -> str | None:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,20}", value):
        return str(int(value))
    return str(int(value)) if isinstance(value, int) and not isinstance(value, bool) else None


def _uuid(value: Any) -> str | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", value):
        return value.lower()
    return str(value) if isinstance(value, uuid.UUID) else None


def _date(value: Any) -> str | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return datetime.date.fromisoformat(value).isoformat()
        except ValueError:
            return None
    is_date = isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)
    return value.isoformat() if is_date else None


def _is_well_formed(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)
