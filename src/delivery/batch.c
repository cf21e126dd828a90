/*
 * batch.c: what one call to Redis carries: entries of visible commits, as many as fit.
 *
 *	key, stick		goes into the batch
 *	pattern			asks for a scan, and the commit stays queued until that is over; if scan.c has no room for it the commit
 *					stops there, and no other does (queue.c puts many such commits into one large one)
 *	resync, crash	asks for a resync, likewise
 *
 * A large transaction is read again from the log (reread.c), a piece at a time, behind everybody else's small ones; but one
 * batch in LARGE_TURN is its own, or an endless stream of small ones would keep it, and with it the log, for ever.
 * Batches live in a memory context of their own until they are answered.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "shared/status.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/redelete.h"

#include <limits.h>

#include "lib/ilist.h"
#include "utils/memutils.h"

#define LARGE_TURN 8

/* Of the log: a large commit is read once, whichever sink gets its keys. */
static MemoryContext batch_cxt;
static CaReread *reread;        /* of the large commit being sent ... */
static CaCommit *reread_commit; /* ... which is this one */
static bool log_gone;
static bool later; /* the large commit was not read on, for other things have to be done first */

static void
stop_rereading(void)
{
	ca_reread_close(reread);
	reread = NULL;
	reread_commit = NULL;
}

/* The session ended: the large commit being sent will be read from its beginning. */
void
ca_batch_reset(void)
{
	stop_rereading();
	log_gone = false;
	if (batch_cxt)
		MemoryContextReset(batch_cxt); /* an error may have left one behind */
}

void
ca_batch_free(CaBatch *batch)
{
	while (!dlist_is_empty(&batch->done))
		ca_committed_free(dlist_container(CaCommit, node, dlist_pop_head_node(&batch->done)));
	pfree(batch->bytes.data);
	if (batch->event)
	{
		pfree(batch->event->text.data);
		pfree(batch->event);
	}
	pfree(batch);
}

/* A stick without a name, if some may be lost. */
static void
add_forgotten(CaSink *sink, CaBatch *batch)
{
	uint32 ttl;
	XLogRecPtr lsn = ca_lost_sticks_forgotten(sink, &ttl);

	if (XLogRecPtrIsInvalid(lsn))
		return;
	batch->sticks[0] = (CaStick){.len = strlen(CA_STICK_PREFIX), .ttl = ttl, .lsn = lsn};
	batch->nsticks = 1;
	appendBinaryStringInfo(&batch->bytes, CA_STICK_PREFIX, strlen(CA_STICK_PREFIX));
}

CaBatch *
ca_batch_make(CaSink *sink)
{
	MemoryContext old;
	CaBatch *batch;

	if (batch_cxt == NULL)
		batch_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside batches", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(batch_cxt);
	batch = palloc(sizeof(CaBatch));

	dlist_init(&batch->done);
	initStringInfo(&batch->bytes);
	batch->nkeys = batch->nsticks = 0;
	batch->lsn = InvalidXLogRecPtr;
	batch->event = NULL;
	batch->probe = false;
	batch->notes = 0;
	batch->most = INT_MAX;
	add_forgotten(sink, batch);
	MemoryContextSwitchTo(old);
	return batch;
}

static bool
batch_full(const CaBatch *batch)
{
	return batch->nkeys >= CA_BATCH_KEYS || batch->nsticks >= CA_BATCH_STICKS ||
		   batch->bytes.len >= batch->most;
}

/* Points the cursor of an in-memory commit at its entries, once. */
static bool
begin_kept(CaCommit *commit)
{
	if (commit->begun || commit->entries.len == 0)
		return false;
	commit->begun = true;
	commit->cursor.next = commit->entries.data;
	commit->cursor.end = commit->entries.data + commit->entries.len;
	return true;
}

/*
 * Points the cursor of a large commit at its next message. The log being gone here ends the session:
 * it is found at reconnect.
 */
static bool
reread_message(CaCommit *commit)
{
	CaRereadResult found;

	if (reread == NULL)
	{
		reread = ca_reread_open(batch_cxt, commit);
		reread_commit = commit;
		commit->begun = true;
	}
	found = ca_reread_next(reread, &commit->cursor);
	log_gone |= found == CA_REREAD_GONE;
	later |= found == CA_REREAD_LATER;
	return found == CA_REREAD_MESSAGE;
}

static bool
next_entry(CaCommit *commit, CaEntry *entry)
{
	while (commit->cursor.next == NULL || !ca_record_next(&commit->cursor, entry))
		if (!(commit->large ? reread_message(commit) : begin_kept(commit)))
			return false;
	return true;
}

static void
add_stick(CaBatch *batch, const CaCommit *commit, const CaEntry *entry)
{
	static const char prefix[] = CA_STICK_PREFIX;
	int i = batch->nsticks++;

	batch->sticks[i].offset = batch->bytes.len;
	memcpy(&batch->sticks[i].ttl, entry->data, sizeof(uint32));
	batch->sticks[i].lsn = commit->end;
	appendBinaryStringInfo(&batch->bytes, prefix, sizeof(prefix) - 1);
	appendBinaryStringInfo(&batch->bytes, entry->data + sizeof(uint32),
						   entry->len - sizeof(uint32));
	batch->sticks[i].len = batch->bytes.len - batch->sticks[i].offset;
}

static void
add_key(CaBatch *batch, const CaCommit *commit, const CaEntry *entry)
{
	int i = batch->nkeys++;

	CA_DEBUG_POISON("poison-key", entry->data, entry->len);
	batch->lsn = Max(batch->lsn, commit->end);
	batch->keys[i].offset = batch->bytes.len;
	batch->keys[i].len = entry->len;
	appendBinaryStringInfo(&batch->bytes, entry->data, entry->len);
}

