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
import sys

import configurations
import rules
from state import RULES
from verdicts import run

if __name__ == '__main__':
    sys.exit(run(rules, RULES, configurations, patience=200000))
