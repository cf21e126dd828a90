#!lua name=cache_aside
--[[
cache_aside.lua: the part of cache_aside that runs inside Redis (>= 7) or Valkey.

Two callers. Applications call get, fill, get_many, fill_many and release (and so do the SQL functions
of the same names); only the worker of the PostgreSQL server calls claim, epoch, arm, renew and apply. The
worker loads this file when it is missing or older; by hand:
    redis-cli -x FUNCTION LOAD REPLACE < cache_aside.lua

VERSIONS
Servers of several releases may share a Redis, during an upgrade above all, and a library that is
replaced forgets every claim. So PROTOCOL is in the functions' names. It is another one as soon as
arguments, answers or keys mean anything else; what changes without that is a REVISION, and a worker
leaves a newer one of its protocol alone. Names belong to one library of a Redis: the applications' calls
without a number are those of the protocol that was there first. A worker of another one loads this file
beside it, as library cache_aside_<PROTOCOL>, without what follows the line "plain names". Libraries stay
until they are deleted: FUNCTION DELETE of all of them when the last server of the old release is
gone; the workers load theirs again, with the plain names.

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
    cache_aside:writer:<prefix>:second  another system that has deleted keys there within a day
    cache_aside:standby:<system>:<id>   a standby that streams announces itself: the timeline it streams.
                                   Expires by itself; <id> is a secret of that server, until it is restarted
    cache_aside:stick:<name>       LSN that reads for <name> have to see; expires by itself
The guard's buckets, highest LSN that was invalidated among the bucket's keys, are in this process's
memory: nothing could use those of another process, or from before a restart. The bucket of a key: the
first 16 bits of its SHA-1.
Keys that begin with "cache_aside:" are nobody's cache: applications' calls refuse them, so no name that
they choose is that of a position, a guard or a stick; apply deletes none.
LSN text is PostgreSQL's: 0/16B3748. A token is <system>-<timeline>-<LSN>, opaque to applications.
An LSN is compared as two 32-bit numbers: a Lua number holds 53 bits, and Lua compares strings by
the collation of the server's locale.

FOR APPLICATIONS
    FCALL cache_aside_get 1 key lease_ms
        the value | an array of one string, the lease: this caller shall read the database and fill (or
        release); the lease may be "", when nobody needs one now | nil: missing, and somebody else is
        filling (or lease_ms was 0). lease_ms: 0 to 60000. Writes nothing: FCALL_RO and replicas do, and
        so does a Redis that is full, or lacks replicas or a disk to write to.
    FCALL cache_aside_fill 1 key value ttl_ms token [lease]
        1 stored | 0 refused: the value may miss an invalidation; not an error, use it, do not cache.
        The lease ends with this call, unless Redis itself refuses it (OOM, NOREPLICAS, READONLY, ...).
    FCALL cache_aside_release n key... lease...
        Whoever has a lease and stores nothing (no row, no token, an error) gives it back, where it was
        taken: others try then, and no longer one after the other, see LEASES. -> how many were held
    FCALL cache_aside_get_many n key... lease_ms
        array of n answers of cache_aside_get (an error in the place of a key that holds no string)
    FCALL cache_aside_fill_many n key... ttl_ms token value... [lease...]     (n values, 0 or n leases;
        an empty lease is none) -> array of n answers of cache_aside_fill (or errors)
    Errors: CA_TOKEN (garbage, or of a PostgreSQL cluster that does not deliver to this Redis),
    CA_ARGUMENT (also for a key that is reserved, or longer than 8 kB: no rule could delete it), and
    Redis's own: WRONGTYPE, OOM, an invalid expire time. Nothing is stored then.

FOR THE WORKER (names end in _<PROTOCOL>; KEYS[1] = position, KEYS[2] = guard in each, both of one <system>: any other name is
CA_ARGUMENT, so that a user without write access to cache_aside:* cannot make these calls)
    cache_aside_claim_1 3+n position guard standby writer...  nonce timeline previous scope force server
        nonce: 16 bytes, new for each connection; previous: the one before it, or "". scope: where in this
        process the keys are, the number of the database; claims of another scope are others'. Fills are
        refused from here until arm. standby: the key under which this server announced itself, if it did;
        writer: one for each prefix, 1 to 8. force "1": an operator decided for this server; "2": it
        was second to another system in its last session; "0". server: 16
        bytes, random, of this server until it is restarted.
        -> {revision of the library, 1 if there is a position else 0, its text or "", timeline of the guard or
        0 when there is none, floor of the guard "X/X", 1 if this process was claimed last with `previous`
        else 0, now, 1 if the guard is there as this process wrote it last for this scope else 0, role}
        role: 1 the tokens of this system are admitted; 0 another system's are, and nothing of this one is
        armed; 2 they are from now on, and a resync has to come first (the position says so).
        Errors, nothing changed then: CA_FENCED when position or guard are of a newer timeline; CA_OCCUPIED
        when the claim is another server's, which lives, and this one had not announced itself.
    cache_aside_epoch_1 2 position guard  nonce expected new floor clear
        In one step: floor, and the position that says "pending". clear "1": the guard is made anew
        (another timeline, lost commits); floor must be E, see arm. "0": buckets stay and the floor only
        rises; a guard that is missing stays so, for what was delivered before may lie above this floor.
        -> 1
    cache_aside_arm_1 2 position guard  nonce expected floor until
        Caught up: fills are admitted until then, or until a later `until` of a renewal. A guard that is missing, of another timeline, or not the one
        this process knows (it restarted) is made with `floor`, which must be E: the end of the last
        complete record read, after reading to at least what was flushed (replayed) when it was
        observed after connecting.
        -> {1 the guard was there, 2 it was made anew, 0 another system's tokens are admitted, now}
    cache_aside_renew_1 2 position guard  nonce until heard lsn
        Each two seconds, armed or not: the holder lives. heard: how often another system was heard to have
        deleted keys here (0: never); lsn: above any token that was given before it was heard.
        Writes nothing, but what `heard` makes due. -> {1 if fills are admitted else 0, now, how often another
        server was refused, how often another system deleted keys, role; 2: claim again, to take over}
    cache_aside_disarm_1 2 position guard  nonce remove
        The claim ends: fills are refused, and the nonce is worth nothing, until somebody claims again. remove
        "1": position, guard and what names this system as a writer are deleted, too. -> {1, or 0 when it is not the claim of this nonce, and then
        nothing happened, how many other claims there are}
    Times (now, until) are milliseconds of this server's clock.
    cache_aside_apply_1 2+n position guard key...  nonce expected new lsn [stick-key lsn ttl_ms]...
        One batch. lsn: the highest commit LSN in it; with a "+" before it the floor rises instead of
        the keys' buckets (for a backlog; and always beyond 128 keys); "" when guard = off, then the
        guard is deleted.
        -> {keys deleted, sticks that failed (wrong type), 1 if buckets could be raised, else 0: arm
        (again) once caught up}
    `expected` is the position text that must be stored now, "" for none; CA_POSITION otherwise, and
    nothing happened: the failure of one call of a pipeline stops all that follow it. CA_NONCE when
    the nonce is not the one claimed last in this very process; then connect again.

WHY IT HOLDS
Commit L invalidates K; a reader's token says (T, R): it saw every commit of timeline T up to R.
* apply raises K's bucket, then deletes K, then writes the position, atomically. Delivered before the
  fill: bucket >= L; a snapshot that missed L has R < L, refused. Delivered after it: the delete removes
  the value. Deleting first would let a fill pass in between should a batch ever tear; the position
  last, since it vouches for both. Batches are out of order when one commit is slow to become
  visible, and a bucket must never go down: so what is written is the highest LSN of all batches
  since the guard was made. No bucket is above it, none need be read, and every LSN at or below it
  is visible once the slow commit is, so that no key stays unfillable.
* Floor >= L covers K too; what is lost is only the admission of other reads older than the batch. It
  keeps a call short.
* A missing guard refuses; buckets are raised only while there is one. Made anew, its floor is E:
  everything delivered before is below it. The position or the visible LSN would not do, deliveries
  are out of order.
* The nonce lives in this process's memory: a Redis that restarted, reloaded or was promoted is
  unarmed, and a proxy cannot hide it. A master that was demoted and comes back still has its memory,
  but the data of another. So memory holds the header as this process wrote it last, which each write
  makes unique, and a fill needs to find it there: data of any other state, older or another's, has
  another header or none, for a claim deletes a guard that its process does not know.
* A master that was replaced without a copy, and comes back so, still has its memory and the data that go
  with it: armed. So an arming ends by itself unless its worker renews it, and the worker, on a process
  that is not the one it claimed last, tells nobody that anything is delivered before each arming elsewhere
  must have ended. A renewal says until when, in a time that this server told before: one that lay in
  the socket of a master that was stopped extends nothing. The clock costs no TIME: the guard expires in
  the year 2100, and the time until then is asked for. A clock that goes back ends the arming.
* A database of Redis has no name that a function could ask for, and SWAPDB, MOVE, RENAME or RESTORE put
  any key anywhere. So which claim a fill is judged by is decided by the header that it finds under the
  token's guard, not by where it finds it: the header is in one place of memory only, which knows what was
  delivered to the data it went with. The worker's calls name their claim by its nonce.
* A NEWER TIMELINE alone tells no successor from a clone of this server that was restored somewhere. So who
  has a newer one takes over from a server that lives only if it announced itself, as a standby that streams
  the timeline which has the claim. Otherwise it waits until that one has been silent: no call of its
  worker for SILENT ms, and in ASKS questions of others, since a clock may jump. One timeline, two servers
  (a copied volume): the claim is of the server that has it, or knows its nonce from a file. Whoever presents
  a copy of that file is found out when the server that it displaced turns out to live: that one has it back.
* TWO SYSTEMS that write the same keys (blue and green) know nothing of each other's LSNs. Both delete, but only
  the tokens of one are admitted, the writer's. What the other deletes marks the keys' buckets in the writer's
  claim: no fill, until the writer's worker heard of it and has read all log that was flushed then. Each
  token given before is at or below its end; the bucket is put above. Marking writes the header anew, so that
  no other process believes the guard; where there is no claim to mark, the guard goes. A guard that is
  made anew where another system has deleted begins above the end of the log, too: the last token of an idle
  server is the same before and after. Who takes the writer's place deletes its guard and its claim.
* Every raise went through this process, so floor, buckets and the highest LSN in any of them are in
  its memory too; a fill whose R is not below that needs no bucket.
* epoch writes floor and position together, before anything is deleted: a stale fill cannot follow
  the deletes, and a worker that dies in between finds "pending". A worker of an older timeline cannot
  claim, so it writes nothing.

LEASES
A lease is in this process's memory and lasts lease_ms at most. A replica's leases are its own: whoever
takes one there releases it there. Losing one costs a second reader of the database, nothing else.
Nothing stored under a lease, because the row is not there, no token was to be had, or the fill was
refused: the next reader is likely to fare the same. Were they let in one by one, each would wait for all
before him. So after the first time eight leases are given at once, and after the second time everybody
gets an empty one, for eight times as long as the last one was held, at least a second. A fill that is
stored ends that.

MEMORY
The library keeps no names but guards': of at most 16 claims, each with 64 Ki buckets, about
2.5 MB, and as much for marks. A seventeenth takes the place of the one whose worker called least recently, which is as if this
process had restarted for that one: its fills are refused, its guard is not known any more, and its
worker has to claim and arm again. Beyond that one token of at most 49 bytes is kept, and leases: 8192 to
16384 keys' with one to eight each, by the SHA-1 of the key; the oldest are forgotten.
]]

local PROTOCOL = 1 -- in the names below and in cache_aside.h
local REVISION = 2
local MAGIC = 'CAG1'
local HEADER = 40
local BUCKETED = 128 -- most keys of a batch that raise buckets, 1 to 3 us each
local MAX_LEASE = 60000
local MAX_LEASE_TEXT = 64
local LEASED = 8192    -- keys with leases, of each of two generations
local WIDER = 8        -- times as many leases, each time that nothing was stored
local EVERYBODY = 64   -- so many leases: nobody needs one
local MIN_OPEN = 1000  -- ms
local MAX_KEY = 8192 -- as PostgreSQL has it
local MAX_CLAIMS = 16
local MAX_SCOPE = 64
local RESERVED = 'cache_aside:'
local GUARD = 'cache_aside:guard:'
local STICK = 'cache_aside:stick:'
local STANDBY = 'cache_aside:standby:'
local WRITER = 'cache_aside:writer:'
local SECOND = ':second'
local FAR = 4102444800000 -- when guards expire, in ms: the clock of a fill
local SLACK = 1000        -- ms that the clock may go back
local SILENT = 5000       -- ms without a call, after which the holder of a claim is gone ...
local UNKNOWN = 10000     -- ... and one that this process has heard nothing of
local RESTART = 20000     -- ... and a writer, for a system that was second while it lived: it may just restart
local ASKS = 4            -- questions that must have found it silent
local MAX_MARKS = 4096    -- buckets marked one by one
local DAY = 86400000

-- name (guard key, blank, scope) -> the claim: name, guard, nonce, timeline; armed, while the
-- guard's time left is above left_until;
-- left_seen: the least that was seen of it; used: the number of its worker's last call (of
-- worker_calls); and the guard that this process knows: header (as it
-- was written last), writes, floor_hi, floor_lo; top_hi, top_lo: no bucket is above; buckets: 256
-- rows of 256, made when needed, of the high (1 to 256) and low (257 to 512) halves of LSNs. A row is
-- small enough to grow in no time.
-- heard_at: when its worker called last; asks: how often others have asked since; refused: how often one
-- was. server; displaced: the one before, if this one knew its nonce. system, scope, writers: the keys of its prefixes; role; beside: it was second while the writer lived. marks: buckets of keys that another
-- system deleted, nil: none; nmarks; all_marked; foreign: how often it did.
local claims = {}
local strangers = {} -- name -> likewise heard_at (first asked) and asks, of claims that this process has not
local by_header = {} -- the same claims, by the header of their guard
local by_nonce = {}  -- and by their nonce
local worker_calls = 0

