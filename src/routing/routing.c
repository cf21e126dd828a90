/*
 * routing.c: where should this read go? SQL: route(after, region, max_lag), replica_states()
 *
 * In: the token that the read must see, the caller's region, the lag that it tolerates; all optional. Out: a replica and how to
 * reach it, or the primary, and why.
 *
 * Each replica is judged by itself: it must be connected or have published lately, must have *replayed* the log up to the
 * token, and must be within max_lag. Lag in time counts only when bytes of log are missing: an idle primary is not lag. Of the
 * replicas that can serve the read, those in the caller's region come first; weights decide by chance among them. Where
 * none can, the primary does, which has everything. A token beyond the end of our own log is from another history, or
 * forged: nobody waits for it, the primary answers.
 *
 * The answer is a hint that ages. Before it is used the replica may stop, be removed or be promoted; callers that cannot
 * connect go to the primary. Replay never goes back, so a read there sees the token as long as it is the same standby.
 *
 * On a standby the server answers for itself: itself, or the primary if it has not replayed the token. Reads shared
 * memory and this backend's copy of the registry; no lock is held while choosing.
 */
#include "cache_aside.h"
#include "routing/routing.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

typedef struct Wish
{
	bool has_token;
	XLogRecPtr token;
	const char *region; /* NULL: any */
	int64 max_lag;      /* microseconds; -1: any */
} Wish;

typedef struct Choice
{
	const char *role;
	const char *name;
	const char *conninfo;
	XLogRecPtr lsn;
	const char *reason;
} Choice;

/* NULL if this replica can serve the read, else why it cannot. */
static const char *
why_not(const CaReplica *replica, const CaReplicaState *state, const CaProgressView *view,
		const Wish *wish)
{
	int64 lag;

	if (replica->weight == 0)
		return "its weight is 0";
	if (!state->connected && !state->fresh)
		return "it is not connected";
	if (state->replayed == InvalidXLogRecPtr)
		return "it has not reported what it replayed";
	if (wish->has_token && state->replayed < wish->token)
		return "it has not replayed the token";
	if (wish->max_lag < 0)
		return NULL;
	lag = ca_progress_lag(state->replayed, view->end, view->now);
	return lag >= 0 && lag <= wish->max_lag ? NULL : "it lags";
}

static bool
same_region(const char *wanted, const CaReplica *replica)
{
	return wanted == NULL || (replica->region != NULL && strcmp(wanted, replica->region) == 0);
}

/* One replica of each class stays in hand; a newcomer takes its place with the odds of its weight. */
typedef struct Lot
{
	const CaReplica *drawn;
	XLogRecPtr lsn;
	uint64 weights;
} Lot;

static void
draw(Lot *lot, const CaReplica *replica, XLogRecPtr lsn)
{
	lot->weights += replica->weight;
	if (pg_prng_uint64_range(&pg_global_prng_state, 1, lot->weights) > replica->weight)
		return;
	lot->drawn = replica;
	lot->lsn = lsn;
}

static Choice
choose_replica(const Wish *wish, const CaProgressView *view)
{
	Lot lots[2] = {{0}}; /* own region, elsewhere */
	int count;
	const CaReplica *replicas = ca_replicas_get(&count);
	const char *reason = count == 0 ? "no replica is registered" : NULL;

	for (int i = 0; i < count; i++)
	{
		CaReplicaState state = ca_progress_of(view, replicas[i].name);
		const char *objection = why_not(&replicas[i], &state, view, wish);

		if (objection == NULL)
			draw(&lots[same_region(wish->region, &replicas[i]) ? 0 : 1], &replicas[i],
				 state.replayed);
		else
			reason = count == 1 ? objection : "no replica is eligible";
	}
	for (int i = 0; i < 2; i++)
		if (lots[i].drawn != NULL)
			return (Choice){"replica", lots[i].drawn->name, lots[i].drawn->conninfo, lots[i].lsn,
							i == 0 ? "eligible" : "none is eligible in the region"};
	return (Choice){.role = "primary", .lsn = view->end, .reason = reason};
}

static Choice
choose(const Wish *wish)
{
	CaProgressView *view = ca_progress_look();

	if (wish->has_token && wish->token > view->end)
		return (Choice){.role = "primary",
						.lsn = view->end,
						.reason = "the token is ahead of this server's log"};
	return choose_replica(wish, view);
}

