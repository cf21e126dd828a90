"""world.py: what everybody else may do next: commits, Redis Cluster and who administers it, readers."""
from state import (
    Reader, holds_something, left, master, put, spend, with_master, with_node, with_process, with_witness)
from library import admits
from worker import NAMES


def commit_steps(c, s):
    if s.log < len(c.commits):
        yield 'commit %d on %s' % (s.log + 1, c.commits[s.log]), s._replace(log=s.log + 1)


# ---- slots that move ----

def with_key(s, h, key, value):
    data = master(s, h).data
    return with_master(s, h, data=data._replace(cache=put(data.cache, key, value)))


def with_importing(s, h, slot, importing):
    return with_node(s, h, importing=put(s.nodes[h].importing, slot, importing))


def slot_move_steps(c, s):
    for slot in range(c.nslots):
        h, target = s.owner[slot], s.target[slot]
        if target < 0 and left(s, 'open') and slot in c.moves:
            yield 'slot %d: IMPORTING on %s, MIGRATING on %s' % (slot, NAMES[1 - h], NAMES[h]), spend(
                with_importing(s, 1 - h, slot, True)._replace(target=put(s.target, slot, 1 - h)), 'open')
        if target >= 0 and s.nodes[target].importing[slot]:
            yield from migrate_steps(c, s, slot, h, target)
        if target >= 0 and left(s, 'abort'):
            yield 'slot %d: STABLE on both, what moved stays on %s' % (slot, NAMES[target]), spend(
                with_importing(s, target, slot, False)._replace(
                    target=put(s.target, slot, -1), brought_back=True), 'abort')
        if s.nodes[1 - h].importing[slot] and target != 1 - h and left(s, 'fix'):
            yield from fix_steps(c, s, slot, h, 1 - h)


def migrate_steps(c, s, slot, h, target):
    data = master(s, h).data
    for key in c.keys[slot]:
        if data.cache[key] == -1:
            continue
        both = with_key(s, target, key, data.cache[key])
        yield 'MIGRATE key %d to %s' % (key, NAMES[target]), with_key(both, h, key, -1)
        if left(s, 'copy'):
            yield 'MIGRATE key %d to %s breaks off: both have it' % (key, NAMES[target]), spend(both, 'copy')
    if data.witnesses[slot]:
        both = with_witness(s, target, slot, data.witnesses[slot])
        yield 'MIGRATE the witness of slot %d to %s' % (slot, NAMES[target]), with_witness(both, h, slot, None)
    if not holds_something(s, c, h, slot):
        after = with_importing(s, target, slot, False)
        after = with_node(after, target, epoch=after.nodes[target].epoch + 1)
        yield 'slot %d: NODE %s' % (slot, NAMES[target]), after._replace(
            owner=put(s.owner, slot, target), target=put(s.target, slot, -1))


def fix_steps(c, s, slot, h, other):
    """redis-cli --cluster fix, of a slot that a node imports from nobody."""
    for key in c.keys[slot]:
        value = master(s, other).data.cache[key]
        if value != -1:
            yield 'fix moves key %d from %s to the owner' % (key, NAMES[other]), spend(with_key(
                with_key(s, h, key, value), other, key, -1)._replace(brought_back=True), 'fix')
    if not holds_something(s, c, other, slot):
        yield 'fix closes slot %d on %s' % (slot, NAMES[other]), with_importing(s, other, slot, False)


# ---- nodes that fail ----

def failover(c, s, h):
    node = s.nodes[h]
    now, then = node.processes[node.master], node.processes[1 - node.master]
    after = s
    if now.data != then.data:  # the old master synchronises in full: its library starts anew
        after = with_process(s, h, node.master, data=then.data, memory=None)._replace(brought_back=True)
    after = with_node(after, h, master=1 - node.master, epoch=node.epoch + 1, importing=(False,) * c.nslots)
    return spend(after._replace(target=tuple(
        -1 if s.owner[i] == h else t for i, t in enumerate(s.target))), 'failover')


def restart(c, s, h):
    """From the snapshot. What it has of slots it does not own, it imports."""
    node = s.nodes[h]
    after = with_master(s, h, data=node.saved, memory=None)
    importing = tuple(node.importing[i] or s.owner[i] != h and holds_something(after, c, h, i) for i in range(c.nslots))
    return spend(with_node(after, h, importing=importing)._replace(brought_back=True), 'restart')


def node_steps(c, s):
    for h, node in enumerate(s.nodes):
        data, replica = master(s, h).data, node.processes[1 - node.master].data
        if left(s, 'failover'):
            if replica != data:
                yield '%s replicates' % NAMES[h], with_process(s, h, 1 - node.master, data=data)
            yield 'FAIL-OVER of %s%s' % (NAMES[h], '' if replica == data else ' to a replica that lags'), failover(c, s, h)
        if left(s, 'save'):
            yield '%s saves' % NAMES[h], spend(with_node(s, h, saved=data), 'save')
        if left(s, 'restart') and node.saved and node.saved != data:
            yield '%s RESTARTS from its snapshot' % NAMES[h], restart(c, s, h)
        empty = data._replace(cache=(-1,) * c.nkeys, witnesses=(None,) * c.nslots)
        if left(s, 'flush') and data != empty:
            yield 'FLUSHALL on %s' % NAMES[h], spend(with_master(s, h, data=empty), 'flush')
        for slot in range(c.nslots) if left(s, 'evict') else ():
            if data.witnesses[slot]:
                yield 'the witness of slot %d on %s is EVICTED' % (slot, NAMES[h]), spend(
                    with_witness(s, h, slot, None), 'evict')


# ---- readers ----

def others_than(s, i, reader):
    return tuple(sorted(put(s.readers, i, reader)))


def reader_steps(c, s):
    for i, reader in enumerate(s.readers):
        if i and s.readers[i - 1] == reader:
            continue
        if reader.phase == 0:
            yield 'reader: token %d' % s.token, s._replace(readers=others_than(s, i, Reader(1, s.token)))
        elif reader.phase == 1:
            yield 'reader (%d): reads as of %d' % (reader.token, s.log), s._replace(
                readers=others_than(s, i, Reader(2, reader.token, s.log)))


def last_on(c, key, upto):
    return max([lsn for lsn in range(1, upto + 1) if key in c.commits[lsn - 1]], default=0)


def asked(c, s, key):
    """The node that answers for a key, or None: TRYAGAIN, or the ASK leads nowhere."""
    slot = c.slot_of[key]
    h, target = s.owner[slot], s.target[slot]
    if target < 0 or master(s, h).data.cache[key] != -1:
        return h
    return target if s.nodes[target].importing[slot] else None


def fill_steps(c, s):
    """Steps with what they violate, if anything."""
    for i, reader in enumerate(s.readers):
        if reader.phase != 2 or i and s.readers[i - 1] == reader:
            continue
        for key in c.fills:
            h = asked(c, s, key)
            if h is None or not admits(c, s, h, c.slot_of[key], key, reader.token):
                continue
            value = last_on(c, key, reader.value)
            missed = sorted(lsn for lsn, k in s.acknowledged if k == key and lsn > value)
            wrong = 'stale fill: of key %d, token %d, misses %s' % (key, reader.token, missed) if missed else None
            yield 'reader (%d): FILLS key %d as of %d at %s' % (reader.token, key, value, NAMES[h]), with_key(
                s, h, key, value)._replace(readers=others_than(s, i, Reader(3))), wrong
