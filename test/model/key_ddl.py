#!/usr/bin/env python3
"""key_ddl.py: DDL that changes what a key is called, while a transaction is open that worked out its old name.

One writer T, one DDL D, the worker, a reader that may cache T's row under its new name as long as it sees D and not T. Every
interleaving is tried, with a worker that starts again anywhere. Nothing may be left under the new name when all have ended.
The rules are those of src/transaction (computed.c, replacing.c), log/open.c and delivery/queue.c; each left out must do harm.
"""
import sys
from collections import deque

RULES = dict(
    begins_first=True,      # D counts itself before its commit record
    ends_last=True,         # and as ended when its invalidation messages are sent
    absorbs=True,           # T takes those in after it read the count, before it computes
    quiet=True,             # T is suspicious if any D has not ended at its first look
    looks_again=True,       # at pre-commit T compares
    logs_first=True,        # after it logged its keys
    logs_empty=True,        # T without keys logs a message
    meets_open=True,        # D's patterns are given to whoever is open when its commit is read
    meets_invisible=True,   # and to whoever has committed and is not visible
    late_pattern=True,      # what T works out only after its second look brings the pattern with it
    first_moves=True,       # whose first message is then D's, and reading resumes there
)

# Steps of T and D, in order; what a step does is in step().
D = ('begin', 'log', 'record', 'visible', 'sent', 'end')
T = ('count', 'absorb', 'compute', 'log', 'look', 'record', 'visible')


def order(rule, keyless, prepared, late):
    d, t = list(D), list(T)
    if late:  # another library's rows
        t = ['pattern'] * rule['late_pattern'] + ['compute', 'log', 'record', 'visible']
    if prepared:  # D: COMMIT PREPARED counts, its messages lie long before
        d.remove('begin')
        d.insert(d.index('record'), 'begin')
    if not rule['begins_first']:
        d.remove('begin')
        d.insert(d.index('record') + 1, 'begin')
    if not rule['ends_last']:
        d.remove('end')
        d.insert(d.index('record'), 'end')
    if not rule['absorbs']:
        t.remove('absorb')
    if not rule['logs_first']:
        t.remove('look')
        t.insert(t.index('log'), 'look')
    if not rule['looks_again']:
        t.remove('look')
    if keyless and not rule['logs_empty']:
        t.remove('log')
    return d, t


