#!lua name=cache_aside
--[[
cache_aside.lua: the part of cache_aside that runs inside Redis (>= 7) or Valkey.

Applications call get, fill, get_many, fill_many and release, and so do the SQL functions of these names.
Only the worker of the PostgreSQL server calls claim, epoch, arm, renew, disarm, apply and apply_event. It loads this
library when there is none, or an older one. By hand:
    redis-cli -x FUNCTION LOAD REPLACE < cache_aside.lua
The sources are the files in src/delivery/library; ORDER there says what is where.

VERSIONS
Servers of several releases may share a Redis, above all during an upgrade, and a library that is
replaced forgets every claim. So the functions' names end in PROTOCOL. It changes as soon as arguments,
answers or keys mean something else. Any other change is a REVISION; a worker replaces an older
revision of its protocol and leaves a newer one alone.
In one Redis a function's name belongs to one library. So the applications' calls without a number are
those of the protocol that was there first; a worker of another one loads this file beside it, as library
cache_aside_<PROTOCOL>, without what follows the line "plain names". Libraries stay until somebody deletes
them: when the last server of the old release is gone, FUNCTION DELETE all of them; the workers load
theirs again, with the plain names.

KEYS IN REDIS (<system> is PostgreSQL's system identifier, decimal)
    cache_aside:position:<system>  where delivery stands; the worker's text, "<timeline> <LSN> ..."; only
                                   the timeline is read here
    cache_aside:guard:<system>     40 bytes, all numbers big-endian:
                                     0  "CAG1"
                                     4  timeline, 4 bytes
                                     8  nonce under which it was made or armed last, 16 bytes
                                    24  floor, 8 bytes (an LSN)
                                    32  how often it was written since it was made, 8 bytes
    cache_aside:writer:<prefix>    the system whose tokens are admitted for a prefix of keys (its hash)
    cache_aside:writer:<prefix>:second  another system that deleted keys there within the last day
    cache_aside:standby:<system>:<id>   a standby that streams announces itself here: the timeline that it
                                   streams. Expires by itself; <id> is a secret of that server, a new one
                                   after each restart
    cache_aside:events:<system>    the channel, or the stream, on which batches are told to others
    cache_aside:stick:<name>       the LSN that reads for <name> have to see; expires by itself
The guard's buckets are not data but in this process's memory: those of another process, or from before
a restart, would be of no use. There are 65536; a key's is a hash of it, and holds
the highest LSN that was invalidated among its keys.
Keys that begin with "cache_aside:" are nobody's cache: the applications' calls refuse them, so no name
that they choose is that of a position, a guard or a stick; apply deletes none of them.
LSNs are written as PostgreSQL does: 0/16B3748. A token is <system>-<timeline>-<LSN>; applications need
not understand it. LSNs are compared as two 32-bit numbers: a Lua number holds 53 bits, and Lua compares
strings by the collation of the server's locale.

FOR APPLICATIONS
    FCALL cache_aside_get 1 key lease_ms
        the value
        | an array of one string, the lease: this caller shall read the database and fill (or release).
          "" is no lease: everybody may try now
        | nil: missing, and somebody else is filling (or lease_ms was 0)
        lease_ms: 0 to 60000. Writes nothing, so it works by FCALL_RO, on replicas, and on a Redis that is
        full, or lacks the replicas or the disk that writes need.
    FCALL cache_aside_fill 1 key value ttl_ms token [lease]
        1: stored | 0: refused, the value may miss an invalidation. That is no error: use the value, do not
        cache it. The lease ends with this call, unless Redis itself refuses it (OOM, NOREPLICAS,
        READONLY, ...).
    FCALL cache_aside_release n key... lease...
        For a reader that has a lease and stores nothing (no row, no token, an error): gives it back, on the
        server that gave it, so that others try; see leases.lua for how many. -> how many were held
    FCALL cache_aside_get_many n key... lease_ms
        -> array of n answers of cache_aside_get (an error in the place of a key that holds no string)
    FCALL cache_aside_fill_many n key... ttl_ms token value... [lease...]
        n values, 0 or n leases, of which "" is none. -> array of n answers of cache_aside_fill (or errors)
    Errors, with nothing stored: CA_TOKEN (garbage, or of a PostgreSQL cluster that does not deliver to this
    Redis), CA_ARGUMENT (also for a key that is reserved, or longer than 8 kB: no rule could delete it), and
    Redis's own: WRONGTYPE, OOM, an invalid expire time.

FOR THE WORKER
    Names end in _<PROTOCOL>. KEYS[1] is the position and KEYS[2] the guard, both of one <system>; any other
    name is CA_ARGUMENT, so that a user without write access to cache_aside:* cannot make these calls. Times
    (now, until) are milliseconds of this server's clock.
    cache_aside_claim_1 3+n position guard standby writer...  nonce timeline previous scope force server
        standby: the key under which this server announced itself, if it did. writer: one for each prefix, 1 to
        8. nonce: 16 bytes, new for each connection. previous: the one before it, or "". scope: where in this
        process the keys are, the number of the database; claims of another scope are others'. force: "1" an
        operator decided for this server, "2" it was second to another system in its last session, else "0".
        server: 16 random bytes of this server, others after a restart.
        Fills are refused from here until arm.
        -> {revision of the library, 1 if there is a position else 0, its text or "", timeline of the guard or
        0 when there is none, floor of the guard "X/X", 1 if this process was claimed last with `previous`
        else 0, now, 1 if the guard is there as this process wrote it last for this scope else 0, role}
        role: 1 the tokens of this system are admitted; 2 they are from now on, and a resync has to come first
        (the position says so); 0 another system's are, and nothing of this one is armed.
        Errors, with nothing changed: CA_FENCED, position or guard are of a newer timeline; CA_OCCUPIED, the
        claim is another server's, which lives, and this one had not announced itself.
    cache_aside_epoch_1 2 position guard  nonce expected new floor clear
        In one step: the floor, and a position that says "pending". clear "1": the guard is made anew (another
        timeline, lost commits); floor must be E, see arm. "0": buckets stay and the floor only rises; a
        missing guard stays missing, for what was delivered before may lie above this floor. -> 1
    cache_aside_arm_1 2 position guard  nonce expected floor until
        Caught up: fills are admitted, for as long as this `until` or a later one of a renewal says. A guard
        that is missing, of another timeline, or not the one that this process knows (it restarted) is made
        with `floor`, which must be E: the end of the last complete record read, after reading to at least
        what was flushed (replayed) when that was looked up after connecting.
        -> {1 the guard was there | 2 it was made anew | 0 another system's tokens are admitted, now}
    cache_aside_renew_1 2 position guard  nonce until heard lsn
        Every two seconds, armed or not: the holder lives. heard: how many deletions of another system the
        worker knows of (0: none); lsn: above any token that was given before it heard of them.
        Writes nothing, but what `heard` makes due. -> {1 if fills are admitted else 0, now, how often another
        server was refused, how often another system deleted keys, role; 2: claim again, to take over}
    cache_aside_disarm_1 2 position guard  nonce remove
        The claim ends: fills are refused, and the nonce is worth nothing, until somebody claims again. remove
        "1": position, guard and what names this system as a writer are deleted, too.
        -> {1, how many other claims there are}, or {0, 0} when it is not the claim of this nonce: nothing
        happened
    cache_aside_apply_1 2+n position guard key...  nonce expected new lsn [stick-key lsn ttl_ms]...
        One batch. lsn: the highest commit LSN in it. "+" before it: the floor rises instead of the keys'
        buckets (for a backlog; and always beyond 128 keys). "": guard = off, the guard is deleted.
        -> {keys deleted, sticks that failed (wrong type), 1 if buckets could be raised, else 0: arm (again)
        once caught up}
    cache_aside_apply_event_1 3+n position guard key... events  nonce expected new lsn [stick-key lsn ttl_ms]... how text
        The same, told to others: `text` is published on the channel `events` (how ""), or added to the stream of
        that name as its field "event", which is cut to about so many entries (how "10000"). When Redis refuses that:
        CA_EVENTS, and the position is not written, so that all of it comes again. With "!" before it (how "!",
        "!10000") the batch goes on without, and the answer has the error as its fourth element.
    `expected` is the position's text that must be stored now, "" for none; otherwise CA_POSITION, and
    nothing happened. So the failure of one call of a pipeline stops all that follow it. CA_NONCE: the nonce
    is not the one claimed last in this very process; connect again.
]]

