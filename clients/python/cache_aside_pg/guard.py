"""Commands and answers of the guard: looks with a lease, and fills that need a token.

The functions that are called run inside Redis; PostgreSQL's worker loads them. A fill is stored only if no invalidation
that its reader may have missed was delivered. Their names end in the number of the protocol that is spoken here.

Redis before 7 has no functions: `plain` is GET and SET. Nothing guards a fill then, so there is no token, and no lease; and a
read that has to see a write believes no entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .lsn import parse_lsn
from .steps import Ask, Command, Steps

_PROTOCOL = 1
_GET = f"cache_aside_get_{_PROTOCOL}"
_FILL = f"cache_aside_fill_{_PROTOCOL}"
_RELEASE = f"cache_aside_release_{_PROTOCOL}"


@dataclass(frozen=True)
class Found:
    """hit: the value; fill: read, then fill with the lease, or release it; wait: another one is filling; none: do without."""

    kind: Literal["hit", "fill", "wait", "none"]
    text: str = ""


NONE = Found("none")


@dataclass(frozen=True)
class Entry:
    """To be stored."""

    key: str
    value: str
    ttl: float
    lease: str


def look(
    keys: Sequence[str], lease: float, system: str, after: str | None, plain: bool = False
) -> Steps[list[Found]]:
    """One answer for each key. With `after`, an entry that may be older is none; nor is its filler waited for.

    The position is read before the entries, on one connection: what it covers is deleted already.
    """
    ms = str(round(lease * 1000))
    looks: list[Command] = [("GET", key) if plain else ("FCALL", _GET, "1", key, ms) for key in keys]
    lsn = parse_lsn(after)
    if lsn is None:
        answers = yield Ask(looks)
        return [_found(answer, plain) for answer in answers] if answers else [NONE] * len(keys)
    answers = yield Ask([("GET", f"cache_aside:position:{system}"), *looks])
    if not answers:
        return [NONE] * len(keys)
    found = [_found(answer, plain) for answer in answers[1:]]
    return found if not plain and _covers(answers[0], lsn) else [one if one.kind == "fill" else NONE for one in found]


def fill(entries: Sequence[Entry], token: str | None, plain: bool = False) -> Steps[list[bool]]:
    """Which were stored; a lease ends with it. All values are of the transaction that gave the token."""
    if plain:
        answers = yield Ask([("SET", one.key, one.value, "PX", str(round(one.ttl * 1000))) for one in entries])
        return [answer is True or answer == "OK" for answer in answers or [None] * len(entries)]
    if token is None:
        yield from release([(entry.key, entry.lease) for entry in entries])
        return [False] * len(entries)
    answers = yield Ask([_fill(entry, token) for entry in entries])
    if not answers:
        return [False] * len(entries)
    failed = [entry for entry, answer in zip(entries, answers) if isinstance(answer, Exception)]
    yield from release([(entry.key, entry.lease) for entry in failed])  # a full Redis refuses before the lease ends
    return [answer == 1 for answer in answers]


def release(held: Sequence[tuple[str, str]]) -> Steps[None]:
    """For whoever has a lease and stores nothing."""
    commands = [("FCALL", _RELEASE, "1", key, lease) for key, lease in held if lease]
    if commands:
        yield Ask(commands)


def _fill(entry: Entry, token: str) -> Command:
    command = ("FCALL", _FILL, "1", entry.key, entry.value, str(round(entry.ttl * 1000)), token)
    return (*command, entry.lease) if entry.lease else command


def _found(answer: Any, plain: bool) -> Found:
    if isinstance(answer, str):
        return Found("hit", answer)
    if isinstance(answer, list) and answer:
        return Found("fill", str(answer[0]))
    if answer is None:
        return Found("fill" if plain else "wait")
    return NONE  # an error, or something else than a string under this key


def _covers(position: Any, lsn: int) -> bool:
    """ "<timeline> <LSN up to which everything was delivered> ... <state> ..." """
    words = position.split(" ") if isinstance(position, str) else []
    delivered = parse_lsn(words[1]) if len(words) > 4 and words[4] == "ok" else None
    return delivered is not None and delivered >= lsn
