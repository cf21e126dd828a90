"""state.py: what there is, and the names of the rules that something depends on.

A configuration may set a rule to a wrong value; then something stale must be found.
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
    forgets_guard=True,      # a guard that was missed is not known when it comes back
    nonce=True,              # a call of a session that did not claim this process fails
    compares_position=True,  # a call that finds another position fails
    claim_disarms=True,      # fills wait for arm
    arm_waits=True,          # until caught up, and all that is visible by then is delivered
    arming_expires=True,     # unless the session that made it renews it
    waits_for_expiry=True,   # of armings elsewhere, before anybody is told that something is delivered
    goes_on_waiting=True,    # also when the same process is claimed once more, by whichever worker
    unknown_lasts=True,      # an arming that a worker knows nothing of may have been made just now
    disarm_answers=True,     # a wait is cut short when the other process has answered that it admits nothing more
    anew='E',                # floor of a guard that arm makes: 'position', 'visible', 'caught up'
    epoch_makes=False,       # epoch makes a missing guard only when it clears
    restart_lsn=True,        # reading resumes at the first message of what is unfinished
    restart_read=True,       # and not beyond what this session has read
    fork_barrier=True,       # a position beyond the fork: prepared transactions may be unread
    barrier=True,            # blind start: transactions open then are waited for
    barrier_read=True,       # until their ends are read
    barrier_resync=True,     # and then everything is deleted again: one may have been committed, not visible
    same_history=True,       # an absent position is taken for evicted only in the same process
    data_known=True,         # and only where the guard is as this server left it (SWAPDB, FLUSHDB)
    names_database=True,     # a position speaks for one database
    log_compared=True,       # a position names a record: another one there, and the log was rolled back
    timed_compared=True,     # and the last commit up to there, for two lives may write equal records
    seen_floor=True,         # then the floor is above whatever any position told of
    resync_floor=True,       # floor first, then delete
    pending=True,            # and the position says so
    promotion_resync=True,
    promotion_clears=True,   # buckets start anew
    fence=True,              # a worker of an older timeline writes nothing
    newcomer_waits=True,     # a newer timeline takes over only from a server that has been silent for seconds
    adopt_resyncs=True,      # a server that takes Redis back from a newer timeline trusts nothing in it
    foreign_marks=True,      # another system's deletion of a key marks its bucket: nobody fills
    foreign_header=True,     # and the guard is another in all other processes' eyes
    foreign_echo=True,       # ... until this system's worker heard of it, and read to what was flushed then
    foreign_above=True,      # ... and then the bucket is above all tokens given so far
    foreign_kept=True,       # a claim keeps such marks
    foreign_recorded=True,   # and what is made anew where another system writes is above them all, too
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
    database: int = 0
    seen: int = 0           # end of what was ever read ...
    record: int = -1        # ... of this log, and the record there
    at: int = 0
    timed: int = 0          # end of the last commit up to there
    rolled: bool = False    # it is of the log that goes on from where one was rolled back


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
    foreign: bool = False  # another system has deleted here


class Process(NamedTuple):
    """What the library remembers in one Redis process."""
    claimed: bool = False  # by the session under way
    last: bool = False     # by the last session of this server: it knows the nonce
    timeline: int = 0
    armed: bool = False
    header: int = 0        # of the guard, as this process left it
    floor: int = 0
    buckets: tuple = ()
    top: int = 0           # no bucket is above
    done: int = 0          # delivered here, or known to be delivered when it was armed
    silent: bool = False   # the claim has not been renewed for some seconds
    marks: int = 0         # buckets of keys that another system deleted
    foreign: int = 0       # how often it did
    before: bool = False   # claimed by the last session that was on another process


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
    here: bool = False      # ... and of this very history of Redis
    acked: object = None    # the last position a call was answered for
    elsewhere: int = 0      # armings that may not have expired: 1 of the process claimed before, 2 of others
    extended: bool = True   # ... and an arming of the claim was sent, or nobody knows
    heard: int = 0          # of another system's deletions here
    heard_at: int = 0       # end of the log then
    reached: int = 0        # no token of this timeline is beyond
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
    told: int = 0             # ... and somebody was told: a synchronous COMMIT, wait_delivered()
    lost: int = 0             # committed, and gone with the server
    dead: int = 0             # never to commit (again)
    replayed: int = 0         # on the standby
    ring: tuple = (1, 0, 0)   # newest entry: timeline, visible LSN, what its snapshot saw
    standby_ring: tuple = (1, 0, 0)
    old_primary: object = None  # (visible, ring, log end) of one that was not told
    crashed: bool = False
    recorded: bool = False    # the worker knows that Redis holds a position that says async
    away: object = None       # a guard that somebody moved or renamed
    foreign: bool = False     # the other system has written
    clone: int = 0            # a copy of this server on a newer timeline: 1 holds Redis, 2 did
    usurped: bool = False     # it took it from a server that lives
    database: int = 0         # that the settings name
    rolled: int = -1          # the log was rolled back to here ...
    beyond: int = 0           # ... and had been so long


FAULTS = ('snapshot', 'goes_back', 'switch', 'flush', 'evict_guard', 'move_guard', 'evict_position',
          'evict_key', 'worker_dies', 'promotion', 'crash', 'old_primary', 'lost_call', 'stray_scan', 'foreign', 'clone', 'swapdb', 'other_database', 'rollback')


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
        self.foreign = 2 << self.n  # what another system wrote, to the first key
        self.cloned = 4 << self.n   # what only a clone has
        self.touch = [sum(1 << i for i, t in enumerate(self.transactions) if k in t.keys)
                      for k in range(keys)]
        self.touch[0] |= self.foreign
        self.lazy = self.mask(lambda t: t.lazy)
        self.scans = self.mask(lambda t: t.kind == 'pattern') | 1 << self.n
        self.large = self.mask(lambda t: t.kind == 'large')
        self.prepared = self.mask(lambda t: t.prepared)

    def mask(self, condition):
        return sum(1 << i for i, t in enumerate(self.transactions) if condition(t))

    def initial(self):
        """The worker is connected, its guard made and armed."""
        position = Position(1, 0, 0)
        guard = Guard(1, 1, 0)
        home = Process(True, True, 1, True, 1, 0, (0,) * self.nbuckets)
        worker = Worker(True, expected=position, acked=position, caught_up=0, armed=True)
        state = State((), 0, 0, worker,
                      Data((-1,) * self.keys, guard, position), (home, Process()),
                      (Reader(),) * self.readers, self.faults)
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
    w = s.worker
    return s._replace(worker=Worker(remembered=w.acked or w.remembered, here=bool(w.acked) or w.here,
                                    elsewhere=w.elsewhere, extended=w.extended),
                      processes=tuple(p._replace(claimed=False) for p in s.processes))
