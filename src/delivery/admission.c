/*
 * admission.c: when fills are admitted: the guard's floor, its arming, and its renewal.
 *
 * Calls of the function library that change the guard without delivering anything. What they mean and why the guard
 * holds is said in the library; arming.c has the times. Without functions, or with guard = off, there is no guard:
 * what is left of a renewal is a look at the position, for nothing else tells an idle worker that other data are here
 * (SWAPDB, FLUSHDB).
 *
 * An answer that is an error, or is not what was expected, ends the session (ledger.c). Of the worker alone.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "lib/ilist.h"

/* A session begins: nothing was asked of this Redis yet. */
void
ca_admission_start(CaSink *sink)
{
	sink->admission.armed = sink->admission.arming = sink->admission.looking = false;
}

/* A batch found no guard: evicted, or switched off. The next arming makes it anew. */
void
ca_admission_lost(CaSink *sink)
{
	sink->admission.armed = false;
}

static void
handle_epoch(void *arg, const CaReply *reply)
{
	(void) ca_ledger_take_answer(arg, reply);
}

/* An answer to an arming or a renewal */
static void
handle_guard(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	CaArming answer;

	sink->admission.arming = false;
	if (!ca_ledger_take_answer(sink, reply))
		return;
	if (!ca_guard_read_arming(reply, &answer))
	{
		ca_ledger_fail(sink, "unexpected answer to an arming");
		return;
	}
	sink->admission.armed = answer.admits;
	ca_arming_answered(sink, &answer);
	if (answer.renewed)
		ca_contest_renewed(sink, &answer);
}

static void
handle_look(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	Size len = 0;
	const char *found = "";

	sink->admission.looking = false;
	if (!ca_ledger_take_answer(sink, reply))
		return;
	if (ca_redis_reply_type(reply) == CA_REPLY_STRING)
		found = ca_redis_reply_text(reply, &len);
	if (len != strlen(sink->admission.looked_for) ||
		memcmp(found, sink->admission.looked_for, len) != 0)
		ca_ledger_fail(sink, "the position is not the expected one");
}

static void
look_at_position(CaSink *sink)
{
	const char *argv[] = {"GET", ca_position_key()};
	size_t len[] = {3, strlen(argv[1])};

	if (sink->admission.looking)
		return;
	strlcpy(sink->admission.looked_for, ca_ledger_expected(sink),
			sizeof(sink->admission.looked_for));
	ca_redis_send(ca_ledger_redis(sink), 2, argv, len, handle_look, sink);
	sink->admission.looking = true;
}

/*
 * The claim goes on, and with it the arming; whether the guard is still there is known, a missing one is
 * made anew. What another system deleted is heard of here.
 */
void
ca_admission_renew(CaSink *sink, XLogRecPtr read_end)
{
	XLogRecPtr above;
	int64 heard;

	if (!ca_apply_guarded(sink))
	{
		if (sink->admission.armed) /* it was switched off: the next batch takes the guard away */
			ca_ledger_mark(sink, ca_ledger_sent(sink)->state, ca_ledger_sent(sink)->barrier);
		sink->admission.armed = false;
	}
	if (sink->admission.arming || ca_ledger_error(sink) || !ca_arming_renewal_due(sink, read_end))
		return;
	if (!ca_apply_guarded(sink))
		look_at_position(sink);
	if (!ca_apply_has_functions(sink))
		return;
	heard = ca_arming_heard(sink, read_end, &above);
	ca_guard_renew(sink, ca_ledger_redis(sink), ca_arming_extend(sink), heard,
				   Max(above, ca_ledger_sent(sink)->seen), handle_guard, sink);
	sink->admission.arming = true;
}

/*
 * Raises the guard's floor to the end of what was read, in one call with the position: every fill
 * whose snapshot is older is refused from here on, so that nothing returns behind a scan (nor is that of
 * another log on this timeline admitted: see position.c for why `seen` may be above it). `clear`:
 * the buckets start anew, because LSNs of another timeline are in them.
 */
void
ca_admission_raise_floor(CaSink *sink, const CaTap *tap, bool clear)
{
	char formatted[CA_POSITION_TEXT];
	CaPosition next;

	if (!ca_apply_guarded(sink) && !(ca_contest_second(sink) && ca_apply_has_functions(sink)))
		return;
	ca_ledger_next(sink, tap, &next);
	next.confirmed = ca_ledger_sent(sink)->confirmed; /* this call delivers nothing */
	next.restart = Min(next.restart, ca_ledger_sent(sink)->restart);
	ca_position_format(&next, formatted);
	ca_guard_epoch(sink, ca_ledger_redis(sink), ca_ledger_expected(sink), formatted, next.seen,
				   clear && ca_apply_guarded(sink), handle_epoch, sink);
	ca_ledger_expect(sink, &next, formatted);
}

/*
 * Admits fills, once everything visible up to `caught_up_to` was sent (Redis applies it first). A
 * guard that is missing is made with the end of what was read as floor: all that was delivered before
 * lies at or below it.
 */
void
ca_admission_arm(CaSink *sink, XLogRecPtr caught_up_to, XLogRecPtr read_end)
{
	dlist_iter iter;

	if (sink->admission.armed || sink->admission.arming)
		return;
	dlist_foreach (iter, ca_queue_list())
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->start >= caught_up_to)
			break;
		if (commit->visible)
			return;
	}
	ca_guard_arm(sink, ca_ledger_redis(sink), ca_ledger_expected(sink),
				 Max(read_end, ca_ledger_sent(sink)->seen), ca_arming_extend(sink), handle_guard,
				 sink);
	sink->admission.arming = true;
}
