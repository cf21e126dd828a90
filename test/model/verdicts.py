"""verdicts.py: runs a model: its worlds must hold, and each rule left out must do harm. Exit status 0 if all of that is so.

A violation is printed with the shortest way to it. MODEL_STATES: most states of a world (default 12000); MODEL_SECONDS: of
random walks in each of the larger ones (default 2), MODEL_SEED; an argument: only what has the word in its name.
"""
import os
import random
import sys
import time

from explore import explore, walk

STATES = int(os.environ.get('MODEL_STATES', 12000))
SECONDS = float(os.environ.get('MODEL_SECONDS', 2))
SEED = int(os.environ.get('MODEL_SEED', random.randrange(1000000)))


def report(good, name, begun, text, trace=()):
    print('%s %s: %s, %.1f s' % ('ok' if good else 'NOT OK', name, text, time.monotonic() - begun))
    for i, what in enumerate(trace):
        print('    %2d %s' % (i + 1, what))
    sys.stdout.flush()
    return good


def hold(rules, name, make):
    begun, result = time.monotonic(), explore(rules, make(), STATES)
    text = result.wrong or '%d states%s' % (result.states, '' if result.complete else ', and more')
    return report(not result.wrong, 'holds: ' + name, begun, text, result.trace)


def hold_in_walks(rules, name, make):
    begun, result = time.monotonic(), walk(rules, make(), SECONDS, SEED)
    text = result.wrong or '%d steps of random walks, seed %d' % (result.states, SEED)
    return report(not result.wrong, 'holds: ' + name, begun, text, result.trace)


def does_harm(rules, name, wanted, make, patience):
    begun, result = time.monotonic(), explore(rules, make(), patience, wanted)
    text = '%s, after %d steps' % (result.wrong, len(result.trace)) if result.wrong else \
        'nothing found in %d states' % result.states
    return report(bool(result.wrong), 'harm: ' + name, begun, text)


def run(rules, names, configurations, patience):
    """Names: of the rules, with their right values. Patience: states in which a rule left out must have done harm."""
    word = sys.argv[1] if len(sys.argv) > 1 else ''
    left_out = set()
    good = []
    slow = getattr(configurations, 'SLOW', {}) if STATES > 100000 else {}
    for name, (wanted, make) in {**configurations.WITHOUT, **slow}.items():
        config = make()
        left_out |= {rule for rule in names if config.rule[rule] != names[rule]}
        if word in name:
            good.append(does_harm(rules, name, wanted, make, patience))
    for rule in sorted(set(names) - left_out):
        good.append(report(False, 'harm: rule ' + rule, time.monotonic(), 'nobody leaves it out'))
    good += [hold(rules, name, make) for name, make in configurations.TRUE.items() if word in name]
    good += [hold_in_walks(rules, name, make) for name, make in configurations.WALKS.items() if word in name]
    print('%d of %d' % (sum(good), len(good)))
    return 0 if all(good) and good else 1
