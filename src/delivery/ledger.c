/*
 * ledger.c: what one Redis was sent in this session, and what it has acknowledged.
 *
 * Batches without an answer, commits that the next batch completes, and three positions: the one of the last
 * acknowledgement, the one of the last call sent, and the one that the next call would write. A position says what is
 * true once its call and all before it are applied: confirmed lies just before the first commit not completely sent
 * (else at the end of what was read), restart before the first message of anything unfinished. Redis executes in order,
 * and each call names the position of the one before as the expected one; so one that fails stops all later ones. The
 * first failure is kept here and ends the session (session.c).
 *
 * Nothing here talks to Redis; delivery.c and admission.c do, and note it here. Of the worker alone.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "lib/ilist.h"
#include "utils/timestamp.h"

#define HEARTBEAT_MS 1000
#define LIVES_MS 2000 /* Redis before 7: the position says that its server lives */
#define HEARTBEAT_BYTES (16 * 1024 * 1024)

/* ---- life of a session ---- */

/* The connection is closed by now, so that no handler will see a batch freed here. */
void
ca_ledger_reset(CaSink *sink)
{
	while (!dlist_is_empty(&sink->ledger.flight))
		ca_batch_free(dlist_container(CaBatch, node, dlist_pop_head_node(&sink->ledger.flight)));
	while (!dlist_is_empty(&sink->ledger.finished))
		ca_committed_free(
			dlist_container(CaCommit, node, dlist_pop_head_node(&sink->ledger.finished)));
	sink->ledger.in_flight = 0;
	sink->ledger.failure[0] = '\0';
	sink->ledger.redis = NULL;
}

/* `position` is what Redis holds now, `stored` its exact text (empty: Redis holds none). */
void
ca_ledger_start(CaSink *sink, CaRedis *redis, const CaPosition *position, const char *stored)
{
	sink->ledger.redis = redis;
	sink->ledger.sent = sink->ledger.acked = *position;
	sink->ledger.begun_at = position->confirmed;
	strlcpy(sink->ledger.expected, stored, sizeof(sink->ledger.expected));
	sink->ledger.last_sent = 0;
	sink->ledger.keys = 0;
	sink->ledger.marked = true; /* write it at once: it may be absent, or of another timeline */
}

/* The connection that everything goes through */
CaRedis *
ca_ledger_redis(CaSink *sink)
{
	return sink->ledger.redis;
}

/* ---- failures ---- */

/* The first reason is the one that is told. */
void
ca_ledger_fail(CaSink *sink, const char *reason)
{
	if (sink->ledger.failure[0] == '\0')
		strlcpy(sink->ledger.failure, reason, sizeof(sink->ledger.failure));
}

/* What stopped the session, or NULL */
const char *
ca_ledger_error(CaSink *sink)
{
	return sink->ledger.failure[0] ? sink->ledger.failure : NULL;
}

/* Any answer: an error, or a lost connection, is the session's failure. True: it has none so far. */
bool
ca_ledger_take_answer(CaSink *sink, const CaReply *reply)
{
	Size len;

	if (reply == NULL)
		ca_ledger_fail(sink, "connection lost");
	else if (ca_redis_reply_type(reply) == CA_REPLY_ERROR)
	{
		ca_status_count(CA_COUNT_BATCH_ERRORS, 1);
		ca_ledger_fail(sink, ca_redis_reply_text(reply, &len));
	}
	return sink->ledger.failure[0] == '\0';
}

/* ---- questions ---- */

bool
ca_ledger_idle(CaSink *sink)
{
	return ca_queue_oldest() == NULL && sink->ledger.in_flight == 0 &&
		   dlist_is_empty(&sink->ledger.finished) && !ca_events_unsent(sink);
}

/* Have keys been acknowledged in this session? */
bool
ca_ledger_began(CaSink *sink)
{
	return sink->ledger.keys > 0;
}

int
ca_ledger_in_flight(CaSink *sink)
{
	return sink->ledger.in_flight;
}

