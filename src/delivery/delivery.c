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
#include "delivery/sink.h"

#include "lib/ilist.h"
#include "utils/timestamp.h"

#define PIPELINE 16
#define HEARTBEAT_MS 1000
#define LIVES_MS 2000 /* Redis before 7: the position says that its server lives */
#define HEARTBEAT_BYTES (16 * 1024 * 1024)

static uint64 delivered; /* commits, by this process */

/* ---- life of a session ---- */

/* The connection is closed by now, so that no handler will see a batch freed here. */
void
ca_delivery_reset(CaSink *sink)
{
	while (!dlist_is_empty(&sink->delivery.flight))
		ca_batch_free(dlist_container(CaBatch, node, dlist_pop_head_node(&sink->delivery.flight)));
	while (!dlist_is_empty(&sink->delivery.finished))
		ca_committed_free(
			dlist_container(CaCommit, node, dlist_pop_head_node(&sink->delivery.finished)));
	sink->delivery.in_flight = 0;
	sink->delivery.failure[0] = '\0';
	sink->delivery.redis = NULL;
}

/* `position` is what Redis holds now, `stored` its exact text (empty: Redis holds none). */
void
ca_delivery_start(CaSink *sink, CaRedis *redis, const CaPosition *position, const char *stored)
{
	sink->delivery.redis = redis;
	sink->delivery.sent = sink->delivery.acked = *position;
	sink->delivery.begun_at = position->confirmed;
	strlcpy(sink->delivery.expected, stored, sizeof(sink->delivery.expected));
	sink->delivery.last_sent = 0;
	sink->delivery.keys = 0;
	sink->delivery.armed = sink->delivery.arming = sink->delivery.looking = false;
	sink->delivery.marked = true; /* write it at once: it may be absent, or of another timeline */
	ca_sync_connecting();
	ca_replicas_begin(sink);
}

/* The state that the next position carries; a heartbeat writes it. */
void
ca_delivery_mark(CaSink *sink, CaPositionState state, uint64 barrier)
{
	sink->delivery.sent.state = state;
	sink->delivery.sent.barrier = barrier;
	sink->delivery.marked = true;
}

void
ca_delivery_cover(CaSink *sink, const CaKeyspace *keyspace)
{
	sink->delivery.sent.keyspace = *keyspace;
}

void
ca_delivery_raise_barrier(CaSink *sink, uint64 barrier)
{
	ca_delivery_mark(sink, sink->delivery.sent.state, barrier);
}

uint64
ca_delivery_barrier(CaSink *sink)
{
	return sink->delivery.sent.barrier;
}

static void
fail(CaSink *sink, const char *reason)
{
	if (sink->delivery.failure[0] == '\0')
		strlcpy(sink->delivery.failure, reason, sizeof(sink->delivery.failure));
}

const char *
ca_delivery_error(CaSink *sink)
{
	return sink->delivery.failure[0] ? sink->delivery.failure : NULL;
}

bool
ca_delivery_idle(CaSink *sink)
{
	return ca_queue_oldest() == NULL && sink->delivery.in_flight == 0 &&
		   dlist_is_empty(&sink->delivery.finished);
}

uint64
ca_delivery_commits(void)
{
	return delivered;
}

/* Have keys been acknowledged in this session? */
bool
ca_delivery_began(CaSink *sink)
{
	return sink->delivery.keys > 0;
}

int
ca_delivery_in_flight(CaSink *sink)
{
	return sink->delivery.in_flight;
}

