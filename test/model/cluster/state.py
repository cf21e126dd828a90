"""state.py: what there is, and the names of the rules that something depends on.

A configuration may set a rule to a wrong value; then something stale must be found.
"""
from typing import NamedTuple


RULES = dict(
    fill_checks_witness=True,  # a fill compares the witness with what memory has of its slot
    fill_needs_claim=True,     # a process that nobody claimed admits nothing
    claim_forgets=True,        # a claim leaves no slot settled
    disarms=True,              # the process that a slot, or a claim, leaves is disarmed
    look='purge',              # a slot that arrives: 'purge' empties it, 'trust' settles it, 'position' goes on from its witness
    empties=True,              # what is to be emptied is, before it is settled
    emptying_disarms=True,     # ... disarmed first
    settles_closed=True,       # only a slot that is not open
    floor='highest',           # of a slot that is settled: 'highest' record ever read, 'read' by the tap now, 'position'
    one_position=True,         # all witnesses have the lowest position of all slots
    position_behind=True,      # ... behind everything that is not acknowledged
    sets_back=True,            # the tap, to the position of a witness that is gone on from
    own_witness=True,          # an unknown slot goes on from a witness of this node alone
    witness_epoch=True,        # ... of the epoch the node has now
    watches_epochs=True,       # a node whose epoch rose though no slot was seen to arrive is emptied
    claims_all=True,           # every master is claimed before a slot is settled
    settled_acknowledges=True, # nothing is acknowledged in a slot that is not settled
    order='owner first',       # an open slot: then the target; or 'target first'
    target=True,               # ... the target, too
    target_always=True,        # ... also when the owner had the key
    pair_one_epoch=True,       # ... and nothing came to the owner between
    claim_ends_pair=True,      # ... nor was either end claimed anew
    absent_is_unknown=True,    # "not here" is not "deleted"
    empties_importer=True,     # a node that imports from nobody is emptied, and until then the slot is settled nowhere
    importer_asked=True,       # ... until it is found empty, not until it was told to be
    empties_target=True,       # of a slot that opens: what a move that was given up left there
    closed_empties_target=True, # ... once more when the owner answered meanwhile that it is closed: that was another opening
    claim_empties_target=True, # ... once more when that node was claimed anew: what its snapshot brought back
)

FAULTS = ('open', 'copy', 'abort', 'failover', 'restart', 'save', 'flush', 'evict', 'worker', 'fix', 'deaf', 'unread')


class Witness(NamedTuple):
    """The string that goes with a slot. Text: no two states of one are the same."""
    node: int
    nonce: int
    text: int
    position: int
    epoch: int


class Remembered(NamedTuple):
    """What a process's memory has of a settled slot."""
    text: int
    floor: int


class Memory(NamedTuple):
    """Of the library in one process; None: not loaded."""
    nonce: int
    buckets: tuple  # per key
    slots: tuple    # per slot a Remembered or None


class Data(NamedTuple):
    """What a process keeps; replicated, saved and restored together."""
    cache: tuple      # per key the LSN of the last commit on it that its reader saw; -1: nothing
    witnesses: tuple  # per slot a Witness or None


class Process(NamedTuple):
    data: Data
    memory: object = None


class Node(NamedTuple):
    """A shard: two processes, one of them master, the other a replica that may lag."""
    processes: tuple
    importing: tuple     # per slot
    master: int = 0      # which process
    saved: object = None # Data
    epoch: int = 0       # raised by what arrives, and by an election


class Claim(NamedTuple):
    process: int
    nonce: int
    epoch: int  # as of this claim


class Delivery(NamedTuple):
    """Of one key of one commit. Stage: 0 nothing done; 1 owner done, the target is next; 2 target first; 3 then the owner."""
    lsn: int
    key: int
    stage: int = 0
    to: int = -1
    epoch: int = 0  # of the owner when its part was done


class Slot(NamedTuple):
    """What the worker knows of a slot: 'unknown', 'catching up' (until `upto` is read), 'settled', 'trusted', 'open', 'purge'
    (to be emptied), 'emptying' and 'emptied' (begun under `upto` as the node's epoch)."""
    is_: str
    upto: int = 0
    target_emptied: bool = False


class Worker(NamedTuple):
    read: int
    highest: int      # record ever read
    queue: frozenset  # of Delivery
    view: tuple       # owners, as of the last look
    epochs: tuple     # of the nodes, likewise
    slots: tuple
    claims: tuple     # per node a Claim or None
    told: frozenset = frozenset()  # (node, slot) of importers that were told to empty it


class Reader(NamedTuple):
    phase: int = 0  # 0 idle, 1 has a token, 2 has read, 3 over
    token: int = 0
    value: int = 0


class State(NamedTuple):
    log: int        # commits; the first has LSN 1
    worker: object
    owner: tuple    # per slot
    target: tuple   # per slot the node it migrates to, or -1
    nodes: tuple
    readers: tuple
    faults: tuple   # how many of each kind may still come
    token: int = 0  # newest
    acknowledged: frozenset = frozenset()  # (lsn, key)
    brought_back: bool = False  # Redis itself brought values back, or left them somewhere


