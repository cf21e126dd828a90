"""LSNs, which are the tokens of a write: `0/3058EA0`, two numbers of 32 bits."""

from __future__ import annotations

import re

_FORM = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def parse_lsn(text: object) -> int | None:
    """The LSN as a number, or None when this is none."""
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    return int(match[1], 16) << 32 | int(match[2], 16) if match else None


def later_token(a: str | None, b: str | None) -> str | None:
    """The later one of two tokens; a text that is no LSN counts for nothing."""
    first, second = parse_lsn(a), parse_lsn(b)
    if first is None:
        return b if second is not None else None
    return b if second is not None and second > first else a
