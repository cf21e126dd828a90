/*
 * commit.c: what happens right after a commit.
 *
 * Input: the end of a transaction, told by pending.c (did it log messages?) and by the utility hook
 * (COMMIT PREPARED ran). Output: the worker's latch is set, so that an idle one that delivers reads on at once;
 * the commit LSN is kept for commit_lsn() and, if asked for, told to the client (commit_token.c).
 *
 * Two moments. XACT_EVENT_COMMIT: the commit is visible but row locks are still held: only what
 * takes no time. Then resource release, phase AFTER_LOCKS, of the top-level transaction: whatever
 * waits or writes to the client belongs there. Release callbacks run once per resource owner, and
 * for owners of other kinds too, hence the note `due`, taken by the first that fits.
 *
 * The commit LSN is kept only if the transaction had a transaction id, or committed a prepared one:
 * XactLastCommitEnd also moves for a SELECT that pruned a page.
 *
 * A session waits for a synchronous commit, or one that leaves a stick (stick.c), after its locks are released (sync.c). A
 * statement that commits in the middle of its work (DETACH CONCURRENTLY) may hold session locks then, so it waits once, at
 * its last commit; a procedure's COMMIT is a commit like others.
 *
 * COMMIT PREPARED logs nothing itself; its own commit event comes after the prepared transaction
 * became visible, hence the hook leaves a note and the event wakes the worker. ROLLBACK PREPARED
 * delivers nothing and wakes nobody. Whether it had keys is not known here; the worker knows.
 *
 * Everything here runs after the commit record is written: raising would be a PANIC. Nothing
 * allocates, and nothing takes a lock or blocks before the locks are released. If we die before the
 * latch is set, the worker finds the commit in WAL by itself.
 */
#include "cache_aside.h"
#include "shared/shared.h"
#include "shared/sync.h"
#include "transaction/transaction.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "tcop/pquery.h"
#include "utils/pg_lsn.h"
#include "utils/resowner.h"

static bool prepared_committed = false;
static XLogRecPtr prepared_since; /* end of the log before that statement */
static bool extension_created = false;
static SubTransactionId stick_at = InvalidSubTransactionId; /* the first that leaves a stick */
static bool stick_waits = false;                            /* one of them is to be waited for */
static CaAwaited awaited;                         /* commit to be waited for; lsn invalid: none */
static bool due = false;                          /* the transaction that is ending wrote */
static bool told_anyway = false;                  /* ... and left a stick */
static bool unreported = false;                   /* commit_lsn is still to be told to the client */
static XLogRecPtr commit_lsn = InvalidXLogRecPtr; /* end of this session's last commit that wrote */

/* From the utility hook: this statement committed a prepared transaction, and began at `since`. */
void
ca_commit_note_prepared(XLogRecPtr since)
{
	prepared_committed = true;
	prepared_since = since;
}

bool
ca_commit_waits(void)
{
	return guc_synchronous || stick_waits;
}

void
ca_commit_note_stick(bool wait)
{
	if (stick_at == InvalidSubTransactionId)
		stick_at = GetCurrentSubTransactionId();
	stick_waits |= wait;
}

static void
forget_sticks(void)
{
	stick_at = InvalidSubTransactionId;
	stick_waits = false;
}

/* A subtransaction that ends has begun, or those it took in have, after all that are older than it. */
static void
at_subtransaction_event(SubXactEvent event, SubTransactionId my_id, SubTransactionId parent_id,
						void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && stick_at != InvalidSubTransactionId &&
		my_id <= stick_at)
		forget_sticks();
}

void
ca_commit_prepared(void)
{
	forget_sticks();
}

/* From the utility hook, whatever extension it was: the worker shall look for databases that have the extension. */
void
ca_commit_note_created(void)
{
	extension_created = true;
}

static void
await(bool prepared)
{
	if (!XLogRecPtrIsInvalid(
			awaited.lsn)) /* an earlier commit of this statement is waited for too */
		awaited.kind = CA_AWAITED_ALL;
	else
		awaited.kind = prepared ? CA_AWAITED_PREPARED : CA_AWAITED_COMMIT;
	awaited.since = prepared_since;
	awaited.lsn = XactLastCommitEnd;
}

/* In XACT_EVENT_COMMIT: row locks are still held, so only the latch. */
void
ca_commit_done(bool logged)
{
	if (extension_created)
		ca_status_ask_census();
	if (logged)
		ca_status_note_keys();
	if (extension_created)
		ca_status_wake_worker();
	else if (prepared_committed || (logged && !ca_sync_wakes_later(ca_commit_waits())))
		ca_status_tell_commit();
	if (prepared_committed || TransactionIdIsValid(GetTopTransactionIdIfAny()))
	{
		commit_lsn = XactLastCommitEnd;
		due = true;
	}
	if (ca_commit_waits() && (logged || prepared_committed))
		await(prepared_committed);
	told_anyway = stick_at != InvalidSubTransactionId;
	prepared_committed = extension_created = false;
	forget_sticks();
}

/* Is this a commit in the middle of a statement? Some hold session locks across theirs. */
static bool
in_mid_statement(void)
{
	return ActivePortal != NULL && ActivePortal->commandTag != CMDTAG_CALL &&
		   ActivePortal->commandTag != CMDTAG_DO;
}

static void
wait_if_asked(void)
{
	CaAwaited now = awaited;

	if (XLogRecPtrIsInvalid(now.lsn) || in_mid_statement())
		return;
	awaited.lsn = InvalidXLogRecPtr;
	ca_sync_wait(&now);
}

/*
 * A procedure may commit a million times before its client can read: it is told the last one, when
 * the statement ends, be it by an error.
 */
static void
report_token(void)
{
	if (!unreported || ActivePortal != NULL)
		return;
	unreported = false;
	ca_commit_token_report(commit_lsn);
}

/* Resource release, every phase, every owner: the first top-level AFTER_LOCKS of a commit counts. */
static void
after_locks(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level)
		return;
	ca_replacing_sent(); /* before anything that waits */
	if (due && is_commit)
	{
		due = false;
		unreported = guc_report_commit_lsn || told_anyway;
		wait_if_asked();
	}
	report_token();
}

/* In XACT_EVENT_ABORT. */
void
ca_commit_aborted(void)
{
	prepared_committed = extension_created = false;
	due = false;
	awaited.lsn = InvalidXLogRecPtr;
	forget_sticks();
}

/* Once per backend, from _PG_init. */
void
ca_commit_init(void)
{
	RegisterResourceReleaseCallback(after_locks, NULL);
	RegisterSubXactCallback(at_subtransaction_event, NULL);
}

PG_FUNCTION_INFO_V1(cache_aside_commit_lsn);

Datum
cache_aside_commit_lsn(PG_FUNCTION_ARGS)
{
	if (XLogRecPtrIsInvalid(commit_lsn))
		PG_RETURN_NULL();
	PG_RETURN_LSN(commit_lsn);
}
