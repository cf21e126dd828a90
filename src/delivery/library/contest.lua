-- contest.lua: another server of the same system wants the claim. It gets it when it is the successor, or when
-- the holder is silent.
local SILENT = 5000   -- ms without a call, after which the holder of a claim is gone ...
local UNKNOWN = 10000 -- ... and one of whom this process has never heard
local ASKS = 4        -- questions that must have found it silent

-- Has this holder of a claim, or stranger, not been heard of for so long? Each question counts.
local function is_silent(holder, ms)
    local time = now()
    if time < holder.heard_at then
        holder.heard_at = time
    end
    holder.asks = holder.asks + 1
    return holder.given_up or (holder.asks >= ASKS and time - holder.heard_at >= ms)
end

local function is_stranger_silent(name)
    if not strangers[name] then
        local count = 0
        for _ in pairs(strangers) do
            count = count + 1
        end
        if count >= MAX_CLAIMS then
            strangers = {} -- whoever asks waits again
        end
        strangers[name] = { heard_at = now(), asks = 0 }
    end
    return is_silent(strangers[name], UNKNOWN)
end

-- Is the claimer the server that has the claim, the same one after a restart, or the one that had it until
-- somebody else presented its nonce?
local function is_holder(last, previous, server)
    return last.server == server or last.nonce == previous or last.displaced == server
end

-- Did the claimer stream the timeline that has the claim?
local function is_announced(key, timeline)
    return try('GET', key) == string.format('%d', timeline)
end

-- May a server of this timeline claim? nil: it may; or the error.
local function is_occupied(keys, args, name, timeline, stored)
    if stored > timeline then
        return failed('CA_FENCED', 'a server of timeline ' .. stored .. ' delivers here, this one is of ' .. timeline)
    end
    local last = claims[name]
    if last then
        if is_holder(last, args[3], args[6]) or
            (timeline > last.timeline and is_announced(keys[3], last.timeline)) or is_silent(last, SILENT) then
            return nil
        end
        last.refused = last.refused + 1
        return failed('CA_OCCUPIED', 'a server of timeline ' .. last.timeline ..
            ' delivers here and lives; this one, of ' .. timeline .. ', was not its standby just now')
    end
    if stored == 0 or stored == timeline or is_announced(keys[3], stored) or is_stranger_silent(name) then
        return nil
    end
    return failed('CA_OCCUPIED', 'a server of timeline ' .. stored ..
        ' delivered here and may come back; this one, of ' .. timeline .. ', was not its standby just now')
end

