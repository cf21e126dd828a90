"""rules.py: the rules of guarded fills, as states and steps.

A state is everything there is: the log, the worker, two Redis processes (one of them behind the
address) and some readers. `steps` yields what may happen next; explore.py tries it all. Names follow
src/: claim, epoch, arm and apply are the calls of cache_aside.lua, the worker's decisions those of
session.c, resume.c and delivery.c.

Abstractions. An LSN is the number of a record, from 1. A transaction logs one message, then its commit.
Sets are bit masks of transactions. The value of a key is the set of the transactions its reader saw.
A call to Redis happens in one step; that it was sent earlier changes nothing, since every call checks
nonce and position. The worker learns that Redis went away when a call fails, or any time before. A
nonce is a flag: the session under way claimed this process last.

Each rule that something depends on has a name in RULES. A configuration may set it to a wrong value;
then a stale value must be found.
"""
from functools import lru_cache
from typing import NamedTuple

RULES = dict(
    guarded=True,            # a fill asks the guard
    missing_refuses=True,    # no guard, no fill
    fill_checks_header=True, # a guard that is not as this process left it admits nothing
    token_has_timeline=True, # and a fill compares it
    guard_has_timeline=True, # what is remembered of a guard of another timeline counts for nothing
    token='transaction',     # ring entry from before the transaction; 'statement': from its own start
    ring_orders=True,        # an entry newer than the snapshot does not count (imported snapshots)
    visible_lsn=True,        # W stops before a commit that is read but not visible
    waits_for_visible=True,  # such a commit is not delivered
    atomic=True,             # apply is one step
    raise_first=True,        # within apply: buckets, then keys
    never_lower=True,        # a bucket gets the highest LSN since the guard was made
    large_raises_floor=True, # a batch too large for buckets
    touches_known=True,      # apply raises only a guard its process made, never makes a part of one
    pattern_raises_floor=True,
    claim_deletes=True,      # claim deletes a guard its process has not made
    nonce=True,              # a call of a session that did not claim this process fails
    compares_position=True,  # a call that finds another position fails
    claim_disarms=True,      # fills wait for arm
    arm_waits=True,          # until caught up, and all that is visible by then is delivered
    anew='E',                # floor of a guard that arm makes: 'position', 'visible', 'caught up'
    epoch_makes=False,       # epoch makes a missing guard only when it clears
    restart_lsn=True,        # reading resumes at the first message of what is unfinished
    restart_read=True,       # and not beyond what this session has read
    fork_barrier=True,       # a position beyond the fork: prepared transactions may be unread
    barrier=True,            # blind start: transactions open then are waited for
    barrier_read=True,       # until their ends are read
    barrier_resync=True,     # and then everything is deleted again: one may have been committed, not visible
    same_history=True,       # an absent position is taken for evicted only in the same process
    resync_floor=True,       # floor first, then delete
    pending=True,            # and the position says so
    promotion_resync=True,
    promotion_clears=True,   # buckets start anew
    fence=True,              # a worker of an older timeline writes nothing
    crash_resync=True,
    crash_record=True,       # the crash is a record of its own: its resync's floor is above old tokens
    async_recorded=True,     # asynchronous commits flush until Redis holds a position that says async
)


class Transaction(NamedTuple):
    keys: tuple
    kind: str = 'key'       # 'large': too many keys for buckets; 'pattern': found by a scan
    lazy: bool = False      # visible before it is flushed
    prepared: bool = False  # survives a promotion


class Position(NamedTuple):
    timeline: int
    confirmed: int
    restart: int
    pending: bool = False
    lazy: bool = False
    barrier: int = 0


class Guard(NamedTuple):
    timeline: int
    header: int  # another with each change
    floor: int


class Data(NamedTuple):
    """What a Redis process keeps; replicated, saved and restored together."""
    cache: tuple    # per key the set its reader saw; -1: nothing
    guard: object
    position: object
    done: int = 0   # delivered into these data


class Process(NamedTuple):
    """What the library remembers in one Redis process."""
    claimed: bool = False  # by the session under way
    timeline: int = 0
    armed: bool = False
    header: int = 0        # of the guard, as this process left it
    floor: int = 0
    buckets: tuple = ()
    top: int = 0           # no bucket is above
    done: int = 0          # delivered here, or known to be delivered when it was armed