/*
 * The server crashed. Values cached from asynchronous commits that the crash lost are invalidated by
 * nobody, and unlogged tables are empty now.
 */
static void
note_crash(const CaBatch *batch, CaCommit *commit)
{
	if (batch->async || ca_queue_async())
		commit->resync = ca_resync_request(
			CA_VISIT_ALL, "the server crashed, and asynchronous commits may be lost");
	else
		commit->resync = ca_resync_request(CA_VISIT_UNLOGGED, "the server crashed");
}

/* Its keys are in the log under these prefixes; what the others hold of the same rows it cannot name. */
static void
note_prefixes(CaCommit *commit, const char *data, Size len)
{
	CaKeyspace known;
	CaKeyspace now;

	commit->has_prefixes = true;
	ca_keyspace_unpack(data, len, &known);
	ca_keyspace_current(0, &now);
	if (ca_keyspace_covers(&known, &now))
		return;
	for (int i = 0; i < ca_prefix_count(); i++)
	{
		const char *prefix = ca_prefix_get(i);
		StringInfoData pattern;

		if (ca_keyspace_has(&known, prefix))
			continue;
		if (prefix[0] == '\0')
		{
			commit->resync = ca_resync_request(
				CA_VISIT_ALL, "a transaction knew nothing of a change of cache_aside.key_prefix");
			continue;
		}
		initStringInfo(&pattern);
		ca_glob_escape(&pattern, prefix, strlen(prefix));
		appendStringInfoChar(&pattern, '*');
		commit->scan = Max(commit->scan, ca_scan_request(pattern.data, pattern.len));
		pfree(pattern.data);
	}
}

static void
add_entry(CaBatch *batch, CaCommit *commit, const CaEntry *entry)
{
	commit->has_keys |= entry->kind == CA_ENTRY_KEY || entry->kind == CA_ENTRY_PATTERN;
	switch (entry->kind)
	{
		case CA_ENTRY_PREFIXES:
			note_prefixes(commit, entry->data, entry->len);
			break;
		case CA_ENTRY_KEY: /* no backend writes a reserved one; should one be there, it stays */
			if (!ca_prefix_is_reserved(entry->data, entry->len))
				add_key(batch, commit, entry);
			break;
		case CA_ENTRY_PATTERN:
			commit->scan = Max(commit->scan, ca_scan_request(entry->data, entry->len));
			ca_redelete_note(CA_ENTRY_PATTERN, entry->data, entry->len, commit->end);
			ca_status_count(CA_COUNT_PATTERNS, 1);
			break;
		case CA_ENTRY_RESYNC:
			commit->resync = ca_resync_request(CA_VISIT_ALL, "it was asked for");
			break;
		case CA_ENTRY_CENSUS:
			ca_census_ask();
			break;
		case CA_ENTRY_CRASH:
			note_crash(batch, commit);
			break;
		case CA_ENTRY_STICK:
			add_stick(batch, commit, entry);
			break;
	}
}

/* It says nothing of prefixes: it knew none. Asked of each commit, hence answered once for each setting. */
static void
note_no_prefix(CaCommit *commit)
{
	static uint64 generation; /* of the prefixes: there are none but the empty one */

	if (generation == ca_prefix_generation())
		return;
	note_prefixes(commit, NULL, 0);
	if (ca_prefix_is_none())
		generation = ca_prefix_generation();
}

/* Nothing is left of it to send. */
static void
note_sent(CaBatch *batch, CaCommit *commit)
{
	commit->sent = true;
	if (commit->has_keys && !commit->has_prefixes)
		note_no_prefix(commit);
	if (commit == reread_commit)
		stop_rereading();
	if (commit->unread)
		commit->resync = ca_resync_request(CA_VISIT_ALL, commit->unread);
	if (commit->scan != 0 || commit->resync != 0)
	{
		ca_queue_wait(commit);
		return;
	}
	ca_queue_take(commit);
	dlist_push_tail(&batch->done, &commit->node);
}

/* Moves as much of a commit as fits into the batch. */
static void
fill_from(CaBatch *batch, CaCommit *commit)
{
	CaEntry entry;

	while (!batch_full(batch))
	{
		if (!next_entry(commit, &entry))
		{
			if (!log_gone && !(commit->large && later))
				note_sent(batch, commit);
			return;
		}
		if (entry.kind == CA_ENTRY_PATTERN && ca_scan_full())
		{
			commit->cursor.next = entry.data - CA_ENTRY_HEADER_SIZE; /* again, later */
			ca_queue_block(commit);
			return;
		}
		ca_queue_unblock(commit);
		add_entry(batch, commit, &entry);
	}
}

/* Small commits first: a hundred million keys of one transaction do not hold up everybody else's. */
static void
fill(CaBatch *batch)
{
	static int turn;
	dlist_mutable_iter iter;
	CaCommit *large = reread_commit;

	if (large && !later && ++turn % LARGE_TURN == 0)
		fill_from(batch, large);
	large = reread_commit; /* it may be over */
	dlist_foreach_modify (iter, ca_queue_list())
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (batch_full(batch) || log_gone)
			return;
		if (!commit->visible || commit->sent)
			continue;
		if (!commit->large)
			fill_from(batch, commit);
		else if (large == NULL)
			large = commit;
	}
	if (large && !later && !batch_full(batch))
		fill_from(batch, large);
}

bool
ca_batch_unfinished(void)
{
	bool was = later;

	later = false;
	return was;
}

/* Fills it with what is visible. false: the log of a large transaction is gone. */
bool
ca_batch_fill(CaBatch *batch, bool async)
{
	batch->async = async;
	fill(batch);
	return !log_gone;
}
