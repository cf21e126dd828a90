"""library.py: the calls of src/delivery/library, and what the worker tells them.

Each call happens in one step. Names follow the library's.
"""
from state import Guard, Position, Process, bits, commit_lsn, message_lsn, with_process


# ---- the log: what is read, what is visible ----

def visible_lsn(c, s):
    """W: every message-carrying commit at or below it is visible to new snapshots."""
    w = s.worker
    lsn = w.read
    if c.rule['visible_lsn']:
        for t in bits(w.queue & ~s.visible & ~(1 << c.n)):
            lsn = min(lsn, commit_lsn(c, s.log, t) - 1)
    return lsn


def position_now(c, s):
    """What the next call writes."""
    w = s.worker
    confirmed = w.read
    for t in bits(w.queue):
        confirmed = min(confirmed, commit_lsn(c, s.log, t) - 1)
    confirmed = max(confirmed, w.confirmed)
    restart = min(confirmed, w.read) if c.rule['restart_read'] else confirmed
    if c.rule['restart_lsn']:
        for t in bits((w.seen | w.queue) & ~s.dead):
            restart = min(restart, message_lsn(c, s.log, t) - 1)
    return Position(s.timeline, confirmed, restart, bool(w.resync and c.rule['pending']), w.lazy, w.barrier,
                    s.database, max(w.read, w.reached), s.log[w.read - 1] if 0 < w.read <= len(s.log) else -1, w.read,
                    max([i + 1 for i, record in enumerate(s.log[:w.read]) if record & 1], default=0), s.rolled >= 0)


def floor_now(c, s):
    """E, unless the log was rolled back to below what tokens were given for."""
    return max(s.worker.read, s.worker.reached if c.rule['seen_floor'] else 0)


def read_record(c, s):
    w = s.worker
    record, lsn = s.log[w.read], w.read + 1
    t = record >> 1
    bit = 1 << t
    if record == c.crash:
        if lsn > w.confirmed and (w.lazy or not c.rule['async_recorded']) and c.rule['crash_resync']:
            w = w._replace(queue=w.queue | bit)
    elif not record & 1:
        w = w._replace(seen=w.seen | bit, lazy=w.lazy or bool(c.lazy & bit))
    elif w.unread & bit:
        w = w._replace(unread=w.unread & ~bit, queue=w.queue | bit)
    elif w.seen & bit:
        w = w._replace(seen=w.seen & ~bit, queue=w.queue | bit if lsn > w.confirmed else w.queue)
    w = w._replace(read=lsn)
    if w.caught_up < 0 and lsn >= w.target:
        w = w._replace(caught_up=lsn)
    return s._replace(worker=w)


# ---- the calls of the library ----

def is_known(c, p, guard):
    return guard is not None and guard.header == p.header


def write_guard(s, p, guard):
    """Under a header that nobody else knows."""
    used = {q.header for q in s.processes} | {d.guard.header for d in (s.data, s.spare) if d and d.guard}
    used |= {s.away.header} if s.away else set()
    header = next(n for n in range(1, 9) if n not in used)
    return s._replace(data=s.data._replace(guard=guard._replace(header=header))), p._replace(header=header)


def make_guard(c, s, p, floor):
    return write_guard(s, p._replace(floor=floor, top=0, buckets=(0,) * c.nbuckets), Guard(p.timeline, 0, floor))


def forget_guard(c, s):
    p = s.processes[s.home]._replace(header=0, armed=False)
    return s._replace(processes=with_process(s, p)) if c.rule['forgets_guard'] else s


def call_fails(c, s):
    return (c.rule['nonce'] and not s.processes[s.home].claimed or
            c.rule['compares_position'] and s.data.position != s.worker.expected)


def raise_floor(s, p, floor):
    if floor <= p.floor:
        return s, p
    return write_guard(s, p._replace(floor=floor), s.data.guard._replace(floor=floor))


