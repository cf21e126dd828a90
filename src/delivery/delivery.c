/*
 * delivery.c: batches to Redis, their acknowledgement, and the position that says how far we are.
 *
 * Input: the queue of visible commits (queue.c, batch.c). Output: batches of at most CA_BATCH_KEYS
 * keys, each one atomic call (apply.c), several of them in the pipeline.
 *
 * The position a batch writes is the one that is true once this batch and all before it are applied:
 * confirmed lies just before the first commit not completely sent (else at the end of what was
 * read), restart before the first message of anything unfinished. Redis executes in order and each
 * batch checks its predecessor's position, so a failed batch stops all later ones. After any failure
 * everything here is forgotten and read again from the position in Redis: nothing is lost if we die
 * between any two lines, and a key may be deleted twice, which is harmless.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/redelete.h"

#include "lib/ilist.h"
#include "utils/timestamp.h"

#define PIPELINE 16
#define HEARTBEAT_MS 1000
#define LIVES_MS 2000 /* Redis before 7: the position says that its server lives */
#define HEARTBEAT_BYTES (16 * 1024 * 1024)

static CaTap *tap;
static CaRedis *redis;
static dlist_head flight = DLIST_STATIC_INIT(flight); /* batches without an answer */
static int in_flight;
static dlist_head finished = DLIST_STATIC_INIT(finished); /* completed by a scan: next batch's */
static CaPosition sent;                                   /* as of the last batch sent */
static CaPosition acked;                                  /* as of the last one answered */
static char expected[CA_POSITION_TEXT];
static TimestampTz last_sent;
static bool armed;   /* guarded fills are admitted */
static bool arming;  /* an arming was sent and is not answered yet */
static bool marked;  /* state or barrier changed since the last position */
static bool looking; /* at the position; it must be this: */
static char looked_for[CA_POSITION_TEXT];
static char failure[256];   /* empty: none */
static XLogRecPtr begun_at; /* where the session began */

/* ---- life of a session ---- */

/* The connection is closed by now, so that no handler will see a batch freed here. */
void
ca_delivery_reset(void)
{
	while (!dlist_is_empty(&flight))
		ca_batch_free(dlist_container(CaBatch, node, dlist_pop_head_node(&flight)));
	while (!dlist_is_empty(&finished))
		ca_committed_free(dlist_container(CaCommit, node, dlist_pop_head_node(&finished)));
	ca_queue_reset();
	ca_batch_reset();
	in_flight = 0;
	failure[0] = '\0';
	tap = NULL;
	redis = NULL;
}

/* `position` is what Redis holds now, `stored` its exact text (empty: Redis holds none). */
void
ca_delivery_start(CaTap *new_tap, CaRedis *new_redis, const CaPosition *position,
				  const char *stored)
{
	tap = new_tap;
	redis = new_redis;
	sent = acked = *position;
	begun_at = position->confirmed;
	strlcpy(expected, stored, sizeof(expected));
	last_sent = 0;
	armed = arming = looking = false;
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

void
ca_delivery_cover(const CaKeyspace *keyspace)
{
	sent.keyspace = *keyspace;
}

void
ca_delivery_raise_barrier(uint64 barrier)
{
	ca_delivery_mark(sent.state, barrier);
}

uint64
ca_delivery_barrier(void)
{
	return sent.barrier;
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

bool
ca_delivery_idle(void)
{
	return ca_queue_oldest() == NULL && in_flight == 0 && dlist_is_empty(&finished);
}

bool
ca_delivery_unanswered(void)
{
	return in_flight > 0;
}

bool
ca_delivery_owes(const CaAwaited *awaited)
{
	dlist_iter iter;

	/* What was not read, a resync makes good. */
	if (acked.state == CA_POSITION_PENDING && awaited->lsn <= begun_at)
		return true;
	dlist_foreach (iter, &flight)
		if (ca_queue_owes(&dlist_container(CaBatch, node, iter.cur)->done, awaited))
			return true;
	return ca_queue_owes(ca_queue_list(), awaited) || ca_queue_owes(&finished, awaited);
}

static void
take_older(TimestampTz *oldest, dlist_head *commits)
{
	TimestampTz time;

	if (dlist_is_empty(commits))
		return;
	time = dlist_container(CaCommit, node, dlist_head_node(commits))->time;
	if (*oldest == 0 || time < *oldest)
		*oldest = time;
}

TimestampTz
ca_delivery_oldest(void)
{
	TimestampTz oldest = 0;
	dlist_iter iter;

	dlist_foreach (iter, &flight)
		take_older(&oldest, &dlist_container(CaBatch, node, iter.cur)->done);
	take_older(&oldest, &finished);
	take_older(&oldest, ca_queue_list());
	return oldest;
}

const CaPosition *
ca_delivery_position(void)
{
	return &acked;
}

/* Commits whose last missing part was a scan or a resync that is done by now. */
static void
collect_scanned(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, ca_queue_list())
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->sent && commit->scan <= ca_scan_done() && commit->resync <= ca_resync_done())
		{
			ca_queue_take(commit);
			dlist_push_tail(&finished, &commit->node);
		}
	}
}

