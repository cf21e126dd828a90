"""configurations.py: small worlds in which the rules must hold, and rules left out that must be found.

TRUE: explored completely, or up to a limit of states. WALKS: larger, walked at random. WITHOUT: a rule changed, or what
is not promised (h1 ...); what kind of harm is to be expected stands with it.
"""
from state import Config

ONE, TWO = [(0,)], [(0,), (0,)]


def one(**more):
    return Config(ONE, (0,), **more)


def two(**more):
    return Config(TWO, (0,), **more)


def stays(**more):
    """Two slots of one node; one moves."""
    return Config(ONE, (0, 1), owner=(0, 0), moves=(0,), fills=(0,), **more)


def large(**more):
    """Slots 0 and 1 of A, 2 and 3 of B; 0 and 2 move."""
    return Config([(0,), (0, 1), (2,), (1, 2)], (0, 0, 2, 1, 3), owner=(0, 0, 1, 1), moves=(0, 2), fills=(0, 1, 2),
                  readers=3, **more)


TRUE = {
    'a slot moves': lambda: two(readers=2, open=1),
    'a slot moves, returns, and moves again': lambda: two(open=3),
    'a slot moves and returns, disarming fails': lambda: two(open=2, deaf=2),
    'MIGRATE breaks off': lambda: two(open=2, copy=1),
    'two keys in the slot': lambda: Config([(0,), (0, 1)], (0, 0), open=1, copy=1),
    'two slots, one moves': lambda: Config([(0, 1)], (0, 1), open=1),
    'restart from a snapshot': lambda: two(readers=2, save=2, restart=2),
    'restart from a snapshot, a slot moves and returns, one stays': lambda: stays(open=2, save=1, restart=1),
    'the same, one move, disarming fails': lambda: stays(open=1, save=1, restart=1, deaf=1),
    'two slots of two nodes, a restart, a move': lambda: Config(ONE, (0, 1), open=1, save=1, restart=1),
    'every slot leaves and returns, restart from a snapshot': lambda: one(open=2, save=1, restart=1),
    'fail-over': lambda: one(readers=2, failover=2),
    'fail-over, a slot moves and returns, one stays': lambda: stays(failover=1, open=2),
    'two fail-overs, a slot moves': lambda: one(failover=2, open=1),
    'the worker dies, a slot moves': lambda: one(open=2, worker=1),
    'the worker dies, restart from a snapshot': lambda: one(save=1, restart=1, worker=1),
    'the worker dies, restart from a snapshot, a slot moves': lambda: one(save=1, restart=1, worker=1, open=1),
    'the worker dies, fail-over, a slot moves': lambda: one(failover=1, open=1, worker=1),
    'a move is given up, the worker dies': lambda: one(open=2, abort=1, worker=1),
    'a move is given up, three moves': lambda: one(open=3, abort=1),
    'a move is given up, three moves, the worker dies': lambda: one(open=3, abort=1, worker=1),
    'a move is given up, restart from a snapshot': lambda: stays(open=2, abort=1, save=1, restart=1),
    'a move is given up, fail-over': lambda: one(open=1, abort=1, failover=1),
    'a move is given up, two moves, fail-over': lambda: one(open=2, abort=1, failover=1),
    'FLUSHALL, the witness is evicted': lambda: two(readers=2, flush=1, evict=1),
    'FLUSHALL, the witness is evicted, a slot moves': lambda: two(open=1, flush=1, evict=1),
    'the witness is evicted, a slot moves': lambda: two(open=2, evict=1),
    'FLUSHALL, the worker dies': lambda: two(flush=1, worker=1),
    'an error where an importer is emptied': lambda: one(failover=1, open=2, unread=1),
}

WALKS = {
    'everything': lambda: large(open=3, copy=1, abort=1, failover=2, save=1, restart=1, flush=1, evict=1, worker=1),
    'moves and copies': lambda: large(open=4, copy=2),
    'moves, the worker dies': lambda: large(open=3, copy=1, worker=2),
    'fail-overs and moves': lambda: large(open=3, failover=3, unread=1),
    'snapshots and moves': lambda: large(open=3, save=2, restart=2, worker=1),
}


def without(wanted, make, **rules):
    def configuration():
        c = make()
        c.rule.update(rules)
        return c
    return wanted, configuration