-- Libraries are out of reach while this file loads; bound by the first call.
local call, try, sha1hex, match, sub, byte, pack, unpack_bytes

local function bind()
    if not call then
        try, sha1hex = redis.pcall, redis.sha1hex
        match, sub, byte = string.match, string.sub, string.byte
        pack, unpack_bytes = struct.pack, struct.unpack
        call = redis.call
    end
end

local function failed(code, text)
    return redis.error_reply(code .. ' ' .. text)
end

-- "X/X" -> high and low 32 bits, or nil
local function parse_lsn(text)
    local hi, lo = match(text or '', '^(%x+)/(%x+)$')
    if not hi or #hi > 8 or #lo > 8 then
        return nil
    end
    return tonumber(hi, 16), tonumber(lo, 16)
end

local function at_least(hi, lo, other_hi, other_lo)
    return hi > other_hi or (hi == other_hi and lo >= other_lo)
end

-- The first byte ("c") settles it for most keys, without making a string.
local function is_reserved(key)
    return byte(key) == 99 and sub(key, 1, 12) == RESERVED
end

-- Is the key one that applications may use?
local function is_cacheable(key)
    return #key <= MAX_KEY and not is_reserved(key)
end

local function bad_key()
    return failed('CA_ARGUMENT', 'a key has at most ' .. MAX_KEY .. ' bytes and does not begin with ' ..
        RESERVED)
