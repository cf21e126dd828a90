/*
 * redelete.c: each key deleted again, for clients that fill with plain GET and SET.
 *
 * Such a client can put an old value back after the delivery: it read the row before the commit, or
 * on a standby that had not replayed it yet. With cache_aside.redelete each key delivered is kept
 * here and deleted once more when every connected standby has replayed its commit, and a last time
 * redelete_delay later. So a stale value lives no longer than that, if reading and storing takes a
 * client no longer. Guarded fills need none of this.
 *
 *	delivered -> REPLAY (until the standbys have it) -> UNLINK -> DELAY -> UNLINK -> forgotten
 *
 * Without any standby the first of these would follow at once upon the delivery, so it is left out.
 * What a standby has replayed is read in the walsender array, each standby under its mutex. A client
 * that streams without replaying (pg_receivewal) counts for nothing, and so does a logical one where
 * PostgreSQL tells them apart (16 and newer). A standby whose own worker runs reports at once;
 * without one its report can be ten seconds late.
 *
 * A key noted again while it is here only moves to the end: its new delivery deleted it anyway.
 * Patterns (TRUNCATE) are kept likewise and ask for another scan.
 *
 * One UNLINK of at most BATCH_KEYS is unanswered at a time, sent behind the round's deliveries. Its
 * keys are forgotten, or go on to DELAY, when it was answered; a lost connection or an error puts
 * them back, and they are kept across sessions. A worker that ends forgets them.
 *
 * Memory: at most MEMORY_LIMIT, which is some 500 000 keys; then the oldest are dropped, counted in
 * status, with one line in the log each time this begins. Everything lives in one context, reset
 * when nothing is left. Of the worker alone: no locks.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "resync/resync.h"
#include "delivery/redelete.h"
#include "delivery/sink.h"

#include "common/hashfn.h"
#include "lib/ilist.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MEMORY_LIMIT ((Size) 64 * 1024 * 1024)
#define BATCH_KEYS 512
#define LOOK_MS 10    /* between looks at the standbys, while something waits for them */
#define RETRY_MS 1000 /* after an error answer */
#define ENTRY_COST 72 /* of an entry beyond its text: allocation and place in the table */

typedef enum Stage
{
	REPLAY,
	DELAY
} Stage;

typedef struct Entry
{
	dlist_node node;
	Stage stage;
	char kind;       /* CA_ENTRY_KEY or CA_ENTRY_PATTERN */
	bool unanswered; /* its deletion is under way */
	bool again;      /* and it was noted again since */
	XLogRecPtr lsn;  /* REPLAY: of its commit */
	TimestampTz due; /* DELAY */
	uint64 scan;     /* ticket of a pattern's scan */
	uint32 hash;
	uint32 len;
	char text[FLEXIBLE_ARRAY_MEMBER];
} Entry;

typedef struct Place
{
	Entry *entry;
	uint32 hash;
	char status;
} Place;

/* Core's template shadows a local of its own. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#define SH_PREFIX place
#define SH_ELEMENT_TYPE Place
#define SH_KEY_TYPE Entry *
#define SH_KEY entry
#define SH_HASH_KEY(tb, key) ((key)->hash)
#define SH_EQUAL(tb, a, b)                                                                         \
	((a)->kind == (b)->kind && (a)->len == (b)->len && memcmp((a)->text, (b)->text, (a)->len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, place) (place)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"
#pragma GCC diagnostic pop

bool guc_redelete = false;
int guc_redelete_delay;

/* Of the server, across sessions: what is to be deleted again, and when. What is under way is the sink's. */
static MemoryContext cxt;
static struct place_hash *places;
static dlist_head lists[2] = {DLIST_STATIC_INIT(lists[0]), DLIST_STATIC_INIT(lists[1])};
static dlist_head scanning = DLIST_STATIC_INIT(scanning); /* patterns whose scan is not done */
static Size used;                                         /* bytes, of all entries */
static uint64 waiting;                                    /* entries */
static bool overflowing;
static TimestampTz next_look; /* at the standbys */

/* ---- the set ---- */

static Size
cost(const Entry *entry)
{
	return ENTRY_COST + sizeof(Entry) + entry->len;
}

static void
forget(Entry *entry)
{
	place_delete(places, entry);
	used -= cost(entry);
	ca_status_put_redelete(--waiting);
	pfree(entry);
}

