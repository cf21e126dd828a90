/*
 * delivery.c: committed transactions to Redis: queue, visibility, batches, acknowledgement.
 *
 * Input: CaCommits from the tap, in log order. Output: batches of at most CA_BATCH_KEYS keys, each
 * one atomic call (apply.c), several of them in the pipeline.
 *
 * A commit record can be read before its transaction is visible to others (flushed, but waiting for
 * a synchronous standby). Deleting then would let a reader put the old row back, so a commit waits
 * until a snapshot taken after reading says that it no longer runs. It holds back the confirmed LSN
 * and the visible LSN, but not the delivery of others.
 *
 * The position a batch writes is the one that is true once this batch and all before it are applied:
 * confirmed lies just before the first commit not completely sent (else at the end of what was
 * read), restart before the first message of anything unfinished. Redis executes in order and each
 * batch checks its predecessor's position, so a failed batch stops all later ones. After any failure
 * everything here is forgotten and read again from the position in Redis: nothing is lost if we die
 * between any two lines, and a key may be deleted twice, which is harmless.
 *
 * Memory is bounded: the tap is stopped while more than QUEUE_LIMIT commits or QUEUE_BYTES are
 * queued, a large transaction is streamed from the log, and at most PIPELINE batches are unanswered.
 */
#include "worker.h"
#include "debug.h"
#include "status.h"
#include "redelete.h"
#include "sync.h"

#include "access/xact.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define QUEUE_LIMIT 8192
#define QUEUE_BYTES (16 * 1024 * 1024)
#define PIPELINE 16
#define HEARTBEAT_MS 1000
#define HEARTBEAT_BYTES (16 * 1024 * 1024)

static MemoryContext delivery_cxt; /* batches; child of TopMemoryContext */
static CaTap *tap;
static CaRedis *redis;
static dlist_head queue = DLIST_STATIC_INIT(queue); /* not completely sent, in log order */
static int queued;
static Size queued_bytes;
static int invisible;                                 /* of those queued */
static dlist_head flight = DLIST_STATIC_INIT(flight); /* batches without an answer */
static int in_flight;
static dlist_head finished = DLIST_STATIC_INIT(finished); /* completed by a scan: next batch's */
static CaReread *reread;                                  /* of the large commit being sent ... */
static CaCommit *reread_commit;                           /* ... which is this one */
static CaPosition sent;                                   /* as of the last batch sent */
static CaPosition acked;                                  /* as of the last one answered */
static char expected[CA_POSITION_TEXT];
static TimestampTz last_sent;
static bool async_seen;   /* an asynchronous commit carried keys */
static bool armed;        /* guarded fills are admitted */
static bool marked;       /* state or barrier changed since the last position */
static char failure[256]; /* empty: none */

/* ---- life of a session ---- */

static void
free_commits(dlist_head *list)
{
	while (!dlist_is_empty(list))
		ca_commit_free(dlist_container(CaCommit, node, dlist_pop_head_node(list)));
}

static void
free_batch(CaBatch *batch)
{
	free_commits(&batch->done);
	pfree(batch->bytes.data);
	pfree(batch);
}

static void
stop_rereading(void)
{
	ca_reread_close(reread);
	reread = NULL;
	reread_commit = NULL;
}

/* The connection is closed by now, so that no handler will see a batch freed here. */
void
ca_delivery_reset(void)
{
	while (!dlist_is_empty(&flight))
		free_batch(dlist_container(CaBatch, node, dlist_pop_head_node(&flight)));
	free_commits(&queue);
	free_commits(&finished);
	stop_rereading();
	queued = invisible = in_flight = 0;
	queued_bytes = 0;
	failure[0] = '\0';
	tap = NULL;
	redis = NULL;
	ca_status_now.oldest = 0;
}

/* `position` is what Redis holds now, `stored` its exact text (empty: Redis holds none). */
void
ca_delivery_start(CaTap *new_tap, CaRedis *new_redis, const CaPosition *position,
				  const char *stored)
{
	if (delivery_cxt == NULL)
		delivery_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside delivery", ALLOCSET_DEFAULT_SIZES);
	tap = new_tap;
	redis = new_redis;
	sent = acked = *position;
	strlcpy(expected, stored, sizeof(expected));
	last_sent = 0;
	armed = false;
	marked = true; /* write it at once: it may be absent, or of another timeline */
	ca_sync_connecting();
}

/* The state that the next position carries; a heartbeat writes it. */
void
ca_delivery_mark(CaPositionState state, uint64 barrier)
{
	sent.state = state;
	sent.barrier = barrier;
	marked = true;
}

static void
fail(const char *reason)
{
	if (failure[0] == '\0')
		strlcpy(failure, reason, sizeof(failure));
}

const char *
ca_delivery_error(void)
{
	return failure[0] ? failure : NULL;
}

