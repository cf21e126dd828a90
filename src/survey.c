/*
 * survey.c: which patterns do the rules of every database cover?
 *
 * The worker is connected to no database, so a resync sends a short-lived worker into each one, one
 * after the other: it reads the rules and registered patterns there, hands them over through a
 * shared memory queue, and leaves. It holds no snapshot while it waits, and is gone within
 * milliseconds, so that DROP DATABASE does not meet it for long.
 *
 * A queue that ends without the closing message means that the visitor failed: its database was
 * dropped meanwhile (then there is nothing to ask), or no worker slot was free (then we try again).
 * A census asks only whether the extension is there and answers with one pattern for each database
 * that has it.
 *
 * Memory: patterns are handed to the caller one by one; this file keeps only the list of databases.
 */
#include "worker.h"
#include "debug.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "visitor.h"

#define QUEUE_SIZE (64 * 1024)
#define RETRY_MS 1000

typedef struct Visit
{
	Oid database;
	CaSurveyScope scope;
} Visit;

static MemoryContext survey_cxt;
static List *databases; /* still to visit, of Oid; lives in survey_cxt */
static CaSurveyScope wanted_scope;
static BackgroundWorkerHandle *visitor;
static dsm_segment *segment;
static shm_mq_handle *queue;
static TimestampTz retry_at;
static bool complete; /* the visitor sent its closing message */

PGDLLEXPORT void cache_aside_survey_main(Datum arg);

/* ---- the visitor ---- */

static void
send_pattern(void *out, const char *pattern, Size len)
{
	shm_mq_send(out, len, pattern, false, true);
}

static void
send_patterns(shm_mq_handle *out, const char *sql)
{
	if (SPI_execute(sql, true, 0) != SPI_OK_SELECT)
		return;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char *pattern = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		char *utf8;
		Size len;

		if (pattern == NULL || pattern[0] == '\0')
			continue;
		utf8 = ca_prefix_pattern_utf8(pattern, &len);
		ca_prefix_each(CA_ENTRY_PATTERN, utf8, len, NULL, send_pattern, out);
	}
}

static bool
extension_exists(void)
{
	return SPI_execute("SELECT 1 FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) "
					   "'cache_aside'",
					   true, 1) == SPI_OK_SELECT &&
		   SPI_processed == 1;
}

/* The closing message is empty: no pattern is. */
static void
visit(shm_mq_handle *out, CaSurveyScope scope)
{
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!extension_exists())
		;
	else if (scope == CA_SURVEY_CENSUS)
		send_pattern(out, "*", 1);
	else if (ca_visitor_become_owner("patterns"))
		send_patterns(out, scope == CA_SURVEY_ALL
							   ? "SELECT pattern FROM cache_aside.patterns"
							   : "SELECT pattern FROM cache_aside.patterns WHERE unlogged");
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	shm_mq_send(out, 0, "", false, true);
}

void
cache_aside_survey_main(Datum arg)
{
	Visit what;
	dsm_segment *seg;
	shm_mq *mq;
	shm_mq_handle *out;

	memcpy(&what, MyBgworkerEntry->bgw_extra, sizeof(what));
	/* The default handler ends the process in the signal itself, even with a spinlock held. */
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	seg = dsm_attach(DatumGetUInt32(arg));
	if (seg == NULL)
		return; /* the worker that asked is gone */
	mq = dsm_segment_address(seg);
	shm_mq_set_sender(mq, MyProc);
	out = shm_mq_attach(mq, seg, NULL);
	ca_visitor_connect(what.database);
	visit(out, what.scope);
	dsm_detach(seg);
}

/* ---- the worker's side ---- */

static void
list_databases(void)
{
	MemoryContext caller = CurrentMemoryContext;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(survey_cxt);

		if (!ca_database_is_invalid(database) &&
			(database->datallowconn || !database->datistemplate))
			databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

void
ca_survey_begin(CaSurveyScope scope)
{
	if (survey_cxt == NULL)
		survey_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside survey", ALLOCSET_SMALL_SIZES);
	ca_survey_cancel();
	wanted_scope = scope;
	retry_at = 0;
	list_databases();
}

static void
end_visit(void)
{
	if (segment)
		dsm_detach(segment);
	if (visitor)
		pfree(visitor);
	segment = NULL;
	visitor = NULL;
	queue = NULL;
}

void
ca_survey_cancel(void)
{
	if (visitor)
		TerminateBackgroundWorker(visitor);
	end_visit();
	databases = NIL;
	if (survey_cxt)
		MemoryContextReset(survey_cxt);
}

static bool
send_visitor(Oid database)
{
	BackgroundWorker worker = {0};
	Visit what = {database, wanted_scope};
	shm_mq *mq;

	CA_DEBUG_POINT("visit-begins");
	segment = dsm_create(QUEUE_SIZE, 0);
	mq = shm_mq_create(dsm_segment_address(segment), QUEUE_SIZE);
	shm_mq_set_receiver(mq, MyProc);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "cache_aside");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "cache_aside_survey_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "cache_aside survey of database %u", database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "cache_aside survey");
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &what, sizeof(what));
	complete = false;
	if (!RegisterDynamicBackgroundWorker(&worker, &visitor))
		return false;
	queue = shm_mq_attach(mq, segment, visitor);
	return true;
}

static bool
database_exists(Oid database)
{
	bool found = false;
	List *before = databases;
	ListCell *cell;

	databases = NIL;
	list_databases();
	foreach (cell, databases)
		found |= lfirst_oid(cell) == database;
	databases = before;
	return found;
}

/* The visitor is gone: on to the next database, or to the same one again. */
static void
visit_ended(void)
{
	Oid database = linitial_oid(databases);

	end_visit();
	if (complete || !database_exists(database))
	{
		databases = list_delete_first(databases);
		return;
	}
	ereport(LOG, (errmsg("cache_aside could not read the rules of database %u; trying again",
						 database)));
	retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_MS);
}

static void
receive(void (*found)(const char *pattern, Size len))
{
	Size len;
	void *data;

	for (;;)
	{
		shm_mq_result result = shm_mq_receive(queue, &len, &data, true);

		if (result == SHM_MQ_WOULD_BLOCK)
			return;
		if (result == SHM_MQ_DETACHED)
		{
			visit_ended();
			return;
		}
		if (len == 0)
			complete = true;
		else
			found(data, len);
	}
}

/* Goes on as far as possible without waiting; true once every database was read. */
bool
ca_survey_step(void (*found)(const char *pattern, Size len))
{
	MemoryContext old = MemoryContextSwitchTo(survey_cxt);

	if (queue)
		receive(found);
	if (queue == NULL && databases != NIL && GetCurrentTimestamp() >= retry_at &&
		!send_visitor(linitial_oid(databases)))
	{
		end_visit();
		ereport(LOG, (errmsg("cache_aside found no free background worker to read the rules"),
					  errhint("Consider increasing max_worker_processes.")));
		retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_MS);
	}
	MemoryContextSwitchTo(old);
	return databases == NIL;
}