end

-- ---- guard ----

-- The header, or nil when there is no guard (or something that is none).
local function read_header(guard)
    local header = try('GET', guard)
    return type(header) == 'string' and #header == HEADER and sub(header, 1, 4) == MAGIC and header or nil
end

local function header_timeline(header)
    return (unpack_bytes('>I4', header, 5))
end

-- With each change of the guard: no two states of it have the same header.
local function write_header(mine, guard)
    mine.writes = mine.writes + 1
    if mine.header then
        by_header[mine.header] = nil
    end
    mine.header = MAGIC .. pack('>I4', mine.timeline) .. mine.nonce ..
        pack('>I4I4I8', mine.floor_hi, mine.floor_lo, mine.writes)
    by_header[mine.header] = mine
    call('SET', guard, mine.header, 'PXAT', FAR)
end

-- The guard is gone, or not as this process left it: what is delivered meanwhile raises nothing here. So
-- should it come back (MOVE, RENAME, RESTORE, SWAPDB), it must not be known any more.
local function forget_guard(mine)
    if mine.header then
        by_header[mine.header] = nil
    end
    mine.header, mine.armed = nil, false
end

-- Whatever was there, of whatever type.
local function make_guard(mine, guard, hi, lo)
    mine.floor_hi, mine.floor_lo = hi, lo
    mine.top_hi, mine.top_lo = 0, 0
    mine.buckets = {}
    write_header(mine, guard)
end

-- Is what is stored the guard of the claim's timeline as this process left it?
local function is_known(mine, header)
    return header and header == mine.header
end

local function raise_floor(mine, guard, hi, lo)
    if not at_least(mine.floor_hi, mine.floor_lo, hi, lo) then
        mine.floor_hi, mine.floor_lo = hi, lo
        write_header(mine, guard)
    end
end

local function bucket_of(key)
    local hash = tonumber(sub(sha1hex(key), 1, 4), 16)
    local column = hash % 256
    return (hash - column) / 256, column + 1
end