const CaPosition *
ca_delivery_position(void)
{
	return &acked;
}

/* ---- queue ---- */

void
ca_delivery_enqueue(void *unused, CaCommit *commit)
{
	dlist_push_tail(&queue, &commit->node);
	queued++;
	invisible++;
	async_seen |= commit->async;
	queued_bytes += commit->entries.len;
}

bool
ca_delivery_full(void)
{
	return queued >= QUEUE_LIMIT || queued_bytes >= QUEUE_BYTES;
}

bool
ca_delivery_idle(void)
{
	return queued == 0 && in_flight == 0 && dlist_is_empty(&finished);
}

bool
ca_delivery_invisible(void)
{
	return invisible > 0;
}

static bool
owes_one_of(dlist_head *list, XLogRecPtr lsn, bool exact)
{
	dlist_iter iter;

	dlist_foreach (iter, list)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->start < lsn && (exact ? lsn <= commit->end : commit->visible))
			return true;
	}
	return false;
}

/*
 * Is anything left of the commit that ended at lsn, or, not exactly, of any visible one before it?
 * Everything up to lsn has been read.
 */
bool
ca_delivery_owes(XLogRecPtr lsn, bool exact)
{
	dlist_iter iter;

	dlist_foreach (iter, &flight)
		if (owes_one_of(&dlist_container(CaBatch, node, iter.cur)->done, lsn, exact))
			return true;
	return owes_one_of(&queue, lsn, exact) || owes_one_of(&finished, lsn, exact);
}

static CaCommit *
oldest_queued(void)
{
	return dlist_is_empty(&queue) ? NULL : dlist_head_element(CaCommit, node, &queue);
}

static void
take_from_queue(CaCommit *commit)
{
	dlist_delete(&commit->node);
	queued--;
	queued_bytes -= commit->entries.len;
}

/* ---- visibility ---- */

static XLogRecPtr
mark_visible(Snapshot snapshot)
{
	XLogRecPtr visible = ca_tap_read_end(tap);
	dlist_iter iter;

	dlist_foreach (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->visible)
			continue;
		if (XidInMVCCSnapshot(commit->xid, snapshot) && !CA_DEBUG_SKIP("commit"))
			visible = Min(visible, commit->start);
		else
		{
			commit->visible = true;
			invisible--;
		}
	}
	return visible;
}

/*
 * Takes one snapshot after everything queued was read, and lets go of it before any I/O. (Asking
 * TransactionIdIsInProgress instead is wrong in a process without transactions of its own.)
 */
XLogRecPtr
ca_delivery_look(TransactionId *oldest_running)
{
	MemoryContext caller = CurrentMemoryContext;
	XLogRecPtr visible;
	Snapshot snapshot;

	StartTransactionCommand();
	snapshot = GetTransactionSnapshot();
	visible = mark_visible(snapshot);
	/* Blind start: transactions that are open may have messages which nobody will ever read. */
	if (sent.barrier == 0)
		ca_token_sample(snapshot, visible, sent.timeline);
	*oldest_running = snapshot->xmin;
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return visible;
}

/* A standby that does not deliver keeps the queue for the visible LSN alone. */
void
ca_delivery_discard_visible(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (!commit->visible)
			continue;
		take_from_queue(commit);
		ca_commit_free(commit);
	}
}

/* ---- batches ---- */

static CaBatch *
make_batch(void)
{
	MemoryContext old = MemoryContextSwitchTo(delivery_cxt);
	CaBatch *batch = palloc(sizeof(CaBatch));

	dlist_init(&batch->done);
	initStringInfo(&batch->bytes);
	batch->nkeys = batch->nsticks = 0;
	batch->lsn = InvalidXLogRecPtr;
	MemoryContextSwitchTo(old);
	return batch;
}

static bool
batch_full(const CaBatch *batch)
{
	return batch->nkeys >= CA_BATCH_KEYS || batch->nsticks >= CA_BATCH_STICKS;
}

/* Opens the next payload of an in-memory commit in its cursor; false at the end. */
static bool
next_kept_payload(CaCommit *commit)
{
	uint32 len;

	if (commit->offset >= commit->entries.len)
		return false;
	memcpy(&len, commit->entries.data + commit->offset, sizeof(len));
	commit->offset += sizeof(len);
	ca_message_open(&commit->cursor, InvalidOid, commit->entries.data + commit->offset, len);
	commit->offset += len;
	return true;
}

/* The same for a large commit. The log being gone here ends the session: it is found at reconnect. */
static bool
next_reread_payload(CaCommit *commit)
{
	const char *payload;
	Size len;
	int found;

	if (reread == NULL)
	{
		reread = ca_reread_open(delivery_cxt, commit);
		reread_commit = commit;
	}
	found = ca_reread_next(reread, &payload, &len);
	if (found < 0)
		fail("the log of a large transaction is gone");
	return found > 0 && ca_message_open(&commit->cursor, InvalidOid, payload, len);
}

