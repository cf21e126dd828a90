-- admission.lua: when fills are admitted. epoch raises the floor before deletes, arm begins, renew goes on,
-- disarm ends.

-- `text`: the time when the arming ends. false: it is none.
local function extend(mine, text)
    local until_ms = tonumber(match(text or '', '^%d+$'))
    if not until_ms or until_ms > FAR then
        return false
    end
    mine.left_until = math.min(mine.left_until, FAR - until_ms)
    return true
end

-- What begins epoch and arm: the claim, and the floor's LSN; or nil and the error.
local function begin(keys, args, floor, call_name)
    bind()
    local hi, lo = parse_lsn(floor)
    if not hi then
        return nil, failed('CA_ARGUMENT', call_name .. ' takes an LSN as floor')
    end
    local mine, problem = check(keys, args[1], args[2])
    return mine, problem, hi, lo
end

local function epoch(keys, args)
    local guard = keys[2]
    local mine, problem, hi, lo = begin(keys, args, args[4], 'epoch')
    if not mine then
        return problem
    end
    local header = read_header(guard)
    mark_writers(mine)
    if args[5] == '1' then
        make_guard(mine, guard, floor_anew(mine, hi, lo))
    elseif is_known(mine, header) then
        raise_floor(mine, guard, hi, lo)
    else
        forget_guard(mine)
    end
    call('SET', keys[1], args[3])
    return 1
end

local function arm(keys, args)
    local guard = keys[2]
    local mine, problem, hi, lo = begin(keys, args, args[3], 'arm')
    if not mine then
        return problem
    end
    if not extend(mine, args[4]) then
        return failed('CA_ARGUMENT', 'arm takes the time when it ends')
    end
    if mine.role == 0 then
        return { 0, now() }
    end
    local answer = 1
    if is_known(mine, read_header(guard)) then
        write_header(mine, guard) -- with the new nonce
    else
        make_guard(mine, guard, floor_anew(mine, hi, lo))
        answer = 2
    end
    mine.armed, mine.left_seen = true, FAR
    return { answer, now() }
end

-- Ends the arming when the guard that is here is another one, or gone: it would go on for the guard of before, wherever
-- that is now.
local function renew(keys, args)
    bind()
    local mine, problem = claimed(keys, args[1])
    if not mine then
        return problem
    end
    mine.armed = mine.armed and is_known(mine, read_header(keys[2])) and true or false
    local heard = tonumber(match(args[3] or '', '^%d+$'))
    local hi, lo = parse_lsn(args[4])
    if #args ~= 4 or not extend(mine, args[2]) or not heard or not hi then
        return failed('CA_ARGUMENT', 'renew takes a nonce, a time, a number and an LSN')
    end
    if mine.marks and heard == mine.foreign then
        lift_marks(mine, keys[2], hi, lo)
    end
    local role = mine.role == 0 and may_write(mine) and 2 or mine.role == 0 and 0 or 1
    return { mine.armed and 1 or 0, now(), mine.refused, mine.foreign, role }
end

local function disarm(keys, args)
    bind()
    local mine, problem = claimed(keys, args[1])
    if not mine then
        return match(problem.err, '^CA_NONCE') and { 0, 0 } or problem
    end
    mine.armed, mine.given_up = false, true
    by_nonce[mine.nonce] = nil
    if args[2] == '1' then
        forget(mine.name)
        call('UNLINK', keys[1], keys[2])
        for _, writer in ipairs(mine.writers) do
            for _, name in ipairs({ writer, writer .. SECOND }) do
                if try('GET', name) == mine.system then
                    call('UNLINK', name)
                end
            end
        end
    end
    local others = 0
    for _ in pairs(by_nonce) do
        others = others + 1
    end
    return { 1, others }
end

