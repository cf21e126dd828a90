/*
 * read_token.c: cache_aside.read_token(): how fresh is what this transaction reads?
 *
 * A token is "<system identifier>-<timeline>-<LSN>" and says: whoever read under it saw every commit with messages at or
 * below the LSN. The worker knows such facts about its own snapshots: each time it looks at what is visible, it puts
 * (snapshot, visible LSN, time) into a ring in shared memory. A reader takes the newest entry of which two things are
 * certain:
 *
 *	1. its snapshot is not older than the entry's. Snapshots are totally ordered: xmax only grows,
 *	   and while it stands still the transactions running below it only become fewer. So the entry's
 *	   xmax is smaller, or equal with no fewer running. (On a standby the running ones are all in
 *	   subxip, subtransactions included; assignment records may remove some, which keeps the order.
 *	   Overflow loses subtransactions of a primary's snapshot, which are not counted.)
 *	2. the entry was made strictly before the transaction started. So it is older than every snapshot
 *	   of the transaction, and a token that is selected in a later statement than the row is true of the
 *	   row, too. By 1 alone it would be true of the later statement only.
 *
 * Because of 1, imported snapshots, REPEATABLE READ and portals older than their statement get a token that is true of
 * them, whatever the time says. For 2 the entries' clock is never behind the wall clock and never goes back, although
 * the wall clock may: see next_time.
 *
 * There is no token (NULL, hence no fill) once the transaction has written anything, row locks included, for it could
 * see its own uncommitted rows; nor when the ring does not reach back to the transaction's start; nor without a worker.
 *
 * Concurrency: one writer, the worker; readers take no lock. `version` is odd while the writer is
 * at work; a reader that finds it odd, or changed afterwards, reads again, and after some attempts
 * does without a token. What it read meanwhile may be torn: indexes are bounded before use, and the entry is thrown away.
 * A worker that dies while `version` is odd takes the whole shared memory with it; nothing in between can raise or wait.
 * The worker empties the ring when it ends.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "shared/shared.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "fmgr.h"
#include "port/atomics.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LEVELS 6
#define LEVEL_ENTRIES 64 /* a power of two */
#define ATTEMPTS 100     /* of a reader */

/*
 * The levels' distances in time, us. The first takes every sample; the last reaches back more than
 * half an hour.
 */
static const int64 level_gap[LEVELS] = {0, 8000, 64000, 512000, 4096000, 32768000};

typedef struct Entry
{
	uint64 xmax; /* full transaction id */
	XLogRecPtr visible;
	TimestampTz time;
	TimeLineID timeline;
	uint32 running;
} Entry;

typedef struct Level
{
	uint32 written; /* ever since the reset; the last LEVEL_ENTRIES of them are there */
	Entry entries[LEVEL_ENTRIES];
} Level;

typedef struct Ring
{
	pg_atomic_uint64 version; /* odd: the worker is writing */
	Level levels[LEVELS];     /* by the protocol above */

	/* The worker's alone. They outlive it, so that its successor's clock does not go back. */
	TimestampTz clock; /* of the last sample, 0: none yet */
	uint64 monotonic;  /* us, at that moment */
	TimestampTz wall;  /* when it was noted */
} Ring;

static Ring *ring;

PG_FUNCTION_INFO_V1(cache_aside_read_token);

static Size
shmem_size(void)
{
	return MAXALIGN(sizeof(Ring));
}

void
ca_read_token_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
}

void
ca_read_token_shmem_init(void)
{
	bool found;

	ring = ShmemInitStruct("cache_aside tokens", shmem_size(), &found);
	if (found)
		return;
	memset(ring, 0, sizeof(Ring));
	pg_atomic_init_u64(&ring->version, 0);
}

/* Top-level transactions on a primary, all that are known on a standby. */
static uint32
running(Snapshot snapshot)
{
	return snapshot->takenDuringRecovery ? snapshot->subxcnt : snapshot->xcnt;
}

/* ---- the worker's side ---- */

static void
begin_write(void)
{
	pg_atomic_write_u64(&ring->version, pg_atomic_read_u64(&ring->version) + 1);
	pg_write_barrier();
}

static void
end_write(void)
{
	pg_write_barrier();
	pg_atomic_write_u64(&ring->version, pg_atomic_read_u64(&ring->version) + 1);
}

static Entry *
newest(Level *level)
{
	return level->written == 0 ? NULL : &level->entries[(level->written - 1) % LEVEL_ENTRIES];
}

