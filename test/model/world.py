"""world.py: what everybody else may do next: transactions, servers, Redis, readers."""
from state import (
    Data, Position, Process, Reader, Worker, commit_lsn, committed, end_session, left, messaged, spend,
    with_process)
from library import claim, delete_foreign, is_known, make_guard, raise_floor


# ---- the server ----

def transaction_steps(c, s):
    begun, over = messaged(s.log, len(s.log)), committed(s.log, len(s.log))
    for t, transaction in enumerate(c.transactions):
        bit = 1 << t
        if s.dead & bit:
            continue
        if not begun & bit:
            records = (2 * t,) if c.split else (2 * t, 2 * t + 1)
            yield 'T%d logs its message' % t, append(c, s, records)
        elif not over & bit:
            yield 'T%d commits' % t, append(c, s, (2 * t + 1,))
        elif not s.visible & bit:
            early = transaction.lazy and (s.recorded or not c.rule['async_recorded'])
            if early or commit_lsn(c, s.log, t) <= s.flushed:
                yield 'T%d becomes visible' % t, s._replace(visible=s.visible | bit)
    if s.flushed < len(s.log):
        yield 'the log is flushed', s._replace(flushed=len(s.log))


def append(c, s, records):
    log = s.log + records
    return s._replace(log=log, flushed=s.flushed if c.lazy else len(log))


def server_steps(c, s):
    if c.standby and s.timeline == 1:
        if s.replayed < s.flushed:
            yield 'the standby replays', s._replace(replayed=s.replayed + 1)
        if s.standby_ring[1] < s.replayed:
            yield "the standby's ring: %d" % s.replayed, s._replace(
                standby_ring=(1, s.replayed, committed(s.log, s.replayed)))
        if left(s, 'promotion'):
            after = promote(c, s)
            if after is not None:
                yield 'PROMOTION, fork at %d' % s.replayed, after
    if left(s, 'crash'):
        yield 'CRASH, the log ends at %d' % s.flushed, crash(c, s)
    told = s.data.position.seen if s.data.position else -1
    if left(s, 'rollback') and s.ring[1] <= told and not s.visible & ~committed(s.log, told):
        for end in range(s.flushed):
            yield 'THE LOG IS ROLLED BACK to %d' % end, roll_back(c, s, end)
    if left(s, 'old_primary') and s.old_primary:
        yield from old_primary_steps(c, s)


def promote(c, s):
    log = s.log[:s.replayed]
    alive = messaged(log, len(log)) & c.prepared & ~committed(log, len(log))
    visible = committed(log, len(log)) & ~(1 << c.n)
    lost = committed(s.log, len(s.log)) & ~visible & ~alive
    if c.clean and (len(log) < len(s.log) or s.visible != visible):
        return None
    dead = messaged(s.log, len(s.log)) & ~visible & ~alive | lost
    old = None if c.clean else (s.visible, s.ring, len(s.log))
    s = end_session(s)
    return s._replace(log=log, flushed=len(log), visible=visible, timeline=2, fork=len(log), lost=lost,
                      dead=s.dead | dead, old_primary=old, ring=s.standby_ring, worker=Worker(),
                      data=s.data._replace(done=s.data.done & visible), delivered=s.delivered & visible, told=s.told & visible, recorded=False,
                      processes=tuple(p._replace(done=p.done & visible, last=False) for p in s.processes),
                      spare=s.spare and s.spare._replace(done=s.spare.done & visible),
                      faults=spend(s, 'promotion'))


def roll_back(c, s, end):
    """Before, a position was written behind the last token, and all that was visible."""
    log = s.log[:end]
    alive = messaged(log, end) & c.prepared & ~committed(log, end)
    visible = committed(log, end) & ~(1 << c.n)
    lost = s.lost | committed(s.log, len(s.log)) & ~visible & ~alive
    s = end_session(s)
    return s._replace(
        log=log, flushed=end, visible=visible, lost=lost, dead=s.dead | messaged(s.log, len(s.log)) & ~visible & ~alive,
        rolled=end, beyond=len(s.log),
        worker=Worker(), ring=(s.timeline, 0, 0), recorded=False, faults=spend(s, 'rollback'),
        data=s.data._replace(done=s.data.done & visible), delivered=s.delivered & visible, told=s.told & visible,
        processes=tuple(p._replace(done=p.done & visible, last=False) for p in s.processes))