READ = ('reader: token', 'reader (0): reads')
FILLED = READ + ('reader (0): FILLS',)
GOES = ('slot 0: IMPORTING on B', 'MIGRATE the witness', 'slot 0: NODE B')
WITHOUT = {
    'a fill trusts memory alone, disarming fails': without(
        'stale', lambda: one(open=2, deaf=1), fill_checks_witness=False),
    'a slot seen to leave is not disarmed': without(
        'stale', lambda: one(open=2, save=1, restart=1, begin=READ), disarms=False),
    'an open slot: the owner alone': without('old', lambda: one(open=1), target=False),
    'an open slot: the target first': without('old', lambda: one(open=1), order='target first'),
    'an open slot: the target only when the owner has not the key': without(
        'old', lambda: one(open=1, copy=1), target_always=False),
    'a slot that arrives is trusted': without('settled', lambda: one(open=1, save=1, restart=1), look='trust'),
    'a slot that arrives goes on from its witness': without('', lambda: one(open=2, abort=1), look='position'),
    'a slot is settled that is open': without('', lambda: one(open=2, save=1, restart=1), settles_closed=False),
    'floor = position': without('stale', lambda: two(open=1), floor='position'),
    'floor = where a tap is that was set back': without('stale', lambda: Config(
        ONE, (0, 1), open=1, save=1, restart=1, begin=READ + ('A saves', 'commit 1', 'the worker reads 1', '1 to key 0: at A')),
        floor='read'),
    'a claim keeps settled slots': without('stale', lambda: one(failover=2), claim_forgets=False, disarms=False),
    'a process that was left is not disarmed': without('stale', lambda: one(failover=2), disarms=False),
    'any witness is good': without('', lambda: one(open=2, abort=1, worker=1), own_witness=False),
    'a position ahead of what is acknowledged': without('settled', lambda: one(worker=1), position_behind=False),
    'a node came back, nothing is read again': without('', lambda: one(save=1, restart=1), sets_back=False),
    'acknowledged in a slot that is not settled': without(
        '', lambda: one(failover=1, open=2), settled_acknowledges=False),
    'a fill where nobody claimed': without('stale', lambda: one(failover=1), fill_needs_claim=False),
    '"not here" taken for deleted': without('', lambda: one(open=1), absent_is_unknown=False),
    'a slot that arrives is settled, not emptied': without('', lambda: one(open=2, abort=1), empties=False),
    'both ends, but the epoch of the owner is not asked': without('old', lambda: one(open=3), pair_one_epoch=False),
    'what a node imports from nobody is left alone': without(
        '', lambda: one(failover=1, open=2, begin=FILLED + ('slot 0: IMPORTING on B', 'MIGRATE key 0 to B')),
        empties_importer=False),
    'a position for each slot, and no epoch in the witness': without(
        'settled', lambda: stays(open=2, save=1, restart=1, begin=FILLED + (
            'commit 1', 'the worker reads 1', 'refreshes slot 1', 'A saves', '1 to key 0: at A', 'refreshes slot 0') + GOES),
        one_position=False, witness_epoch=False),
    'emptied while it is armed': without('', lambda: two(open=1, abort=1), emptying_disarms=False),
    'epochs are not watched': without('settled', lambda: one(open=3, abort=1), watches_epochs=False),
    'a slot is settled before every master is claimed': without(
        'stale', lambda: one(open=3, abort=1, worker=1, begin=('WORKER DIES',) + GOES + ('the worker starts',)),
        claims_all=False),
    'a delivery to both ends goes on across a claim': without(
        'old', lambda: one(open=3, failover=1, begin=FILLED + (
            'slot 0: IMPORTING on B', 'MIGRATE key 0 to B', 'commit 1', 'the worker reads 1', '1 to key 0: at A, open')),
        claim_ends_pair=False),
    'no epoch in the witness': without(
        'settled', lambda: one(open=3, abort=1, worker=1, begin=FILLED + (
            'slot 0: IMPORTING on B', 'MIGRATE key 0 to B', 'slot 0: STABLE')), witness_epoch=False),
    'an importer that was told to be empty counts as empty': without(
        '', lambda: one(failover=1, open=2, unread=1, begin=FILLED + (
            'slot 0: IMPORTING on B', 'MIGRATE key 0 to B')), importer_asked=False),
    'the target of a slot that opens is left as it is': without(
        'at rest', lambda: one(open=2, abort=1), empties_target=False),
    'what a slot left at its target before it was opened again is left there': without(
        'at rest', lambda: one(open=2, abort=1), closed_empties_target=False),
    'what the target of an open slot brings back is left there': without(
        'at rest', lambda: one(open=1, save=1, restart=1), claim_empties_target=False),
    'h1 (not promised) redis-cli fix brings back what a restart brought back': without(
        '', lambda: one(open=1, save=1, restart=1, fix=2)),
    'h2 (not promised) fail-over and back to a master that lags, disarming failed': without(
        'stale', lambda: one(failover=2, deaf=1)),
}

# Found in a minute: by deep runs alone.
SLOW = {
    'h5 (not promised) every slot leaves and returns unseen, then fail-over to a replica that lags': without(
        '', lambda: one(open=2, failover=1)),
}