/* Is there something sent and unacknowledged of it? Everything up to its LSN has been read. */
bool
ca_ledger_owes(CaSink *sink, const CaAwaited *awaited)
{
	dlist_iter iter;

	/* What was not read, a resync makes good. */
	if (sink->ledger.acked.state == CA_POSITION_PENDING && awaited->lsn <= sink->ledger.begun_at)
		return true;
	dlist_foreach (iter, &sink->ledger.flight)
		if (ca_queue_owes(&dlist_container(CaBatch, node, iter.cur)->done, awaited))
			return true;
	return ca_queue_owes(&sink->ledger.finished, awaited);
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
ca_ledger_oldest(CaSink *sink)
{
	TimestampTz oldest = 0;
	dlist_iter iter;

	dlist_foreach (iter, &sink->ledger.flight)
		take_older(&oldest, &dlist_container(CaBatch, node, iter.cur)->done);
	take_older(&oldest, &sink->ledger.finished);
	take_older(&oldest, ca_queue_list());
	return oldest;
}

/* As last acknowledged */
const CaPosition *
ca_ledger_acked(CaSink *sink)
{
	return &sink->ledger.acked;
}

/* Are there commits that the next batch completes? */
bool
ca_ledger_completes(CaSink *sink)
{
	return !dlist_is_empty(&sink->ledger.finished);
}

/* As of the last call sent */
const CaPosition *
ca_ledger_sent(CaSink *sink)
{
	return &sink->ledger.sent;
}

/* ---- the next position ---- */

/* The state that the next position carries; a heartbeat writes it. */
void
ca_ledger_mark(CaSink *sink, CaPositionState state, uint64 barrier)
{
	sink->ledger.sent.state = state;
	sink->ledger.sent.barrier = barrier;
	sink->ledger.marked = true;
}

void
ca_ledger_cover(CaSink *sink, const CaKeyspace *keyspace)
{
	sink->ledger.sent.keyspace = *keyspace;
}

void
ca_ledger_raise_barrier(CaSink *sink, uint64 barrier)
{
	ca_ledger_mark(sink, sink->ledger.sent.state, barrier);
}

uint64
ca_ledger_barrier(CaSink *sink)
{
	return sink->ledger.sent.barrier;
}

/* Commits whose last missing part was a scan or a resync that is done by now. */
void
ca_ledger_collect(CaSink *sink)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, ca_queue_list())
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->sent && commit->scan <= ca_scan_done() && commit->resync <= ca_resync_done())
		{
			ca_queue_take(commit);
			dlist_push_tail(&sink->ledger.finished, &commit->node);
		}
	}
}

/* The position that a call sent now would write */
void
ca_ledger_next(CaSink *sink, const CaTap *tap, CaPosition *position)
{
	CaCommit *head = ca_queue_oldest();
	XLogRecPtr open = ca_tap_oldest_open(tap);
	XLogRecPtr queued = ca_queue_first_message();

	*position = sink->ledger.sent;
	position->confirmed =
		Max(head ? head->start : ca_tap_read_end(tap), sink->ledger.sent.confirmed);
	/* A session begins to read before what is confirmed: what it will read is not known yet. */
	position->restart = Min(position->confirmed, ca_tap_read_end(tap));
	if (!XLogRecPtrIsInvalid(open))
		position->restart = Min(position->restart, open);
	if (!XLogRecPtrIsInvalid(queued))
		position->restart = Min(position->restart, queued);
	position->async |= ca_queue_async();
	position->events = *ca_events_mark(sink);
	ca_tap_mark(tap, position);
	position->sequence = sink->ledger.sent.sequence + 1;
}

/*
 * Is the position to be written without keys, so that the log behind it can go and waiting backends learn where we
 * are? `now`: somebody waits for it.
 */
bool
ca_ledger_due(CaSink *sink, const CaTap *tap, bool now)
{
	CaPosition next;
	bool marked;

	if (sink->ledger.in_flight > 0 || sink->ledger.failure[0])
		return false;
	ca_ledger_next(sink, tap, &next);
	marked = sink->ledger.marked || next.events.series != sink->ledger.sent.events.series ||
			 next.events.how != sink->ledger.sent.events.how;
	if (next.confirmed == sink->ledger.sent.confirmed &&
		next.restart == sink->ledger.sent.restart && !marked &&
		(ca_apply_has_functions(sink) ||
		 !TimestampDifferenceExceeds(sink->ledger.last_sent, GetCurrentTimestamp(), LIVES_MS)))
		return false;
	return (now && next.confirmed != sink->ledger.sent.confirmed) || marked ||
		   next.confirmed - sink->ledger.sent.confirmed >= HEARTBEAT_BYTES ||
		   TimestampDifferenceExceeds(sink->ledger.last_sent, GetCurrentTimestamp(), HEARTBEAT_MS);
}

/* ---- what is sent, what comes back ---- */

/* The position's text that Redis has to hold when the next call gets there */
const char *
ca_ledger_expected(CaSink *sink)
{
	return sink->ledger.expected;
}

/* A call that writes this position was sent. */
void
ca_ledger_expect(CaSink *sink, const CaPosition *position, const char *formatted)
{
	strlcpy(sink->ledger.expected, formatted, sizeof(sink->ledger.expected));
	sink->ledger.sent = *position;
}

/* A batch that is about to be sent: with what else is complete, and with its position. */
void
ca_ledger_enter(CaSink *sink, const CaTap *tap, CaBatch *batch)
{
	while (!dlist_is_empty(&sink->ledger.finished))
		dlist_push_tail(&batch->done, dlist_pop_head_node(&sink->ledger.finished));
	ca_ledger_next(sink, tap, &batch->position);
	dlist_push_tail(&sink->ledger.flight, &batch->node);
	sink->ledger.in_flight++;
}

/* It was sent. */
void
ca_ledger_note_sent(CaSink *sink, const CaBatch *batch, const char *position)
{
	ca_ledger_expect(sink, &batch->position, position);
	sink->ledger.marked = false;
	sink->ledger.last_sent = GetCurrentTimestamp();
}

/* It was answered, well or not; the caller has it. */
void
ca_ledger_leave(CaSink *sink, CaBatch *batch)
{
	dlist_delete(&batch->node);
	sink->ledger.in_flight--;
}

/* It was answered well. */
void
ca_ledger_acknowledge(CaSink *sink, const CaBatch *batch)
{
	sink->ledger.keys += batch->nkeys;
	sink->ledger.acked = batch->position;
}
