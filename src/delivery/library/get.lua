-- get.lua: the applications' calls that write nothing.

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