static bool
next_entry(CaCommit *commit, CaEntry *entry)
{
	while (commit->cursor.next == NULL || !ca_message_next(&commit->cursor, entry))
		if (!(commit->large ? next_reread_payload(commit) : next_kept_payload(commit)))
			return false;
	return true;
}

static void
add_stick(CaBatch *batch, const CaCommit *commit, const CaEntry *entry)
{
	static const char prefix[] = "cache_aside:stick:";
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
note_crash(CaCommit *commit)
{
	if (sent.async || async_seen)
		commit->resync = ca_resync_request(
			CA_SURVEY_ALL, "the server crashed, and asynchronous commits may be lost");
	else
		commit->resync = ca_resync_request(CA_SURVEY_UNLOGGED, "the server crashed");
}

static void
add_entry(CaBatch *batch, CaCommit *commit, const CaEntry *entry)
{
	switch (entry->kind)
	{
		case CA_ENTRY_KEY:
			add_key(batch, commit, entry);
			break;
		case CA_ENTRY_PATTERN:
			commit->scan = Max(commit->scan, ca_scan_request(entry->data, entry->len));
			ca_redelete_note(CA_ENTRY_PATTERN, entry->data, entry->len, commit->end);
			ca_status_now.patterns++;
			break;
		case CA_ENTRY_RESYNC:
			commit->resync = ca_resync_request(CA_SURVEY_ALL, "it was asked for");
			break;
		case CA_ENTRY_CENSUS:
			ca_census_ask();
			break;
		case CA_ENTRY_CRASH:
			note_crash(commit);
			break;
		case CA_ENTRY_STICK:
			if (entry->len > sizeof(uint32))
				add_stick(batch, commit, entry);
			break;
	}
}

/* Moves as much of a commit as fits into the batch. */
static void
fill_from(CaBatch *batch, CaCommit *commit)
{
	CaEntry entry;

	while (!batch_full(batch))
	{
		if (next_entry(commit, &entry))
		{
			add_entry(batch, commit, &entry);
			continue;
		}
		if (failure[0])
			return;
		commit->sent = true;
		if (commit == reread_commit)
			stop_rereading();
		if (commit->unread)
			commit->resync = ca_resync_request(
				CA_SURVEY_ALL,
				"a transaction committed whose messages may lie before the log read");
		if (commit->scan == 0 && commit->resync == 0)
		{
			take_from_queue(commit);
			dlist_push_tail(&batch->done, &commit->node);
		}
		return;
	}
}

/* Small commits first: a hundred million keys of one transaction do not hold up everybody else's. */
static void
fill(CaBatch *batch)
{
	dlist_mutable_iter iter;
	CaCommit *large = reread_commit;

	dlist_foreach_modify (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (batch_full(batch) || failure[0])
			return;
		if (!commit->visible || commit->sent)
			continue;
		if (!commit->large)
			fill_from(batch, commit);
		else if (large == NULL)
			large = commit;
	}
	if (large && !batch_full(batch))
		fill_from(batch, large);
}

/* Commits whose last missing part was a scan or a resync that is done by now. */
static void
collect_scanned(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->sent && commit->scan <= ca_scan_done() && commit->resync <= ca_resync_done())
		{
			take_from_queue(commit);
			dlist_push_tail(&finished, &commit->node);
		}
	}
}

static void
compute_position(CaPosition *position)
{
	CaCommit *head = oldest_queued();
	XLogRecPtr open = ca_tap_oldest_open(tap);
	dlist_iter iter;

	*position = sent;
	position->confirmed = Max(head ? head->start : ca_tap_read_end(tap), sent.confirmed);
	position->restart = position->confirmed;
	if (!XLogRecPtrIsInvalid(open))
		position->restart = Min(position->restart, open);
	dlist_foreach (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		position->restart = Min(position->restart, commit->first);
	}
	position->async |= async_seen;
	position->sequence = sent.sequence + 1;
}

/* ---- answers ---- */

static void
note_delivered(CaBatch *batch)
{
	dlist_iter iter;

	dlist_foreach (iter, &batch->done)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		ca_sync_delivered(commit->start, commit->end);
		ca_status_latency(commit->time);
		ca_status_now.commits++;
	}
	for (int i = 0; i < batch->nkeys; i++)
		ca_redelete_note(CA_ENTRY_KEY, batch->bytes.data + batch->keys[i].offset,
						 batch->keys[i].len, batch->lsn);
	ca_status_now.keys += batch->nkeys;
	ca_status_now.batches++;
	acked = batch->position;
	CA_DEBUG_POINT("batch-answered");
	if (acked.state == CA_POSITION_OK) /* else a resync stands for some of what lies below */
		ca_sync_confirmed(acked.confirmed);
	ca_sync_async_recorded(acked.async);
}