def crash(c, s):
    log = s.log[:s.flushed]
    visible = committed(log, len(log)) & ~(1 << c.n)
    lost = s.lost | committed(s.log, len(s.log)) & ~visible
    dead = s.dead | messaged(s.log, len(s.log)) & ~visible
    s = end_session(s)
    return s._replace(log=log, flushed=len(log), visible=visible, lost=lost, dead=dead, worker=Worker(),
                      processes=tuple(p._replace(last=False) for p in s.processes),
                      ring=(s.timeline, 0, 0), crashed=True, recorded=False, faults=spend(s, 'crash'))


def old_primary_steps(c, s):
    """It claims, delivers all it has, and arms, unless it is fenced."""
    visible, _, end = s.old_primary
    claimed = claim(c, s, 1)
    if claimed is None:
        return
    claimed = claimed._replace(processes=tuple(p._replace(claimed=False) for p in claimed.processes),
                               faults=spend(s, 'old_primary'))
    yield 'OLD PRIMARY claims', claimed
    known = visible & ~s.lost
    cache = tuple(-1 if c.touch[k] & visible else v for k, v in enumerate(claimed.data.cache))
    p = claimed.processes[s.home]
    if not is_known(c, p, claimed.data.guard):
        claimed, p = make_guard(c, claimed, p, end)
    elif known & ~s.data.done:
        claimed, p = raise_floor(claimed, p, end)
    p = p._replace(armed=True, done=p.done | known)
    # A Redis that went back, to data without the new primary's position: old values are there anyway, and what is
    # filled beside them goes with them when the new primary delivers again. So what was told and is not in these
    # data any more is promised again only then.
    yield 'OLD PRIMARY delivers and arms', claimed._replace(
        processes=with_process(claimed, p), told=claimed.told & (claimed.data.done | known),
        data=claimed.data._replace(cache=cache, position=Position(1, end, end), done=claimed.data.done | known))


# ---- other servers ----

def other_steps(c, s):
    """Another system that writes the same keys; a clone of this server with a newer timeline."""
    p = s.processes[s.home]
    if left(s, 'foreign'):
        yield 'ANOTHER SYSTEM deletes key 0', delete_foreign(c, s)._replace(faults=spend(s, 'foreign'))
    if left(s, 'clone') and not p.silent and not s.worker.session:
        yield 'the claim is not renewed for seconds', s._replace(processes=with_process(s, p._replace(silent=True)))
    if left(s, 'clone') and s.clone == 0 and (p.silent or not c.rule['newcomer_waits']):
        claimed = claim(c, s, 2)
        data = claimed.data._replace(position=Position(2, len(s.log), len(s.log)), done=0)
        forgotten = tuple(q._replace(claimed=False, last=False, done=0) for q in claimed.processes)
        yield 'A CLONE claims', s._replace(
            data=data, processes=forgotten, faults=spend(s, 'clone'), clone=1, delivered=0, told=0,
            usurped=s.worker.session)
    if s.clone == 1:
        yield 'the clone fills key 0', s._replace(data=s.data._replace(cache=(c.cloned,) + s.data.cache[1:]))


# ---- Redis ----

