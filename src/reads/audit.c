/*
 * audit.c: does the cache say what the table says? SQL: audit(), audit_summary()
 *
 * First pass: a sample of the rows under one snapshot, each with the value its entry should have,
 * compared with what Redis holds. Equal is "fresh", missing is "absent". What differs need not be
 * stale: its invalidation may be on the way, or it was filled by a newer snapshot than ours. So what
 * differs is looked at again, in rounds:
 *
 *	1. read the row again with a new snapshot: its version (ctid, xmin) and expected value
 *	2. wait until everything that is in the log by then is delivered
 *	3. read the entry again
 *
 * Missing now: it was "in flight". Equal to the row of this round: "fresh". Otherwise, if the next
 * round finds the very same row version and the same entry, the row did not change while the entry
 * disagreed with it, though every invalidation until after step 1 had been delivered: "stale", and a
 * bug, or a program that writes to the cache without a token. A row that changes in every round
 * stays "in flight".
 *
 * Whose rights: the caller's, as for SQL that the caller writes; the value query is the caller's own, and
 * reading a table runs what its owner put there (views, policies, casts to json). Not for PUBLIC.
 *
 * Needs READ COMMITTED (the rounds need new snapshots) and a primary. Redis that does not answer is an
 * error. Memory: the result and what differs.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "reads/audit.h"
#include "reads/reads.h"
#include "shared/long_work.h"

#include "access/table.h"
#include "access/tupdesc.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#define AUDIT_ROUNDS 10  /* for what differs */
#define AUDIT_TIMEOUT 30 /* seconds to wait for delivery, in each round */

typedef struct Audit
{
	ReturnSetInfo *result;
	CaRedis *redis;
	CaTemplate *template;
	TupleTableSlot *slot;
	Oid row_type;
	SPIPlanPtr value_plan; /* NULL: the row as JSON */
	SPIPlanPtr reread_plan;
	MemoryContext batch_cxt;
	MemoryContext suspect_cxt;
	List *batch;    /* of CaProbe */
	List *suspects; /* of CaProbe */
	Datum row;      /* that keys are made for */
	char *expected;
	struct CaLongWork *work;
	uint64 rows;
} Audit;

PG_FUNCTION_INFO_V1(cache_aside_audit);
extern Datum cache_aside_wait_delivered(PG_FUNCTION_ARGS);

/* ---- rows ---- */

/* What the entry of a row should hold; in the current context. */
static char *
expected_value(Audit *audit, Datum row, const char *json)
{
	char *value;

	if (audit->value_plan == NULL)
		return json ? pstrdup(json) : NULL;
	if (SPI_execute_plan(audit->value_plan, &row, NULL, true, 1) != SPI_OK_SELECT ||
		SPI_tuptable->tupdesc->natts != 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value query for audit()"),
						errdetail("It does not return one column."),
						errhint("Give a SELECT of one text from the row $1.")));
	value =
		SPI_processed == 0 ? NULL : SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return value;
}

static void
add_probe(void *arg, const char *key, Size len)
{
	Audit *audit = arg;
	MemoryContext old = MemoryContextSwitchTo(audit->batch_cxt);
	CaProbe *probe = palloc0(sizeof(CaProbe));

	probe->shown = ca_prefix_from_utf8(pnstrdup(key, len));
	probe->key = ca_reads_key(probe->shown, strlen(probe->shown));
	probe->row = audit->row;
	probe->expected = audit->expected;
	audit->batch = lappend(audit->batch, probe);
	MemoryContextSwitchTo(old);
}

/* The keys of one row, and what they should hold. */
static void
add_row(Audit *audit, HeapTuple tuple, TupleDesc desc)
{
	MemoryContext old = MemoryContextSwitchTo(audit->batch_cxt);
	HeapTupleHeader header;
	HeapTupleData whole = {0};
	bool isnull;

	header = DatumGetHeapTupleHeaderCopy(SPI_getbinval(tuple, desc, 1, &isnull));
	audit->row = HeapTupleHeaderGetDatum(header);
	audit->expected = expected_value(audit, audit->row, SPI_getvalue(tuple, desc, 2));
	whole.t_len = HeapTupleHeaderGetDatumLength(header);
	whole.t_data = header;
	ExecForceStoreHeapTuple(&whole, audit->slot, false);
	ca_key_build(audit->template, audit->slot, add_probe, audit);
	MemoryContextSwitchTo(old);
	audit->rows++;
}