class Worker(NamedTuple):
    session: bool = False
    read: int = 0
    seen: int = 0           # messages read, commit not yet
    queue: int = 0          # commits read, not delivered
    confirmed: int = 0      # commits at or below it are skipped
    target: int = 0         # end of the log after connecting
    caught_up: int = -1     # how far it was read when the target was reached
    expected: object = None # position that Redis should hold
    armed: bool = False
    resync: int = 0         # 1: begins when caught up; 2: floor raised, deletions under way
    clear: bool = False     # promoted: the guard starts anew when caught up
    barrier: int = 0        # open at a blind start
    unread: int = 0         # of those: their message lies before what is read
    scan: int = 0           # commits whose scan is under way
    upto: int = 0           # what was read when the resync or scan began
    lazy: bool = False      # asynchronous commits were seen
    remembered: object = None
    acked: object = None    # the last position a call was answered for
    batch: int = 0          # under way, when apply is not atomic
    stage: int = 0          # of it: half done, done


class Reader(NamedTuple):
    phase: int = 0    # 0 idle, 1 has a ring entry, 2 has read, 3 over, 4 read with an imported snapshot
    timeline: int = 0
    token: int = 0
    value: int = 0
    standby: bool = False


class State(NamedTuple):
    log: tuple
    flushed: int
    visible: int
    worker: Worker
    data: Data
    processes: tuple
    readers: tuple
    faults: tuple             # how many of each kind may still come
    home: int = 0             # the process behind the address
    spare: object = None      # a snapshot, or what the other process holds
    diverged: bool = False    # the other process holds what this one never had
    timeline: int = 1
    fork: int = 0
    delivered: int = 0        # to whatever Redis
    lost: int = 0             # committed, and gone with the server
    dead: int = 0             # never to commit (again)
    replayed: int = 0         # on the standby
    ring: tuple = (1, 0, 0)   # newest entry: timeline, visible LSN, what its snapshot saw
    standby_ring: tuple = (1, 0, 0)
    old_primary: object = None  # (visible, ring, log end) of one that was not told
    crashed: bool = False
    recorded: bool = False    # the worker knows that Redis holds a position that says async


FAULTS = ('snapshot', 'goes_back', 'switch', 'flush', 'evict_guard', 'evict_position', 'evict_key',
          'worker_dies', 'promotion', 'crash', 'old_primary', 'lost_call', 'stray_scan')


class Config:
    def __init__(self, transactions, keys, buckets=None, readers=1, standby=False, clean=False,
                 imported=False, split=True, begin=(), **faults):
        self.transactions = [t if isinstance(t, Transaction) else Transaction(t) for t in transactions]
        self.n = len(self.transactions)
        self.keys = keys
        self.nbuckets = buckets or keys
        self.readers = readers
        self.standby = standby
        self.clean = clean          # promotion is a switchover: the old primary was shut down
        self.imported = imported
        self.split = split          # message and commit are separate steps
        self.faults = tuple(faults.pop(f, 0) for f in FAULTS)
        assert not faults, faults
        self.rule = dict(RULES)
        self.begin = begin          # what has happened already
        self.crash = 2 * self.n     # record: the server recovered from a crash
        self.touch = [sum(1 << i for i, t in enumerate(self.transactions) if k in t.keys)
                      for k in range(keys)]
        self.lazy = self.mask(lambda t: t.lazy)
        self.scans = self.mask(lambda t: t.kind == 'pattern') | 1 << self.n
        self.large = self.mask(lambda t: t.kind == 'large')
        self.prepared = self.mask(lambda t: t.prepared)

    def mask(self, condition):
        return sum(1 << i for i, t in enumerate(self.transactions) if condition(t))

    def initial(self):
        """The worker is connected, its guard made and armed; then what `begin` says."""
        position = Position(1, 0, 0)
        guard = Guard(1, 1, 0)
        home = Process(True, 1, True, 1, 0, (0,) * self.nbuckets)
        state = State((), 0, 0, Worker(True, expected=position, acked=position, caught_up=0, armed=True),
                      Data((-1,) * self.keys, guard, position), (home, Process()),
                      (Reader(),) * self.readers, self.faults)
        for happens in self.begin:
            state = next(after for what, after, _ in steps(self, state) if what.startswith(happens))
        return state


def bits(mask):
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


@lru_cache(1 << 16)
def committed(log, upto):
    return sum(1 << (r >> 1) for r in set(log[:upto]) if r & 1)


@lru_cache(1 << 16)
def messaged(log, upto):
    return sum(1 << (r >> 1) for r in set(log[:upto]) if not r & 1)


def commit_lsn(c, log, t):
    return log.index(c.crash if t == c.n else 2 * t + 1) + 1


def message_lsn(c, log, t):
    return log.index(c.crash if t == c.n else 2 * t) + 1


def spend(s, fault):
    i = FAULTS.index(fault)
    return s.faults[:i] + (s.faults[i] - 1,) + s.faults[i + 1:]


def left(s, fault):
    return s.faults[FAULTS.index(fault)]


def with_process(s, process, index=None):
    i = s.home if index is None else index
    return s.processes[:i] + (process,) + s.processes[i + 1:]


