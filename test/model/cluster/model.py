#!/usr/bin/env python3
"""model.py: guarded fills on Redis Cluster, proved on small worlds.

    model.py [word]     everything, or what has the word in its name; see ../verdicts.py

Change what the worker does with slots, witnesses, both ends of an open slot or epochs here as well as in src/: then this
tells whether it still holds.
"""
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))  # its own state.py and rules.py come first

import configurations
import rules
from state import RULES
from verdicts import run

if __name__ == '__main__':
    sys.exit(run(rules, RULES, configurations, patience=600000))