static void
forget_all(void)
{
	MemoryContextReset(cxt);
	places = NULL;
	dlist_init(&lists[REPLAY]);
	dlist_init(&lists[DELAY]);
	dlist_init(&scanning);
	used = 0;
	ca_status_put_redelete(waiting = 0);
	overflowing = false;
}

/* Drops the oldest until the rest fits. What is in flight stays; it is little. */
static void
make_room(void)
{
	uint64 dropped = 0;

	while (used > MEMORY_LIMIT)
	{
		dlist_head *list = &lists[dlist_is_empty(&lists[DELAY]) ? REPLAY : DELAY];

		if (dlist_is_empty(list))
			break;
		forget(dlist_container(Entry, node, dlist_pop_head_node(list)));
		dropped++;
	}
	if (dropped == 0)
		return;
	ca_status_count(CA_COUNT_REDELETE_DROPPED, dropped);
	if (!overflowing)
		ereport(LOG,
				(errmsg("cache_aside drops keys that were to be deleted again"),
				 errdetail("More than %zu MB of keys wait for standbys to replay their commits, "
						   "or for redelete_delay.",
						   MEMORY_LIMIT / (1024 * 1024)),
				 errhint("They were deleted once. Look at the standbys' lag in "
						 "pg_stat_replication, or lower cache_aside.redelete_delay.")));
	overflowing = true;
}

static Entry *
make_entry(char kind, const char *str, Size len)
{
	Entry *entry = MemoryContextAlloc(cxt, offsetof(Entry, text) + len);

	entry->kind = kind;
	entry->unanswered = false;
	entry->again = false;
	entry->len = (uint32) len;
	memcpy(entry->text, str, len);
	entry->hash = hash_bytes((const unsigned char *) str, (int) len);
	return entry;
}

static void
create_set(void)
{
	if (cxt == NULL)
		cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside redelete", ALLOCSET_DEFAULT_SIZES);
	if (places == NULL)
		places = place_create(cxt, 1024, NULL);
}

void
ca_redelete_note(char kind, const char *str, Size len, XLogRecPtr lsn)
{
	Entry *entry;
	Place *place;
	bool found;

	if (!guc_redelete)
		return;
	create_set();
	entry = make_entry(kind, str, len);
	place = place_insert(places, entry, &found);
	if (found)
	{
		pfree(entry);
		entry = place->entry;
	}
	else
	{
		used += cost(entry);
		ca_status_put_redelete(++waiting);
	}
	entry->lsn = lsn;
	if (found && entry->unanswered)
	{
		entry->again = true;
		return;
	}
	if (found)
		dlist_delete(&entry->node);
	entry->stage = REPLAY;
	dlist_push_tail(&lists[REPLAY], &entry->node);
	make_room();
}

/* ---- from stage to stage ---- */

/* Deleted in this stage, or nothing was to be deleted in it. The entry is in no list. */
static void
advance(Entry *entry)
{
	entry->unanswered = false;
	if (entry->again)
	{
		entry->again = false;
		entry->stage = REPLAY;
	}
	else if (entry->stage == REPLAY && guc_redelete_delay > 0)
	{
		entry->stage = DELAY;
		entry->due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), guc_redelete_delay);
	}
	else
	{
		forget(entry);
		return;
	}
	dlist_push_tail(&lists[entry->stage], &entry->node);
}

/* Not deleted after all: first in line again, in the order they had. */
static void
put_back(dlist_head *from)
{
	while (!dlist_is_empty(from))
	{
		Entry *entry = dlist_container(Entry, node, dlist_tail_node(from));

		dlist_delete(&entry->node);
		entry->unanswered = false;
		if (entry->again)
			entry->stage = REPLAY;
		entry->again = false;
		dlist_push_head(&lists[entry->stage], &entry->node);
	}
}

static void
handle_answer(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	sink->redelete.in_flight = false;
	if (reply == NULL || ca_redis_reply_type(reply) == CA_REPLY_ERROR)
	{
		put_back(&sink->redelete.flight);
		sink->redelete.not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_MS);
		return;
	}
	while (!dlist_is_empty(&sink->redelete.flight))
	{
		Entry *entry = dlist_head_element(Entry, node, &sink->redelete.flight);

		/* May raise; until then it is in a list. */
		ca_events_note(sink, entry->kind, entry->text, entry->len);
		dlist_delete(&entry->node);
		ca_status_count(CA_COUNT_REDELETED, 1);
		advance(entry);
	}
}

