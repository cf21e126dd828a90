"""configurations.py: small worlds in which the rules must hold, and rules left out that must be found.

TRUE: explored completely, or up to a limit of states. WALKS: larger, walked at random.
WITHOUT: a rule changed, in a world small enough that the shortest way to the harm is found quickly; what
kind of harm is to be expected stands with it.
"""
from state import Config, Transaction as T

ONE, TWO = [(0,)], [(0,), (0,)]
LAZY, PREPARED = [T((0,), lazy=True)], [T((0,), prepared=True)]


def one(**more):
    return Config(ONE, 1, split=False, **more)


def two(**more):
    return Config(TWO, 1, split=False, **more)


def large(**more):
    transactions = [(0,), T((0, 1), 'large'), T((2,), 'pattern'), (1, 3), (0, 3)]
    return Config(transactions, 4, buckets=2, readers=4, **more)


STAYS = 'SWITCH to what the other has; the old one stays'
SWITCH = dict(snapshot=1, switch=2, worker_dies=1)
MOVED = ('REDIS: snapshot', STAYS, 'a call fails', 'connects')

TRUE = {
    'a fill and a commit': lambda: Config(ONE, 1, readers=2),
    'two commits': lambda: two(),
    'two keys in a bucket': lambda: Config([(0,), (1,)], 2, buckets=1, evict_key=1),
    'an imported snapshot': lambda: Config(ONE, 1, imported=True, standby=True),
    'a large batch': lambda: Config([T((0,), 'large')], 1, evict_guard=1, worker_dies=1),
    'a pattern': lambda: Config([T((0,), 'pattern'), (0,)], 1, split=False),
    'a pattern and Redis goes back': lambda: Config([T((0,), 'pattern')], 1, snapshot=1, goes_back=1),
    'a pattern, commits across it, Redis goes back': lambda: Config(
        [T((1,), 'pattern'), (0,)], 2, snapshot=1, goes_back=1),
    'the guard is evicted, the worker dies': lambda: Config(ONE, 1, evict_guard=1, worker_dies=1),
    'a guard that comes back': lambda: Config(ONE, 1, move_guard=1, worker_dies=1),
    'the position is evicted, the worker dies': lambda: Config(ONE, 1, evict_position=1, worker_dies=1),
    'the same, two commits': lambda: two(evict_position=1, worker_dies=1),
    'FLUSHALL': lambda: Config(ONE, 1, flush=1, worker_dies=1),
    'Redis goes back': lambda: Config(ONE, 1, snapshot=1, goes_back=1),
    'Redis goes back, two commits': lambda: two(snapshot=1, goes_back=1),
    'Redis goes back, the guard is evicted': lambda: Config(ONE, 1, snapshot=1, goes_back=1, evict_guard=1),
    'two Redis behind one address': lambda: Config(ONE, 1, snapshot=1, switch=2),
    'the same, two commits': lambda: two(snapshot=1, switch=2),
    'on the other of two Redis, the worker dies': lambda: one(**SWITCH, begin=MOVED),
    'the worker dies, the other of two Redis': lambda: one(**SWITCH, begin=('REDIS: snapshot', 'WORKER DIES', STAYS)),
    'a call of the pipeline fails': lambda: two(lost_call=1),
    'a standby': lambda: two(standby=True),
    'promotion': lambda: Config(ONE, 1, standby=True, promotion=1),
    'promotion, two commits': lambda: two(standby=True, promotion=1),
    'promotion, the worker dies': lambda: Config(ONE, 1, standby=True, promotion=1, worker_dies=1),
    'promotion, prepared': lambda: Config(PREPARED, 1, standby=True, promotion=1),
    'promotion, an old primary that was not told': lambda: Config(
        ONE, 1, standby=True, promotion=1, old_primary=1, evict_guard=1),
    'promotion, Redis goes back': lambda: Config(ONE, 1, standby=True, promotion=1, snapshot=1, goes_back=1),
    'switchover': lambda: Config(ONE, 1, standby=True, promotion=1, clean=True),
    'switchover, two commits': lambda: two(standby=True, promotion=1, clean=True),
    'a crash with asynchronous commits': lambda: Config(LAZY, 1, crash=1),
    'the same, Redis goes back': lambda: Config(LAZY, 1, crash=1, snapshot=1, goes_back=1),
    'SWAPDB': lambda: Config(ONE, 1, swapdb=1),
    'SWAPDB, two commits, the worker dies': lambda: two(swapdb=1, worker_dies=1),
    'another database, with a copy of the position': lambda: two(other_database=1),
    'the log is rolled back': lambda: two(rollback=1),
    'the log is rolled back, and then written longer': lambda: Config(
        [(0,), T((0,), prepared=True), (0,)], 1, split=False, rollback=1),
    'the log is rolled back, the guard is evicted, the worker dies': lambda: two(
        rollback=1, evict_guard=1, worker_dies=1),
    'asynchronous commits, a blind start, a crash': lambda: Config(LAZY, 1, evict_position=1, worker_dies=1, crash=1),
    'a clone, and the server that takes Redis back': lambda: Config(ONE, 1, clone=1, worker_dies=1),
    'another system': lambda: Config(ONE, 1, foreign=1),
    'another system, twice': lambda: one(foreign=2, standby=True),
    'another system, the guard is evicted, the worker dies': lambda: Config(
        ONE, 1, foreign=1, evict_guard=1, worker_dies=1),
    'another system, two Redis behind one address': lambda: one(foreign=1, snapshot=1, switch=2),
    'scans that redelete asks for': lambda: Config(ONE, 1, stray_scan=1, snapshot=1, goes_back=1),
}

