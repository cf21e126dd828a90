"""The token of a request: the LSN of the last write that its reads have to see.

It lives in a context variable, so nobody has to pass it along. Tasks that a request starts share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .lsn import later_token


class _Holder:
    def __init__(self, token: str | None) -> None:
        self.token = token


_holder: ContextVar[_Holder | None] = ContextVar("cache_aside_pg.token", default=None)


def begin_token(token: str | None) -> None:
    """The same as `use_token`, for a context that ends with the request."""
    _holder.set(_Holder(later_token(token, None)))


@contextmanager
def use_token(token: str | None = None) -> Iterator[None]:
    """A request begins: with a token of its own, or none yet. What it writes through a router moves the token on."""
    reset = _holder.set(_Holder(later_token(token, None)))
    try:
        yield
    finally:
        _holder.reset(reset)


def current_token() -> str | None:
    """The token that reads here have to see, or None. Keep it where the visitor's next request finds it."""
    holder = _holder.get()
    return holder.token if holder else None


def note_token(lsn: str) -> None:
    """Reads here have to see this LSN from now on. A token only goes forward."""
    holder = _holder.get()
    if holder:
        holder.token = later_token(holder.token, lsn)
