-- apply.lua: one batch of the worker, atomically: raise, delete, sticks, event, position.
local BUCKETED = 128 -- most keys of a batch that raise buckets, 1 to 3 us each
local STICK = 'cache_aside:stick:'
local EVENTS = 'cache_aside:events:'

-- Raises buckets or floor. false: there is no guard that this process knows.
local function guard_batch(mine, guard, keys, hi, lo, coarse)
    if not hi then -- guard = off: nobody raises buckets from now on, so what they say would become untrue
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

-- A stick only goes forward: a newer LSN may have been delivered already. -> nil, or the error
local function write_stick(name, lsn, ttl)
    local old = try('GET', name)
    if type(old) == 'table' then
        return old
    end
    local old_hi, old_lo = parse_lsn(old or '')
    local hi, lo = parse_lsn(lsn)
    local reply = {}
    if not old_hi or at_least(hi, lo, old_hi, old_lo) then
        reply = try('SET', name, lsn, 'PX', ttl)
    end
    return reply.err and reply or nil
end

-- -> in how many places there is something that is no stick, for ever; or nil and the error that may pass
local function write_sticks(args, first)
    local failures = 0
    for i = first, #args, 3 do
        local problem = write_stick(args[i], args[i + 1], args[i + 2])
        if problem and not match(problem.err, '^WRONGTYPE') then
            return nil, problem
        end
        failures = failures + (problem and 1 or 0)
    end
    return failures
end

-- Tells others of the batch. -> nil, or why not; the second: this may pass, and nothing vouches for the event
local function emit(mine, event)
    local tried, length = match(event.how or '', '^(!?)(%d*)$')
    if not tried or not event.text or event.name ~= EVENTS .. mine.system then
        return failed('CA_ARGUMENT', 'an event has a name, a length or none, and a text')
    end
    local reply
    if length == '' then
        reply = try('PUBLISH', event.name, event.text)
    else
        reply = try('XADD', event.name, 'MAXLEN', '~', length, '*', 'event', event.text)
    end
    if type(reply) == 'table' and reply.err then
        return failed('CA_EVENTS', reply.err), tried == '!'
    end
    return nil
end

local function apply(keys, args, event)
    bind()
    local coarse = byte(args[4] or '') == 43 -- '+'
    local hi, lo = parse_lsn(coarse and sub(args[4], 2) or args[4])
    if not hi and args[4] ~= '' or (#args - 4) % 3 ~= 0 then
        return failed('CA_ARGUMENT', 'apply takes nonce, expected and new position, LSN and sticks')
    end
    for i = 5, #args, 3 do
        if sub(args[i], 1, #STICK) ~= STICK or not parse_lsn(args[i + 1]) then
            return failed('CA_ARGUMENT', 'the name or the LSN of a stick is malformed')
        end
    end
    for i = 3, #keys do
        if byte(keys[i]) == 99 and is_reserved(keys[i]) then -- the call costs more than the question
            return failed('CA_ARGUMENT', 'keys that begin with cache_aside: are not the cache')
        end
    end
    local mine, problem = check(keys, args[1], args[2])
    if not mine then
        return problem
    end
    local guarded = guard_batch(mine, keys[2], keys, hi, lo, coarse)
    if #keys > 2 then
        mark_writers(mine, not coarse and #keys - 2 <= BUCKETED and keys)
    end
    local deleted = unlink(keys)
    local failures, refusal = write_sticks(args, 5)
    if refusal then -- without the position: all of it comes again
        return refusal
    end
    local unheard, passes
    if event then
        unheard, passes = emit(mine, event)
        if unheard and not passes then -- likewise
            return unheard
        end
    end
    call('SET', keys[1], args[3])
    return { deleted, failures, guarded and 1 or 0, unheard and unheard.err or nil }
end

-- The last of KEYS and the last two of ARGV are about the event.
local function apply_event(keys, args)
    local n = #args
    local event = { name = keys[#keys], how = args[n - 1], text = args[n] }
    keys[#keys], args[n - 1], args[n] = nil, nil, nil
    return apply(keys, args, event)
end

