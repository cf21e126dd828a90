/*
 * status_view.c: the status as SQL shows it: worker_status(), worker_endpoints(), latency_histogram(),
 * reset_stats().
 *
 * Input: a copy of what the worker published last. It knows causes of trouble by name, which status.c, where
 * those who meet trouble put it down, does not.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "redis/redis.h"
#include "shared/endpoint.h"
#include "shared/shared.h"
#include "shared/status.h"
#include "shared/trouble.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cache_aside_worker_status);
PG_FUNCTION_INFO_V1(cache_aside_worker_endpoints);
PG_FUNCTION_INFO_V1(cache_aside_latency_histogram);
PG_FUNCTION_INFO_V1(cache_aside_reset_stats);

/* A row under construction: columns are filled in order. */
typedef struct Row
{
	Datum values[48];
	bool nulls[48];
	int n;
} Row;

static void
put(Row *row, Datum value, bool null)
{
	row->values[row->n] = value;
	row->nulls[row->n++] = null;
}

static void
put_text(Row *row, const char *str)
{
	put(row, CStringGetTextDatum(str), str[0] == '\0');
}

static void
put_lsn(Row *row, XLogRecPtr lsn)
{
	put(row, LSNGetDatum(lsn), XLogRecPtrIsInvalid(lsn));
}

static void
put_count(Row *row, uint64 count)
{
	put(row, Int64GetDatum((int64) count), false);
}

static void
put_time(Row *row, TimestampTz time)
{
	put(row, TimestampTzGetDatum(time), time == 0);
}

static XLogRecPtr
log_end(void)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetFlushRecPtr(NULL);
}

static void
put_position(Row *row, const CaStatus *s)
{
	const CaStatusProgress *p = &s->progress;
	XLogRecPtr end = log_end();
	XLogRecPtr from = p->confirmed ? p->confirmed : p->undelivered_from;

	put(row, Int32GetDatum((int32) p->timeline), p->timeline == 0);
	put_lsn(row, p->confirmed);
	put_lsn(row, p->restart);
	put_lsn(row, p->read_end);
	put_lsn(row, p->visible);
	put(row, Int64GetDatum(end > from ? (int64) (end - from) : 0), XLogRecPtrIsInvalid(from));
	put(row, Float8GetDatum(p->oldest ? Max(0, GetCurrentTimestamp() - p->oldest) / 1000.0 : 0.0),
		strcmp(s->state, "standby") == 0 || (p->oldest == 0 && XLogRecPtrIsInvalid(from)));
	put_time(row, p->oldest);
	put(row, Int64GetDatum(end > s->slot_restart ? (int64) (end - s->slot_restart) : 0),
		XLogRecPtrIsInvalid(s->slot_restart));
}

static void
put_counters(Row *row, const CaStatus *s)
{
	put_count(row, s->counts[CA_COUNT_COMMITS]);
	put_count(row, s->counts[CA_COUNT_BATCH_KEYS] + s->counts[CA_COUNT_SCAN_KEYS]);
	put_count(row, s->counts[CA_COUNT_PATTERNS]);
	put_count(row, s->counts[CA_COUNT_BATCHES]);
	put_count(row, s->counts[CA_COUNT_RETRIES]);
	put_count(row, s->counts[CA_COUNT_BATCH_ERRORS] + s->counts[CA_COUNT_SCAN_ERRORS]);
	put_count(row, s->counts[CA_COUNT_SKIPPED]);
	put_count(row, s->counts[CA_COUNT_RECONNECTS]);
	put_count(row, s->counts[CA_COUNT_RESYNCS]);
	put_count(row, s->scan.seen);
	put_count(row, s->counts[CA_COUNT_REDELETED]);
	put_count(row, s->redelete_waiting);
	put_count(row, s->counts[CA_COUNT_REDELETE_DROPPED]);
}

/* What version 1.0 did not know */
static void
put_later_counters(Row *row, const CaStatus *s)
{
	put_count(row, s->counts[CA_COUNT_FOREIGN_RECORDS]);
	put_count(row, s->counts[CA_COUNT_UNREADABLE_RECORDS]);
	put_count(row, pg_atomic_read_u64(&ca_status_shared->stray_keys) - s->stray_keys_before);
	put_count(row, s->counts[CA_COUNT_LOG_SKIPS]);
	put_lsn(row, s->skip.from);
	put_lsn(row, s->skip.to);
	put_time(row, s->skip.at);
}

