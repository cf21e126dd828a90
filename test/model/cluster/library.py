"""library.py: the calls of the function library in one process, each in one step."""
from state import Memory, Remembered, Witness, master, new_name, put, with_master, with_process, with_witness


def admits(c, s, h, slot, key, token):
    """Would the master of node h take a fill?"""
    process = master(s, h)
    if process.memory is None:
        return not c.rule['fill_needs_claim']
    known, witness = process.memory.slots[slot], process.data.witnesses[slot]
    if known is None:
        return False
    if c.rule['fill_checks_witness'] and (not witness or witness.text != known.text):
        return False
    return token >= known.floor and token >= process.memory.buckets[key]


def apply(s, h, lsn, key):
    """Raises the key's bucket, deletes it."""
    data, memory = master(s, h).data, master(s, h).memory
    buckets = put(memory.buckets, key, max(memory.buckets[key], lsn))
    return with_master(s, h, data=data._replace(cache=put(data.cache, key, -1)),
                       memory=memory._replace(buckets=buckets))


def disarm(c, s, h, process, slot=None):
    """Memory forgets the slot, or all: it admits nothing any more."""
    memory = s.nodes[h].processes[process].memory
    if memory is None:
        return s
    slots = (None,) * c.nslots if slot is None else put(memory.slots, slot, None)
    return with_process(s, h, process, memory=memory._replace(slots=slots))


def claim(c, s, h):
    memory = master(s, h).memory
    keeps = memory and not c.rule['claim_forgets']
    return with_master(s, h, memory=Memory(new_name(s), memory.buckets if memory else (0,) * c.nkeys,
                                           memory.slots if keeps else (None,) * c.nslots))


def settle(s, h, slot, position, epoch, floor):
    """Writes a witness, and remembers it."""
    text, memory = new_name(s), master(s, h).memory
    s = with_witness(s, h, slot, Witness(h, memory.nonce, text, position, epoch))
    return with_master(s, h, memory=memory._replace(slots=put(memory.slots, slot, Remembered(text, floor))))


def agrees(s, h, slot):
    """Have memory and data the same text?"""
    known, witness = master(s, h).memory.slots[slot], master(s, h).data.witnesses[slot]
    return known is not None and witness is not None and known.text == witness.text