static void
compute_position(CaPosition *position)
{
	CaCommit *head = ca_queue_oldest();
	XLogRecPtr open = ca_tap_oldest_open(tap);
	XLogRecPtr queued = ca_queue_first_message();

	*position = sent;
	position->confirmed = Max(head ? head->start : ca_tap_read_end(tap), sent.confirmed);
	/* A session begins to read before what is confirmed: what it will read is not known yet. */
	position->restart = Min(position->confirmed, ca_tap_read_end(tap));
	if (!XLogRecPtrIsInvalid(open))
		position->restart = Min(position->restart, open);
	if (!XLogRecPtrIsInvalid(queued))
		position->restart = Min(position->restart, queued);
	position->async |= ca_queue_async();
	ca_tap_mark(tap, position);
	position->sequence = sent.sequence + 1;
}

/* ---- answers ---- */

/* Unless a resync stands for some of what lies below, or another Redis may still be armed. */
static void
tell_confirmed(void)
{
	if (acked.state == CA_POSITION_OK && !ca_arming_untold())
		ca_sync_confirmed(acked.confirmed);
}

static void
note_delivered(CaBatch *batch)
{
	dlist_iter iter;

	dlist_foreach (iter, &batch->done)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (!ca_arming_untold() && commit->others == 0)
			ca_sync_delivered(commit->start, commit->end);
		ca_status_latency(commit->time);
		ca_status_now.commits += 1 + commit->others;
	}
	for (int i = 0; i < batch->nkeys; i++)
		ca_redelete_note(CA_ENTRY_KEY, batch->bytes.data + batch->keys[i].offset,
						 batch->keys[i].len, batch->lsn);
	ca_sync_wake();
	ca_status_now.keys += batch->nkeys;
	ca_status_now.batches++;
	acked = batch->position;
	CA_DEBUG_POINT("batch-answered");
	tell_confirmed();
	ca_sync_async_recorded(acked.async);
}

bool
ca_delivery_tell(void)
{
	tell_confirmed();
	return !ca_arming_untold() && ca_sync_answer(ca_tap_read_end(tap), ca_delivery_owes);
}