/* Is there something sent and unacknowledged of it? Everything up to its LSN has been read. */
bool
ca_delivery_owes(CaSink *sink, const CaAwaited *awaited)
{
	dlist_iter iter;

	/* What was not read, a resync makes good. */
	if (sink->delivery.acked.state == CA_POSITION_PENDING &&
		awaited->lsn <= sink->delivery.begun_at)
		return true;
	dlist_foreach (iter, &sink->delivery.flight)
		if (ca_queue_owes(&dlist_container(CaBatch, node, iter.cur)->done, awaited))
			return true;
	return ca_queue_owes(&sink->delivery.finished, awaited);
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
ca_delivery_oldest(CaSink *sink)
{
	TimestampTz oldest = 0;
	dlist_iter iter;

	dlist_foreach (iter, &sink->delivery.flight)
		take_older(&oldest, &dlist_container(CaBatch, node, iter.cur)->done);
	take_older(&oldest, &sink->delivery.finished);
	take_older(&oldest, ca_queue_list());
	return oldest;
}

const CaPosition *
ca_delivery_position(CaSink *sink)
{
	return &sink->delivery.acked;
}

/* Commits whose last missing part was a scan or a resync that is done by now. */
static void
collect_scanned(CaSink *sink)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, ca_queue_list())
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->sent && commit->scan <= ca_scan_done() && commit->resync <= ca_resync_done())
		{
			ca_queue_take(commit);
			dlist_push_tail(&sink->delivery.finished, &commit->node);
		}
	}
}

static void
compute_position(CaSink *sink, const CaTap *tap, CaPosition *position)
{
	CaCommit *head = ca_queue_oldest();
	XLogRecPtr open = ca_tap_oldest_open(tap);
	XLogRecPtr queued = ca_queue_first_message();

	*position = sink->delivery.sent;
	position->confirmed =
		Max(head ? head->start : ca_tap_read_end(tap), sink->delivery.sent.confirmed);
	/* A session begins to read before what is confirmed: what it will read is not known yet. */
	position->restart = Min(position->confirmed, ca_tap_read_end(tap));
	if (!XLogRecPtrIsInvalid(open))
		position->restart = Min(position->restart, open);
	if (!XLogRecPtrIsInvalid(queued))
		position->restart = Min(position->restart, queued);
	position->async |= ca_queue_async();
	ca_tap_mark(tap, position);
	position->sequence = sink->delivery.sent.sequence + 1;
}

/* ---- answers ---- */

/* Unless a resync stands for some of what lies below, or another Redis may still be armed. */
static void
tell_confirmed(CaSink *sink)
{
	if (sink->delivery.acked.state == CA_POSITION_OK && !ca_arming_untold(sink))
		ca_sync_confirmed(sink->delivery.acked.confirmed);
}

static void
note_delivered(CaSink *sink, CaBatch *batch)
{
	dlist_iter iter;

	ca_sync_hold_under(batch->wait);
	dlist_foreach (iter, &batch->done)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (!ca_arming_untold(sink) && commit->others == 0)
			ca_sync_delivered(commit->start, commit->end);
		ca_status_put_latency(commit->time);
		delivered += 1 + commit->others;
		ca_status_count(CA_COUNT_COMMITS, 1 + commit->others);
	}
	for (int i = 0; i < batch->nkeys; i++)
		ca_redelete_note(CA_ENTRY_KEY, batch->bytes.data + batch->keys[i].offset,
						 batch->keys[i].len, batch->lsn);
	ca_sync_wake();
	sink->delivery.keys += batch->nkeys;
	ca_status_count(CA_COUNT_BATCH_KEYS, batch->nkeys);
	ca_status_count(CA_COUNT_BATCHES, 1);
	sink->delivery.acked = batch->position;
	CA_DEBUG_POINT("batch-answered");
	tell_confirmed(sink);
	ca_sync_async_recorded(sink->delivery.acked.async);
}

bool
ca_delivery_tells(CaSink *sink)
{
	ca_sync_hold_under(ca_replicas_number(sink));
	tell_confirmed(sink);
	return !ca_arming_untold(sink);
}

/* The part of any answer to a batch, epoch or arming that is the same: true if it went well. */
static bool
answered_well(CaSink *sink, const CaReply *reply)
{
	Size len;

	if (reply == NULL)
		fail(sink, "connection lost");
	else if (ca_redis_reply_type(reply) == CA_REPLY_ERROR)
	{
		ca_status_count(CA_COUNT_BATCH_ERRORS, 1);
		fail(sink, ca_redis_reply_text(reply, &len));
	}
	return sink->delivery.failure[0] == '\0';
}

