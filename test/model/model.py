#!/usr/bin/env python3
"""model.py: guarded fills, proved on small worlds.

    model.py [name]     everything, or what has the word in its name

The rules (rules.py and what it imports) must leave nothing stale in any world of configurations.py, explored completely or
up to MODEL_STATES states each (default 12000), and none of MODEL_SECONDS of random walks in each of
some larger ones (default 2; MODEL_SEED). Each rule left out must do harm: a model that finds nothing
wrong with wrong rules proves nothing. Exit status 0 if all of that is so. A violation is printed with
the shortest way to it.

Change the rules of the guard, of arming, of the position or of tokens here as well as in src/: then
this tells whether they still hold.
"""
import os
import random
import sys
import time

from configurations import TRUE, WALKS, WITHOUT
from explore import explore, walk
from state import RULES

STATES = int(os.environ.get('MODEL_STATES', 12000))
SECONDS = float(os.environ.get('MODEL_SECONDS', 2))
SEED = int(os.environ.get('MODEL_SEED', random.randrange(1000000)))
PATIENCE = 200000  # states in which a rule left out must have done harm


def report(good, name, begun, text, trace=()):
    print('%s %s: %s, %.1f s' % ('ok' if good else 'NOT OK', name, text, time.monotonic() - begun))
    for i, what in enumerate(trace):
        print('    %2d %s' % (i + 1, what))
    sys.stdout.flush()
    return good


def hold(name, make):
    begun, result = time.monotonic(), explore(make(), STATES)
    text = result.wrong or '%d states%s' % (result.states, '' if result.complete else ', and more')
    return report(not result.wrong, 'holds: ' + name, begun, text, result.trace)


def hold_in_walks(name, make):
    begun, result = time.monotonic(), walk(make(), SECONDS, SEED)
    text = result.wrong or '%d steps of random walks, seed %d' % (result.states, SEED)
    return report(not result.wrong, 'holds: ' + name, begun, text, result.trace)


def does_harm(name, wanted, make):
    begun, result = time.monotonic(), explore(make(), PATIENCE, wanted)
    text = '%s, after %d steps' % (result.wrong, len(result.trace)) if result.wrong else \
        'nothing found in %d states' % result.states
    return report(bool(result.wrong), 'harm: ' + name, begun, text)


def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ''
    left_out = set()
    good = []
    for name, (wanted, make) in WITHOUT.items():
        config = make()
        left_out |= {rule for rule in RULES if config.rule[rule] != RULES[rule]}
        if word in name:
            good.append(does_harm(name, wanted, make))
    for rule in sorted(set(RULES) - left_out):
        good.append(report(False, 'harm: rule ' + rule, time.monotonic(), 'nobody leaves it out'))
    good += [hold(name, make) for name, make in TRUE.items() if word in name]
    good += [hold_in_walks(name, make) for name, make in WALKS.items() if word in name]
    print('%d of %d' % (sum(good), len(good)))
    return 0 if all(good) and good else 1


if __name__ == '__main__':
    sys.exit(main())