/* Without a worker nobody can have said what is wrong. */
static void
put_trouble(Row *row, const CaStatus *s)
{
	bool never = s->pid == 0 && s->stats_reset == 0;

	if (s->pid != 0 && s->trouble.cause == CA_TROUBLE_DATABASE)
		put_text(row, psprintf("waits for database %s", ca_text_show(s->waits_for)));
	else
		put_text(row, s->pid == 0 ? "no worker" : ca_trouble_name(s->trouble.cause));
	put_time(row, s->pid == 0 ? 0 : s->trouble.since);
	put_text(row, s->pid == 0 ? "" : s->trouble.first_error);
	put_text(row, never ? "It never began: raise max_worker_processes if the server log says that "
						  "there were too many background workers."
				  : s->pid == 0 ? "It is started again after a second; the server log says why it "
								  "ended."
								: ca_trouble_hint_for(s->trouble.cause, s->last_error));
}

/* By the settings, which a session has as the worker has them. */
static void
put_credentials(Row *row)
{
	const char *unused;
	const char *source = ca_credential_words_source(&unused);

	put_text(row, unused ? psprintf("%s, not %s", source, unused) : source);
}

static void
put_endpoint(Row *row, const CaEndpoint *endpoint)
{
	put_text(row, endpoint->name);
	put_text(row, endpoint->state);
	put_time(row, endpoint->since);
	put_text(row, endpoint->version);
}

/*
 * cache_aside.worker_status() -> one row, the body of the view cache_aside.status. LSNs are NULL
 * while unknown; lag_bytes is from confirmed to the end of the flushed (standby: replayed) log;
 * lag_ms the age of the oldest commit not delivered.
 */
Datum
cache_aside_worker_status(PG_FUNCTION_ARGS)
{
	Row row = {0};
	CaStatus s;
	CaEndpoint endpoint;
	TupleDesc desc;

	ca_status_copy(&s);
	(void) ca_endpoint_copy(&endpoint, 1);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	put_text(&row, RecoveryInProgress() ? "standby" : "primary");
	put(&row, Int32GetDatum(s.pid), s.pid == 0);
	put_text(&row, s.pid == 0 ? "stopped" : s.state);
	put_endpoint(&row, &endpoint);
	put_position(&row, &s);
	put_counters(&row, &s);
	put_text(&row, s.last_error);
	put_time(&row, s.last_error_at);
	put_time(&row, s.stats_reset);
	put_later_counters(&row, &s);
	put_trouble(&row, &s);
	put_count(&row, ca_allowance_used());
	put_text(&row, endpoint.mode);
	put_credentials(&row);
	if (row.n < desc->natts) /* fewer: objects of an older version, which lack the last ones */
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("library and SQL objects of cache_aside do not fit each other"),
			 errdetail("The library tells %d columns, the function has %d.", row.n, desc->natts),
			 errhint("Run ALTER EXTENSION cache_aside UPDATE, or restart the server with "
					 "the library that belongs to the objects.")));
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), row.values, row.nulls)));
}

/* cache_aside.worker_endpoints() -> a row for each Redis, the body of the view cache_aside.endpoints */
Datum
cache_aside_worker_endpoints(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CaEndpoint *endpoints = palloc0(sizeof(CaEndpoint) * CA_MOST_ENDPOINTS);
	int n;

	ca_preload_require();
	n = ca_endpoint_copy(endpoints, CA_MOST_ENDPOINTS);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		Row row = {0};

		put_endpoint(&row, &endpoints[i]);
		put_text(&row, endpoints[i].mode);
		put(&row, Int32GetDatum(endpoints[i].in_flight), false);
		put_lsn(&row, endpoints[i].acknowledged);
		put_text(&row, endpoints[i].error);
		put_time(&row, endpoints[i].error_at);
		put_text(&row, endpoints[i].events);
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	return (Datum) 0;
}

/* cache_aside.latency_histogram() -> (below interval, commits bigint); below NULL: the rest */
Datum
cache_aside_latency_histogram(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CaStatus s;

	ca_status_copy(&s);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < CA_LATENCY_BUCKETS; i++)
	{
		Row row = {0};
		Interval *below = palloc0(sizeof(Interval));

		below->time = (int64) 16 << i;
		put(&row, IntervalPGetDatum(below), i == CA_LATENCY_BUCKETS - 1);
		put_count(&row, s.latency[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	return (Datum) 0;
}

Datum
cache_aside_reset_stats(PG_FUNCTION_ARGS)
{
	ca_preload_require();
	pg_atomic_fetch_add_u32(&ca_status_shared->reset_requested, 1);
	ca_status_wake_worker();
	PG_RETURN_VOID();
}