/*
 * A clock that is never behind the wall clock and never goes back. When the wall clock is set back there may be transactions
 * that started later than it shows now: at most as late as it had come, by the monotonic clock, since we last read it. So
 * that is the least we go on from. What we are still ahead by because of an earlier step shrinks at half the pace, until the
 * wall clock has caught up.
 */
static TimestampTz
next_time(void)
{
	TimestampTz wall = GetCurrentTimestamp();
	TimestampTz now = wall;
	instr_time mono;
	uint64 monotonic;

	if (CA_DEBUG_SKIP("clock"))
		now = wall -= USECS_PER_HOUR;
	INSTR_TIME_SET_CURRENT(mono);
	monotonic = INSTR_TIME_GET_MICROSEC(mono);
	if (ring->clock != 0)
	{
		int64 passed = Max((int64) (monotonic - ring->monotonic), 0);

		now = Max(wall, Max(ring->wall + passed, ring->clock + passed / 2));
	}
	ring->clock = now;
	ring->wall = wall;
	ring->monotonic = monotonic;
	return now;
}

static int
compare_xids(const void *a, const void *b)
{
	TransactionId left = *(const TransactionId *) a;
	TransactionId right = *(const TransactionId *) b;

	return left < right ? -1 : left > right;
}

/*
 * A transaction that is being prepared is in a snapshot twice for a moment. Counted twice it would hide that another one has
 * ended since an older snapshot, which would then get this entry. (One too many in a reader's snapshot costs that reader
 * an entry at most.)
 */
static uint32
running_distinct(Snapshot snapshot)
{
	TransactionId *xids;
	uint32 distinct = 0;

	if (max_prepared_xacts == 0 || snapshot->takenDuringRecovery || snapshot->xcnt < 2)
		return running(snapshot);
	xids = palloc(snapshot->xcnt * sizeof(TransactionId));
	memcpy(xids, snapshot->xip, snapshot->xcnt * sizeof(TransactionId));
	qsort(xids, snapshot->xcnt, sizeof(TransactionId), compare_xids);
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		distinct += i == 0 || xids[i] != xids[i - 1];
	pfree(xids);
	return distinct;
}

static uint64
full_xmax(Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32 behind = XidFromFullTransactionId(next) - snapshot->xmax;

	return U64FromFullTransactionId(next) - behind;
}

/*
 * Does this entry say more than the newest one? One with a lower LSN does not: the log is read again after a reconnect, and
 * what was said of older snapshots stays true.
 */
static bool
worth_noting(const Entry *entry)
{
	const Entry *last = newest(&ring->levels[0]);

	if (last == NULL || last->timeline != entry->timeline)
		return true;
	return entry->visible >= last->visible &&
		   (entry->visible > last->visible || entry->xmax != last->xmax ||
			entry->running != last->running);
}

/*
 * Called by the worker with a snapshot taken before the call, and the LSN up to which every
 * message-carrying commit is visible to it.
 */
void
ca_read_token_sample(Snapshot snapshot, XLogRecPtr visible, TimeLineID timeline)
{
	Entry entry;

	entry.xmax = full_xmax(snapshot);
	entry.running = running_distinct(snapshot);
	entry.visible = visible;
	entry.timeline = timeline;
	entry.time = next_time(); /* after the snapshot */
	if (!worth_noting(&entry))
		return;
	begin_write();
	for (int i = 0; i < LEVELS; i++)
	{
		Level *level = &ring->levels[i];
		const Entry *last = newest(level);

		if (last == NULL || entry.time - last->time >= level_gap[i])
			level->entries[level->written++ % LEVEL_ENTRIES] = entry;
	}
	end_write();
}

/*
 * On a standby that delivers nothing: what was replayed before the snapshot was taken is visible to
 * it, without any look into the log.
 */
void
ca_read_token_sample_replayed(void)
{
	TimeLineID timeline;
	XLogRecPtr replayed = GetXLogReplayRecPtr(&timeline);

	if (!XLogRecPtrIsInvalid(replayed))
		ca_read_token_sample(GetLatestSnapshot(), replayed, timeline);
}

/* No token is given out until the next sample. */
void
ca_read_token_reset(void)
{
	begin_write();
	for (int i = 0; i < LEVELS; i++)
		ring->levels[i].written = 0;
	end_write();
}

static void
detach(int code, Datum arg)
{
	ca_read_token_reset();
}

void
ca_read_token_attach(void)
{
	ca_read_token_reset();
	before_shmem_exit(detach, (Datum) 0);
}

/* ---- the readers' side ---- */

typedef struct Reader
{
	TransactionId xmax;
	uint32 running;
	TimestampTz start; /* of the transaction */
} Reader;

