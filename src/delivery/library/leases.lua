--[[
leases.lua: of those who miss a key one reads the database and fills; the others wait, or read it too.

A lease is in this process's memory and lasts lease_ms at most. A replica's leases are its own: whoever
takes one there releases it there. Losing one costs a second reader of the database, nothing else.

When nothing was stored under a lease, because the row is not there, no token was to be had, or the fill was
refused, the next reader is likely to fare the same. Were they let in one by one, each would wait for all
before him. So after the first time eight leases are given at once, and after the second time everybody
gets an empty one, for eight times as long as the last one was held, at least a second. A fill that is
stored ends that.

Kept: leases of 8192 to 16384 keys, by the SHA-1 of the key, one to eight each; the oldest are forgotten.
]]
local MAX_LEASE = 60000
local LEASED = 8192   -- keys with leases, in each of two generations
local WIDER = 8       -- times as many leases, each time that nothing was stored
local EVERYBODY = 64  -- so many leases: nobody needs one
local MIN_OPEN = 1000 -- ms

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

-- An array of one lease, or of "" when everybody may try; false: others are at it.
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