local function set_bucket(buckets, row, column, hi, lo)
    if not buckets[row] then
        buckets[row] = {}
    end
    buckets[row][column], buckets[row][column + 256] = hi, lo
end

local function raise_buckets(mine, guard, keys, hi, lo)
    if at_least(hi, lo, mine.top_hi, mine.top_lo) then
        mine.top_hi, mine.top_lo = hi, lo
    end
    hi, lo = mine.top_hi, mine.top_lo
    write_header(mine, guard)
    local buckets = mine.buckets
    for i = 3, #keys do
        local row, column = bucket_of(keys[i])
        set_bucket(buckets, row, column, hi, lo)
    end
end

-- ---- the worker's calls ----

-- Are KEYS[1] and KEYS[2] the position and the guard of one cluster? nil: yes; otherwise the error.
local function misnamed(keys)
    local system = match(keys[1] or '', '^cache_aside:position:(%d+)$')
    if system and #system <= 20 and keys[2] == GUARD .. system then
        return nil
    end
    return failed('CA_ARGUMENT', 'KEYS[1] and KEYS[2] are cache_aside:position:<system> and ' .. GUARD ..
        '<system>')
end

-- Milliseconds, as PTTL counts them.
local function now()
    local time = call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function note_use(mine)
    worker_calls = worker_calls + 1
    mine.used, mine.heard_at, mine.asks = worker_calls, now(), 0
end

local function forget(name)
    local mine = claims[name]
    if mine then
        claims[name] = nil
        if mine.header then
            by_header[mine.header] = nil
        end
        if by_nonce[mine.nonce] == mine then -- not of one that was claimed under the same
            by_nonce[mine.nonce] = nil
        end
    end
end

-- Forgets the claim that was used least recently, if there are as many as may be.
local function make_room()
    local count, oldest = 0, nil
    for name, claim in pairs(claims) do
        count = count + 1
        if not oldest or claim.used < claims[oldest].used then
            oldest = name
        end
    end
    if count >= MAX_CLAIMS then
        forget(oldest)
    end
end

-- Text of the position, or nil. Something that is no string can be no position: it goes away.
local function read_position(position)
    local text = try('GET', position)
    if type(text) == 'table' then
        call('UNLINK', position)
        return nil
    end
    return text or nil
end

local function extend(mine, text)
    local until_ms = tonumber(match(text or '', '^%d+$'))
    if not until_ms or until_ms > FAR then
        return false
    end
    mine.left_until = math.min(mine.left_until, FAR - until_ms)
    return true
end

-- Takes the place of the last claim of the same scope, and keeps what that knows of the guard, if it was
-- of this timeline.
local function take_over(name, guard, nonce, timeline)
    local mine = { name = name, guard = guard, nonce = nonce, timeline = timeline, armed = false, writes = 0,
        left_until = FAR, left_seen = FAR, refused = 0, foreign = 0 }
    local last = claims[name]
    if last and last.timeline == timeline then
        mine.header, mine.writes = last.header, last.writes
        mine.floor_hi, mine.floor_lo = last.floor_hi, last.floor_lo
        mine.top_hi, mine.top_lo, mine.buckets = last.top_hi, last.top_lo, last.buckets
        mine.beside = last.beside
        mine.marks, mine.nmarks, mine.all_marked, mine.foreign = last.marks, last.nmarks, last.all_marked, last.foreign
    end
    forget(name)
    make_room()
    claims[name], by_nonce[nonce] = mine, mine
    if mine.header then
        by_header[mine.header] = mine
    end
    note_use(mine)
    strangers[name] = nil
    return mine
end

-- ---- whose is it? ----

-- Has the holder of a claim, or who is unknown, not been heard of for so long? Asking counts.
local function is_silent(holder, ms)
    local time = now()
    if time < holder.heard_at then
        holder.heard_at = time
    end
    holder.asks = holder.asks + 1
    return holder.given_up or (holder.asks >= ASKS and time - holder.heard_at >= ms)
end

local function is_stranger_silent(name)
    if not strangers[name] then
        local count = 0
        for _ in pairs(strangers) do
            count = count + 1
        end
        if count >= MAX_CLAIMS then
            strangers = {} -- whoever asks waits again
        end
        strangers[name] = { heard_at = now(), asks = 0 }
    end
    return is_silent(strangers[name], UNKNOWN)
end

-- Is the claimer the server that has the claim, it again after a restart, or the one that had it until
-- somebody presented its nonce?
local function is_holder(last, previous, server)
    return last.server == server or last.nonce == previous or last.displaced == server
end

-- Did the claimer stream the timeline that has the claim?
local function is_announced(key, timeline)
    return try('GET', key) == string.format('%d', timeline)
end

-- May a server of this timeline claim? nil: it may; or the error.
local function is_occupied(keys, args, name, timeline, stored)
    if stored > timeline then
        return failed('CA_FENCED', 'a server of timeline ' .. stored .. ' delivers here, this one is of ' .. timeline)
    end
    local last = claims[name]
    if last then
        if is_holder(last, args[3], args[6]) or
            (timeline > last.timeline and is_announced(keys[3], last.timeline)) or is_silent(last, SILENT) then
            return nil
        end
        last.refused = last.refused + 1
        return failed('CA_OCCUPIED', 'a server of timeline ' .. last.timeline .. ' delivers here and lives; this one, of ' ..
            timeline .. ', was not its standby just now')
    end
    if stored == 0 or stored == timeline or is_announced(keys[3], stored) or is_stranger_silent(name) then
        return nil
    end
    return failed('CA_OCCUPIED', 'a server of timeline ' .. stored .. ' delivered here and may come back; this one, of ' ..
        timeline .. ', was not its standby just now')
end

-- Name of the claim of another system of the same scope; and its guard.
local function claim_of(system, scope)
    return GUARD .. system .. ' ' .. scope, GUARD .. system
end