def raise_guard(c, s, batch):
    """The first half of apply. A guard that this process has not made stays as it is."""
    p, guard = s.processes[s.home], s.data.guard
    if not is_known(c, p, guard):
        if c.rule['touches_known']:
            return forget_guard(c, s._replace(worker=s.worker._replace(armed=False)))
        if guard is None:
            s, p = make_guard(c, s, p, 0)
            guard = s.data.guard
    highest = max(commit_lsn(c, s.log, t) for t in bits(batch))
    if batch & c.large:
        if c.rule['large_raises_floor']:
            s, p = raise_floor(s, p, highest)
    else:
        top = max(p.top, highest) if c.rule['never_lower'] else highest
        buckets = list(p.buckets)
        for k in range(c.keys):
            if c.touch[k] & batch:
                buckets[k % c.nbuckets] = top
        s, p = write_guard(s, p._replace(top=top, buckets=tuple(buckets)), guard)
    return s._replace(processes=with_process(s, p))


def delete_keys(c, s, batch):
    cache = tuple(-1 if c.touch[k] & batch else v for k, v in enumerate(s.data.cache))
    return note_delivered(s, cache, batch)


def note_delivered(s, cache, done):
    p = s.processes[s.home]
    delivered = s.delivered | done
    return s._replace(data=s.data._replace(cache=cache, done=s.data.done | done), delivered=delivered,
                      told=s.told if s.worker.elsewhere else delivered,
                      processes=with_process(s, p._replace(done=p.done | done)))


def write_position(c, s, batch):
    w = s.worker
    s = s._replace(worker=w._replace(queue=w.queue & ~batch, batch=0, stage=0))
    return acknowledged(s, position_now(c, s))


def acknowledged(s, position):
    w = s.worker._replace(expected=position, acked=position, confirmed=position.confirmed)
    return s._replace(worker=w, data=s.data._replace(position=position), recorded=position.lazy)


def apply_parts(c):
    first = (raise_guard, delete_keys) if c.rule['raise_first'] else (delete_keys, raise_guard)
    return first + (write_position,)


def apply(c, s, batch):
    for part in apply_parts(c):
        s = part(c, s, batch)
    return s


def anew_above(c, s):
    """A token of the very end may have been given before another system's deletion."""
    return int(s.data.foreign and c.rule['foreign_recorded'])


def epoch(c, s, clear):
    w, p = s.worker, s.processes[s.home]
    if is_known(c, p, s.data.guard) and not clear:
        s, p = raise_floor(s, p, floor_now(c, s))
    elif clear or c.rule['epoch_makes']:
        s, p = make_guard(c, s, p, floor_now(c, s) + anew_above(c, s))
    s = s._replace(processes=with_process(s, p))
    if not is_known(c, p, s.data.guard):
        s = forget_guard(c, s)
    position = position_now(c, s)
    position = position._replace(confirmed=w.confirmed, restart=min(position.restart, w.confirmed))
    return acknowledged(s, position) # it delivers nothing


def arm(c, s):
    w, p = s.worker, s.processes[s.home]
    if not is_known(c, p, s.data.guard):
        floor = {'E': floor_now(c, s), 'position': position_now(c, s).confirmed, 'visible': visible_lsn(c, s),
                 'began': w.target}[c.rule['anew']] + anew_above(c, s)
        s, p = make_guard(c, s, p, floor)
    else:
        s, p = write_guard(s, p, s.data.guard)
    # Whatever was delivered before, to this Redis or another: from now on fills must have seen it.
    p = p._replace(armed=True, done=p.done | s.delivered)
    return s._replace(processes=with_process(s, p), worker=w._replace(armed=True, extended=True))


