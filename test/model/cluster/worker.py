"""worker.py: what the worker may do next. (what, state after) each."""
from state import (
    Claim, Delivery, Slot, Worker, holds_something, imports_from_nobody, left, master, put, spend, with_slot,
    with_witness, with_worker, without_keys)
from library import agrees, apply, claim, disarm, settle

NAMES = 'AB'


def worker_steps(c, s):
    if s.worker is None:
        yield 'the worker starts', s._replace(worker=Worker(
            s.log, s.log, frozenset(), s.owner, tuple(node.epoch for node in s.nodes),
            (Slot('unknown'),) * c.nslots, (None, None)))
        return
    if left(s, 'worker'):
        yield 'WORKER DIES', spend(s._replace(worker=None), 'worker')
    yield from read_steps(c, s)
    for h in (0, 1):
        if not is_claimed(s, h):
            yield from claim_steps(c, s, h)
    yield from look_steps(c, s)
    for slot in range(c.nslots):
        if s.owner[slot] == s.worker.view[slot] and is_claimed(s, s.owner[slot]):
            yield from slot_steps(c, s, slot)
    yield from importer_steps(c, s)
    for delivery in s.worker.queue:
        yield from delivery_steps(c, s, delivery)


def read_steps(c, s):
    w = s.worker
    if w.read < s.log:
        lsn = w.read + 1
        queue = w.queue | {Delivery(lsn, key) for key in c.commits[lsn - 1]}
        yield 'the worker reads %d' % lsn, with_worker(s, read=lsn, highest=max(w.highest, lsn), queue=queue)
    if w.read > s.token:
        yield 'tokens: %d' % w.read, s._replace(token=w.read)


# ---- nodes ----

def is_claimed(s, h):
    claimed, memory = s.worker.claims[h], master(s, h).memory
    return (claimed is not None and claimed.process == s.nodes[h].master and memory is not None and
            memory.nonce == claimed.nonce)


def forget_node(c, s, h):
    """The node is not what it was: what it holds is unknown, and what was sent to one end of a pair is sent again."""
    w = s.worker
    slots = tuple(Slot('unknown') if w.view[i] == h else slot for i, slot in enumerate(w.slots))
    if c.rule['claim_empties_target']:
        slots = tuple(Slot('open') if slot.is_ == 'open' and s.target[i] == h else slot for i, slot in enumerate(slots))
    queue = frozenset(
        Delivery(d.lsn, d.key) if d.stage and c.rule['claim_ends_pair'] and h in (d.to, w.view[c.slot_of[d.key]]) else d
        for d in w.queue)
    return with_worker(s, slots=slots, queue=queue, claims=put(w.claims, h, None))


def claim_steps(c, s, h):
    before, node = s.worker.claims[h], s.nodes[h]
    other = 1 - node.master
    for deaf in (False, True):
        if deaf and not (left(s, 'deaf') and node.processes[other].memory):
            continue
        after = forget_node(c, s, h) if before else s
        if deaf:
            after = spend(after, 'deaf')
        elif c.rule['disarms']:
            after = disarm(c, after, h, other)
        after = claim(c, after, h)
        # The same process: the epoch it has now. Its replica: the one last seen of the old master, elections raise it anyhow.
        epoch = s.worker.epochs[h] if before and before.process != node.master else node.epoch
        after = with_worker(
            after, epochs=put(after.worker.epochs, h, node.epoch),
            claims=put(after.worker.claims, h, Claim(node.master, master(after, h).memory.nonce, epoch)))
        yield 'claims %s%s' % (NAMES[h], ', cannot disarm the other' if deaf else ''), after


def look_steps(c, s):
    """At who owns what, under which epoch."""
    w = s.worker
    moved = [slot for slot in range(c.nslots) if w.view[slot] != s.owner[slot]]
    # An election raises the epoch, too: the claim sees to that.
    risen = [h for h in (0, 1) if w.epochs[h] != s.nodes[h].epoch and w.claims[h] and
             w.claims[h].process == s.nodes[h].master]
    opened = [slot for slot in range(c.nslots) if s.target[slot] >= 0 and slot not in moved and
              w.slots[slot].is_ in ('settled', 'catching up')]
    if not (moved or risen or opened):
        return
    for deaf in (False, True):
        if deaf and not (left(s, 'deaf') and moved):
            continue
        after, slots = spend(s, 'deaf') if deaf else s, list(w.slots)
        for slot in moved:
            if not deaf and c.rule['disarms']:
                after = disarm(c, after, w.view[slot], s.nodes[w.view[slot]].master, slot)
            slots[slot] = Slot({'purge': 'purge', 'trust': 'trusted', 'position': 'unknown'}[c.rule['look']])
        for slot in opened:
            slots[slot] = Slot('open')
        for h in risen if c.rule['watches_epochs'] else ():
            if not any(s.owner[slot] == h for slot in moved):  # something came, and it is none that we saw arrive
                slots = [Slot('purge') if s.owner[i] == h else slot for i, slot in enumerate(slots)]
        yield 'looks%s' % (', cannot disarm' if deaf else ''), with_worker(
            after, view=s.owner, epochs=tuple(node.epoch for node in s.nodes), slots=tuple(slots))


