"""rules.py: the rules of guarded fills, as states and steps.

A state is everything there is: the log, the worker, two Redis processes (one of them behind the
address) and some readers. `steps` yields what may happen next; explore.py tries it all. Names follow
src/: claim, epoch, arm and apply are the calls of delivery/library, the worker's decisions those of
run.c, round.c, catch_up.c, resume.c, open_at_start.c, ledger.c, delivery.c and admission.c.

Abstractions. An LSN is the number of a record, from 1. A transaction logs one message, then its commit.
Sets are bit masks of transactions. The value of a key is the set of the transactions its reader saw.
A call to Redis happens in one step; that it was sent earlier changes nothing, since every call checks
nonce and position. The worker learns that Redis went away when a call fails, or any time before. A
nonce is a flag: the session under way claimed this process last.

Each rule that something depends on has a name in RULES (state.py). A configuration may set it to a wrong value;
then a stale value must be found.
"""
from state import Reader, Worker, bits, committed, end_session, left, spend
from library import fill_admitted, is_known, visible_lsn
from worker import worker_steps
from world import other_steps, reader_steps, redis_steps, server_steps, transaction_steps


def fill_steps(c, s):
    """Steps with what they violate, if anything."""
    for i, r in enumerate(s.readers):
        if r.phase != 2 or i and s.readers[i - 1] == r:
            continue
        readers = tuple(sorted(s.readers[:i] + (Reader(3),) + s.readers[i + 1:]))
        for k in range(c.keys):
            if not fill_admitted(c, s, r, k):
                continue
            value = r.value & c.touch[k]
            must = (s.data.done | s.processes[s.home].done | s.told) & c.touch[k] & ~s.lost
            wrong = None
            if must & ~value:
                wrong = 'stale fill of key %d: token %d-%d, misses %s' % (
                    k, r.timeline, r.token, list(bits(must & ~value)))
            cache = s.data.cache[:k] + (value,) + s.data.cache[k + 1:]
            yield 'reader (%d): FILLS key %d with %s' % (r.token, k, list(bits(value))), s._replace(
                data=s.data._replace(cache=cache), readers=readers), wrong


def steps(c, s):
    """(what happens, the state after it, what is wrong with the step or None)"""
    for source in (transaction_steps, server_steps, worker_steps, redis_steps, reader_steps, other_steps):
        for what, after in source(c, s):
            yield what, after, None
    w = s.worker
    if w.session and not w.batch and (left(s, 'worker_dies') or not s.processes[s.home].claimed):
        dies = left(s, 'worker_dies')
        if dies:
            ended, unknown = end_session(s).processes, c.rule['unknown_lasts']
            forgotten = tuple(p._replace(last=False, before=False) for p in ended)
            yield 'WORKER DIES', s._replace(worker=Worker(extended=unknown), processes=forgotten,
                                            faults=spend(s, 'worker_dies')), None
            # What it delivers to was claimed last: the file tells, and whether anybody was told of what is delivered.
            yield 'WORKER DIES, which leaves a file', s._replace(
                worker=Worker(elsewhere=2 if w.elsewhere else 0, extended=unknown), processes=ended,
                faults=spend(s, 'worker_dies')), None
        yield 'the connection breaks', end_session(s)._replace(
            faults=spend(s, 'worker_dies') if dies else s.faults), None
    yield from fill_steps(c, s)


def first_state(c):
    """The initial one, and then what the configuration says has happened already."""
    state = c.initial()
    for happens in c.begin:
        state = next(after for what, after, _ in steps(c, state) if what.startswith(happens))
    return state


# ---- what must hold ----

def wrong_state(c, s):
    """What is wrong with a state, or None."""
    w, data, p = s.worker, s.data, s.processes[s.home]
    if s.usurped:
        return 'fenced: a server that lives'
    for k, value in enumerate(data.cache):
        if value != -1 and data.done & c.touch[k] & ~value & ~s.lost:
            return 'stale: key %d misses what was delivered: %s' % (
                k, list(bits(data.done & c.touch[k] & ~value)))
    end = len(s.log)
    if not (w.session and w.read == end == s.flushed and w.caught_up >= 0 and not w.queue and not w.batch and
            not w.resync and not w.scan and not w.clear and not w.barrier and p.claimed and
            s.data.position == w.expected and w.armed == c.rule['guarded'] and
            s.visible == committed(s.log, end) & ~(1 << c.n)):
        return None
    if s.visible & ~data.done & ~c.foreign:
        return 'settled: never delivered: %s' % list(bits(s.visible & ~data.done))
    for k, value in enumerate(data.cache):
        if value == -1:
            continue
        if value & c.cloned:
            return 'settled: key %d has a value of a clone' % k
        if value & s.lost:
            return 'settled: key %d has a value of a lost transaction' % k
        if s.visible & c.touch[k] & ~value:
            return 'settled: key %d misses %s' % (k, list(bits(s.visible & c.touch[k] & ~value)))
    if c.rule['guarded'] and is_known(c, p, data.guard):
        # After a roll-back nothing is filled until the log is as long as it was (src/log/position.c).
        reached = max(visible_lsn(c, s), w.reached, s.beyond)
        if max(p.buckets + (p.floor, data.guard.floor)) > reached + s.foreign:
            return 'unfillable: %s above the visible LSN %d' % (p, visible_lsn(c, s))
    return None