/* The row as it is now, by the template's columns, with a new snapshot. */
static void
read_row_again(Audit *audit, CaProbe *probe)
{
	MemoryContext old;
	SPITupleTable *table;
	char *version = NULL;
	char *expected = NULL;

	if (SPI_execute_plan(audit->reread_plan, &probe->row, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read a row again");
	table = SPI_tuptable;
	old = MemoryContextSwitchTo(audit->suspect_cxt);
	if (SPI_processed > 0)
	{
		bool isnull;
		HeapTuple tuple = table->vals[0];
		char *text_version = SPI_getvalue(tuple, table->tupdesc, 3);

		version = pstrdup(text_version);
		expected = expected_value(audit, SPI_getbinval(tuple, table->tupdesc, 1, &isnull),
								  SPI_getvalue(tuple, table->tupdesc, 2));
		if (expected != NULL)
			expected = pstrdup(expected);
	}
	MemoryContextSwitchTo(old);
	SPI_freetuptable(table);
	probe->same_row = (version == NULL) == (probe->version == NULL) &&
					  (expected == NULL) == (probe->expected == NULL) &&
					  (version == NULL || strcmp(version, probe->version) == 0) &&
					  (expected == NULL || strcmp(expected, probe->expected) == 0);
	probe->version = version;
	probe->expected = expected;
}

/* ---- verdicts ---- */

/* Leaves text behind in the current context. */
static void
report(Audit *audit, const CaProbe *probe)
{
	char *cached = probe->found ? ca_reads_from_redis(probe->cached.data, probe->cached.len) : NULL;
	Datum values[4];
	bool nulls[4] = {false};

	values[0] = CStringGetTextDatum(probe->shown);
	nulls[1] = cached == NULL;
	values[1] = cached ? CStringGetTextDatum(cached) : (Datum) 0;
	nulls[2] = probe->expected == NULL;
	values[2] = probe->expected ? CStringGetTextDatum(probe->expected) : (Datum) 0;
	values[3] = CStringGetTextDatum(probe->verdict);
	tuplestore_putvalues(audit->result->setResult, audit->result->setDesc, values, nulls);
}

/* Keeps what differs beyond the batch. */
static void
keep_suspect(Audit *audit, const CaProbe *probe)
{
	MemoryContext old = MemoryContextSwitchTo(audit->suspect_cxt);
	CaProbe *kept = palloc0(sizeof(CaProbe));

	kept->shown = pstrdup(probe->shown);
	kept->key.data = pnstrdup(probe->key.data, probe->key.len);
	kept->key.len = probe->key.len;
	kept->row = HeapTupleHeaderGetDatum(DatumGetHeapTupleHeaderCopy(probe->row));
	audit->suspects = lappend(audit->suspects, kept);
	MemoryContextSwitchTo(old);
}

static void
judge_batch(Audit *audit)
{
	MemoryContext old = MemoryContextSwitchTo(audit->batch_cxt);
	ListCell *cell;

	ca_audit_entries_read(audit->redis, audit->batch);
	foreach (cell, audit->batch)
	{
		CaProbe *probe = lfirst(cell);

		probe->verdict = !probe->found ? "absent" : ca_audit_entries_agree(probe) ? "fresh" : NULL;
		if (probe->verdict != NULL)
			report(audit, probe);
		else
			keep_suspect(audit, probe);
	}
	audit->batch = NIL;
	MemoryContextSwitchTo(old);
	MemoryContextReset(audit->batch_cxt);
	ca_long_work_show(audit->work, audit->rows);
	CHECK_FOR_INTERRUPTS();
}

static bool
wait_delivered(void)
{
	LOCAL_FCINFO(fcinfo, 2);
	Interval timeout = {0};

	timeout.time = AUDIT_TIMEOUT * USECS_PER_SEC;
	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = (Datum) 0;
	fcinfo->args[0].isnull = true;
	fcinfo->args[1].value = IntervalPGetDatum(&timeout);
	fcinfo->args[1].isnull = false;
	return DatumGetBool(cache_aside_wait_delivered(fcinfo));
}

/* One round; false when nothing is left to decide. */
static bool
judge_again(Audit *audit, int round)
{
	ListCell *cell;
	bool left = false;

	foreach (cell, audit->suspects)
		if (((CaProbe *) lfirst(cell))->verdict == NULL)
			read_row_again(audit, lfirst(cell));
	if (!wait_delivered())
		return false;
	ca_audit_entries_read(audit->redis, audit->suspects);
	foreach (cell, audit->suspects)
	{
		CaProbe *probe = lfirst(cell);

		if (probe->verdict != NULL)
			continue;
		if (!probe->found)
			probe->verdict = "in flight";
		else if (ca_audit_entries_agree(probe))
			probe->verdict = "fresh";
		else if (round > 0 && probe->same_row && probe->same_entry)
			probe->verdict = "stale";
		else
			left = true;
	}
	return left;
}

static void
judge_suspects(Audit *audit)
{
	ListCell *cell;

	ca_long_work_phase(audit->work, "looking again");
	for (int round = 0; audit->suspects != NIL && round < AUDIT_ROUNDS; round++)
		if (!judge_again(audit, round))
			break;
	foreach (cell, audit->suspects)
	{
		CaProbe *probe = lfirst(cell);
		MemoryContext old = MemoryContextSwitchTo(audit->batch_cxt);

		if (probe->verdict == NULL)
			probe->verdict = "in flight";
		report(audit, probe);
		MemoryContextSwitchTo(old);
		MemoryContextReset(audit->batch_cxt);
	}
}

/* ---- the call ---- */

static void
check_call(double sample)
{
	ca_preload_require();
	if (RecoveryInProgress() || XactIsoLevel != XACT_READ_COMMITTED)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("audit() cannot tell stale from in flight here"),
						errdetail("It needs new snapshots and a server that delivers."),
						errhint("Run it on the primary, in a READ COMMITTED transaction.")));
	if (!(sample > 0 && sample <= 1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid sample"),
						errdetail("It is %g.", sample),
						errhint("Give the share of rows to look at, above 0 and at most 1.")));
}

