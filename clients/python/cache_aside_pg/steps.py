"""What the repository and the router do, without saying how: generators of steps.

`get` of a thread and `get` of a coroutine are one piece of code. It yields what it wants of the outside; whoever runs it
does that, waiting or awaiting, and sends the answer back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Command = Sequence[str]
Rows = list[tuple[Any, ...]]
T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """Commands for Redis. Answer: one value for each, an exception for those that failed; None: Redis is not asked now."""

    commands: Sequence[Command]


@dataclass(frozen=True)
class Read:
    """A statement, where it sees `after`. Answer: its rows."""

    sql: str
    values: Sequence[Any]
    after: str | None


@dataclass(frozen=True)
class Write:
    """A statement on the primary, within the transaction of `connection` if there is one. Answer: its rows."""

    sql: str
    values: Sequence[Any]
    connection: Any = None


@dataclass(frozen=True)
class Pause:
    """Some seconds."""

    seconds: float


Step = Ask | Read | Write | Pause
Steps = Generator[Step, Any, T]


def run(steps: Steps[T], perform: Callable[[Any], Any]) -> T:
    """Runs them in this thread."""
    try:
        step = next(steps)
        while True:
            try:
                answer = perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def run_async(steps: Steps[T], perform: Callable[[Any], Awaitable[Any]]) -> T:
    """Runs them in this task."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
