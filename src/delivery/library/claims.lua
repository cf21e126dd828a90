--[[
claims.lua: which worker delivers here. A claim is made by claim (handshake.lua), and every other call of the
worker names its own by the nonce.

Kept in memory: at most 16 claims, each with 64 Ki buckets, about 2.5 MB, and as much for marks. A seventeenth takes
the place of the one whose worker called least recently. For that one it is as if this process had
restarted: its fills are refused, its guard is not known any more, and its worker has to claim and arm again.
]]
local MAX_CLAIMS = 16

--[[
A claim, by its name (guard key, blank, scope):
    name, position, guard, scope, nonce, timeline
    system, server  whose it is; displaced: the server before, if this one knew its nonce
    writers, role   the keys of its prefixes, and whether its tokens are admitted (see claim); beside: it was second
                    while the writer lived
    used, heard_at  number of its worker's last call, and time of the last but for those that compare the position, which
                    may come a thousand times a second: renew comes each two seconds. asks: how often others have
                    asked since the last call whether it lives; given_up: it does not; refused: how many others were
    armed           fills are admitted while the guard's time left is above left_until; left_seen: the least of it seen
    header, writes  of the guard, as this process wrote it last: its text, and how often it was written
    floor_hi, _lo   the guard's floor
    buckets         256 rows of 256, made when needed, of the high (1 to 256) and low (257 to 512) halves of LSNs; a row
                    is small enough to grow in no time. top_hi, top_lo: no bucket is above
    marks           buckets of keys that another system deleted, nil: none; nmarks: how many; all_marked: every one;
                    foreign: how often it did
]]
local claims = {}
local strangers = {} -- of claims that this process does not have: name -> heard_at (first asked), asks
local by_header = {} -- the same claims, by the header of their guard
local by_nonce = {}  -- and by their nonce
local worker_calls = 0

-- Are KEYS[1] and KEYS[2] the position and the guard of one cluster? nil: yes; otherwise the error.
local function misnamed(keys)
    local system = match(keys[1] or '', '^cache_aside:position:(%d+)$')
    if system and #system <= 20 and keys[2] == GUARD .. system then
        return nil
    end
    return failed('CA_ARGUMENT', 'KEYS[1] and KEYS[2] are cache_aside:position:<system> and ' .. GUARD ..
        '<system>')
end

local function note_use(mine)
    worker_calls = worker_calls + 1
    mine.used, mine.asks = worker_calls, 0
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

-- Text of the position, or nil. What is no string can be no position, and is deleted.
local function read_position(position)
    local text = try('GET', position)
    if type(text) == 'table' then
        call('UNLINK', position)
        return nil
    end
    return text or nil
end

-- Makes a claim in the place of the last one of this name, and keeps what that knows of the guard, if it was of this
-- timeline.
local function take_over(name, guard, nonce, timeline)
    local mine = { name = name, guard = guard, nonce = nonce, timeline = timeline, armed = false, writes = 0,
        left_until = FAR, left_seen = FAR, refused = 0, foreign = 0 }
    local last = claims[name]
    if last and last.timeline == timeline then
        mine.header, mine.writes = last.header, last.writes
        mine.floor_hi, mine.floor_lo = last.floor_hi, last.floor_lo
        mine.top_hi, mine.top_lo, mine.buckets = last.top_hi, last.top_lo, last.buckets
        mine.beside = last.beside
        mine.marks, mine.nmarks, mine.all_marked = last.marks, last.nmarks, last.all_marked
        mine.foreign = last.foreign
    end
    forget(name)
    make_room()
    claims[name], by_nonce[nonce] = mine, mine
    if mine.header then
        by_header[mine.header] = mine
    end
    note_use(mine)
    mine.heard_at = now()
    strangers[name] = nil
    return mine
end

-- The claim under this nonce, or nil and the error to answer with.
local function find_claim(keys, nonce)
    local mine = by_nonce[nonce or '']
    if not mine or mine.position ~= keys[1] or mine.guard ~= keys[2] then
        return nil, misnamed(keys) or failed('CA_NONCE', 'this connection has not claimed this Redis, or it restarted')
    end
    note_use(mine)
    return mine
end

-- Likewise; its worker lives.
local function claimed(keys, nonce)
    local mine, problem = find_claim(keys, nonce)
    if mine then
        mine.heard_at = now()
    end
    return mine, problem
end

-- Likewise, of a call that compares the position.
local function check(keys, nonce, expected)
    local mine, problem = find_claim(keys, nonce)
    if not mine then
        return nil, problem
    end
    local text = read_position(keys[1])
    if (text or '') ~= expected then
        return nil, failed('CA_POSITION', 'the position is not the expected one')
    end
    return mine
end

