/*
 * ping.c: round trips to Redis that backends ask for with ping().
 *
 * A backend takes a number (ping_asked) and waits until ping_answered has reached it. The worker
 * sends one PING for all numbers up to now. Without a connection everybody is answered at once, with
 * the last error.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(cache_aside_ping);

static void
answer(uint32 upto, uint64 us)
{
	pg_atomic_write_u64(&ca_status_shared->ping_us, us);
	pg_atomic_write_u32(&ca_status_shared->ping_answered, upto);
	ConditionVariableBroadcast(&ca_status_shared->progress);
}

void
ca_ping_refuse(void)
{
	uint32 asked = pg_atomic_read_u32(&ca_status_shared->ping_asked);

	if (pg_atomic_read_u32(&ca_status_shared->ping_answered) != asked)
		answer(asked, PG_UINT64_MAX);
}

static void
handle_ping(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	Size len;

	if (reply == NULL)
		return;
	if (ca_redis_reply_type(reply) == CA_REPLY_ERROR)
	{
		ca_status_error(ca_redis_reply_text(reply, &len));
		ca_status_publish();
		answer(sink->ping.sent, PG_UINT64_MAX);
		return;
	}
	answer(sink->ping.sent, GetCurrentTimestamp() - sink->ping.at);
}

/* Answered by the connection that delivers, behind whatever is in its pipeline. */
void
ca_ping_send(CaSink *sink, CaRedis *redis)
{
	uint32 asked = pg_atomic_read_u32(&ca_status_shared->ping_asked);
	const char *argv[] = {"PING"};
	size_t len[] = {4};

	if (asked == sink->ping.sent || pg_atomic_read_u32(&ca_status_shared->ping_answered) == asked)
		return;
	sink->ping.sent = asked;
	sink->ping.at = GetCurrentTimestamp();
	ca_redis_send(redis, 1, argv, len, handle_ping, sink);
}

/* ---- backends ---- */

static bool
is_answered(uint64 ticket)
{
	return (int32) (pg_atomic_read_u32(&ca_status_shared->ping_answered) - (uint32) ticket) >= 0;
}

/* cache_aside.ping() -> (round_trip interval, error text): one of them is NULL */
Datum
cache_aside_ping(PG_FUNCTION_ARGS)
{
	Datum values[2] = {0};
	bool nulls[2] = {true, true};
	CaStatus s;
	TupleDesc desc;
	uint32 ticket;
	uint64 us;
	bool answered;

	ca_preload_require();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	ticket = pg_atomic_add_fetch_u32(&ca_status_shared->ping_asked, 1);
	answered = ca_wait_delivered_until(is_answered, ticket, 2000 * (int64) guc_command_timeout);
	us = pg_atomic_read_u64(&ca_status_shared->ping_us);
	ca_status_copy(&s);
	if (answered && us != PG_UINT64_MAX)
	{
		Interval *round_trip = palloc0(sizeof(Interval));

		round_trip->time = us;
		values[0] = IntervalPGetDatum(round_trip);
		nulls[0] = false;
	}
	else
	{
		values[1] = CStringGetTextDatum(s.pid == 0  ? "the worker is not running"
										: !answered ? "no answer in time"
													: s.last_error);
		nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
