/*
 * delivery.c: batches to Redis, and their acknowledgement.
 *
 * Input: the queue of visible commits (queue.c, batch.c). Output: batches of at most CA_BATCH_KEYS
 * keys, each one atomic call (apply.c), several of them in the pipeline, each with the position that is true once it
 * is applied (ledger.c). After any failure everything sent is forgotten and read again from the position in Redis:
 * nothing is lost if we die between any two lines, and a key may be deleted twice, which is harmless.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "delivery/redelete.h"
#include "delivery/sink.h"

#include "lib/ilist.h"
#include "utils/timestamp.h"

#define PIPELINE 16

/* `position` is what Redis holds now, `stored` its exact text (empty: Redis holds none). */
void
ca_delivery_start(CaSink *sink, CaRedis *redis, const CaPosition *position, const char *stored)
{
	ca_ledger_start(sink, redis, position, stored);
	ca_admission_start(sink);
	ca_events_begin(sink, &position->events);
	ca_sync_connecting();
	ca_replicas_begin(sink);
}

/* ---- answers ---- */

/* Unless a resync stands for some of what lies below, or another Redis may still be armed. */
static void
tell_confirmed(CaSink *sink)
{
	if (ca_ledger_acked(sink)->state == CA_POSITION_OK && !ca_arming_untold(sink))
		ca_sync_confirmed(ca_ledger_acked(sink)->confirmed);
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
		ca_status_count(CA_COUNT_COMMITS, 1 + commit->others);
	}
	for (int i = 0; i < batch->nkeys; i++)
		ca_redelete_note(CA_ENTRY_KEY, batch->bytes.data + batch->keys[i].offset,
						 batch->keys[i].len, batch->lsn);
	ca_sync_wake();
	ca_status_count(CA_COUNT_BATCH_KEYS, batch->nkeys);
	ca_status_count(CA_COUNT_BATCHES, 1);
	ca_ledger_acknowledge(sink, batch);
	CA_DEBUG_POINT("batch-answered");
	tell_confirmed(sink);
	ca_sync_async_recorded(ca_ledger_acked(sink)->async);
}

bool
ca_delivery_tells(CaSink *sink)
{
	ca_sync_hold_under(ca_replicas_number(sink));
	tell_confirmed(sink);
	return !ca_arming_untold(sink);
}

static void
handle_answer(void *arg, const CaReply *reply)
{
	CaBatch *batch = arg;
	CaSink *sink = batch->sink;
	CaApplied applied;

	ca_ledger_leave(sink, batch);
	ca_events_judge(sink, reply);
	if (ca_ledger_take_answer(sink, reply) && !ca_apply_read(sink, reply, &applied))
		ca_ledger_fail(sink, "unexpected answer to a batch");
	if (ca_ledger_error(sink) == NULL)
	{
		ca_lost_sticks_skipped(sink, applied.failed_sticks);
		ca_events_answered(sink, batch, &applied);
		note_delivered(sink, batch);
		if (!applied.guarded)
			ca_admission_lost(sink);
	}
	ca_batch_free(batch);
}

/* ---- sending ---- */

static void
send_batch(CaSink *sink, const CaTap *tap, CaBatch *batch)
{
	char position[CA_POSITION_TEXT];

	batch->wait = ca_replicas_number(sink);
	batch->sink = sink;
	ca_ledger_enter(sink, tap, batch);
	ca_events_compose(sink, tap, batch);
	ca_position_format(&batch->position, position);
	CA_DEBUG_POINT("batch-begins");
	ca_apply_send(sink, ca_ledger_redis(sink), batch, ca_ledger_expected(sink), position,
				  handle_answer);
	CA_DEBUG_POINT("batch-sent");
	ca_ledger_note_sent(sink, batch, position);
}

bool
ca_delivery_full(CaSink *sink)
{
	return ca_ledger_in_flight(sink) >= PIPELINE;
}

/* Of events, once: an empty batch. */
static void
send_probe(CaSink *sink, const CaTap *tap)
{
	CaBatch *batch;

	if (ca_delivery_full(sink) || ca_ledger_error(sink) || !ca_events_probe(sink))
		return;
	batch = ca_batch_make(sink);
	batch->probe = true;
	send_batch(sink, tap, batch);
}

/*
 * Sends what is visible, as long as the pipeline has room. True: there is more to do at once. What has no
 * room waits for an answer, which is an event.
 */
bool
ca_delivery_send(CaSink *sink, const CaTap *tap)
{
	if (ca_events_step(sink))
	{
		send_probe(sink, tap);
		return false;
	}
	while (!ca_delivery_full(sink) && ca_ledger_error(sink) == NULL)
	{
		CaBatch *batch = ca_batch_make(sink);

		ca_events_take(sink, batch);
		if (!ca_events_unsent(sink)) /* who waits for a scan is done when others know of it */
			ca_ledger_collect(sink);
		if (!ca_batch_fill(batch, ca_ledger_acked(sink)->async))
		{
			ca_breaker_gap();
			ca_ledger_fail(sink, "the log of a large transaction is gone");
		}
		if (ca_ledger_error(sink) ||
			(batch->nkeys == 0 && batch->nsticks == 0 && dlist_is_empty(&batch->done) &&
			 batch->notes == 0 && !ca_ledger_completes(sink)))
		{
			ca_batch_free(batch);
			break;
		}
		send_batch(sink, tap, batch);
	}
	return ca_batch_unfinished();
}

void
ca_delivery_heartbeat(CaSink *sink, const CaTap *tap, bool now)
{
	if (ca_ledger_due(sink, tap, now))
		send_batch(sink, tap, ca_batch_make(sink));
}
