-- handshake.lua: the call claim, with which a session of the worker begins.
local MAX_SCOPE = 64
local STANDBY = 'cache_aside:standby:'

-- Lets the position say that a resync has to come. -> its text
local function mark_pending(position, text)
    local pending = text:gsub('^(%S+ %S+ %S+ %S+) %a+', '%1 pending')
    call('SET', position, pending)
    return pending
end

local function malformed_claim(keys, args, timeline)
    if #args ~= 6 or #args[1] ~= 16 or not timeline or timeline > 4294967295 or
        (args[3] ~= '' and #args[3] ~= 16) or #args[4] > MAX_SCOPE or #args[6] ~= 16 then
        return failed('CA_ARGUMENT', 'claim takes a nonce of 16 bytes, a timeline, the nonce before, a scope, ' ..
            'force and 16 bytes of its server')
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
    now() -- raises where TIME is forbidden: before a claim is half made, for memory is not rolled back
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
    mine.position = position
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