WALKS = {
    'every fault of Redis': lambda: large(snapshot=2, goes_back=2, evict_guard=2, evict_position=1, evict_key=1,
                                          flush=1, worker_dies=2, lost_call=1, stray_scan=1),
    'two Redis behind one address': lambda: large(snapshot=3, switch=3, evict_guard=1, worker_dies=1),
    'standby, promotion, faults of Redis': lambda: large(
        standby=True, imported=True, promotion=1, old_primary=1, snapshot=1, goes_back=1, evict_guard=1,
        evict_position=1, worker_dies=1),
    'prepared transactions': lambda: Config(
        [T((0,), prepared=True), (0, 1), T((2,), 'pattern'), T((1, 3), prepared=True)], 4, buckets=2, readers=3,
        standby=True, promotion=1, snapshot=1, goes_back=1, evict_position=1, worker_dies=1),
    'another system, faults of Redis': lambda: large(
        foreign=2, standby=True, snapshot=1, goes_back=1, switch=1, evict_guard=1, evict_position=1, worker_dies=1),
    'asynchronous commits, a crash': lambda: Config(
        [T((0,), lazy=True), (0, 1), T((1,), lazy=True)], 2, readers=3, crash=1, snapshot=1, goes_back=1,
        evict_guard=1, evict_position=1, worker_dies=1),
}


def without(wanted, make, **rules):
    def configuration():
        c = make()
        c.rule.update(rules)
        return c
    return wanted, configuration


