"""explore.py: every state a configuration can reach, in the order of their distance, or random walks.

`rules` is the module that has first_state, steps and wrong_state.
"""
import random
import time
from collections import deque


class Result:
    def __init__(self, states, complete, wrong=None, trace=()):
        self.states, self.complete, self.wrong, self.trace = states, complete, wrong, trace


def trace_to(reached, state, last):
    trace = [last]
    while reached[state]:
        state, what = reached[state]
        trace.append(what)
    return trace[::-1]


def explore(rules, config, limit, wanted=''):
    """Breadth first, so that a violation comes with a shortest way to it."""
    first = rules.first_state(config)
    reached, queue = {first: None}, deque([first])
    while queue:
        state = queue.popleft()
        for what, after, wrong in rules.steps(config, state):
            if wrong is None:
                if after in reached:
                    continue
                wrong = rules.wrong_state(config, after)
            if wrong and wrong.startswith(wanted):
                return Result(len(reached), True, wrong, trace_to(reached, state, what))
            if after not in reached:
                reached[after] = state, what
                queue.append(after)
        if len(reached) >= limit:
            return Result(len(reached), False)
    return Result(len(reached), True)


def walk(rules, config, seconds, seed, length=160):
    """Random walks. Now and then readers sleep for long, so that rare things happen meanwhile."""
    chance, end, taken = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        state, trace, sleepy = rules.first_state(config), [], chance.random() / 2
        for _ in range(length):
            choice = list(rules.steps(config, state))
            if chance.random() < sleepy:
                choice = [s for s in choice if not s[0].startswith('reader')] or choice
            if not choice:
                break
            what, state, wrong = chance.choice(choice)
            taken += 1
            trace.append(what)
            wrong = wrong or rules.wrong_state(config, state)
            if wrong:
                return Result(taken, True, wrong, trace)
    return Result(taken, True)