static SPIPlanPtr
prepare(const char *query, Oid row_type)
{
	SPIPlanPtr plan = SPI_prepare(query, 1, &row_type);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return plan;
}

static void
prepare_queries(Audit *audit, Relation relation, const char *table, const char *value_query)
{
	audit->row_type = RelationGetForm(relation)->reltype;
	audit->value_plan = value_query ? prepare(value_query, audit->row_type) : NULL;
	audit->reread_plan =
		prepare(psprintf("SELECT t, pg_catalog.row_to_json(t)::pg_catalog.text, "
						 "pg_catalog.concat_ws(' ', t.tableoid, t.ctid, t.xmin) FROM %s AS t "
						 "WHERE %s",
						 table, ca_same_key_condition(audit->template, RelationGetDescr(relation))),
				audit->row_type);
}

static void
first_pass(Audit *audit, const char *table, double sample)
{
	char *query = psprintf("SELECT t, pg_catalog.row_to_json(t)::pg_catalog.text FROM %s AS t "
						   "WHERE pg_catalog.random() OPERATOR(pg_catalog.<) "
						   "'%.17g'::pg_catalog.float8",
						   table, sample);
	Portal portal = SPI_cursor_open(NULL, SPI_prepare(query, 0, NULL), NULL, NULL, true);
	uint64 n;

	do
	{
		SPITupleTable *rows;

		SPI_cursor_fetch(portal, true, CA_AUDIT_FETCH);
		rows = SPI_tuptable;
		n = SPI_processed;
		for (uint64 i = 0; i < n; i++)
			add_row(audit, rows->vals[i], rows->tupdesc);
		SPI_freetuptable(rows);
		judge_batch(audit);
	} while (n == CA_AUDIT_FETCH);
	SPI_cursor_close(portal);
}

static Relation
begin(Audit *audit, FunctionCallInfo fcinfo, char **table)
{
	Relation relation = table_open(PG_GETARG_OID(0), AccessShareLock);

	*table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
										RelationGetRelationName(relation));
	audit->template = ca_template_parse(text_to_cstring(PG_GETARG_TEXT_PP(1)),
										RelationGetDescr(relation), *table, NULL);
	audit->slot =
		MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(relation)), &TTSOpsHeapTuple);
	audit->batch_cxt = AllocSetContextCreate(CurrentMemoryContext, "cache_aside audit batch",
											 ALLOCSET_DEFAULT_SIZES);
	audit->suspect_cxt = AllocSetContextCreate(CurrentMemoryContext, "cache_aside audit suspects",
											   ALLOCSET_DEFAULT_SIZES);
	return relation;
}

Datum
cache_aside_audit(PG_FUNCTION_ARGS)
{
	Audit *audit = palloc0(sizeof(Audit));
	Relation relation;
	char *table;
	double sample;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("relation, template and sample must not be null"),
						errdetail("Only the value query may be left out."),
						errhint("Leave the sample out for one row in a hundred.")));
	sample = PG_GETARG_FLOAT8(2);
	check_call(sample);
	InitMaterializedSRF(fcinfo, 0);
	audit->result = (ReturnSetInfo *) fcinfo->resultinfo;
	relation = begin(audit, fcinfo, &table);
	SPI_connect();
	prepare_queries(audit, relation, table,
					PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)));
	audit->work =
		ca_long_work_begin(CA_LONG_WORK_AUDIT, RelationGetRelid(relation),
						   (uint64) (Max(RelationGetForm(relation)->reltuples, 0) * sample));
	ca_long_work_phase(audit->work, "comparing");
	audit->redis = ca_backend_connection_hold();
	if (audit->redis == NULL)
		ca_audit_entries_no_answer();
	PG_TRY();
	{
		first_pass(audit, table, sample);
		judge_suspects(audit);
	}
	PG_FINALLY();
	{
		ca_backend_connection_release(audit->redis);
	}
	PG_END_TRY();
	ca_long_work_end(audit->work);
	SPI_finish();
	ExecDropSingleTupleTableSlot(audit->slot);
	table_close(relation, NoLock);
	return (Datum) 0;
}