/* A standby knows nothing of the others; of itself it knows best. */
static Choice
choose_here(const Wish *wish)
{
	XLogRecPtr replayed = GetXLogReplayRecPtr(NULL);

	if (wish->has_token && replayed < wish->token)
		return (Choice){.role = "primary",
						.lsn = replayed,
						.reason = "this standby has not replayed the token"};
	return (Choice){"replica", ca_publish_own_name(), NULL, replayed, "this standby"};
}

static Datum
put_text(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

/* The row type, looked up once per call site. */
static TupleDesc
result_type(FunctionCallInfo fcinfo)
{
	TupleDesc desc = fcinfo->flinfo->fn_extra;
	MemoryContext old;

	if (desc != NULL)
		return desc;
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "route() needs a row type");
	desc = BlessTupleDesc(desc);
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = desc;
	return desc;
}

PG_FUNCTION_INFO_V1(cache_aside_route);
PG_FUNCTION_INFO_V1(cache_aside_replica_states);

Datum
cache_aside_route(PG_FUNCTION_ARGS)
{
	Wish wish = {.has_token = !PG_ARGISNULL(0), .max_lag = -1};
	Choice choice;
	Datum values[5];
	bool nulls[5] = {false};

	if (wish.has_token)
		wish.token = PG_GETARG_LSN(0);
	if (!PG_ARGISNULL(1))
		wish.region = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (!PG_ARGISNULL(2))
		wish.max_lag = ca_wait_for_interval_ms(PG_GETARG_INTERVAL_P(2), "max_lag") * 1000;
	choice = RecoveryInProgress() ? choose_here(&wish) : choose(&wish);
	values[0] = put_text(choice.role, &nulls[0]);
	values[1] = put_text(choice.name, &nulls[1]);
	values[2] = put_text(choice.conninfo, &nulls[2]);
	values[3] = LSNGetDatum(choice.lsn);
	values[4] = put_text(choice.reason, &nulls[4]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(result_type(fcinfo), values, nulls)));
}

static const char *
state_name(const CaReplicaState *state)
{
	if (state->streaming)
		return "streaming";
	if (state->connected)
		return "catching up";
	return state->fresh ? "publishing" : "unknown";
}

static Datum
lag_interval(int64 microseconds, bool *isnull)
{
	Interval *interval = palloc0(sizeof(Interval));

	*isnull = microseconds < 0;
	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

static void
put_replica(ReturnSetInfo *result, const CaReplica *replica, const CaProgressView *view)
{
	Wish wish = {.max_lag = -1};
	CaReplicaState state = ca_progress_of(view, replica->name);
	const char *objection = why_not(replica, &state, view, &wish);
	Datum values[11];
	bool nulls[11] = {false};

	values[0] = put_text(replica->name, &nulls[0]);
	values[1] = put_text(replica->conninfo, &nulls[1]);
	values[2] = put_text(replica->region, &nulls[2]);
	values[3] = Int32GetDatum(replica->weight);
	values[4] = put_text(state_name(&state), &nulls[4]);
	values[5] = LSNGetDatum(state.replayed);
	values[6] = Int64GetDatum((int64) (view->end - state.replayed));
	nulls[5] = nulls[6] = state.replayed == InvalidXLogRecPtr;
	values[7] = lag_interval(nulls[5] ? -1 : ca_progress_lag(state.replayed, view->end, view->now),
							 &nulls[7]);
	values[8] = TimestampTzGetDatum(state.seen);
	nulls[8] = state.seen == 0;
	values[9] = BoolGetDatum(objection == NULL);
	values[10] = put_text(objection, &nulls[10]);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* One row per registered replica; none on a standby, which does not see the others. */
Datum
cache_aside_replica_states(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CaProgressView *view;
	const CaReplica *replicas;
	int count;

	InitMaterializedSRF(fcinfo, 0);
	if (RecoveryInProgress())
		return (Datum) 0;
	view = ca_progress_look();
	replicas = ca_replicas_get(&count);
	for (int i = 0; i < count; i++)
		put_replica(result, &replicas[i], view);
	return (Datum) 0;
}