/* The part of any answer to a batch, epoch or arming that is the same: true if it went well. */
static bool
answered_well(const CaReply *reply)
{
	Size len;

	if (reply == NULL)
		fail("connection lost");
	else if (ca_redis_reply_type(reply) == CA_REPLY_ERROR)
	{
		ca_status_now.reply_errors++;
		fail(ca_redis_reply_text(reply, &len));
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
	ca_batch_free(batch);
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
 * Sends what is visible, as long as the pipeline has room. Returns the number of batches sent, or more
 * if there is more to do at once.
 */
int
ca_delivery_send(void)
{
	int batches = 0;

	collect_scanned();
	while (in_flight < PIPELINE && failure[0] == '\0')
	{
		CaBatch *batch = ca_batch_make();

		if (!ca_batch_fill(batch, ca_delivery_position()->async))
		{
			ca_breaker_gap();
			fail("the log of a large transaction is gone");
		}
		if (failure[0] || (batch->nkeys == 0 && batch->nsticks == 0 &&
						   dlist_is_empty(&batch->done) && dlist_is_empty(&finished)))
		{
			ca_batch_free(batch);
			break;
		}
		send_batch(batch);
		batches++;
	}
	return batches + ca_batch_unfinished();
}

/* ---- guard ---- */

/* An answer to an epoch, or to an arming or a renewal; `arg` is not NULL for the latter two. */
static void
handle_guard(void *arg, const CaReply *reply)
{
	CaArming answer;

	if (arg)
		arming = false;
	if (!answered_well(reply) || !arg)
		return;
	if (!ca_guard_read_arming(reply, &answer))
	{
		fail("unexpected answer to an arming");
		return;
	}
	armed = answer.admits;
	ca_arming_answered(&answer);
	if (answer.renewed)
		ca_contest_renewed(&answer);
}

/* `arg`: the text that must be there */
static void
handle_look(void *arg, const CaReply *reply)
{
	Size len = 0;
	const char *found = "";

	looking = false;
	if (!answered_well(reply))
		return;
	if (ca_redis_reply_type(reply) == CA_REPLY_STRING)
		found = ca_redis_reply_text(reply, &len);
	if (len != strlen(looked_for) || memcmp(found, looked_for, len) != 0)
		fail("the position is not the expected one");
}

/* Nothing but the position tells an idle worker that other data are here (SWAPDB, FLUSHDB). */
static void
look_at_position(void)
{
	const char *argv[] = {"GET", ca_position_key()};
	size_t len[] = {3, strlen(argv[1])};

	if (looking)
		return;
	strlcpy(looked_for, expected, sizeof(looked_for));
	ca_redis_send(redis, 2, argv, len, handle_look, NULL);
	looking = true;
}

/*
 * The claim goes on, and with it the arming; whether the guard is still there is known, a missing one is
 * made anew. What another system deleted is heard of here.
 */
void
ca_delivery_renew(void)
{
	static char yes;
	XLogRecPtr end = ca_tap_read_end(tap);
	XLogRecPtr above;
	int64 heard;

	if (!ca_apply_guarded())
	{
		marked |= armed; /* it was switched off: the next batch takes the guard away */
		armed = false;
	}
	if (arming || failure[0] || !ca_arming_renewal_due(end))
		return;
	if (!ca_apply_guarded())
		look_at_position();
	if (!ca_apply_has_functions())
		return;
	heard = ca_arming_heard(end, &above);
	ca_guard_renew(redis, ca_arming_until(), heard, Max(above, sent.seen), handle_guard, &yes);
	arming = true;
}

/*
 * Raises the guard's floor to the end of what was read, in one call with the position: every fill
 * whose snapshot is older is refused from here on, so that nothing returns behind a scan (nor is that of
 * another log on this timeline admitted: see position.c for why `seen` may be above it). `clear`:
 * the buckets start anew, because LSNs of another timeline are in them.
 */
void
ca_delivery_raise_floor(bool clear)
{
	char formatted[CA_POSITION_TEXT];
	CaPosition next;

	if (!ca_apply_guarded() && !(ca_contest_second() && ca_apply_has_functions()))
		return;
	compute_position(&next);
	next.confirmed = sent.confirmed; /* this call delivers nothing */
	next.restart = Min(next.restart, sent.restart);
	ca_position_format(&next, formatted);
	ca_guard_epoch(redis, expected, formatted, next.seen, clear && ca_apply_guarded(), handle_guard,
				   NULL);
	strlcpy(expected, formatted, sizeof(expected));
	sent = next;
}

/*
 * Admits fills, once everything visible up to `caught_up_to` was sent (Redis applies it first). A
 * guard that is missing is made with the end of what was read as floor: all that was delivered before
 * lies at or below it.
 */
void
ca_delivery_arm(XLogRecPtr caught_up_to)
{
	static char yes;
	dlist_iter iter;

	if (armed || arming)
		return;
	dlist_foreach (iter, ca_queue_list())
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->start >= caught_up_to)
			break;
		if (commit->visible)
			return;
	}
	ca_guard_arm(redis, expected, Max(ca_tap_read_end(tap), sent.seen), ca_arming_until(),
				 handle_guard, &yes);
	arming = true;
}

/* The position alone, so that the log behind it can go and waiting backends learn where we are. */
void
ca_delivery_heartbeat(bool now)
{
	CaPosition next;

	if (in_flight > 0 || failure[0])
		return;
	compute_position(&next);
	if (next.confirmed == sent.confirmed && next.restart == sent.restart && !marked &&
		(ca_apply_has_functions() ||
		 !TimestampDifferenceExceeds(last_sent, GetCurrentTimestamp(), LIVES_MS)))
		return;
	if (!(now && next.confirmed != sent.confirmed) && !marked &&
		next.confirmed - sent.confirmed < HEARTBEAT_BYTES &&
		!TimestampDifferenceExceeds(last_sent, GetCurrentTimestamp(), HEARTBEAT_MS))
		return;
	send_batch(ca_batch_make());
}
