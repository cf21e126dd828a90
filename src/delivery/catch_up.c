/*
 * catch_up.c: how a run begins: until everything that it found in doubt is settled.
 *
 * First it reads what is in the log. Then the resync begins that resume.c asked for, if any; until it has ended the
 * position in Redis says "pending". The barrier of open_at_start.c is in the position, too, until it is passed. So who dies in
 * between leaves word, and the next run begins it again.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/run_state.h"
#include "delivery/sink.h"

/*
 * Everything that was in the log when we connected has been read: a resync may begin now, because
 * what it deletes cannot come back from a commit we have not seen.
 */
void
ca_catch_up_reached(CaRun *run)
{
	run->caught_up = true;
	run->caught_up_to = ca_tap_read_end(run->tap);
	CA_DEBUG_POINT("caught-up");
	if (run->resume.unless_clean && ca_tap_clean_switch(run->tap))
	{
		ereport(LOG,
				(errmsg("cache_aside needs no resync: the old primary was shut down cleanly")));
		run->resume.scope = CA_VISIT_UNLOGGED;
		ca_sinks_mark(run, CA_POSITION_UNLOGGED, ca_sinks_barrier(run));
	}
	if (!run->resume.after_promotion)
		return;
	CA_EACH_SINK (sink, run)
		ca_admission_raise_floor(sink, run->tap, true); /* buckets may hold LSNs beyond the fork */
}

void
ca_catch_up_resync(CaRun *run, TransactionId oldest_running)
{
	if (!run->caught_up || !run->resync_due || run->resync_ticket != 0)
		return;
	ca_open_at_start_resync_begins(ca_sinks_barrier(run), oldest_running);
	run->resync_ticket = ca_resync_request(run->resume.scope, run->resume.reason);
}

static void
note_resynced(CaRun *run)
{
	run->resync_ticket = 0;
	run->resync_due = false;
	CA_EACH_SINK (sink, run)
		ca_ledger_cover(sink, &run->resume.keyspace);
}

/* Pending until the resync ended; a barrier until every transaction it is about has. */
void
ca_catch_up_progress(CaRun *run, TransactionId oldest_running)
{
	uint64 open = ca_sinks_barrier(run);
	bool resynced =
		run->resync_ticket && ca_resync_done() >= run->resync_ticket && ca_sinks_told(run);
	bool again = false;
	bool passed = run->caught_up &&
				  ca_open_at_start_passed(open, ca_tap_read_end(run->tap), oldest_running, &again);

	if (!resynced && !passed)
		return;
	if (resynced)
		note_resynced(run);
	if (passed)
		ca_tap_lift_barrier(run->tap);
	if (again)
	{
		run->resync_due = true;
		run->resume.scope = CA_VISIT_ALL;
		run->resync_ticket = ca_resync_request(
			CA_VISIT_ALL, "transactions that were open when it began to read have ended");
	}
	ca_sinks_mark(run, run->resync_due ? ca_resume_state(&run->resume) : CA_POSITION_OK,
				  passed ? 0 : open);
}
