"""Which replicas there are and what each has replayed: from Redis, where the workers publish it, or from the primary.

What a replica has replayed only grows, as long as it is of the primary's history, so a list that is a little old errs on the
safe side. Older than `_TOO_OLD` it is none.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .lsn import parse_lsn
from .steps import Ask, Steps, Write

_TOO_OLD = 2.0


@dataclass(frozen=True)
class Replica:
    """As it was published, or named by the primary."""

    name: str
    conninfo: str
    lsn: int
    region: str | None = None
    weight: float = 1.0
    lag: float | None = None  # seconds


@dataclass(frozen=True)
class Wish:
    """What a read wants."""

    after: str | None
    region: str | None
    max_lag: float | None


class AskedReplicas:
    """One question to the primary for each read; it names one replica, or none."""

    def __init__(self) -> None:
        self._seen: dict[str, Replica] = {}

    def candidates(self, wish: Wish) -> Steps[Sequence[Replica]]:
        rows = yield Write(
            "SELECT name, conninfo, lsn::text FROM cache_aside.route(%s::pg_lsn, %s::text, %s * interval '1 second')",
            (wish.after, wish.region, wish.max_lag),
        )
        name, conninfo, lsn = rows[0] if rows else (None, None, None)
        if name is None or conninfo is None:
            return []
        self._seen[name] = Replica(name, conninfo, parse_lsn(lsn) or 0)
        return [self._seen[name]]

    def known(self) -> Sequence[Replica]:
        return list(self._seen.values())


class PublishedReplicas:
    """What the workers publish, read again every `refresh` seconds."""

    def __init__(self, refresh: float) -> None:
        self._refresh = refresh
        self._list: Sequence[Replica] = []
        self._read_at = self._asked_at = float("-inf")

    def candidates(self, wish: Wish) -> Steps[Sequence[Replica]]:
        now = time.monotonic()
        if now - self._asked_at >= self._refresh or now - self._read_at >= _TOO_OLD:
            self._asked_at = now  # by one; others use what is there meanwhile, unless it is too old
            yield from self._read(now)
        lsn = 0 if wish.after is None else parse_lsn(wish.after)
        if lsn is None:
            return []
        return [replica for replica in self.known() if replica.lsn >= lsn and _is_fit(replica, wish.max_lag)]

    def known(self) -> Sequence[Replica]:
        return self._list if time.monotonic() - self._read_at < _TOO_OLD else []

    def _read(self, began: float) -> Steps[None]:
        answers = yield Ask([("GET", "cache_aside:primary"), ("HGETALL", "cache_aside:replicas")])
        if not answers or any(isinstance(answer, Exception) for answer in answers):
            return
        primary = _parse(answers[0])
        replicas = [_replica(name, _parse(text), primary) for name, text in answers[1].items()] if primary else []
        self._list, self._read_at = [replica for replica in replicas if replica], began


def _is_fit(replica: Replica, max_lag: float | None) -> bool:
    return replica.weight > 0 and (max_lag is None or (replica.lag is not None and replica.lag <= max_lag))


def _parse(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _replica(name: str, entry: dict[str, Any], primary: dict[str, Any]) -> Replica | None:
    """Only of the primary's history: an LSN of another timeline says nothing."""
    lsn, conninfo, region = parse_lsn(entry.get("lsn")), entry.get("conninfo"), entry.get("region")
    if lsn is None or not isinstance(conninfo, str):
        return None
    if any(entry.get(field) != primary.get(field) for field in ("system", "timeline")):
        return None
    lag, weight = entry.get("lag_ms"), entry.get("weight", 1)
    return Replica(
        name,
        conninfo,
        lsn,
        region if isinstance(region, str) else None,
        float(weight) if isinstance(weight, (int, float)) else 1.0,
        lag / 1000 if isinstance(lag, (int, float)) else None,
    )


def choose(replicas: Sequence[Replica], region: str | None) -> Replica | None:
    """One by weight, of those of the region if there are any."""
    near = [replica for replica in replicas if replica.region == region] if region is not None else []
    of = near or replicas
    return random.choices(of, [replica.weight for replica in of])[0] if of else None