def end_session(s):
    """Everything the session knew is forgotten; the log has it."""
    return s._replace(worker=Worker(remembered=s.worker.acked or s.worker.remembered),
                      processes=tuple(p._replace(claimed=False) for p in s.processes))


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
    return Position(s.timeline, confirmed, restart, bool(w.resync and c.rule['pending']), w.lazy, w.barrier)


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
    header = next(n for n in range(1, 9) if n not in used)
    return s._replace(data=s.data._replace(guard=guard._replace(header=header))), p._replace(header=header)


def make_guard(c, s, p, floor):
    return write_guard(s, p._replace(floor=floor, top=0, buckets=(0,) * c.nbuckets), Guard(p.timeline, 0, floor))


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
            return s._replace(worker=s.worker._replace(armed=False))
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
    return s._replace(data=s.data._replace(cache=cache, done=s.data.done | done), delivered=s.delivered | done,
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


def epoch(c, s, clear):
    w, p = s.worker, s.processes[s.home]
    if is_known(c, p, s.data.guard) and not clear:
        s, p = raise_floor(s, p, w.read)
    elif clear or c.rule['epoch_makes']:
        s, p = make_guard(c, s, p, w.read)
    s = s._replace(processes=with_process(s, p))
    position = position_now(c, s)
    position = position._replace(confirmed=w.confirmed, restart=min(position.restart, w.confirmed))
    return acknowledged(s, position) # it delivers nothing


def arm(c, s):
    w, p = s.worker, s.processes[s.home]
    if not is_known(c, p, s.data.guard):
        floor = {'E': w.read, 'position': position_now(c, s).confirmed, 'visible': visible_lsn(c, s),
                 'began': w.target}[c.rule['anew']]
        s, p = make_guard(c, s, p, floor)
    else:
        s, p = write_guard(s, p, s.data.guard)
    # Whatever was delivered before, to this Redis or another: from now on fills must have seen it.
    p = p._replace(armed=True, done=p.done | s.delivered)
    return s._replace(processes=with_process(s, p), worker=w._replace(armed=True))


def claim(c, s, timeline):
    """None when fenced."""
    data, p = s.data, s.processes[s.home]
    if c.rule['fence'] and (data.position and data.position.timeline > timeline or
                            data.guard and data.guard.timeline > timeline):
        return None
    if p.timeline != timeline and c.rule['guard_has_timeline']:
        p = Process(done=p.done)
    p = p._replace(timeline=timeline, armed=p.armed and not c.rule['claim_disarms'], claimed=True)
    if c.rule['claim_deletes'] and not is_known(c, p, data.guard):
        data = data._replace(guard=None)
    others = tuple(q._replace(claimed=False) for q in s.processes)
    return s._replace(data=data, processes=others[:s.home] + (p,) + others[s.home + 1:])


def fill_admitted(c, s, reader, key):
    if not c.rule['guarded']:
        return True
    p, guard = s.processes[s.home], s.data.guard
    if not p.armed or c.rule['token_has_timeline'] and p.timeline != reader.timeline or reader.token < p.floor:
        return False
    if guard is None:
        return not c.rule['missing_refuses']
    if c.rule['fill_checks_header'] and guard.header != p.header:
        return False
    if reader.token >= p.top:
        return True
    return reader.token >= p.buckets[key % c.nbuckets]


# ---- the worker's session ----

def connect(c, s):
    if s.crashed:
        if c.rule['crash_record']:
            s = s._replace(log=s.log + (c.crash,), flushed=len(s.log) + 1)
        s = s._replace(crashed=False)
        crash_resync = not c.rule['crash_record']
    else:
        crash_resync = False
    remembered = s.worker.remembered
    s = claim(c, s, s.timeline)
    if s is None:
        return None, 'fenced'
    stored, end = s.data.position, s.flushed
    w = Worker(True, target=end, remembered=remembered, lazy=bool(stored and stored.lazy), expected=stored,
               resync=int(crash_resync))
    if stored is None and remembered is not None and remembered.timeline == s.timeline:
        stored = remembered
        w = w._replace(lazy=stored.lazy)
        what = 'position evicted, goes on from %s' % (stored,)
    elif stored is None:
        return blind_start(c, s, w, end)
    else:
        what = 'goes on from %s' % (stored,)
    if stored.timeline < s.timeline:
        return cross_fork(c, s, w, stored)
    w = w._replace(read=stored.restart, confirmed=stored.confirmed, resync=int(stored.pending or w.resync),
                   barrier=stored.barrier, unread=unread(c, s, stored.barrier, stored.restart))
    return begin(s, w), 'connects: ' + what


def begin(s, w):
    if w.read >= w.target:
        w = w._replace(caught_up=w.read)
    w = w._replace(acked=Position(s.timeline, w.confirmed, min(w.read, w.confirmed), bool(w.resync), w.lazy,
                                  w.barrier))
    return s._replace(worker=w, recorded=False)


def unread(c, s, barrier, lsn):
    """Of the transactions a barrier is about: whose message is not read, and whose commit will be."""
    return barrier & messaged(s.log, lsn) & ~committed(s.log, lsn)


def blind_start(c, s, w, end):
    """From a checkpoint, here the latest possible one: the end of the log."""
    barrier = messaged(s.log, end) & ~s.visible & ~s.dead if c.rule['barrier'] else 0
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
            worker=w._replace(scan=0, upto=0, queue=w.queue & ~w.scan))
    if left(s, 'stray_scan'):
        yield 'a scan nobody here asked for: floor %d' % w.read, epoch(
            c, s, False)._replace(faults=spend(s, 'stray_scan'))