static void
handle_answer(void *arg, const CaReply *reply)
{
	CaBatch *batch = arg;
	CaSink *sink = batch->sink;
	CaApplied applied;

	dlist_delete(&batch->node);
	sink->delivery.in_flight--;
	if (answered_well(sink, reply) && !ca_apply_read(sink, reply, &applied))
		fail(sink, "unexpected answer to a batch");
	if (sink->delivery.failure[0] == '\0')
	{
		ca_status_count(CA_COUNT_SKIPPED, applied.failed_sticks);
		note_delivered(sink, batch);
		if (sink->delivery.armed && !applied.guarded)
			sink->delivery.armed = false; /* evicted: made anew by the next arming */
	}
	ca_batch_free(batch);
}

static void
send_batch(CaSink *sink, const CaTap *tap, CaBatch *batch)
{
	while (!dlist_is_empty(&sink->delivery.finished))
		dlist_push_tail(&batch->done, dlist_pop_head_node(&sink->delivery.finished));
	compute_position(sink, tap, &batch->position);
	CA_DEBUG_POINT("batch-begins");
	batch->wait = ca_replicas_number(sink);
	batch->sink = sink;
	dlist_push_tail(&sink->delivery.flight, &batch->node);
	sink->delivery.in_flight++;
	ca_apply_send(sink, sink->delivery.redis, batch, sink->delivery.expected, handle_answer);
	CA_DEBUG_POINT("batch-sent");
	ca_position_format(&batch->position, sink->delivery.expected);
	sink->delivery.sent = batch->position;
	sink->delivery.marked = false;
	sink->delivery.last_sent = GetCurrentTimestamp();
}

/*
 * Sends what is visible, as long as the pipeline has room. Returns the number of batches sent, or more
 * if there is more to do at once.
 */
int
ca_delivery_send(CaSink *sink, const CaTap *tap)
{
	int batches = 0;

	collect_scanned(sink);
	while (sink->delivery.in_flight < PIPELINE && sink->delivery.failure[0] == '\0')
	{
		CaBatch *batch = ca_batch_make(sink);

		if (!ca_batch_fill(batch, ca_delivery_position(sink)->async))
		{
			ca_breaker_gap();
			fail(sink, "the log of a large transaction is gone");
		}
		if (sink->delivery.failure[0] ||
			(batch->nkeys == 0 && batch->nsticks == 0 && dlist_is_empty(&batch->done) &&
			 dlist_is_empty(&sink->delivery.finished)))
		{
			ca_batch_free(batch);
			break;
		}
		send_batch(sink, tap, batch);
		batches++;
	}
	return batches + ca_batch_unfinished();
}

/* ---- guard ---- */

static void
handle_epoch(void *arg, const CaReply *reply)
{
	(void) answered_well(arg, reply);
}

/* An answer to an arming or a renewal */
static void
handle_guard(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	CaArming answer;

	sink->delivery.arming = false;
	if (!answered_well(sink, reply))
		return;
	if (!ca_guard_read_arming(reply, &answer))
	{
		fail(sink, "unexpected answer to an arming");
		return;
	}
	sink->delivery.armed = answer.admits;
	ca_arming_answered(sink, &answer);
	if (answer.renewed)
		ca_contest_renewed(sink, &answer);
}

/* `arg`: the text that must be there */
static void
handle_look(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	Size len = 0;
	const char *found = "";

	sink->delivery.looking = false;
	if (!answered_well(sink, reply))
		return;
	if (ca_redis_reply_type(reply) == CA_REPLY_STRING)
		found = ca_redis_reply_text(reply, &len);
	if (len != strlen(sink->delivery.looked_for) ||
		memcmp(found, sink->delivery.looked_for, len) != 0)
		fail(sink, "the position is not the expected one");
}

/* Nothing but the position tells an idle worker that other data are here (SWAPDB, FLUSHDB). */
static void
look_at_position(CaSink *sink)
{
	const char *argv[] = {"GET", ca_position_key()};
	size_t len[] = {3, strlen(argv[1])};

	if (sink->delivery.looking)
		return;
	strlcpy(sink->delivery.looked_for, sink->delivery.expected, sizeof(sink->delivery.looked_for));
	ca_redis_send(sink->delivery.redis, 2, argv, len, handle_look, sink);
	sink->delivery.looking = true;
}