def redis_steps(c, s):
    data, other = s.data, 1 - s.home
    forgets = s.worker._replace(here=False, remembered=s.worker.acked or s.worker.remembered, acked=None)
    forgets = forgets if c.rule['same_history'] else s.worker
    if left(s, 'snapshot') and s.spare != data:
        processes = with_process(s, Process(), other) if s.diverged else s.processes
        yield 'REDIS: snapshot, or the replica follows', s._replace(
            spare=data, diverged=False, processes=processes, faults=spend(s, 'snapshot'))
    if left(s, 'goes_back') and s.spare is not None:
        yield 'REDIS GOES BACK, or fails over to a replica that lags', s._replace(
            data=s.spare, processes=with_process(s, Process()), worker=forgets, faults=spend(s, 'goes_back'))
    if left(s, 'switch'):
        yield from switch_steps(c, s, forgets, other)
    if left(s, 'flush'):
        yield 'FLUSHALL', s._replace(data=Data((-1,) * c.keys, None, None, data.done | s.visible), faults=spend(s, 'flush'))
    # What the other database holds was read before anything here.
    if left(s, 'swapdb'):
        yield 'SWAPDB', s._replace(data=Data((0,) * c.keys, None, None), faults=spend(s, 'swapdb'))
    if left(s, 'other_database') and data.position:
        yield 'ANOTHER DATABASE, where a copy of the position is', end_session(s)._replace(
            data=Data((0,) * c.keys, None, data.position), database=1, faults=spend(s, 'other_database'))
    if left(s, 'evict_guard') and data.guard:
        yield 'GUARD EVICTED', s._replace(data=data._replace(guard=None), faults=spend(s, 'evict_guard'))
    if left(s, 'move_guard') and data.guard:
        yield 'GUARD MOVED AWAY', s._replace(data=data._replace(guard=None), away=data.guard,
                                             faults=spend(s, 'move_guard'))
    if s.away:
        yield 'GUARD MOVED BACK', s._replace(data=data._replace(guard=s.away), away=None)
    if left(s, 'evict_position') and data.position:
        yield 'POSITION EVICTED', s._replace(data=data._replace(position=None), faults=spend(s, 'evict_position'))
    if left(s, 'evict_key'):
        for k, v in enumerate(data.cache):
            if v != -1:
                cache = data.cache[:k] + (-1,) + data.cache[k + 1:]
                yield 'KEY %d EVICTED' % k, s._replace(data=data._replace(cache=cache),
                                                       faults=spend(s, 'evict_key'))


def switch_steps(c, s, forgets, other):
    """Another process behind the address. One that keeps its memory has seen nothing but what follows."""
    faults = spend(s, 'switch')
    processes = with_process(s, Process(), other) if s.diverged else s.processes
    yield 'SWITCH, nothing lost', s._replace(home=other, spare=s.data, worker=forgets, faults=faults,
                                             processes=processes, diverged=False)
    if s.spare is not None:
        yield 'SWITCH to what the other has; the old one will be copied from it', s._replace(
            home=other, data=s.spare, spare=None, worker=forgets, faults=faults,
            processes=with_process(s, Process()), diverged=False)
        yield 'SWITCH to what the other has; the old one stays as it was', s._replace(
            home=other, data=s.spare, spare=s.data, diverged=True, worker=forgets, faults=faults)


# ---- readers ----

def reader_steps(c, s):
    for i, r in enumerate(s.readers):
        if i and s.readers[i - 1] == r:
            continue # one of equals will do
        def put(reader):
            return tuple(sorted(s.readers[:i] + (reader,) + s.readers[i + 1:]))
        if r.phase == 0:
            for standby in (False, True) if c.standby else (False,):
                timeline, lsn, _ = ring_of(s, standby)
                yield 'reader: entry %d' % lsn, s._replace(readers=put(
                    Reader(1, timeline, lsn, 0, standby)))
                if c.imported:
                    yield 'reader: snapshot for later', s._replace(readers=put(
                        Reader(4, 0, 0, snapshot_of(c, s, standby), standby)))
        elif r.phase == 1:
            phase = 2 if c.rule['token'] == 'transaction' else 5
            yield 'reader (%d): reads' % r.token, s._replace(readers=put(
                r._replace(phase=phase, value=snapshot_of(c, s, r.standby))))
        elif r.phase == 4:
            timeline, lsn, saw = ring_of(s, r.standby)
            if not saw & ~r.value or not c.rule['ring_orders']:
                yield 'reader: begins with an imported snapshot, entry %d' % lsn, s._replace(readers=put(
                    r._replace(phase=2, timeline=timeline, token=lsn)))
        elif r.phase == 5: # the rule left out: a token of a later statement
            timeline, lsn, _ = ring_of(s, r.standby)
            yield 'reader: token %d of a later statement' % lsn, s._replace(readers=put(
                r._replace(phase=2, timeline=timeline, token=lsn)))


def snapshot_of(c, s, standby):
    return committed_for(c, s, standby) | (c.foreign if s.foreign else 0)


def committed_for(c, s, standby):
    if s.timeline == 2:
        return s.visible if standby else s.old_primary[0] if s.old_primary else s.visible
    return committed(s.log, s.replayed) & ~(1 << c.n) if standby else s.visible


def ring_of(s, standby):
    if s.timeline == 2:
        return s.ring if standby or not s.old_primary else s.old_primary[1]
    return s.standby_ring if standby else s.ring
