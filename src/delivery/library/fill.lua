-- fill.lua: the applications' calls that store, if the guard admits the token.
local MAX_LEASE_TEXT = 64
local SLACK = 1000 -- ms that the clock may go back

-- The last token, at most 49 bytes, and what it says: many fills in a row bring the same.
local token_text, token_guard, token_timeline, token_hi, token_lo

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

-- Was there nothing under the last key? Then SET ... NX alone is likely to do for the next: a fill follows a miss.
local was_missing = true

-- A key that holds something else than a string is refused; SET alone would overwrite it.
local function store(key, value, ttl)
    if was_missing then
        local reply = try('SET', key, value, 'PX', ttl, 'NX')
        if reply then
            return reply.err and reply or 1
        end
    end
    local length = try('STRLEN', key)
    was_missing = length == 0
    if not was_missing and type(length) == 'table' then
        return length
    end
    local reply = try('SET', key, value, 'PX', ttl)
    return reply.err and reply or 1
end

-- One key, with a token that the guard of this claim admits; nil or false: no guard does. Ends the lease, if there is
-- one.
local function fill_one(mine, key, value, ttl, lease, time)
    if not is_cacheable(key) then
        return bad_key()
    end
    local answer = mine and bucket_admits(mine, key) and store(key, value, ttl) or 0
    if lease then
        end_lease(key, lease, answer == 1, time)
    end
    return answer
end

-- The common case comes first, spelled out once more: a token seen before, and no lease. Calls and lookups are most
-- of what a fill costs beyond the SET.
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
    local mine, problem = admit(token)
    local answer = fill_one(mine, key, args[1], args[2], lease, lease and now())
    return answer ~= 0 and answer or problem or 0
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
        answers[i] = fill_one(mine, keys[i], args[2 + i], args[1], leased and args[2 + n + i], time)
    end
    return problem or answers
end

