"""worker.py: what the worker may do next: connect, read, deliver, scan, arm.

Its decisions are those of run.c, round.c, catch_up.c, resume.c, open_at_start.c, ledger.c, delivery.c and admission.c.
"""
from state import Position, Worker, bits, commit_lsn, committed, end_session, left, messaged, spend
from library import (
    apply, apply_parts, arm, armings_expire, call_fails, claim, delete_keys, disarm, epoch, hear_of_foreign, is_known,
    lift_marks, note_delivered, position_now, read_record, visible_lsn, write_position)


def connect(c, s):
    if s.crashed:
        if c.rule['crash_record']:
            s = s._replace(log=s.log + (c.crash,), flushed=len(s.log) + 1)
        s = s._replace(crashed=False)
        crash_resync = not c.rule['crash_record']
    else:
        crash_resync = False
    remembered = s.worker.remembered
    waits = armings_elsewhere(c, s)
    adopts = s.clone == 1
    here, p = s.worker.here, s.processes[s.home]
    known = p.timeline == s.timeline and is_known(c, p, s.data.guard) or not c.rule['data_known']
    s = claim(c, s, s.timeline, adopts)
    if s is None:
        return None, 'fenced'
    stored, end = s.data.position, s.flushed
    if adopts: # what is stored is of another log
        s = s._replace(clone=2)
        if c.rule['adopt_resyncs']:
            return blind_start(c, s, Worker(True, target=end, expected=stored, **waits), end)
        stored = Position(s.timeline, end, end)
        s = s._replace(data=s.data._replace(position=stored))
    w = Worker(True, target=end, remembered=remembered, lazy=bool(stored and stored.lazy), expected=stored,
               resync=int(crash_resync), **waits)
    if stored is None and remembered is not None and remembered.timeline == s.timeline:
        stored = remembered
        if not (here and known):
            w = w._replace(resync=1)
        w = w._replace(lazy=stored.lazy)
        what = 'position %s, goes on from %s' % ('absent' if w.resync else 'evicted', stored)
    elif stored is None:
        return blind_start(c, s, w, end)
    elif c.rule['log_compared'] and stored.timeline == s.timeline and is_rewritten(c, s, stored):
        return blind_start(c, s, w._replace(reached=stored.seen + 1), end)
    elif stored.database != s.database and c.rule['names_database']:
        w = w._replace(resync=1)
        what = 'of another database, goes on from %s' % (stored,)
    else:
        what = 'goes on from %s' % (stored,)
    w = w._replace(reached=stored.seen if stored.timeline == s.timeline else 0)
    if stored.timeline < s.timeline:
        return cross_fork(c, s, w, stored)
    w = w._replace(read=stored.restart, confirmed=stored.confirmed, resync=int(stored.pending or w.resync),
                   barrier=stored.barrier, unread=unread(c, s, stored.barrier, stored.restart))
    return begin(s, w), 'connects: ' + what


def armings_elsewhere(c, s):
    """Whose armings may still admit something: those of the process that was claimed before, if that was another."""
    w = s.worker
    if s.processes[s.home].last:
        waits = dict(elsewhere=w.elsewhere if c.rule['goes_on_waiting'] else 0, extended=w.extended)
    else:
        waits = dict(elsewhere=(2 if w.elsewhere else 0) | int(w.extended), extended=False)
    return waits if c.rule['waits_for_expiry'] else dict(waits, elsewhere=0)


def is_rewritten(c, s, position):
    """Another record where the position names one. A commit has a time: of another life, it is another."""
    if position.at > s.flushed or position.at > 0 and s.log[position.at - 1] != position.record:
        return True
    return c.rule['timed_compared'] and s.rolled >= 0 and not position.rolled and position.timed > s.rolled


def begin(s, w):
    if w.read >= w.target:
        w = w._replace(caught_up=w.read)
    w = w._replace(acked=Position(s.timeline, w.confirmed, min(w.read, w.confirmed), bool(w.resync), w.lazy,
                                  w.barrier, s.database, w.reached))
    return s._replace(worker=w, recorded=False)


def unread(c, s, barrier, lsn):
    """Of the transactions a barrier is about: whose message is not read, and whose commit will be."""
    return barrier & messaged(s.log, lsn) & ~committed(s.log, lsn)


def blind_start(c, s, w, end):
    """From a checkpoint, here the latest possible one: the end of the log."""
    ended = s.visible & committed(s.log, end) # a commit may be visible before it is flushed
    barrier = messaged(s.log, end) & ~ended & ~s.dead if c.rule['barrier'] else 0
    w = w._replace(read=end, confirmed=end, resync=1, barrier=barrier, unread=unread(c, s, barrier, end))
    return begin(s, w), 'connects: blind start at %d' % end


def cross_fork(c, s, w, stored):
    confirmed = min(stored.confirmed, s.fork)
    restart = min(stored.restart, confirmed)
    barrier = stored.barrier
    if stored.confirmed > s.fork and c.rule['fork_barrier']:
        barrier |= messaged(s.log, s.fork) & ~s.visible & ~s.dead
    w = w._replace(read=restart, confirmed=confirmed, clear=c.rule['promotion_clears'],
                   barrier=barrier, unread=unread(c, s, barrier, restart),
                   resync=int(c.rule['promotion_resync'] and not c.clean or stored.pending))
    return begin(s, w), 'connects: promoted, position %s' % (stored,)


