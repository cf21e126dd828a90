-- writer.lua: two systems write the same keys. The tokens of one are admitted, the writer's; what the other one
-- deletes is marked there.
local WRITER = 'cache_aside:writer:'
local SECOND = ':second'
local RESTART = 20000  -- as SILENT, for who was second while the writer lived: that may just restart
local MAX_MARKS = 4096 -- buckets marked one by one
local DAY = 86400000   -- ms

-- Name of the claim of another system of the same scope; and its guard.
local function claim_of(system, scope)
    return GUARD .. system .. ' ' .. scope, GUARD .. system
end

local function holder_of(writer)
    local holder = try('GET', writer)
    return type(holder) == 'string' and match(holder, '^%d+$') or nil
end

-- Is every other system that has one of the prefixes silent? Each is asked once. When nobody has a prefix, who was
-- second before waits: Redis lost the writer's name, and the writer has yet to come back.
local function may_write(mine)
    local may, asked = true, {}
    for _, writer in ipairs(mine.writers) do
        local holder = holder_of(writer)
        local name = holder and claim_of(holder, mine.scope) or writer .. ' ' .. mine.scope
        if not asked[name] and holder ~= mine.system and (holder or mine.was_second) then
            local theirs, silent = claims[name], nil
            if theirs then
                mine.beside = mine.beside or now() - theirs.heard_at < SILENT
                silent = is_silent(theirs, mine.beside and RESTART or SILENT)
            else
                silent = is_stranger_silent(name)
            end
            may = may and silent
        end
        asked[name] = true
    end
    return may
end

-- Another system takes over from this one, which has to claim again: until then its tokens are refused, and it counts
-- as gone.
local function depose(mine)
    if mine then
        forget_guard(mine)
        by_nonce[mine.nonce] = nil
        mine.armed, mine.given_up = false, true
    end
end

-- Takes the prefixes of the claim, unless another writer lives; what the other one has armed here ends.
-- -> role: 1 this system had them, or nobody; 2 another one had; 0 another one has.
local function take_prefixes(mine, force)
    local taken = false
    if not force and not may_write(mine) then
        return 0
    end
    for _, writer in ipairs(mine.writers) do
        local holder = holder_of(writer)
        if holder and holder ~= mine.system then
            local name, guard = claim_of(holder, mine.scope)
            call('UNLINK', guard)
            depose(claims[name])
            taken = true
        end
        if holder ~= mine.system then
            call('SET', writer, mine.system)
        end
    end
    return taken and 2 or 1
end

local function mark_keys(theirs, keys)
    theirs.marks = theirs.marks or {}
    for i = 3, theirs.all_marked and 2 or #keys do
        local row, column = bucket_of(keys[i])
        if not theirs.marks[row * 256 + column] then
            theirs.marks[row * 256 + column] = true
            theirs.nmarks = (theirs.nmarks or 0) + 1
        end
    end
end

-- This system is second, and deletes these keys (nil, false: any). Nobody fills them until the writer has heard of it.
local function mark_writers(mine, keys)
    for _, writer in ipairs(mine.role == 0 and mine.writers or {}) do
        local holder = holder_of(writer)
        if holder and holder ~= mine.system then
            local name, guard = claim_of(holder, mine.scope)
            local theirs = claims[name]
            call('SET', writer .. SECOND, mine.system, 'PX', DAY)
            if theirs then
                theirs.foreign = theirs.foreign + 1
                mark_keys(theirs, keys or {})
                theirs.all_marked = theirs.all_marked or not keys or
                    theirs.nmarks and theirs.nmarks > MAX_MARKS
            end
            if theirs and is_known(theirs, read_header(guard)) then
                write_header(theirs, guard)
            else
                call('UNLINK', guard)
            end
        end
    end
end

-- The writer has heard of what is marked: every token that it had given by then is below this LSN.
local function lift_marks(mine, guard, hi, lo)
    if is_known(mine, read_header(guard)) then -- what is made anew is above, too
        if mine.all_marked then
            raise_floor(mine, guard, hi, lo)
        end
        if at_least(hi, lo, mine.top_hi, mine.top_lo) then
            mine.top_hi, mine.top_lo = hi, lo
        end
        for mark in pairs(mine.marks) do
            local column = (mark - 1) % 256 + 1
            set_bucket(mine.buckets, (mark - column) / 256, column, mine.top_hi, mine.top_lo)
        end
    end
    mine.marks, mine.nmarks, mine.all_marked = nil, nil, nil
end

-- The floor of a guard that is made anew: above, not at the end of the log, where another system has deleted.
local function floor_anew(mine, hi, lo)
    for _, writer in ipairs(mine.writers) do
        local second = try('GET', writer .. SECOND)
        if second and second ~= mine.system then
            return lo < 4294967295 and hi or hi + 1, lo < 4294967295 and lo + 1 or 0
        end
    end
    return hi, lo
end

