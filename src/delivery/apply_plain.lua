--[[
apply_plain.lua: one batch of invalidations for a server without functions (Redis 6), sent by EVAL or
EVALSHA. There is no guard then, so fills are not to be had; everything else works.

    EVALSHA sha 2+n position guard key...  expected new [stick-key lsn ttl_ms]...
    -> {keys deleted, sticks that failed}, or the error CA_POSITION and nothing done
    EVALSHA sha 3+n position guard key... events  expected new [stick-key lsn ttl_ms]... how text
    -> likewise; see apply_event in library/interface.lua. CA_EVENTS: all but the position is done

`expected` is the position text that must be stored now, "" for none. First the guard that a newer
server may have left goes: nobody raises its buckets now. That command is also what makes the rest
possible in a full Redis, which refuses SET, but never in a script that has already written. Then the
keys, then the event, then the position, which vouches for them.
]]
local nkeys, nargs = #KEYS, #ARGV
local event = (nargs - 2) % 3 == 2
if event then
    nkeys, nargs = nkeys - 1, nargs - 2
end
local text = redis.pcall('GET', KEYS[1])
if type(text) == 'table' then -- not a string, hence no position
    redis.call('UNLINK', KEYS[1])
    text = false
end
if (text or '') ~= ARGV[1] then
    return redis.error_reply('CA_POSITION the position is not the expected one')
end
redis.call('UNLINK', KEYS[2])
local deleted, failures = 0, 0
for i = 3, nkeys, 1000 do
    deleted = deleted + redis.call('UNLINK', unpack(KEYS, i, math.min(i + 999, nkeys)))
end

local function number(lsn)
    local hi, lo = string.match(lsn or '', '^(%x+)/(%x+)$')
    return hi and tonumber(hi, 16), lo and tonumber(lo, 16)
end

for i = 3, nargs, 3 do -- forward only
    local name = ARGV[i]
    local old = redis.pcall('GET', name)
    if type(old) == 'table' then -- what is no stick stays; any other error may pass, and all of it comes again
        if not string.match(old.err, '^WRONGTYPE') then
            return old
        end
        failures = failures + 1
    else
        local old_hi, old_lo = number(old or '')
        local hi, lo = number(ARGV[i + 1])
        if not old_hi or hi > old_hi or (hi == old_hi and lo >= old_lo) then
            redis.call('SET', name, ARGV[i + 1], 'PX', ARGV[i + 2])
        end
    end
end

local unheard
if event then
    local name, how, message = KEYS[nkeys + 1], ARGV[nargs + 1], ARGV[nargs + 2]
    local tried, length = string.match(how, '^(!?)(%d*)$')
    local reply
    if length == '' then
        reply = redis.pcall('PUBLISH', name, message)
    else
        reply = redis.pcall('XADD', name, 'MAXLEN', '~', length, '*', 'event', message)
    end
    unheard = type(reply) == 'table' and reply.err and 'CA_EVENTS ' .. reply.err or nil
    if unheard and tried ~= '!' then
        return redis.error_reply(unheard)
    end
end
redis.call('SET', KEYS[1], ARGV[2])
return { deleted, failures, unheard }
