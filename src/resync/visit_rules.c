/*
 * visit_rules.c: which patterns do the rules of every database cover?
 *
 * The worker is connected to no database, so a resync sends a short-lived worker into each one, one
 * after the other: it reads the rules and registered patterns there, hands them over through a
 * shared memory queue, and leaves. It holds no snapshot while it waits, and is gone within
 * milliseconds, so that DROP DATABASE does not meet it for long.
 *
 * A queue that ends without the closing message means that the visitor failed; visits.c knows what then.
 * Patterns that it has sent stay found: deleting what they match is never wrong, and the next visitor
 * sends them again. Whoever asks gets patterns while some other database is still waited for, and so
 * can begin with them. A census asks only whether the extension is there and answers with one pattern
 * for each database that has it.
 *
 * Memory: patterns are handed to the caller one by one.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "shared/visitor.h"
#include "resync/resync.h"

#include "access/xact.h"
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

#define QUEUE_SIZE (64 * 1024)

typedef struct Visit
{
	Oid database;
	CaVisitScope scope;
} Visit;

static MemoryContext visit_cxt; /* what the queue needs */
static CaVisits visits;
static CaVisitScope wanted_scope;
static dsm_segment *segment;
static shm_mq_handle *queue; /* from the visitor that is out */
static bool complete;        /* it sent its closing message */

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
visit(shm_mq_handle *out, CaVisitScope scope)
{
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!extension_exists())
		;
	else if (scope == CA_VISIT_CENSUS)
		send_pattern(out, "*", 1);
	else if (ca_visitor_become_owner("patterns"))
		send_patterns(out, scope == CA_VISIT_ALL
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
hang_up(void)
{
	if (segment)
		dsm_detach(segment);
	if (visit_cxt)
		MemoryContextReset(visit_cxt);
	segment = NULL;
	queue = NULL;
}

void
ca_visit_rules_cancel(void)
{
	ca_visits_cancel(&visits);
	hang_up();
}

void
ca_visit_rules_begin(CaVisitScope scope)
{
	hang_up();
	wanted_scope = scope;
	ca_visits_begin(&visits);
}

bool
ca_visit_rules_stuck(void)
{
	return ca_visits_stuck(&visits);
}

/* No segment to be had is like no background worker: the next attempt comes by itself. */
static void
send_visitor(void)
{
	BackgroundWorker worker = {0};
	Visit what = {ca_visits_next(&visits), wanted_scope};
	MemoryContext old;
	BackgroundWorkerHandle *visitor;
	shm_mq *mq;

	CA_DEBUG_POINT("visit-begins");
	if (visit_cxt == NULL)
		visit_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside survey", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(visit_cxt);
	segment = dsm_create(QUEUE_SIZE, 0);
	mq = shm_mq_create(dsm_segment_address(segment), QUEUE_SIZE);
	shm_mq_set_receiver(mq, MyProc);
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "cache_aside_survey_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "cache_aside survey of database %u", what.database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "cache_aside survey");
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	memcpy(worker.bgw_extra, &what, sizeof(what));
	complete = false;
	visitor = ca_visits_send(&visits, &worker);
	if (visitor)
		queue = shm_mq_attach(mq, segment, visitor);
	else
		hang_up();
	MemoryContextSwitchTo(old);
}

/* True when nothing more will come. */
static bool
receive(void (*found)(const char *pattern, Size len))
{
	Size len;
	void *data;

	for (;;)
	{
		shm_mq_result result = shm_mq_receive(queue, &len, &data, true);

		if (result != SHM_MQ_SUCCESS)
			return result == SHM_MQ_DETACHED;
		if (len == 0)
			complete = true;
		else
			found(data, len);
	}
}

/* Goes on as far as possible without waiting; true once every database was read. */
bool
ca_visit_rules_step(void (*found)(const char *pattern, Size len))
{
	if (queue && receive(found))
	{
		hang_up();
		ca_visits_ended(&visits, complete);
	}
	else if (queue && ca_visits_too_long(&visits))
		hang_up();
	if (queue == NULL && ca_visits_due(&visits))
		send_visitor();
	return ca_visits_complete(&visits);
}