def claim(c, s, timeline, force=False):
    """None when fenced. Nobody is told of deliveries while another process may still be armed by us."""
    data, p = s.data, s.processes[s.home]
    if c.rule['fence'] and not force and (data.position and data.position.timeline > timeline or
                            data.guard and data.guard.timeline > timeline):
        return None
    if p.timeline != timeline and c.rule['guard_has_timeline']:
        p = Process(done=p.done)
    p = p._replace(timeline=timeline, armed=p.armed and not c.rule['claim_disarms'], claimed=True, last=True,
                   silent=False, marks=p.marks if c.rule['foreign_kept'] else 0)
    if c.rule['claim_deletes'] and not is_known(c, p, data.guard):
        data = data._replace(guard=None)
        p = p._replace(header=0) if c.rule['forgets_guard'] else p
    p = p._replace(before=False)
    others = tuple(q._replace(claimed=False, last=False, before=q.last or q.before and s.processes[s.home].last)
                   for q in s.processes)
    return s._replace(data=data, processes=others[:s.home] + (p,) + others[s.home + 1:])


def armings_expire(c, s):
    """Time passes: what no session renews has expired."""
    expire, w = c.rule['arming_expires'], s.worker
    processes = tuple(p if p.claimed else p._replace(armed=p.armed and not expire) for p in s.processes)
    return tell(s._replace(processes=processes, worker=w._replace(elsewhere=0, extended=w.extended and w.session)))


def disarm(c, s):
    """The process claimed before is told, and answers, if it is that process still."""
    i = 1 - s.home
    p = s.processes[i]
    if p.before or not c.rule['disarm_answers']:
        p = p._replace(armed=p.armed and not c.rule['disarm_answers'], before=False)
        w = s.worker._replace(elsewhere=s.worker.elsewhere & 2)
        s = tell(s._replace(worker=w, processes=with_process(s, p, i)))
    return s


def tell(s):
    return s._replace(told=s.delivered) if s.worker.session and not s.worker.elsewhere else s


# ---- another system that deletes keys here ----

def delete_foreign(c, s):
    """Its call: marks for those who fill, the key, and a record of it. What other processes know of the guard
    is over, and where nobody can be marked, so is the guard."""
    p = s.processes[s.home]
    if c.rule['foreign_marks'] and p.timeline:
        p = p._replace(marks=p.marks | 1, foreign=p.foreign + 1)
    if is_known(c, p, s.data.guard):
        s, p = write_guard(s, p, s.data.guard) if c.rule['foreign_header'] else (s, p)
    elif c.rule['foreign_header']:
        s = s._replace(data=s.data._replace(guard=None))
    data = s.data
    data = data._replace(cache=(-1,) + data.cache[1:], done=data.done | c.foreign, foreign=True)
    return s._replace(data=data, processes=with_process(s, p), foreign=True)


def hear_of_foreign(s):
    """The answer to a renewal."""
    return s._replace(worker=s.worker._replace(heard=s.processes[s.home].foreign, heard_at=s.flushed))


def lift_marks(c, s):
    """The next renewal: every token given before the deletion is below what was read by now."""
    p, w = s.processes[s.home], s.worker
    lsn = w.read + int(c.rule['foreign_above'])
    buckets = tuple(max(b, lsn) if p.marks & 1 << i else b for i, b in enumerate(p.buckets or (0,) * c.nbuckets))
    p = p._replace(marks=0, buckets=buckets, top=max(p.top, lsn))
    return s._replace(processes=with_process(s, p))


def fill_admitted(c, s, reader, key):
    if not c.rule['guarded']:
        return True
    p, guard = s.processes[s.home], s.data.guard
    if p.marks & 1 << key % c.nbuckets:
        return False
    if not p.armed or c.rule['token_has_timeline'] and p.timeline != reader.timeline or reader.token < p.floor:
        return False
    if guard is None:
        return not c.rule['missing_refuses']
    if c.rule['fill_checks_header'] and guard.header != p.header:
        return False
    if reader.token >= p.top:
        return True
    return reader.token >= p.buckets[key % c.nbuckets]