local function holder_of(writer)
    local holder = try('GET', writer)
    return type(holder) == 'string' and match(holder, '^%d+$') or nil
end

-- Is every system that has one of the prefixes silent? Each is asked, once. Who was second before waits
-- when nobody has one: Redis lost that, and the writer has yet to come back.
local function may_write(mine)
    local may, asked = true, {}
    for _, writer in ipairs(mine.writers) do
        local holder = holder_of(writer)
        local name = holder and claim_of(holder, mine.scope) or writer .. ' ' .. mine.scope
        if not asked[name] and holder ~= mine.system and (holder or mine.was_second) then
            local theirs, silent = claims[name], nil
            if theirs then
                mine.beside = mine.beside or now() - theirs.heard_at < SILENT
                silent = is_silent(theirs, mine.beside and RESTART or SILENT)
            else
                silent = is_stranger_silent(name)
            end
            may = may and silent
        end
        asked[name] = true
    end
    return may
end

-- It has to claim again; until then its tokens are refused, and it counts as gone.
local function depose(mine)
    if mine then
        forget_guard(mine)
        by_nonce[mine.nonce] = nil
        mine.armed, mine.given_up = false, true
    end
end

-- Has, or takes, the prefixes of the claim. What the other system has armed here ends.
local function take_prefixes(mine, force)
    local taken = false
    if not force and not may_write(mine) then
        return 0
    end
    for _, writer in ipairs(mine.writers) do
        local holder = holder_of(writer)
        if holder and holder ~= mine.system then
            local name, guard = claim_of(holder, mine.scope)
            call('UNLINK', guard)
            depose(claims[name])
            taken = true
        end
        if holder ~= mine.system then
            call('SET', writer, mine.system)
        end
    end
    return taken and 2 or 1
end

-- The position's text, which says from now on that a resync has to come.
local function mark_pending(position, text)
    local pending = text:gsub('^(%S+ %S+ %S+ %S+) %a+', '%1 pending')
    call('SET', position, pending)
    return pending
end