BACK = dict(snapshot=1, goes_back=1)
DELIVERED = ('T0 logs', 'T0 becomes', 'reads', 'reads', 'apply')
WITHOUT = {
    'fills that ask no guard (plain SETEX)': without('stale', TRUE['a fill and a commit'], guarded=False),
    'a missing guard admits': without('stale', lambda: Config(ONE, 1, evict_guard=1), missing_refuses=False),
    'a guard in any state is believed': without(
        'stale', lambda: two(snapshot=1, switch=2, begin=DELIVERED + ('SWITCH, nothing lost',)),
        fill_checks_header=False),
    'tokens without timeline': without(
        'stale', lambda: Config([(1,), (0,)], 2, split=False, standby=True, promotion=1, begin=(
            'T0 logs', 'T0 becomes', 'reads', 'reads', 'ring', 'reader: entry 2', 'reader (2): reads',
            'PROMOTION')), token_has_timeline=False),
    'the token of a later statement': without('stale', TRUE['a fill and a commit'], token='statement'),
    'an imported snapshot believed to be new': without('stale', TRUE['an imported snapshot'], ring_orders=False),
    'W ignores what is not visible': without('stale', TRUE['a fill and a commit'], visible_lsn=False),
    'delivery before the commit is visible': without('', TRUE['a fill and a commit'], waits_for_visible=False),
    'keys deleted before the guard is raised': without(
        'stale', TRUE['a fill and a commit'], raise_first=False, atomic=False),
    'buckets lowered by a later batch': without('stale', TRUE['two commits'], never_lower=False),
    'a large batch raises nothing': without('stale', TRUE['a large batch'], large_raises_floor=False),
    'apply makes a part of a guard': without(
        'stale', lambda: Config([(0,), (1,)], 2, split=False, evict_guard=1), touches_known=False),
    'a scan without floor': without('stale', TRUE['a pattern'], pattern_raises_floor=False),
    'claim keeps a guard its process does not know': without(
        'stale', lambda: one(snapshot=1, switch=2), claim_deletes=False),
    'a guard that comes back is believed': without(
        'stale', lambda: Config(ONE, 1, move_guard=1), forgets_guard=False),
    'neither nonce nor compared position': without('', lambda: Config(ONE, 1, **BACK), nonce=False,
                                                   compares_position=False),
    'calls that do not compare the position': without('settled', lambda: two(lost_call=1),
                                                      compares_position=False),
    'fills admitted without arming': without('stale', lambda: one(snapshot=1, switch=2),
                                             claim_disarms=False, arm_waits=False),
    'armed before it has caught up': without('stale', lambda: Config(ONE, 1, **BACK), arm_waits=False),
    'armings that last for ever': without(
        'stale', lambda: one(snapshot=1, switch=2), arming_expires=False),
    'told while an arming elsewhere lasts': without(
        'stale', lambda: one(snapshot=1, switch=2), waits_for_expiry=False),
    'told by the next session while an arming elsewhere lasts': without(
        'stale', lambda: one(**SWITCH, begin=MOVED + ('the connection breaks',)), goes_on_waiting=False),
    'told by a worker that knows of no arming': without(
        'stale', lambda: one(**SWITCH, begin=('REDIS: snapshot', 'WORKER DIES', STAYS)), unknown_lasts=False),
    'a process that does not answer counts as disarmed': without(
        'stale', lambda: one(snapshot=1, switch=2, begin=MOVED), disarm_answers=False),
    'a guard made with the position': without('stale', lambda: two(evict_guard=1, begin=('T0 logs', 'T1 logs')), anew='position'),
    'a guard made with the visible LSN': without('stale', lambda: two(evict_guard=1, begin=('T0 logs', 'T1 logs')), anew='visible'),
    'a guard made with where the session began': without('stale', lambda: two(evict_guard=1), anew='began'),
    'a guard made by a scan before all is read': without(
        'stale', lambda: Config([T((1,), 'pattern'), (0,)], 2, **BACK, begin=(
            'T1 logs', 'T0 logs', 'T0 commits', 'T1 commits', 'T0 becomes') + 4 * ('reads record',) + (
                'ring', 'reader: entry', 'reader (3)', 'T1 becomes', 'apply', 'REDIS: snapshot')), epoch_makes=True, seen_floor=False),
    'the position is one LSN': without(
        'settled', lambda: Config([(0,), (1,)], 2, worker_dies=1), restart_lsn=False),
    'a restart LSN beyond what is read': without(
        'settled', lambda: Config(ONE, 1, snapshot=1, switch=2, begin=('T0 logs', 'reads', 'heartbeat')),
        restart_read=False),
    'a blind start that waits for nobody': without(
        '', lambda: Config(ONE, 1, evict_position=1, worker_dies=1), barrier=False),
    'a barrier passed before the ends are read': without(
        'settled', lambda: Config(ONE, 1, evict_position=1, worker_dies=1), barrier_read=False),
    'a barrier without a second resync': without(
        'settled', lambda: Config(ONE, 1, evict_position=1, worker_dies=1), barrier_resync=False),
    'an absent position is always taken for evicted': without(
        '', lambda: Config(ONE, 1, evict_position=1, snapshot=1, goes_back=1), same_history=False, data_known=False),
    'an absent position is evicted wherever the process is the same': without(
        'settled', lambda: Config(ONE, 1, swapdb=1), data_known=False),
    'a position speaks for every database': without('settled', lambda: Config(ONE, 1, other_database=1),
                                                    names_database=False),
    'a log is known by its LSNs': without('settled', lambda: two(rollback=1), log_compared=False),
    'a log is known by its last record alone': without('settled', lambda: Config(
        [(0,), T((0,), prepared=True), (0,)], 1, split=False, rollback=1, begin=(
            'T1 logs', 'T1 becomes', 'reads', 'reads', 'apply')), timed_compared=False),
    'a log that was rolled back has the floor of its end': without('stale', lambda: Config(
        [(0,), (0,)], 1, split=False, rollback=1, begin=(
            'T0 logs', 'T0 becomes', 'reads', 'reads', 'ring', 'reader: entry', 'reader (2)', 'apply')), seen_floor=False),
    'resync without floor': without(
        'stale', lambda: Config(ONE, 1, evict_position=1, worker_dies=1), resync_floor=False, claim_deletes=False),
    'a resync that no position tells of': without(
        '', lambda: one(standby=True, promotion=1, worker_dies=1), pending=False),
    'promotion without resync': without('', TRUE['promotion'], promotion_resync=False),
    'promotion: what was prepared is read from the fork': without(
        'settled', lambda: Config(PREPARED, 1, standby=True, promotion=1, begin=(
            'T0 logs', 'the standby replays', 'reads', 'T0 commits')), fork_barrier=False),
    'promotion that keeps the buckets': without(
        'unfillable', lambda: Config(ONE, 1, standby=True, promotion=1), promotion_clears=False,
        guard_has_timeline=False),
    'an old primary that is not fenced': without(
        '', lambda: one(standby=True, promotion=1, old_primary=1, evict_guard=1), fence=False),
    'a newcomer takes over at once': without(
        'fenced', lambda: Config(ONE, 1, clone=1), newcomer_waits=False),
    'taken back from a clone without a resync': without(
        'settled', lambda: Config(ONE, 1, clone=1, worker_dies=1), adopt_resyncs=False),
    'a foreign deletion marks nothing': without('stale', lambda: Config(ONE, 1, foreign=1), foreign_marks=False),
    'a foreign deletion leaves the guard as other processes know it': without(
        'stale', lambda: one(foreign=1, switch=2), foreign_header=False),
    'marks that end unheard': without('stale', lambda: one(foreign=1, standby=True), foreign_echo=False),
    'marks that end at the end of the log': without('stale', lambda: Config(ONE, 1, foreign=1), foreign_above=False),
    'a claim forgets marks': without('stale', lambda: Config(ONE, 1, foreign=1, worker_dies=1), foreign_kept=False),
    'made anew where another system writes, at the end of the log': without(
        'stale', lambda: one(foreign=1, snapshot=1, switch=2), foreign_recorded=False),
    'a crash without resync': without('settled', TRUE['a crash with asynchronous commits'], crash_resync=False),
    'a crash that is no record': without('', TRUE['a crash with asynchronous commits'], crash_record=False),
    'an asynchronous commit nobody recorded': without(
        'settled', TRUE['a crash with asynchronous commits'], async_recorded=False, crash_resync=False),
}