/*
 * The claim goes on, and with it the arming; whether the guard is still there is known, a missing one is
 * made anew. What another system deleted is heard of here.
 */
void
ca_delivery_renew(CaSink *sink, XLogRecPtr read_end)
{
	XLogRecPtr above;
	int64 heard;

	if (!ca_apply_guarded(sink))
	{
		sink->delivery.marked |=
			sink->delivery.armed; /* it was switched off: the next batch takes the guard away */
		sink->delivery.armed = false;
	}
	if (sink->delivery.arming || sink->delivery.failure[0] ||
		!ca_arming_renewal_due(sink, read_end))
		return;
	if (!ca_apply_guarded(sink))
		look_at_position(sink);
	if (!ca_apply_has_functions(sink))
		return;
	heard = ca_arming_heard(sink, read_end, &above);
	ca_guard_renew(sink, sink->delivery.redis, ca_arming_until(sink), heard,
				   Max(above, sink->delivery.sent.seen), handle_guard, sink);
	sink->delivery.arming = true;
}

/*
 * Raises the guard's floor to the end of what was read, in one call with the position: every fill
 * whose snapshot is older is refused from here on, so that nothing returns behind a scan (nor is that of
 * another log on this timeline admitted: see position.c for why `seen` may be above it). `clear`:
 * the buckets start anew, because LSNs of another timeline are in them.
 */
void
ca_delivery_raise_floor(CaSink *sink, const CaTap *tap, bool clear)
{
	char formatted[CA_POSITION_TEXT];
	CaPosition next;

	if (!ca_apply_guarded(sink) && !(ca_contest_second(sink) && ca_apply_has_functions(sink)))
		return;
	compute_position(sink, tap, &next);
	next.confirmed = sink->delivery.sent.confirmed; /* this call delivers nothing */
	next.restart = Min(next.restart, sink->delivery.sent.restart);
	ca_position_format(&next, formatted);
	ca_guard_epoch(sink, sink->delivery.redis, sink->delivery.expected, formatted, next.seen,
				   clear && ca_apply_guarded(sink), handle_epoch, sink);
	strlcpy(sink->delivery.expected, formatted, sizeof(sink->delivery.expected));
	sink->delivery.sent = next;
}

/*
 * Admits fills, once everything visible up to `caught_up_to` was sent (Redis applies it first). A
 * guard that is missing is made with the end of what was read as floor: all that was delivered before
 * lies at or below it.
 */
void
ca_delivery_arm(CaSink *sink, XLogRecPtr caught_up_to, XLogRecPtr read_end)
{
	dlist_iter iter;

	if (sink->delivery.armed || sink->delivery.arming)
		return;
	dlist_foreach (iter, ca_queue_list())
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->start >= caught_up_to)
			break;
		if (commit->visible)
			return;
	}
	ca_guard_arm(sink, sink->delivery.redis, sink->delivery.expected,
				 Max(read_end, sink->delivery.sent.seen), ca_arming_until(sink), handle_guard,
				 sink);
	sink->delivery.arming = true;
}

/* The position alone, so that the log behind it can go and waiting backends learn where we are. */
void
ca_delivery_heartbeat(CaSink *sink, const CaTap *tap, bool now)
{
	CaPosition next;

	if (sink->delivery.in_flight > 0 || sink->delivery.failure[0])
		return;
	compute_position(sink, tap, &next);
	if (next.confirmed == sink->delivery.sent.confirmed &&
		next.restart == sink->delivery.sent.restart && !sink->delivery.marked &&
		(ca_apply_has_functions(sink) ||
		 !TimestampDifferenceExceeds(sink->delivery.last_sent, GetCurrentTimestamp(), LIVES_MS)))
		return;
	if (!(now && next.confirmed != sink->delivery.sent.confirmed) && !sink->delivery.marked &&
		next.confirmed - sink->delivery.sent.confirmed < HEARTBEAT_BYTES &&
		!TimestampDifferenceExceeds(sink->delivery.last_sent, GetCurrentTimestamp(), HEARTBEAT_MS))
		return;
	send_batch(sink, tap, ca_batch_make(sink));
}