/* The part of any answer to a batch, epoch or arming that is the same: true if it went well. */
static bool
answered_well(const CaReply *reply)
{
	Size len;

	if (reply == NULL)
		fail("connection lost");
	else if (ca_reply_type(reply) == CA_REPLY_ERROR)
	{
		ca_status_now.reply_errors++;
		fail(ca_reply_text(reply, &len));
	}
	return failure[0] == '\0';
}

static void
handle_answer(void *arg, const CaReply *reply)
{
	CaBatch *batch = arg;
	CaApplied applied;

	dlist_delete(&batch->node);
	in_flight--;
	if (answered_well(reply) && !ca_apply_read(reply, &applied))
		fail("unexpected answer to a batch");
	if (failure[0] == '\0')
	{
		ca_status_now.skipped += applied.failed_sticks;
		note_delivered(batch);
		if (armed && !applied.guarded)
			armed = false; /* evicted: made anew by the next arming */
	}
	free_batch(batch);
}

static void
send_batch(CaBatch *batch)
{
	while (!dlist_is_empty(&finished))
		dlist_push_tail(&batch->done, dlist_pop_head_node(&finished));
	compute_position(&batch->position);
	CA_DEBUG_POINT("batch-begins");
	dlist_push_tail(&flight, &batch->node);
	in_flight++;
	ca_apply_send(redis, batch, expected, handle_answer);
	CA_DEBUG_POINT("batch-sent");
	ca_position_format(&batch->position, expected);
	sent = batch->position;
	marked = false;
	last_sent = GetCurrentTimestamp();
}

/*
 * Sends what is visible, as long as the pipeline has room. Returns the number of batches sent.
 */
int
ca_delivery_send(void)
{
	int batches = 0;

	collect_scanned();
	while (in_flight < PIPELINE && failure[0] == '\0')
	{
		CaBatch *batch = make_batch();

		fill(batch);
		if (failure[0] || (batch->nkeys == 0 && batch->nsticks == 0 &&
						   dlist_is_empty(&batch->done) && dlist_is_empty(&finished)))
		{
			free_batch(batch);
			break;
		}
		send_batch(batch);
		batches++;
	}
	ca_status_now.oldest = oldest_queued() ? oldest_queued()->time : 0;
	return batches;
}

/* ---- guard ---- */

/* An answer to an epoch or an arming; `arg` is not NULL for the latter. */
static void
handle_guard(void *arg, const CaReply *reply)
{
	if (answered_well(reply) && arg)
		armed = true;
}

/*
 * Raises the guard's floor to the end of what was read, in one call with the position: every fill
 * whose snapshot is older is refused from here on, so that nothing returns behind a scan. `clear`:
 * the buckets start anew, because LSNs of another timeline are in them.
 */
void
ca_delivery_raise_floor(bool clear)
{
	char formatted[CA_POSITION_TEXT];
	CaPosition next;

	if (!ca_apply_guarded())
		return;
	compute_position(&next);
	next.confirmed = sent.confirmed; /* this call delivers nothing */
	next.restart = Min(next.restart, sent.restart);
	ca_position_format(&next, formatted);
	ca_guard_epoch(redis, expected, formatted, ca_tap_read_end(tap), clear, handle_guard, NULL);
	strlcpy(expected, formatted, sizeof(expected));
	sent = next;
}

/*
 * Admits fills, once everything visible up to `caught_up_to` was sent (Redis applies it first). A
 * guard that is missing is made with the end of what was read as floor: all that was delivered before
 * lies at or below it.
 */
bool
ca_delivery_arm(XLogRecPtr caught_up_to)
{
	static char yes;
	dlist_iter iter;

	dlist_foreach (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->end > caught_up_to)
			break;
		if (commit->visible)
			return false;
	}
	ca_guard_arm(redis, expected, ca_tap_read_end(tap), handle_guard, &yes);
	return true;
}

bool
ca_delivery_armed(void)
{
	return armed;
}

/* The position alone, so that the log behind it can go and waiting backends learn where we are. */
void
ca_delivery_heartbeat(bool now)
{
	CaPosition next;

	if (in_flight > 0 || failure[0])
		return;
	compute_position(&next);
	if (next.confirmed == sent.confirmed && next.restart == sent.restart && !marked && !armed)
		return; /* armed: a heartbeat also finds out whether the guard is still there */
	if (!(now && next.confirmed != sent.confirmed) && !marked &&
		next.confirmed - sent.confirmed < HEARTBEAT_BYTES &&
		!TimestampDifferenceExceeds(last_sent, GetCurrentTimestamp(), HEARTBEAT_MS))
		return;
	send_batch(make_batch());
}