class World:
    """State: (d, t, counted, ended, seen, suspicious, knows, new, log, read, resume, open_, queue, ddl, cached)"""

    def __init__(self, keyless=False, prepared=False, late=False, **wrong):
        self.rule = dict(RULES, **wrong)
        self.d, self.t = order(self.rule, keyless, prepared, late)

    def first(self):
        return dict(d=0, t=0, begun=0, ended=0, seen=None, suspicious=False, knows=False, new=False, log=(), read=0,
                    resume=0, open=(), queue=(), done=(), cached=False, restarts=0)

    def done(self, s, who, what):
        steps, at = (self.d, s['d']) if who == 'D' else (self.t, s['t'])
        return what in steps[:at]

    def next(self, s):
        if s['d'] < len(self.d):
            yield 'D ' + self.d[s['d']], self.step_d(dict(s))
        if s['t'] < len(self.t):
            yield 'T ' + self.t[s['t']], self.step_t(dict(s))
        if s['read'] < len(s['log']):
            yield 'worker reads', self.read(dict(s))
        for who, what in s['queue']:
            if self.done(s, who, 'visible'):
                yield 'worker delivers ' + who, self.deliver(dict(s), who, what)
        if s['restarts'] < 1:
            yield 'worker restarts', self.restart(dict(s))
        if self.done(s, 'D', 'visible') and not self.done(s, 'T', 'visible') and not s['cached']:
            yield 'reader caches', dict(s, cached=True)

    def step_d(self, s):
        what = self.d[s['d']]
        s['d'] += 1
        if what == 'begin':
            s['begun'] += 1
        elif what == 'end':
            s['ended'] += 1
        elif what in ('log', 'record'):
            s['log'] += (('D', what),)
        return s

    def step_t(self, s):
        what = self.t[s['t']]
        s['t'] += 1
        if what == 'count':
            s['seen'] = s['begun']
            s['suspicious'] = self.rule['quiet'] and s['begun'] != s['ended']
        elif what == 'absorb':
            s['knows'] = self.done(s, 'D', 'sent')
        elif what == 'compute':
            s['new'] = s['knows']
        elif what == 'look':
            s['suspicious'] |= s['begun'] != s['seen']
        elif what == 'pattern':
            s['log'] += (('T', 'log', True),)
        elif what in ('log', 'record'):
            s['log'] += (('T', what, s['new'] or s['suspicious']),)
        if what == 'look' and s['suspicious'] and self.rule['logs_first']:
            s['log'] += (('T', 'log', True),)
        return s

    def read(self, s):
        entry = s['log'][s['read']]
        who, what = entry[:2]
        at = s['read']
        s['read'] += 1
        open_ = dict(s['open'])
        if what == 'log':
            first, good = open_.get(who, (at, False))
            open_[who] = (first, good or who == 'D' or entry[2])
        elif who in open_:
            mine = open_.pop(who)
            if who == 'D':
                if self.rule['meets_open'] and 'T' in open_:
                    first = min(open_['T'][0], mine[0]) if self.rule['first_moves'] else open_['T'][0]
                    open_['T'] = (first, True)
                if self.rule['meets_invisible']:
                    s['queue'] = tuple((w, (min(f[0], mine[0]), True) if w == 'T' else f) for w, f in s['queue'])
            if who not in s['done']:
                s['queue'] += ((who, mine),)
        s['open'] = tuple(sorted(open_.items()))
        return self.note_resume(s)

    def deliver(self, s, who, what):
        s['queue'] = tuple(q for q in s['queue'] if q[0] != who)
        s['done'] += (who,)
        if what[1]:
            s['cached'] = False
        return self.note_resume(s)

    def note_resume(self, s):
        s['resume'] = min([s['read']] + [f[0] for _, f in s['open']] + [f[0] for _, f in s['queue']])
        return s

    def restart(self, s):
        """Only what lies below the confirmed LSN counts as delivered: D behind a T that nobody sees is delivered again."""
        place = {e[0]: i for i, e in enumerate(s['log']) if e[1] == 'record'}
        confirmed = min([s['read']] + [place[who] for who, _ in s['queue']])
        done = tuple(who for who in s['done'] if place[who] < confirmed)
        s.update(read=s['resume'], open=(), queue=(), done=done, restarts=s['restarts'] + 1)
        return s

    def wrong(self, s):
        over = s['d'] == len(self.d) and s['t'] == len(self.t) and s['read'] == len(s['log']) and not s['queue']
        return over and s['cached']


def explore(world):
    first = world.first()
    seen, todo = {tuple(first.values())}, deque([(first, ())])
    while todo:
        state, trace = todo.popleft()
        if world.wrong(state):
            return len(seen), trace
        for what, after in world.next(state):
            key = tuple(after.values())
            if key not in seen:
                seen.add(key)
                todo.append((after, trace + (what,)))
    return len(seen), None


def main():
    good = True
    for name, world in (('', {}), (', no key', {'keyless': True}), (', prepared', {'prepared': True}), (', late', {'late': True})):
        states, trace = explore(World(**world))
        good &= trace is None
        print('%s holds: key ddl%s: %d states' % ('ok' if trace is None else 'NOT OK', name, states))
        for i, what in enumerate(trace or ()):
            print('    %2d %s' % (i + 1, what))
    for rule in RULES:
        states, trace = explore(World(rule == 'logs_empty', rule == 'first_moves', rule == 'late_pattern', **{rule: False}))
        good &= trace is not None
        print('%s harm: key ddl: %s: %s' % ('ok' if trace else 'NOT OK', rule,
                                            'after %d steps' % len(trace) if trace else 'nothing in %d states' % states))
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