local function malformed_claim(keys, args, timeline)
    if #args ~= 6 or #args[1] ~= 16 or not timeline or timeline > 4294967295 or
        (args[3] ~= '' and #args[3] ~= 16) or #args[4] > MAX_SCOPE or #args[6] ~= 16 then
        return failed('CA_ARGUMENT', 'claim takes a nonce of 16 bytes, a timeline, the nonce before, a scope, force ' ..
            'and 16 bytes of its server')
    end
    local wrong = #keys < 4 or #keys > 11 or sub(keys[3], 1, #STANDBY) ~= STANDBY
    for i = 4, #keys do
        wrong = wrong or #keys[i] > #WRITER + MAX_SCOPE or sub(keys[i], 1, #WRITER) ~= WRITER
    end
    return wrong and failed('CA_ARGUMENT', 'KEYS[3] is ' .. STANDBY .. '..., the rest ' .. WRITER .. '...') or nil
end

local function claim(keys, args)
    bind()
    local position, guard = keys[1], keys[2]
    local nonce, timeline, force = args[1], tonumber(match(args[2] or '', '^%d+$')), args[5] == '1'
    local problem = misnamed(keys) or malformed_claim(keys, args, timeline)
    if problem then
        return problem
    end
    local name = guard .. ' ' .. args[4]
    local header = read_header(guard)
    local guard_timeline = header and header_timeline(header) or 0
    local text = read_position(position)
    local position_timeline = text and tonumber(match(text, '^(%d+) %x+/%x+ ')) or 0
    local stored = math.max(position_timeline, guard_timeline)
    problem = not force and is_occupied(keys, args, name, timeline, stored)
    if problem then
        return problem
    end
    if stored > timeline then -- forced: nothing there is of use
        call('UNLINK', position, guard)
        text, header, guard_timeline = nil, nil, 0
    end
    local last = claims[name]
    local mine = take_over(name, guard, nonce, timeline)
    mine.system, mine.scope, mine.writers = match(guard, '%d+$'), args[4], { unpack(keys, 4) }
    mine.was_second = args[5] == '2'
    mine.server = args[6]
    if last and last.nonce == args[3] and last.server ~= args[6] then
        mine.displaced = last.server
    end
    mine.role = take_prefixes(mine, force)
    if mine.role == 2 then
        text = text and mark_pending(position, text)
    end
    local known = mine.role ~= 2 and is_known(mine, header)
    if not known then
        forget_guard(mine)
        if header then
            call('UNLINK', guard)
        end
    end
    local floor_hi, floor_lo = 0, 0
    if header then
        floor_hi, floor_lo = unpack_bytes('>I4I4', header, 25)
    end
    return { REVISION, text and 1 or 0, text or '', guard_timeline,
        string.format('%X/%X', floor_hi, floor_lo), last and last.nonce == args[3] and 1 or 0, now(),
        known and 1 or 0, mine.role }
end

-- The claim under this nonce, or nil and the error to answer with.
local function claimed(keys, nonce)
    local wrong = misnamed(keys)
    if wrong then
        return nil, wrong
    end
    local mine = by_nonce[nonce or '']
    if not mine or mine.guard ~= keys[2] then
        return nil, failed('CA_NONCE', 'this connection has not claimed this Redis, or it restarted')
    end
    note_use(mine)
    return mine
end

-- ---- what another system deletes ----

local function mark_keys(theirs, keys)
    theirs.marks = theirs.marks or {}
    for i = 3, theirs.all_marked and 2 or #keys do
        local row, column = bucket_of(keys[i])
        if not theirs.marks[row * 256 + column] then
            theirs.marks[row * 256 + column] = true
            theirs.nmarks = (theirs.nmarks or 0) + 1
        end
    end
end

-- Nobody fills these keys (nil: any) until the system whose tokens are admitted has heard of it.
local function mark_writers(mine, keys)
    for _, writer in ipairs(mine.role == 0 and mine.writers or {}) do
        local holder = holder_of(writer)
        if holder and holder ~= mine.system then
            local name, guard = claim_of(holder, mine.scope)
            local theirs = claims[name]
            call('SET', writer .. SECOND, mine.system, 'PX', DAY)
            if theirs then
                theirs.foreign = theirs.foreign + 1
                mark_keys(theirs, keys or {})
                theirs.all_marked = theirs.all_marked or not keys or theirs.nmarks and theirs.nmarks > MAX_MARKS
            end
            if theirs and is_known(theirs, read_header(guard)) then
                write_header(theirs, guard)
            else
                call('UNLINK', guard)
            end
        end
    end
end

-- The marks end: what was given out before they were heard of is below this LSN.
local function lift_marks(mine, guard, hi, lo)
    if is_known(mine, read_header(guard)) then -- what is made anew is above, too
        if mine.all_marked then
            raise_floor(mine, guard, hi, lo)
        end
        if at_least(hi, lo, mine.top_hi, mine.top_lo) then
            mine.top_hi, mine.top_lo = hi, lo
        end
        for mark in pairs(mine.marks) do
            local column = (mark - 1) % 256 + 1
            set_bucket(mine.buckets, (mark - column) / 256, column, mine.top_hi, mine.top_lo)
        end
    end
    mine.marks, mine.nmarks, mine.all_marked = nil, nil, nil
end

-- The floor of a guard that is made anew.
local function floor_anew(mine, hi, lo)
    for _, writer in ipairs(mine.writers) do
        local second = try('GET', writer .. SECOND)
        if second and second ~= mine.system then
            return lo < 4294967295 and hi or hi + 1, lo < 4294967295 and lo + 1 or 0
        end
    end
    return hi, lo
end

-- Likewise, for a call that compares the position.
local function check(keys, nonce, expected)
    local mine, problem = claimed(keys, nonce)
    if not mine then
        return nil, problem
    end
    local text = read_position(keys[1])
    if (text or '') ~= expected then
        return nil, failed('CA_POSITION', 'the position is not the expected one')
    end
    return mine
end

local function epoch(keys, args)
    bind()
    local guard = keys[2]
    local hi, lo = parse_lsn(args[4])
    if not hi then
        return failed('CA_ARGUMENT', 'epoch takes an LSN as floor')
    end
    local mine, problem = check(keys, args[1], args[2])
    if not mine then
        return problem
    end
    local header = read_header(guard)
    mark_writers(mine)
    if args[5] == '1' then
        make_guard(mine, guard, floor_anew(mine, hi, lo))
    elseif is_known(mine, header) then
        raise_floor(mine, guard, hi, lo)
    else
        forget_guard(mine)
    end
    call('SET', keys[1], args[3])
    return 1
end

local function arm(keys, args)
    bind()
    local guard = keys[2]
    local hi, lo = parse_lsn(args[3])
    if not hi then
        return failed('CA_ARGUMENT', 'arm takes an LSN as floor')
    end
    local mine, problem = check(keys, args[1], args[2])
    if not mine then
        return problem
    end
    if not extend(mine, args[4]) then
        return failed('CA_ARGUMENT', 'arm takes the time when it ends')
    end
    if mine.role == 0 then
        return { 0, now() }
    end
    local answer = 1
    if is_known(mine, read_header(guard)) then
        write_header(mine, guard) -- with the new nonce
    else
        make_guard(mine, guard, floor_anew(mine, hi, lo))
        answer = 2
    end
    mine.armed, mine.left_seen = true, FAR
    return { answer, now() }
end

-- Data of another state were put here, or none: what is armed for the guard of before would be renewed
-- wherever it lies now.
local function renew(keys, args)
    bind()
    local mine, problem = claimed(keys, args[1])
    if not mine then
        return problem
    end
    mine.armed = mine.armed and is_known(mine, read_header(keys[2])) and true or false
    local heard = tonumber(match(args[3] or '', '^%d+$'))
    local hi, lo = parse_lsn(args[4])
    if #args ~= 4 or not extend(mine, args[2]) or not heard or not hi then
        return failed('CA_ARGUMENT', 'renew takes a nonce, a time, a number and an LSN')
    end
    if mine.marks and heard == mine.foreign then
        lift_marks(mine, keys[2], hi, lo)
    end
    local role = mine.role == 0 and may_write(mine) and 2 or mine.role == 0 and 0 or 1
    return { mine.armed and 1 or 0, now(), mine.refused, mine.foreign, role }
end

local function disarm(keys, args)
    bind()
    local mine, problem = claimed(keys, args[1])
    if not mine then
        return match(problem.err, '^CA_NONCE') and { 0, 0 } or problem
    end
    mine.armed, mine.given_up = false, true
    by_nonce[mine.nonce] = nil
    if args[2] == '1' then
        forget(mine.name)
        call('UNLINK', keys[1], keys[2])
        for _, writer in ipairs(mine.writers) do
            for _, name in ipairs({ writer, writer .. SECOND }) do
                if try('GET', name) == mine.system then
                    call('UNLINK', name)
                end
            end
        end
    end
    local others = 0
    for _ in pairs(by_nonce) do
        others = others + 1
    end
    return { 1, others }
end

-- Raises what is there; true if there is something that can be raised.
local function guard_batch(mine, guard, keys, hi, lo, coarse)
    if not hi then -- nobody raises buckets now: what they say would no longer be the truth
        call('UNLINK', guard)
        forget_guard(mine)
        return false
    end
    if not is_known(mine, try('GET', guard)) then
        forget_guard(mine)
        return false
    end
    if coarse or #keys - 2 > BUCKETED then
        raise_floor(mine, guard, hi, lo)
    elseif #keys > 2 then
        raise_buckets(mine, guard, keys, hi, lo)
    end
    return true
end

local function unlink(keys)
    local deleted = 0
    for i = 3, #keys, 1000 do -- unpack is limited to some thousands
        deleted = deleted + call('UNLINK', unpack(keys, i, math.min(i + 999, #keys)))
    end
    return deleted
end

-- Forward only: a newer LSN may have been delivered already. Returns how many could not be written.
local function write_sticks(args, first)
    local failures = 0
    for i = first, #args, 3 do
        local name, lsn, ttl = args[i], args[i + 1], args[i + 2]
        local old = try('GET', name)
        if type(old) == 'table' then
            failures = failures + 1
        else
            local old_hi, old_lo = parse_lsn(old or '')
            local hi, lo = parse_lsn(lsn)
            if not old_hi or at_least(hi, lo, old_hi, old_lo) then
                local reply = try('SET', name, lsn, 'PX', ttl)
                if reply.err then
                    failures = failures + 1
                end
            end
        end
    end
    return failures
end

local function apply(keys, args)
    bind()
    local plus, lsn = match(args[4] or '', '^(%+?)(.*)$')
    local hi, lo = parse_lsn(lsn)
    if not hi and args[4] ~= '' or (#args - 4) % 3 ~= 0 then
        return failed('CA_ARGUMENT', 'apply takes nonce, expected and new position, LSN and sticks')
    end
    for i = 5, #args, 3 do
        if sub(args[i], 1, #STICK) ~= STICK or not parse_lsn(args[i + 1]) then
            return failed('CA_ARGUMENT', 'the name or the LSN of a stick is malformed')
        end
    end
    for i = 3, #keys do
        if is_reserved(keys[i]) then
            return failed('CA_ARGUMENT', 'keys that begin with cache_aside: are not the cache')
        end
    end
    local mine, problem = check(keys, args[1], args[2])
    if not mine then
        return problem
    end
    local guarded = guard_batch(mine, keys[2], keys, hi, lo, plus == '+')
    if #keys > 2 then
        mark_writers(mine, plus ~= '+' and #keys - 2 <= BUCKETED and keys)
    end
    local deleted = unlink(keys)
    local failures = write_sticks(args, 5)
    call('SET', keys[1], args[3])
    return { deleted, failures, guarded and 1 or 0 }
end

-- ---- leases: one caller fills, the others wait or read the database ----

-- SHA-1 of a key -> { from, till, how many leases may be held at once, lease, lease... }; a lease is
-- "<when>.<number>". Two generations: when the young one is full, the old one is forgotten.
local young, old, young_count = {}, {}, 0
local lease_count = 0

local function drop_leases(hash)
    if young[hash] then
        young_count = young_count - 1
    end
    young[hash], old[hash] = nil, nil
end

-- What is held now, or nil. A clock that went back ends it as well.
local function leases_of(hash, time)
    local held = young[hash] or old[hash]
    if held and (time < held[1] or time >= held[2]) then
        drop_leases(hash)
        return nil
    end
    return held
end

local function keep_leases(hash, held)
    if young[hash] then
        return
    end
    if young_count >= LEASED then
        young, old, young_count = {}, young, 0
    end
    young[hash] = held
    young_count = young_count + 1
end

-- An array of a lease, "" when everybody may try; or false: others are at it.
local function new_lease(key, ms, time)
    local hash = sha1hex(key)
    local held = leases_of(hash, time) or { time, time, 1 }
    if held[3] >= EVERYBODY then
        return { '' }
    end
    if #held - 3 >= held[3] then
        return false
    end
    lease_count = lease_count + 1
    local lease = time .. '.' .. lease_count
    held[1], held[2] = time, math.max(held[2], time + ms)
    held[#held + 1] = lease
    keep_leases(hash, held)
    return { lease }
end

local function position_of(held, lease)
    for i = 4, held and #held or 0 do
        if held[i] == lease then
            return i
        end
    end
end

-- The end of a lease. Returns whether it was held.
local function end_lease(key, lease, stored, time)
    local hash = sha1hex(key)
    local held = leases_of(hash, time)
    local at = position_of(held, lease)
    if stored and held and (at or (lease == '' and held[3] >= EVERYBODY)) then
        drop_leases(hash)
    elseif at then
        table.remove(held, at)
        held[3] = held[3] * WIDER
        if held[3] >= EVERYBODY then
            local lasted = time - tonumber(match(lease, '^%d+'))
            local open = math.min(MAX_LEASE, math.max(MIN_OPEN, WIDER * lasted))
            drop_leases(hash)
            keep_leases(hash, { time, time + open, EVERYBODY })
        end
    end
    return at ~= nil
end

local function lease_time(text)
    local ms = tonumber(text)
    if not ms or ms < 0 or ms > MAX_LEASE or ms ~= math.floor(ms) then
        return nil, failed('CA_ARGUMENT', 'lease_ms is a whole number from 0 to ' .. MAX_LEASE)
    end
    return ms
end

-- ---- the applications' calls ----

local function get_one(key, ms, time)
    if not is_cacheable(key) then
        return bad_key()
    end
    local value = try('GET', key)
    if value or ms == 0 then -- a value, or the table of an error
        return value
    end
    return new_lease(key, ms, time or now())
end

local function get(keys, args)
    bind()
    if #keys ~= 1 or #args ~= 1 then
        return failed('CA_ARGUMENT', 'usage: FCALL cache_aside_get 1 key lease_ms')
    end
    local ms, problem = lease_time(args[1])
    return ms and get_one(keys[1], ms) or problem or false
end

local function get_many(keys, args)
    bind()
    if #args ~= 1 then
        return failed('CA_ARGUMENT', 'usage: FCALL cache_aside_get_many n key... lease_ms')
    end
    local ms, problem = lease_time(args[1])
    if not ms then
        return problem
    end
    local answers = {}
    local time = ms > 0 and now()
    for i = 1, #keys do
        answers[i] = get_one(keys[i], ms, time)
    end
    return answers
end

local function release(keys, args)
    bind()
    if #args ~= #keys then
        return failed('CA_ARGUMENT', 'usage: FCALL cache_aside_release n key... lease...')
    end
    local time, released = now(), 0
    for i = 1, #keys do
        if end_lease(keys[i], args[i], false, time) then
            released = released + 1
        end
    end
    return released
end

local token_text, token_guard, token_timeline, token_hi, token_lo -- the last token, parsed

local function parse_token(text)
    local system, timeline, hi, lo = match(text, '^(%d+)%-(%d+)%-(%x+)/(%x+)$')
    if not system or #system > 20 or #timeline > 10 or #hi > 8 or #lo > 8 then
        return false
    end
    token_text, token_guard, token_timeline = text, GUARD .. system, tonumber(timeline)
    token_hi, token_lo = tonumber(hi, 16), tonumber(lo, 16)
    return true
end

-- Has the arming not ended by now? -1, -2: there is no guard.
local function is_armed(mine)
    local left = call('PTTL', token_guard)
    if left > mine.left_seen then
        mine.armed = mine.armed and left <= mine.left_seen + SLACK
    else
        mine.left_seen = left
    end
    return mine.armed and left > mine.left_until
end

-- The claim whose guard as a whole admits the last token: there, armed, its timeline, its floor; or false.
local function guard_admits()
    local mine = by_header[try('GET', token_guard) or '']
    return mine and mine.armed and mine.guard == token_guard and mine.timeline == token_timeline and
        (token_hi > mine.floor_hi or (token_hi == mine.floor_hi and token_lo >= mine.floor_lo)) and
        is_armed(mine) and mine
end

-- Does the key's bucket admit it, in a guard that does?
local function bucket_admits(mine, key)
    if mine.marks then
        local row, column = bucket_of(key)
        if mine.all_marked or mine.marks[row * 256 + column] then
            return false
        end
    end
    if token_hi > mine.top_hi or (token_hi == mine.top_hi and token_lo >= mine.top_lo) then
        return true
    end
    local row, column = bucket_of(key)
    row = mine.buckets[row]
    local hi, lo = row and row[column], row and row[column + 256]
    return not hi or token_hi > hi or (token_hi == hi and token_lo >= lo)
end

-- Does anybody deliver here for the cluster of the last token?
local function is_known_cluster()
    for _, claim in pairs(claims) do
        if claim.guard == token_guard then
            return true
        end
    end
    return not next(claims) or call('EXISTS', token_guard) == 1
end

-- The claim whose guard admits the token; false: refused; or an error.
local function admit(token)
    if token ~= token_text and not parse_token(token) then
        return nil, failed('CA_TOKEN', 'this is not a token of cache_aside.read_token()')
    end
    local mine = guard_admits()
    if not mine and not is_known_cluster() then
        return nil, failed('CA_TOKEN', 'the token is of a cluster that does not deliver here')
    end
    return mine
end

-- A key that holds something else than a string is refused; SET alone would overwrite it.
local function store(key, value, ttl)
    local reply = try('STRLEN', key)
    if type(reply) == 'table' then
        return reply
    end
    reply = try('SET', key, value, 'PX', ttl)
    return reply.err and reply or 1
end

-- The common case first, spelled out: a token seen before and no lease. Calls and lookups are most of
-- what a fill costs beyond the SET.
local function fill(keys, args)
    local key, token, lease = keys[1], args[3], args[4]
    if token == token_text and not lease and key and not keys[2] then
        local mine = is_cacheable(key) and guard_admits()
        if mine and bucket_admits(mine, key) then
            return store(key, args[1], args[2])
        end
    end
    bind()
    if keys[2] or not key or not token or args[5] or (lease and #lease > MAX_LEASE_TEXT) then
        return failed('CA_ARGUMENT', 'usage: FCALL cache_aside_fill 1 key value ttl_ms token [lease]')
    end
    if not is_cacheable(key) then
        return bad_key()
    end
    local mine, answer = admit(token)
    if mine then
        answer = bucket_admits(mine, key) and store(key, args[1], args[2]) or 0
    end
    if lease then
        end_lease(key, lease, answer == 1, now())
    end
    return answer or 0
end

local function fill_many(keys, args)
    bind()
    local n = #keys
    if #args ~= 2 + n and #args ~= 2 + 2 * n then
        return failed('CA_ARGUMENT', 'usage: FCALL cache_aside_fill_many n key... ttl_ms token ' ..
            'value... [lease...]')
    end
    local leased = #args > 2 + n
    local time = leased and now()
    local mine, problem = admit(args[2])
    local answers = {}
    for i = 1, n do
        local key = keys[i]
        if not is_cacheable(key) then
            answers[i] = bad_key()
        else
            answers[i] = mine and bucket_admits(mine, key) and store(key, args[2 + i], args[1]) or 0
            if leased then
                end_lease(key, args[2 + n + i], answers[i] == 1, time)
            end
        end
    end
    return problem or answers
end

local function add(name, callback, flags)
    redis.register_function { function_name = 'cache_aside_' .. name, callback = callback, flags = flags }
end

-- The worker's calls must work when Redis is full: an UNLINK makes room. What writes nothing works also
-- on a replica, and without the replicas or the disk that writes need. A fill is refused by Redis itself
-- then.
local function register(name, callback, ...)
    add(name .. '_' .. PROTOCOL, callback, { ... })
end

register('claim', claim, 'allow-oom')
register('epoch', epoch, 'allow-oom')
register('arm', arm, 'allow-oom')
register('renew', renew, 'allow-oom') -- not 'no-writes': whoever may only read could call it
register('disarm', disarm, 'allow-oom')
register('apply', apply, 'allow-oom')
register('get', get, 'no-writes')
register('get_many', get_many, 'no-writes')
register('release', release, 'no-writes')
register('fill', fill)
register('fill_many', fill_many)
-- plain names
add('get', get, { 'no-writes' })
add('get_many', get_many, { 'no-writes' })
add('release', release, { 'no-writes' })
add('fill', fill, {})
add('fill_many', fill_many, {})
