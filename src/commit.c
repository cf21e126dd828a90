/*
 * commit.c: what happens right after a commit.
 *
 * Input: the end of a transaction, told by pending.c (did it log messages?) and by the utility hook
 * (COMMIT PREPARED ran). Output: the worker's latch is set, so that an idle worker reads on at once.
 *
 * COMMIT PREPARED logs nothing itself; its own commit event comes after the prepared transaction
 * became visible, hence the hook leaves a note and the event wakes the worker. ROLLBACK PREPARED
 * delivers nothing and wakes nobody.
 *
 * Everything here runs after the commit record is written: raising would be a PANIC. Nothing
 * allocates, takes a lock, or blocks. If we die before the latch is set, the worker finds the commit
 * in WAL by itself.
 */
#include "cache_aside.h"

static bool prepared_committed = false;

/* From the utility hook: this statement committed a prepared transaction. */
void
ca_commit_note_prepared(void)
{
	prepared_committed = true;
}

/* In XACT_EVENT_COMMIT: row locks are still held, so only the latch. */
void
ca_commit_done(bool logged)
{
	if (logged || prepared_committed)
		ca_status_wake_worker();
	prepared_committed = false;
}

/* In XACT_EVENT_ABORT. */
void
ca_commit_aborted(void)
{
	prepared_committed = false;
}