def delete_everything(c, s, upto):
    done = sum(1 << t for t in bits(s.visible) if t < c.n and commit_lsn(c, s.log, t) <= upto)
    return note_delivered(s, (-1,) * c.keys, done)


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
                      data=s.data._replace(done=s.data.done & visible), delivered=s.delivered & visible, recorded=False,
                      processes=tuple(p._replace(done=p.done & visible) for p in s.processes),
                      spare=s.spare and s.spare._replace(done=s.spare.done & visible),
                      faults=spend(s, 'promotion'))


def crash(c, s):
    log = s.log[:s.flushed]
    visible = committed(log, len(log)) & ~(1 << c.n)
    lost = s.lost | committed(s.log, len(s.log)) & ~visible
    dead = s.dead | messaged(s.log, len(s.log)) & ~visible
    s = end_session(s)
    return s._replace(log=log, flushed=len(log), visible=visible, lost=lost, dead=dead, worker=Worker(),
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
    yield 'OLD PRIMARY delivers and arms', claimed._replace(
        processes=with_process(claimed, p),
        data=claimed.data._replace(cache=cache, position=Position(1, end, end), done=claimed.data.done | known))


# ---- Redis ----

def redis_steps(c, s):
    data, other = s.data, 1 - s.home
    forgets = s.worker._replace(remembered=None, acked=None) if c.rule['same_history'] else s.worker
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
    if left(s, 'evict_guard') and data.guard:
        yield 'GUARD EVICTED', s._replace(data=data._replace(guard=None), faults=spend(s, 'evict_guard'))
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
    if s.timeline == 2:
        return s.visible if standby else s.old_primary[0] if s.old_primary else s.visible
    return committed(s.log, s.replayed) & ~(1 << c.n) if standby else s.visible


def ring_of(s, standby):
    if s.timeline == 2:
        return s.ring if standby or not s.old_primary else s.old_primary[1]
    return s.standby_ring if standby else s.ring


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
            must = (s.data.done | s.processes[s.home].done) & c.touch[k] & ~s.lost
            wrong = None
            if must & ~value:
                wrong = 'stale fill of key %d: token %d-%d, misses %s' % (
                    k, r.timeline, r.token, list(bits(must & ~value)))
            cache = s.data.cache[:k] + (value,) + s.data.cache[k + 1:]
            yield 'reader (%d): FILLS key %d with %s' % (r.token, k, list(bits(value))), s._replace(
                data=s.data._replace(cache=cache), readers=readers), wrong


def steps(c, s):
    """(what happens, the state after it, what is wrong with the step or None)"""
    for source in (transaction_steps, server_steps, worker_steps, redis_steps, reader_steps):
        for what, after in source(c, s):
            yield what, after, None
    w = s.worker
    if w.session and not w.batch and (left(s, 'worker_dies') or not s.processes[s.home].claimed):
        dies = left(s, 'worker_dies')
        if dies:
            yield 'WORKER DIES', end_session(s)._replace(worker=Worker(), faults=spend(s, 'worker_dies')), None
        yield 'the connection breaks', end_session(s)._replace(
            faults=spend(s, 'worker_dies') if dies else s.faults), None
    yield from fill_steps(c, s)


# ---- what must hold ----

def wrong_state(c, s):
    """What is wrong with a state, or None."""
    w, data, p = s.worker, s.data, s.processes[s.home]
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
    if s.visible & ~data.done:
        return 'settled: never delivered: %s' % list(bits(s.visible & ~data.done))
    for k, value in enumerate(data.cache):
        if value == -1:
            continue
        if value & s.lost:
            return 'settled: key %d has a value of a lost transaction' % k
        if s.visible & c.touch[k] & ~value:
            return 'settled: key %d misses %s' % (k, list(bits(s.visible & c.touch[k] & ~value)))
    if c.rule['guarded'] and is_known(c, p, data.guard):
        if max(p.buckets + (p.floor, data.guard.floor)) > visible_lsn(c, s):
            return 'unfillable: %s above the visible LSN %d' % (p, visible_lsn(c, s))
    return None
