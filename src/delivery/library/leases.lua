--[[
leases.lua: of those who miss a key one reads the database and fills; the others wait, or read it too.

A lease is in this process's memory and lasts lease_ms at most. A replica's leases are its own: whoever
takes one there releases it there. Losing one costs a second reader of the database, nothing else.

When nothing was stored under a lease, because the row is not there, no token was to be had, or the fill was
refused, the next reader is likely to fare the same. Were they let in one by one, each would wait for all
before him. So after the first time eight leases are given at once, and after the second time everybody
gets an empty one, for eight times as long as the last one was held, at least a second. A fill that is
stored ends that.

An invalidation that raises the key's bucket takes its leases away: their holders read too early, and are refused. The
next to miss the key gets one at once, and does not wait for a read that is of no use. What is refused to the
holders says nothing about those who read now. But a key that is invalidated faster than it is read is never stored:
each six leases that were lost so count as one under which nothing was stored.

Kept: leases of 8192 to 16384 keys, by the key or the SHA-1 of a long one, one to eight each; the oldest are forgotten.
]]
local MAX_LEASE = 60000
local LEASED = 8192   -- keys with leases, in each of two generations
local WIDER = 8       -- times as many leases, each time that nothing was stored
local EVERYBODY = 64  -- so many leases: nobody needs one
local LOST = 6        -- leases taken away by invalidations, before there are more
local MIN_OPEN = 1000 -- ms

-- Name of a key -> { from, till, how many leases may be held at once, how many invalidations took some away, lease,
-- lease... }; a lease is "<when>.<number>". Two generations: when the young one is full, the old one is forgotten.
local FIRST = 5 -- place of the first lease
local young, old, young_count = {}, {}, 0
local lease_count = 0

-- No longer than a SHA-1, so that what is kept is bounded; none is another's. `hash`: the key's SHA-1, if it was made.
local function lease_name(key, hash)
    return #key < 40 and key or hash or sha1hex(key)
end

local function drop_leases(name)
    if young[name] then
        young_count = young_count - 1
    end
    young[name], old[name] = nil, nil
end

-- What is held now, or nil. A clock that went back ends it as well.
local function leases_of(name, time)
    local held = young[name] or old[name]
    if held and (time < held[1] or time >= held[2]) then
        drop_leases(name)
        return nil
    end
    return held
end

local function keep_leases(name, held)
    if young[name] then
        return
    end
    if young_count >= LEASED then
        young, old, young_count = {}, young, 0
    end
    young[name] = held
    young_count = young_count + 1
end

-- An array of one lease, or of "" when everybody may try; false: others are at it.
local function new_lease(key, ms, time)
    local name = lease_name(key)
    local held = leases_of(name, time) or { time, time, 1, 0 }
    if held[3] >= EVERYBODY then
        return { '' }
    end
    if #held >= held[3] + FIRST - 1 then
        return false
    end
    lease_count = lease_count + 1
    local lease = time .. '.' .. lease_count
    held[1], held[2] = time, math.max(held[2], time + ms)
    held[#held + 1] = lease
    keep_leases(name, held)
    return { lease }
end

local function position_of(held, lease)
    for i = FIRST, held and #held or 0 do
        if held[i] == lease then
            return i
        end
    end
end

-- Nothing was stored under a lease, which was held since then.
local function widen(name, held, since, time)
    held[3] = held[3] * WIDER
    if held[3] >= EVERYBODY then
        local open = math.min(MAX_LEASE, math.max(MIN_OPEN, WIDER * (time - since)))
        drop_leases(name)
        keep_leases(name, { time, time + open, EVERYBODY, 0 })
    end
end

-- The key of this name is invalidated.
local function take_leases(name)
    local held = young[name] or old[name]
    if not held or not held[FIRST] then
        return
    end
    for i = #held, FIRST, -1 do
        held[i] = nil
    end
    held[4] = held[4] + 1
    if held[4] >= LOST then
        held[4] = 0
        widen(name, held, held[1], now())
    end
end

-- The end of a lease. Returns whether it was held.
local function end_lease(key, lease, stored, time)
    local name = lease_name(key)
    local held = leases_of(name, time)
    local at = position_of(held, lease)
    if stored and held and (at or (lease == '' and held[3] >= EVERYBODY)) then
        drop_leases(name)
    elseif at then
        table.remove(held, at)
        widen(name, held, tonumber(match(lease, '^%d+')), time)
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