# ---- slots ----

def lowest(c, s, slot):
    """The position: behind everything that is not acknowledged."""
    waiting = [d.lsn - 1 for d in s.worker.queue if c.rule['one_position'] or c.slot_of[d.key] == slot]
    return min([s.worker.read] + waiting) if c.rule['position_behind'] else s.worker.read


def queued(c, s, slot):
    return frozenset(d for d in s.worker.queue if c.slot_of[d.key] == slot)


def acknowledge(s, deliveries):
    return with_worker(s, queue=s.worker.queue - deliveries)._replace(
        acknowledged=s.acknowledged | {(d.lsn, d.key) for d in deliveries})


def is_alone(c, s, slot):
    """Has no other node something of it that it would show to those who ask?"""
    h = 1 - s.owner[slot]
    if not c.rule['empties_importer'] or not imports_from_nobody(s, h, slot) or not holds_something(s, c, h, slot):
        return True
    return not c.rule['importer_asked'] and (h, slot) in s.worker.told


def slot_steps(c, s, slot):
    w, h, is_ = s.worker, s.owner[slot], s.worker.slots[slot].is_
    if is_ == 'unknown' and is_alone(c, s, slot):
        yield survey(c, s, slot)
    if is_ == 'settled':
        yield from refresh_steps(c, s, slot)
    if is_ == 'open' and s.target[slot] >= 0 and not w.slots[slot].target_emptied and c.rule['empties_target'] and \
            is_claimed(s, s.target[slot]):
        yield 'empties slot %d on %s, with ASKING' % (slot, NAMES[s.target[slot]]), with_slot(
            without_keys(s, c, s.target[slot], slot), slot, Slot('open', target_emptied=True))
    stable = (s.target[slot] < 0 or not c.rule['settles_closed']) and (
        not c.rule['claims_all'] or all(claimed is not None for claimed in w.claims))
    if stable and is_alone(c, s, slot):
        yield from settling_steps(c, s, slot)


def survey(c, s, slot):
    """Of an unknown slot: whose data are these?"""
    h = s.owner[slot]
    witness = master(s, h).data.witnesses[slot]
    own = witness and witness.node == h and (
        witness.epoch == s.worker.claims[h].epoch or not c.rule['witness_epoch'])
    if own or witness and (not c.rule['own_witness'] or c.rule['look'] == 'position'):
        read = min(s.worker.read, witness.position) if c.rule['sets_back'] else s.worker.read
        return 'slot %d on %s: goes on from %d' % (slot, NAMES[h], witness.position), with_slot(
            with_worker(s, read=read), slot, Slot('catching up', s.log))
    return 'slot %d on %s: no witness of its own' % (slot, NAMES[h]), with_slot(s, slot, Slot('purge'))


def refresh_steps(c, s, slot):
    h = s.owner[slot]
    if agrees(s, h, slot):
        witness, position = master(s, h).data.witnesses[slot], lowest(c, s, slot)
        if position > witness.position or (c.rule['witness_epoch'] and witness.epoch != s.worker.epochs[h]):
            floor = master(s, h).memory.slots[slot].floor
            yield 'refreshes slot %d: position %d' % (slot, position), settle(
                s, h, slot, position, s.worker.epochs[h], floor)
    elif s.target[slot] < 0:
        yield 'refresh of slot %d is refused' % slot, with_slot(s, slot, Slot('purge'))


def settled(c, s, slot, what, then='settled', deliveries=frozenset()):
    h, w = s.owner[slot], s.worker
    floor = {'highest': w.highest, 'read': w.read, 'position': lowest(c, s, slot)}[c.rule['floor']]
    after = acknowledge(s, deliveries)
    position = lowest(c, after, slot)
    return 'slot %d on %s %s: position %d, floor %d' % (slot, NAMES[h], what, position, floor), with_slot(
        settle(after, h, slot, position, w.epochs[h], floor), slot, Slot(then))


