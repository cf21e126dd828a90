"""rules.py: the rules of guarded fills on Redis Cluster, as states and steps.

Two nodes of two processes each, one of them master, the other a replica that lags; slots that migrate key by key. worker.py:
the worker, its look, the states of a slot, what a delivery does at both ends of an open one. library.py: the library's calls.

Abstractions. Commit n has LSN n and is visible at once; commits that are not, timelines and what is read again from the log
are in the model of one Redis. A value is the LSN of the last commit on its key that its reader saw. A call happens in one
step. Readers of the cache ask the owner, and the target when the owner sends them there.

What must hold:
  stale fill   a fill that is accepted misses no invalidation that was acknowledged
  old read     no reader sees a value that misses one, until Redis itself brought values back
  at rest      the worker has nothing left to do, no slot is to be emptied: nobody sees a value that misses a commit, ...
  settled      ... and when no slot is open and all are settled, none is cached that is old, wherever it was brought back
  unfillable   ... and a new fill is admitted everywhere
"""
from state import holds_something, imports_from_nobody, master, same_names
from worker import is_claimed, worker_steps
from world import asked, commit_steps, fill_steps, last_on, node_steps, reader_steps, slot_move_steps


def steps(c, s):
    """(what happens, the state after it, what is wrong with the step or None)"""
    for source in (commit_steps, worker_steps, slot_move_steps, node_steps, reader_steps):
        for what, after in source(c, s):
            yield what, same_names(after), None
    for what, after, wrong in fill_steps(c, s):
        yield what, same_names(after), wrong


def first_state(c):
    state = c.initial()
    for happens in c.begin:
        state = next(after for what, after, _ in steps(c, state) if what.startswith(happens))
    return state


def visible(c, s, key):
    h = asked(c, s, key)
    return -1 if h is None else master(s, h).data.cache[key]


def is_at_rest(c, s):
    """Nothing is left to deliver, to look at, to claim, or to empty."""
    w = s.worker
    if w is None or w.read != s.log or w.queue or w.view != s.owner or w.epochs != tuple(n.epoch for n in s.nodes):
        return False
    for slot, state in enumerate(w.slots):
        if state.is_ != ('settled' if s.target[slot] < 0 else 'open'):
            return False
        if s.target[slot] >= 0 and not state.target_emptied and c.rule['empties_target']:
            return False
        importer = 1 - s.owner[slot]
        if imports_from_nobody(s, importer, slot) and holds_something(s, c, importer, slot):
            if c.rule['importer_asked'] or (importer, slot) not in w.told:
                return False
    return all(is_claimed(s, h) for h in (0, 1))


def is_settled(c, s):
    """At rest, and every slot is closed and as its owner's memory has it."""
    if any(target >= 0 for target in s.target):
        return False
    for slot in range(c.nslots):
        witness = master(s, s.owner[slot]).data.witnesses[slot]
        known = master(s, s.owner[slot]).memory.slots[slot]
        if not witness or not known or witness.text != known.text:
            return False
    return True


def wrong_state(c, s):
    """What is wrong with a state, or None."""
    for key in range(c.nkeys) if not s.brought_back else ():
        value = visible(c, s, key)
        missed = [lsn for lsn, k in s.acknowledged if k == key and lsn > value] if value != -1 else ()
        if missed:
            return 'old read: of key %d as of %d, %s was acknowledged' % (key, value, sorted(missed))
    if not is_at_rest(c, s):
        return None
    settled = is_settled(c, s)
    for key in range(c.nkeys):
        value = visible(c, s, key)
        if value != -1 and last_on(c, key, s.log) > value:
            return '%s: key %d is cached as of %d' % ('settled' if settled else 'at rest', key, value)
    if settled:
        for slot in range(c.nslots):
            memory = master(s, s.owner[slot]).memory
            if max([memory.slots[slot].floor] + [memory.buckets[k] for k in c.keys[slot]]) > s.log:
                return 'unfillable: slot %d' % slot
    return None
