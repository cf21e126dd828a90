-- guard.lua: header, floor and buckets. The header is data; the rest is in memory, in the claim.
local MAGIC = 'CAG1'
local HEADER = 40

-- The header, or nil when there is no guard (or something that is none).
local function read_header(guard)
    local header = try('GET', guard)
    return type(header) == 'string' and #header == HEADER and sub(header, 1, 4) == MAGIC and header or nil
end

local function header_timeline(header)
    return (unpack_bytes('>I4', header, 5))
end

-- Called with each change of the guard: no two states of it have the same header.
local function write_header(mine, guard)
    mine.writes = mine.writes + 1
    if mine.header then
        by_header[mine.header] = nil
    end
    mine.header = MAGIC .. pack('>I4', mine.timeline) .. mine.nonce ..
        pack('>I4I4I8', mine.floor_hi, mine.floor_lo, mine.writes)
    by_header[mine.header] = mine
    call('SET', guard, mine.header, 'PXAT', FAR)
end

-- The guard is gone, or is not as this process left it, so what is delivered from now on raises nothing here. Should it
-- come back (MOVE, RENAME, RESTORE, SWAPDB), it must not be known any more.
local function forget_guard(mine)
    if mine.header then
        by_header[mine.header] = nil
    end
    mine.header, mine.armed = nil, false
end

-- Makes a guard, in the place of whatever is there.
local function make_guard(mine, guard, hi, lo)
    mine.floor_hi, mine.floor_lo = hi, lo
    mine.top_hi, mine.top_lo = 0, 0
    mine.buckets = {}
    write_header(mine, guard)
end

-- Is what is stored the guard of the claim's timeline as this process left it?
local function is_known(mine, header)
    return header and header == mine.header
end

local function raise_floor(mine, guard, hi, lo)
    if not at_least(mine.floor_hi, mine.floor_lo, hi, lo) then
        mine.floor_hi, mine.floor_lo = hi, lo
        write_header(mine, guard)
    end
end

local DIGITS = {} -- by their byte

for i = 0, 15 do
    DIGITS[i < 10 and 48 + i or 87 + i] = i
end

-- -> row, column, and the key's SHA-1 if it was made. Redis's SHA-1 pads a short text byte by byte: a sum of products
-- modulo a prime takes half as long for those (exact: each product is below 2^40). Nobody else has to know which it is.
local function bucket_of(key)
    local n = #key
    if n >= 8 and n <= 16 then
        local a, b, c, d, e, f, g, h = byte(key, 1, 8)
        local i, j, k, l, m, o, p, q = byte(key, -8, -1)
        local hash = (n * 2654435761 + a * 2246822519 + b * 3266489917 + c * 668265263 + d * 374761393 +
            e * 1540483477 + f * 3432918353 + g * 461845907 + h * 2127912214 + i * 3042594569 + j * 2870177450 +
            k * 1566083941 + l * 3550635116 + m * 4251993797 + o * 2716044179 + p * 1013904223 + q * 3935559000) % 4294967291
        local column = hash % 256
        return (hash % 65536 - column) / 256, column + 1
    end
    local hash = sha1hex(key)
    local a, b, c, d = byte(hash, 1, 4)
    return DIGITS[a] * 16 + DIGITS[b], DIGITS[c] * 16 + DIGITS[d] + 1, hash
end

local function set_bucket(buckets, row, column, hi, lo)
    if not buckets[row] then
        buckets[row] = {}
    end
    buckets[row][column], buckets[row][column + 256] = hi, lo
end

local function raise_buckets(mine, guard, keys, hi, lo)
    if at_least(hi, lo, mine.top_hi, mine.top_lo) then
        mine.top_hi, mine.top_lo = hi, lo
    end
    hi, lo = mine.top_hi, mine.top_lo
    write_header(mine, guard)
    local buckets = mine.buckets
    for i = 3, #keys do
        local row, column, hash = bucket_of(keys[i])
        set_bucket(buckets, row, column, hi, lo)
        take_leases(lease_name(keys[i], hash))
    end
end