/* Patterns whose scan is done. */
static void
collect_scanned(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &scanning)
	{
		Entry *entry = dlist_container(Entry, node, iter.cur);

		if (entry->scan > ca_scan_done())
			continue;
		dlist_delete(&entry->node);
		advance(entry);
	}
}

/* Before the scan forgets its tickets. An UNLINK that is not answered was put back by its handler. */
void
ca_redelete_interrupted(void)
{
	put_back(&scanning);
}

/* ---- what is due ---- */

/*
 * Lowest LSN that a connected standby has replayed; invalid: one has not told yet. Returns how many
 * there are.
 */
static int
look_at_standbys(XLogRecPtr *replayed)
{
	int standbys = 0;

	*replayed = PG_UINT64_MAX;
	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd *sender = &WalSndCtl->walsnds[i];
		bool counts;
		XLogRecPtr applied;

		SpinLockAcquire(&sender->mutex);
		applied = sender->apply;
		counts = sender->pid != 0 && ca_sender_is_physical(sender) &&
				 (sender->state == WALSNDSTATE_CATCHUP || sender->state == WALSNDSTATE_STREAMING) &&
				 (!XLogRecPtrIsInvalid(applied) || sender->replyTime == 0);
		SpinLockRelease(&sender->mutex);
		if (!counts)
			continue;
		standbys++;
		*replayed = Min(*replayed, applied);
	}
	return standbys;
}

static Entry *
first(Stage stage)
{
	return dlist_is_empty(&lists[stage]) ? NULL : dlist_head_element(Entry, node, &lists[stage]);
}

/* An UNLINK under construction. */
typedef struct Batch
{
	int n;
	const char *argv[BATCH_KEYS + 1];
	size_t len[BATCH_KEYS + 1];
} Batch;

/* Takes the entry out of its list and sees to its deletion. */
static void
begin_deletion(CaSink *sink, Batch *batch, Entry *entry)
{
	dlist_delete(&entry->node);
	entry->unanswered = true;
	if (entry->kind == CA_ENTRY_PATTERN)
	{
		entry->scan = ca_scan_request(entry->text, entry->len);
		dlist_push_tail(&scanning, &entry->node);
		return;
	}
	batch->argv[batch->n] = entry->text;
	batch->len[batch->n++] = entry->len;
	dlist_push_tail(&sink->redelete.flight, &entry->node);
}

static void
take_delayed(CaSink *sink, Batch *batch, TimestampTz now)
{
	Entry *entry;

	while (batch->n <= BATCH_KEYS && (entry = first(DELAY)) != NULL && entry->due <= now)
		begin_deletion(sink, batch, entry);
}

static void
take_replayed(CaSink *sink, Batch *batch, TimestampTz now)
{
	XLogRecPtr replayed;
	int standbys;
	Entry *entry;

	if (first(REPLAY) == NULL || now < next_look)
		return;
	standbys = look_at_standbys(&replayed);
	while (batch->n <= BATCH_KEYS && (entry = first(REPLAY)) != NULL && entry->lsn <= replayed)
	{
		if (standbys > 0)
			begin_deletion(sink, batch, entry);
		else
		{
			dlist_delete(&entry->node);
			advance(entry);
		}
	}
	if (first(REPLAY) != NULL && batch->n <= BATCH_KEYS)
		next_look = TimestampTzPlusMilliseconds(now, LOOK_MS);
}

void
ca_redelete_step(CaSink *sink, CaRedis *redis)
{
	static Batch batch; /* too big for a stack frame worth liking */
	TimestampTz now = GetCurrentTimestamp();

	if (places == NULL || sink->redelete.in_flight || now < sink->redelete.not_before)
		return;
	collect_scanned();
	if (waiting == 0 || !guc_redelete)
	{
		forget_all();
		return;
	}
	batch.argv[0] = "UNLINK";
	batch.len[0] = strlen("UNLINK");
	batch.n = 1;
	take_delayed(sink, &batch, now);
	take_replayed(sink, &batch, now);
	if (batch.n == 1)
		return;
	sink->redelete.in_flight = true;
	ca_redis_send(redis, batch.n, batch.argv, batch.len, handle_answer, sink);
}

long
ca_redelete_timeout(CaSink *sink)
{
	TimestampTz next = DT_NOEND;

	if (places == NULL || sink->redelete.in_flight)
		return -1;
	if (first(REPLAY))
		next = next_look;
	if (first(DELAY))
		next = Min(next, first(DELAY)->due);
	if (next == DT_NOEND)
		return -1; /* a scan goes on */
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
										   Max(next, sink->redelete.not_before));
}