def worker_steps(c, s):
    w = s.worker
    if w.batch: # not atomic
        part = apply_parts(c)[w.stage]
        after = part(c, s, w.batch)
        if after.worker.batch:
            after = after._replace(worker=after.worker._replace(stage=w.stage + 1))
        yield '%s %s' % (part.__name__, list(bits(w.batch))), after
        return
    if not w.session:
        if w.remembered and any(p.armed for p in s.processes):
            yield 'seconds pass, all armings end', armings_expire(c, s)
        after, what = connect(c, s)
        if after is not None:
            yield what, after
        return
    if w.read < s.flushed:
        yield 'reads record %d' % (w.read + 1), read_record(c, s)
    lsn = visible_lsn(c, s)
    if w.barrier == 0 and (lsn > s.ring[1] or s.ring[0] != s.timeline):
        yield 'ring: visible LSN %d' % lsn, s._replace(ring=(s.timeline, lsn, s.visible))
    if w.barrier and w.caught_up >= 0 and not w.resync and not w.scan:
        running = w.barrier & ~s.visible & ~s.dead
        unread = w.barrier & ~s.dead & ~committed(s.log, w.read)
        if not running and not (unread and c.rule['barrier_read']):
            yield 'the barrier is passed', s._replace(worker=w._replace(
                barrier=0, unread=0, resync=int(c.rule['barrier_resync'])))
    p = s.processes[s.home]
    if p.marks and p.claimed and w.heard != p.foreign:
        yield 'renews, and hears of a foreign deletion', hear_of_foreign(s)
    if p.marks and p.claimed and (w.heard == p.foreign and w.read >= w.heard_at or not c.rule['foreign_echo']):
        yield 'renews, and lifts the marks to %d' % w.read, lift_marks(c, s)
    if w.elsewhere:
        yield 'seconds pass, armings elsewhere end', armings_expire(c, s)
    if w.elsewhere & 1:
        yield 'the process claimed before is told to disarm', disarm(c, s)
    if call_fails(c, s):
        yield 'a call fails, the session ends', end_session(s)
        return
    yield from guard_steps(c, s)
    yield from delivery_steps(c, s)
    yield from scan_steps(c, s)


def guard_steps(c, s):
    w = s.worker
    if w.caught_up >= 0 and w.clear:
        resync = 2 if w.resync else 0
        cleared = s._replace(worker=w._replace(clear=False, resync=resync, upto=w.read))
        yield 'epoch: guard of timeline %d, floor %d' % (s.timeline, w.read), epoch(c, cleared, True)
        return
    ready = w.caught_up >= 0 or not c.rule['arm_waits']
    if c.rule['arm_waits']:
        ready = ready and not w.resync
        for t in bits(w.queue & (s.visible | 1 << c.n)):
            if commit_lsn(c, s.log, t) <= w.caught_up:
                ready = False
    if ready and not w.armed and c.rule['guarded']:
        yield 'arms', arm(c, s)


def delivery_steps(c, s):
    w = s.worker
    deliverable = w.queue & ~c.scans & ~w.scan
    if c.rule['waits_for_visible']:
        deliverable &= s.visible
    for batch in sorted({deliverable} | {1 << t for t in bits(deliverable)}):
        if not batch:
            continue
        if c.rule['atomic']:
            yield 'apply %s' % list(bits(batch)), apply(c, s, batch)
        else:
            part = apply_parts(c)[0]
            begun = part(c, s, batch)
            begun = begun._replace(worker=begun.worker._replace(batch=batch, stage=1))
            yield '%s %s' % (part.__name__, list(bits(batch))), begun
        if left(s, 'lost_call'):
            lost = s._replace(worker=w._replace(queue=w.queue & ~batch), faults=spend(s, 'lost_call'))
            lost = lost._replace(worker=lost.worker._replace(expected=Position(0, 0, 0)))
            yield 'apply %s FAILS, the pipeline goes on' % list(bits(batch)), lost
    if not deliverable and not w.clear:
        position = position_now(c, s)
        missing = w.armed and not is_known(c, s.processes[s.home], s.data.guard)
        if position != s.data.position or missing:
            after = write_position(c, s, 0)
            if missing and c.rule['touches_known']:
                after = after._replace(worker=after.worker._replace(armed=False))
            yield 'heartbeat: %s' % (position,), after


def scan_steps(c, s):
    """Patterns, a resync, the crash record: floor, deletions, then the position."""
    w = s.worker
    if w.resync == 1 and w.caught_up >= 0 and not w.clear and not w.scan:
        begun = s._replace(worker=w._replace(resync=2, upto=w.read))
        if c.rule['resync_floor']:
            begun = epoch(c, begun, False)
        yield 'resync: floor %d' % w.read, begun
    if w.resync == 2:
        deleted = delete_everything(c, s, w.upto)
        yield 'resync: everything deleted', deleted._replace(worker=w._replace(resync=0, upto=0))
    due = w.queue & (c.scans | s.worker.unread) & (s.visible | 1 << c.n)
    if due and not w.scan and w.resync != 2: # one pass over the keyspace at a time
        begun = s._replace(worker=w._replace(scan=due, upto=w.read))
        if c.rule['pattern_raises_floor']:
            begun = epoch(c, begun, False)
        yield 'scan for %s: floor %d' % (list(bits(due)), w.read), begun
    if w.scan:
        deleted = delete_keys(c, s, w.scan)
        if w.scan & 1 << c.n:
            deleted = delete_everything(c, deleted, w.upto)
        yield 'scan for %s ends' % list(bits(w.scan)), deleted._replace(
            worker=w._replace(scan=0, upto=w.upto if w.resync == 2 else 0, queue=w.queue & ~w.scan))
    if left(s, 'stray_scan'):
        yield 'a scan nobody here asked for: floor %d' % w.read, epoch(
            c, s, False)._replace(faults=spend(s, 'stray_scan'))


def delete_everything(c, s, upto):
    done = sum(1 << t for t in bits(s.visible) if t < c.n and commit_lsn(c, s.log, t) <= upto)
    return note_delivered(s, (-1,) * c.keys, done)