def settling_steps(c, s, slot):
    """Emptying (disarm, delete, settle, under one epoch), or what stands for it."""
    w, h, (is_, upto, _) = s.worker, s.owner[slot], s.worker.slots[slot]
    if is_ in ('purge', 'open') and c.rule['empties']:
        after = disarm(c, s, h, s.nodes[h].master, slot) if c.rule['emptying_disarms'] else s
        yield 'empties slot %d on %s' % (slot, NAMES[h]), with_slot(after, slot, Slot('emptying', s.nodes[h].epoch))
    elif is_ == 'emptying':
        yield 'slot %d on %s: keys deleted' % (slot, NAMES[h]), with_slot(
            without_keys(s, c, h, slot), slot, Slot('emptied', upto))
    elif is_ == 'emptied':
        if upto == s.nodes[h].epoch:
            yield settled(c, s, slot, 'emptied, settled', deliveries=queued(c, s, slot))
        else:
            yield settled(c, s, slot, 'settled, but something came meanwhile', 'purge')
    elif is_ in ('trusted', 'purge', 'open') or is_ == 'catching up' and w.read >= upto and not queued(c, s, slot):
        yield settled(c, s, slot, 'settled')


def importer_steps(c, s):
    for h in (0, 1):
        for slot in range(c.nslots):
            if not (c.rule['empties_importer'] and imports_from_nobody(s, h, slot) and is_claimed(s, h) and
                    holds_something(s, c, h, slot)):
                continue
            told = s.worker.told | ({(h, slot)} if not c.rule['importer_asked'] else set())
            what = 'empties slot %d on %s, which imports it from nobody' % (slot, NAMES[h])
            yield what, with_worker(with_witness(without_keys(s, c, h, slot), h, slot, None), told=told)
            if left(s, 'unread'):
                yield what + ': an error', with_worker(spend(s, 'unread'), told=told)


# ---- deliveries ----

def delivery_steps(c, s, d):
    slot = c.slot_of[d.key]
    what = '%d to key %d: ' % (d.lsn, d.key)
    if d.stage == 0:
        yield from owner_steps(c, s, d, slot, what)
    else:
        yield from other_end_steps(c, s, d, slot, what)


def may_acknowledge(c, s, slot):
    return s.worker.slots[slot].is_ in ('settled', 'open', 'catching up') or not c.rule['settled_acknowledges']


def replaced(s, d, by):
    return with_worker(s, queue=s.worker.queue - {d} | {by})


def owner_steps(c, s, d, slot, what):
    h = s.worker.view[slot]
    if not is_claimed(s, h) or not may_acknowledge(c, s, slot):
        return
    if s.owner[slot] != h:  # the look comes first
        if not c.rule['absent_is_unknown']:
            yield what + 'not at %s' % NAMES[h], acknowledge(s, frozenset({d}))
        return
    target = s.target[slot]
    if target >= 0 and c.rule['target'] and c.rule['order'] == 'target first':
        yield what + 'the target first', replaced(s, d, d._replace(stage=2, to=target))
        return
    had_it = master(s, h).data.cache[d.key] != -1
    after = apply(s, h, d.lsn, d.key)
    if target >= 0 and c.rule['target'] and (c.rule['target_always'] or not had_it):
        emptied = s.worker.slots[slot].is_ == 'open' and s.worker.slots[slot].target_emptied
        yield what + 'at %s, open' % NAMES[h], with_slot(
            replaced(after, d, d._replace(stage=1, to=target, epoch=s.nodes[h].epoch)), slot,
            Slot('open', target_emptied=emptied))
    else:
        if s.worker.slots[slot].is_ == 'open' and c.rule['closed_empties_target']:
            after = with_slot(after, slot, Slot('open'))
        yield what + 'at %s' % NAMES[h], acknowledge(after, frozenset({d}))


def other_end_steps(c, s, d, slot, what):
    h, again = s.worker.view[slot], replaced(s, d, Delivery(d.lsn, d.key))
    if not is_claimed(s, d.to):
        return
    if not s.nodes[d.to].importing[slot] and s.owner[slot] != d.to:
        yield what + 'not at %s, with ASKING' % NAMES[d.to], again
        return
    after = apply(s, d.to, d.lsn, d.key)
    again = replaced(after, d, Delivery(d.lsn, d.key))
    if d.stage == 2:
        if is_claimed(s, h) and s.owner[slot] == h:
            yield what + 'at %s, with ASKING' % NAMES[d.to], replaced(after, d, d._replace(stage=3, to=h, epoch=0))
    elif d.stage == 1 and s.owner[slot] == d.to and s.target[slot] >= 0:
        yield what + 'at %s, open again' % NAMES[d.to], again
    elif d.stage == 1 and c.rule['pair_one_epoch'] and (
            s.nodes[h].epoch != d.epoch or not is_claimed(s, h) or s.worker.slots[slot].is_ != 'open'):
        yield what + 'at %s, but something came to %s meanwhile' % (NAMES[d.to], NAMES[h]), again
    else:
        yield what + 'at %s, with ASKING' % NAMES[d.to], acknowledge(after, frozenset({d}))
