"""Rows as PostgreSQL's own JSON text, which is what stands in Redis, and what becomes of it here.

The text is never parsed and printed again on its way from the database to Redis, so nothing is lost there. Decoding loses
nothing either: integers are int, a numeric is the Decimal that PostgreSQL prints, and so are fractions within json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from .table import Column

#: Makes what the application wants of a decoded JSON value, which is never None.
Decoder = Callable[[Any], Any]


def make_decoder(columns: Sequence[Column], own: Mapping[str, Decoder]) -> Callable[[str], dict[str, Any]]:
    """Makes the function that turns the JSON text of a row into a dict; it raises when the text is no such row."""
    decoders = {column.name: own.get(column.name) or _decoder_of(column) for column in columns}

    def decode(text: str) -> dict[str, Any]:
        found = json.loads(text, parse_float=Decimal, parse_int=_integer)
        row = {}
        for name, decoder in decoders.items():  # those that were added since are left out until the table is looked up again
            value = found[name]
            row[name] = decoder(value) if decoder and value is not None else value
        return row

    return decode


def _decoder_of(column: Column) -> Decoder | None:
    if column.type == "numeric":
        return _each(Decimal)
    return _each(float) if column.type in ("float4", "float8") else None


def _each(convert: Decoder) -> Decoder:
    """Of an array each element. "NaN" and "Infinity" are strings in JSON."""

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(element) for element in value]
        return None if value is None else convert(value)

    return decode


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) < 4000 else Decimal(text)  # Python refuses to make an int of more digits


def to_json(value: Any) -> str:
    """For a column of json: a Decimal is a number, as it was read."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(name))}: {to_json(of)}" for name, of in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(to_json(element) for element in value) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value, allow_nan=False)