/* Is the entry's snapshot certainly not newer than anything that the reader's transaction reads? */
static bool
vouches(const Entry *entry, const Reader *reader, uint64 xmax)
{
	return entry->time < reader->start &&
		   (entry->xmax < xmax || (entry->xmax == xmax && reader->running <= entry->running));
}

/* The newest entry of a level that vouches. They are in order: if one vouches, every older one does. */
static bool
search_level(const Level *level, const Reader *reader, uint64 xmax, Entry *found)
{
	uint32 written = level->written;
	uint32 good = 0; /* entries known to vouch, counted from the oldest */
	uint32 n = Min(written, LEVEL_ENTRIES);

	while (good < n)
	{
		uint32 middle = good + (n - good + 1) / 2; /* its number from the oldest, from 1 */
		uint32 age = Min(written, LEVEL_ENTRIES) - middle;

		if (vouches(&level->entries[(written - 1 - age) % LEVEL_ENTRIES], reader, xmax))
			good = middle;
		else
			n = middle - 1;
	}
	if (good == 0)
		return false;
	*found = level->entries[(written - 1 - (Min(written, LEVEL_ENTRIES) - good)) % LEVEL_ENTRIES];
	return true;
}

/* What it finds may be torn: the caller looks whether the version is still the same. */
static bool
search(const Reader *reader, Entry *found)
{
	const Level *first = &ring->levels[0];
	uint32 written = first->written;
	uint64 last;
	uint64 xmax;

	if (written == 0)
		return false;
	last = first->entries[(written - 1) % LEVEL_ENTRIES].xmax;
	/* The reader's is less than 2^31 transactions away, in one direction or the other. */
	xmax = last + (int64) (int32) (reader->xmax - (uint32) last);
	for (int i = 0; i < LEVELS; i++)
		if (search_level(&ring->levels[i], reader, xmax, found))
			return true;
	return false;
}

static bool
find(const Reader *reader, Entry *found)
{
	for (int i = 0; i < ATTEMPTS; i++)
	{
		uint64 version = pg_atomic_read_u64(&ring->version);
		bool result;

		if (version % 2 == 1)
			continue;
		pg_read_barrier();
		result = search(reader, found);
		pg_read_barrier();
		if (pg_atomic_read_u64(&ring->version) == version)
			return result;
	}
	return false;
}

bool
ca_read_token_parse(const char *token, uint64 *sysid, TimeLineID *timeline, XLogRecPtr *lsn)
{
	uint32 hi;
	uint32 lo;
	unsigned long long number;
	char again[CA_READ_TOKEN_TEXT];

	if (strlen(token) >= sizeof(again) ||
		sscanf(token, "%llu-%u-%X/%X", &number, timeline, &hi, &lo) != 4)
		return false;
	*sysid = number;
	*lsn = ((uint64) hi << 32) | lo;
	ca_read_token_format(*sysid, *timeline, *lsn, again);
	return strcmp(again, token) == 0; /* nothing but what we write ourselves */
}

void
ca_read_token_format(uint64 sysid, TimeLineID timeline, XLogRecPtr lsn, char *token)
{
	snprintf(token, CA_READ_TOKEN_TEXT, UINT64_FORMAT "-%u-%X/%X", sysid, timeline,
			 LSN_FORMAT_ARGS(lsn));
}

/* The token's text in static storage, or NULL. The last one is kept, for formatting costs most. */
const char *
ca_read_token_current(void)
{
	static char token[CA_READ_TOKEN_TEXT];
	static TimeLineID timeline;
	static XLogRecPtr lsn;
	Snapshot snapshot;
	Reader reader;
	Entry entry;

	if (ring == NULL || TransactionIdIsValid(GetTopTransactionIdIfAny()) || !ActiveSnapshotSet())
		return NULL;
	snapshot = GetActiveSnapshot();
	if (snapshot->snapshot_type != SNAPSHOT_MVCC)
		return NULL;
	reader.xmax = snapshot->xmax;
	reader.running = running(snapshot);
	reader.start = CA_DEBUG_SKIP("start") ? DT_NOEND : GetCurrentTransactionStartTimestamp();
	if (!find(&reader, &entry))
		return NULL;
	if (token[0] == '\0' || timeline != entry.timeline || lsn != entry.visible)
	{
		ca_read_token_format(GetSystemIdentifier(), entry.timeline, entry.visible, token);
		timeline = entry.timeline;
		lsn = entry.visible;
	}
	return token;
}

Datum
cache_aside_read_token(PG_FUNCTION_ARGS)
{
	const char *token = ca_read_token_current();

	if (token == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(token));
}
