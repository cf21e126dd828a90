"""explore.py: every state a configuration can reach, in the order of their distance, or random walks."""
import random
import time
from collections import deque

from rules import first_state, steps, wrong_state


class Result:
    def __init__(self, states, complete, wrong=None, trace=()):
        self.states, self.complete, self.wrong, self.trace = states, complete, wrong, trace


def trace_to(reached, state, last):
    trace = [last]
    while reached[state]:
        state, what = reached[state]
        trace.append(what)
    return trace[::-1]


def explore(config, limit, wanted=''):
    """Breadth first, so that a violation comes with a shortest way to it."""
    first = first_state(config)
    reached, queue = {first: None}, deque([first])
    while queue:
        state = queue.popleft()
        for what, after, wrong in steps(config, state):
            if wrong is None:
                if after in reached:
                    continue
                wrong = wrong_state(config, after)
            if wrong and wrong.startswith(wanted):
                return Result(len(reached), True, wrong, trace_to(reached, state, what))
            if after not in reached:
                reached[after] = state, what
                queue.append(after)
        if len(reached) >= limit:
            return Result(len(reached), False)
    return Result(len(reached), True)


def walk(config, seconds, seed, length=160):
    """Random walks. Now and then readers sleep for long, so that rare things happen meanwhile."""
    chance, end, taken = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        state, trace, sleepy = first_state(config), [], chance.random() / 2
        for _ in range(length):
            choice = list(steps(config, state))
            if chance.random() < sleepy:
                choice = [s for s in choice if not s[0].startswith('reader')] or choice
            if not choice:
                break
            what, state, wrong = chance.choice(choice)
            taken += 1
            trace.append(what)
            wrong = wrong or wrong_state(config, state)
            if wrong:
                return Result(taken, True, wrong, trace)
    return Result(taken, True)