class Config:
    """Commits (a tuple of keys each), the slot of each key, and how many faults of each kind may come. Begin: what has
    happened already, as steps begin."""

    def __init__(self, commits, slots, readers=1, owner=None, moves=None, fills=None, begin=(), **faults):
        self.commits, self.slot_of, self.nreaders = commits, slots, readers
        self.nslots, self.nkeys = max(slots) + 1, len(slots)
        self.owner = owner or tuple(s % 2 for s in range(self.nslots))
        self.moves = range(self.nslots) if moves is None else moves   # slots that do
        self.fills = range(self.nkeys) if fills is None else fills    # keys that readers fill
        self.begin = begin
        self.faults = tuple(faults.pop(f, 0) for f in FAULTS)
        assert not faults, faults
        self.keys = [[k for k in range(self.nkeys) if slots[k] == s] for s in range(self.nslots)]
        self.rule = dict(RULES)

    def initial(self):
        """Caught up, every slot settled at its owner."""
        nodes = []
        for h in (0, 1):
            own = [s for s in range(self.nslots) if self.owner[s] == h]
            witnesses = tuple(Witness(h, h + 1, 11 + s, 0, 0) if s in own else None for s in range(self.nslots))
            memory = Memory(h + 1, (0,) * self.nkeys, tuple(
                Remembered(11 + s, 0) if s in own else None for s in range(self.nslots)))
            data = Data((-1,) * self.nkeys, witnesses)
            nodes.append(Node((Process(data, memory), Process(data)), (False,) * self.nslots))
        worker = Worker(0, 0, frozenset(), self.owner, (0, 0), (Slot('settled'),) * self.nslots,
                        (Claim(0, 1, 0), Claim(0, 2, 0)))
        return same_names(State(0, worker, self.owner, (-1,) * self.nslots, tuple(nodes),
                                (Reader(),) * self.nreaders, self.faults))


# ---- reading and changing one thing ----

def put(things, i, thing):
    return things[:i] + (thing,) + things[i + 1:]


def left(s, fault):
    return s.faults[FAULTS.index(fault)]


def spend(s, fault):
    i = FAULTS.index(fault)
    return s._replace(faults=put(s.faults, i, s.faults[i] - 1))


def master(s, h):
    return s.nodes[h].processes[s.nodes[h].master]


def with_node(s, h, **what):
    return s._replace(nodes=put(s.nodes, h, s.nodes[h]._replace(**what)))


def with_process(s, h, p, **what):
    processes = s.nodes[h].processes
    return with_node(s, h, processes=put(processes, p, processes[p]._replace(**what)))


def with_master(s, h, **what):
    return with_process(s, h, s.nodes[h].master, **what)


def with_worker(s, **what):
    return s._replace(worker=s.worker._replace(**what))


def with_slot(s, slot, state):
    return with_worker(s, slots=put(s.worker.slots, slot, state))


def with_witness(s, h, slot, witness):
    data = master(s, h).data
    return with_master(s, h, data=data._replace(witnesses=put(data.witnesses, slot, witness)))


def without_keys(s, c, h, slot):
    data = master(s, h).data
    cache = tuple(-1 if k in c.keys[slot] else v for k, v in enumerate(data.cache))
    return with_master(s, h, data=data._replace(cache=cache))


def holds_something(s, c, h, slot):
    data = master(s, h).data
    return data.witnesses[slot] is not None or any(data.cache[k] != -1 for k in c.keys[slot])


def imports_from_nobody(s, h, slot):
    return s.nodes[h].importing[slot] and s.owner[slot] != h and s.target[slot] != h


# ---- texts and nonces ----

def names(s):
    """Every text and nonce that is somewhere, in a fixed order."""
    for node in s.nodes:
        for data in [p.data for p in node.processes] + [node.saved]:
            for w in data.witnesses if data else ():
                if w:
                    yield w.nonce
                    yield w.text
        for p in node.processes:
            if p.memory:
                yield p.memory.nonce
                yield from (r.text for r in p.memory.slots if r)
    if s.worker:
        yield from (claim.nonce for claim in s.worker.claims if claim)


def new_name(s):
    """A text or nonce that nobody has."""
    return max(names(s), default=0) + 1


def same_names(s):
    """The same state with texts and nonces numbered in order of appearance: two that differ in them alone are one."""
    number = {}
    for name in names(s):
        number.setdefault(name, len(number) + 1)
    if all(name == n for name, n in number.items()):
        return s

    def rename_data(data):
        return data and data._replace(witnesses=tuple(
            w and w._replace(nonce=number[w.nonce], text=number[w.text]) for w in data.witnesses))

    def rename_memory(m):
        return m and Memory(number[m.nonce], m.buckets, tuple(
            r and Remembered(number[r.text], r.floor) for r in m.slots))

    nodes = tuple(node._replace(
        processes=tuple(Process(rename_data(p.data), rename_memory(p.memory)) for p in node.processes),
        saved=rename_data(node.saved)) for node in s.nodes)
    worker = s.worker and s.worker._replace(claims=tuple(
        claim and claim._replace(nonce=number[claim.nonce]) for claim in s.worker.claims))
    return s._replace(nodes=nodes, worker=worker)
