-- names.lua: under which names the calls can be made.

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
register('apply_event', apply_event, 'allow-oom')
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
