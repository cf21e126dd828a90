-- common.lua: constants that several parts use; errors, LSNs, and which keys are whose.

local PROTOCOL = 1 -- in the names below and in cache_aside.h
local REVISION = 6
local MAX_KEY = 8192 -- as PostgreSQL has it
local RESERVED = 'cache_aside:'
local GUARD = 'cache_aside:guard:'
local FAR = 4102444800000 -- when guards expire, in ms: the clock of a fill

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

-- Milliseconds, as PTTL counts them.
local function now()
    local time = call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

