/*
 * tap.c: WAL to committed transactions.
 *
 * Input: the server's own log, read with core's XLogReader and read_local_xlog_page_no_wait: flushed
 * WAL on a primary, replayed WAL on a standby, timelines followed. Output: one CaCommit for each
 * transaction that logged messages, handed over when its commit record is read, in log order.
 *
 * What open transactions logged is in open.c. An abort record forgets a transaction. Crash and
 * promotion write none, so whoever is neither running in an xl_running_xacts record nor prepared at
 * a shutdown or end-of-recovery record is dead. That is exact: a transaction leaves the running set
 * after it wrote its commit record and before the running set is logged, so its end was read before
 * the xl_running_xacts that omits it.
 *
 * Records are input that any role can write: record.c says which are believed, not_followed.c tells of the
 * others.
 *
 * What can fail: a segment is not there. Around a promotion that lasts a moment (core renames the
 * last segment of the old timeline), so the caller is told to retry until MISSING_PATIENCE is over;
 * then the log is gone (CA_TAP_GAP). Errors of core's reader end here; they never leave the process.
 *
 * Memory: everything lives in one context, a child of the caller's; commits handed over are chunks
 * of the caller's own context and are freed with ca_committed_free.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "common/debug.h"
#include "log/log.h"
#include "log/open.h"
#include "log/wal.h"

#include "access/rmgr.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "catalog/pg_control.h"
#include "storage/standbydefs.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MISSING_PATIENCE 10000         /* ms */
#define MAX_OPEN 65536                 /* transactions remembered; each takes some 400 bytes */
#define READER_LIMIT (4 * 1024 * 1024) /* a reader that grew beyond it, for one record, goes */

struct CaTap
{
	MemoryContext cxt;
	MemoryContext commit_cxt;
	XLogReaderState *reader;
	ReadLocalXLogPageNoWaitPrivate end;
	CaOpenSet *open;
	XLogRecPtr read_end;
	XLogRecPtr skip;           /* commits ending at or below it were delivered before */
	TransactionId barrier;     /* older ones may have messages never read; invalid: none */
	uint64 forgot;             /* the barrier, full, if it was raised; see ca_tap_forgot */
	bool after_shutdown;       /* the last record was a shutdown checkpoint */
	int switches;              /* timelines that began above `skip` */
	int clean_switches;        /* ... right behind a shutdown checkpoint */
	CaLandmark last;           /* the record read last */
	CaLandmark timed;          /* the last one that has a time */
	TimestampTz missing_since; /* 0: nothing is missing */
	CaCommitHandler handler;   /* during ca_tap_read only */
	void *handler_arg;
};

CaTap *
ca_tap_open(MemoryContext cxt, XLogRecPtr restart, XLogRecPtr confirmed, TransactionId barrier)
{
	MemoryContext own = AllocSetContextCreate(cxt, "cache_aside tap", ALLOCSET_DEFAULT_SIZES);
	CaTap *tap = MemoryContextAllocZero(own, sizeof(CaTap));

	tap->cxt = own;
	tap->commit_cxt = cxt;
	tap->open = ca_open_create(own, cxt);
	tap->read_end = restart;
	tap->skip = confirmed;
	tap->barrier = barrier;
	return tap;
}

/*
 * The next record is read by a new one, from where this one stood. A record too large for the reader's
 * buffer is a chunk of its own, which XLogReaderFree does not know of.
 */
static void
drop_reader(CaTap *tap)
{
	if (tap->reader)
	{
		(void) XLogReleasePreviousRecord(tap->reader);
		XLogReaderFree(tap->reader);
	}
	tap->reader = NULL;
}

void
ca_tap_close(CaTap *tap)
{
	if (tap == NULL)
		return;
	ca_open_close(tap->open);
	drop_reader(tap);
	MemoryContextDelete(tap->cxt);
}

/* ---- messages ---- */

/* No transaction carries it, so none will ask for the resync: it asks by itself, here and now. */
static void
hand_over_orphan(CaTap *tap, const char *why)
{
	CaCommit *commit;

	if (tap->reader->EndRecPtr <= tap->skip)
		return;
	commit = MemoryContextAllocZero(tap->commit_cxt, sizeof(CaCommit));
	commit->first = commit->last = commit->start = tap->reader->ReadRecPtr;
	commit->end = tap->reader->EndRecPtr;
	commit->time = GetCurrentTimestamp();
	commit->unread = why;
	tap->handler(tap->handler_arg, commit);
}

/*
 * Nobody can forge it. It may name keys, so its transaction asks for a resync when it commits; an
 * asynchronous commit may be lost in a crash, and whether this is one is not known.
 */
static void
note_unreadable(CaTap *tap, const char *problem)
{
	static const char why[] = "a transaction logged what this version cannot read";
	TransactionId xid = XLogRecGetXid(tap->reader);

	ca_not_followed_unreadable(tap->reader, problem);
	if (TransactionIdIsValid(xid))
		ca_open_add_unread(tap->open, xid, tap->reader->ReadRecPtr, why);
	else
		hand_over_orphan(tap, why);
}

/*
 * More are open than there is memory for. They are forgotten, all of them, and they and whoever is
 * older (parents are older than their children) are treated like those that ran before we began to
 * read: each that commits asks for a resync.
 */
static void
forget_open(CaTap *tap)
{
	ereport(LOG,
			(errmsg("cache_aside forgets what open transactions would invalidate"),
			 errdetail("More than %d transactions and subtransactions that have not ended logged "
					   "something to invalidate before their commit.",
					   MAX_OPEN),
			 errhint("Everything is deleted from the cache when they commit. A library that writes "
					 "rows in many subtransactions while a transaction commits does this.")));
	tap->forgot = ca_wal_xid_after(ca_open_newest(tap->open));
	tap->barrier = XidFromFullTransactionId(FullTransactionIdFromU64(tap->forgot));
	ca_open_forget_all(tap->open);
}

static void
note_message(CaTap *tap)
{
	TransactionId xid = XLogRecGetXid(tap->reader);
	CaMessage message;
	const char *problem;

	switch (ca_wal_message(tap->reader, &message, &problem))
	{
		case CA_RECORD_OTHER:
			break;
		case CA_RECORD_FOREIGN:
			ca_not_followed_foreign(tap->reader);
			break;
		case CA_RECORD_UNREADABLE:
			note_unreadable(tap, problem);
			break;
		case CA_RECORD_MESSAGE:
			CA_DEBUG_POISON("poison-read", message.next, message.end - message.next);
			if (TransactionIdIsValid(xid))
				ca_open_add(tap->open, xid, tap->reader->ReadRecPtr, &message);
			else
				note_unreadable(tap, "It belongs to no transaction.");
			break;
	}
	if (ca_open_count(tap->open) > MAX_OPEN)
		forget_open(tap);
}

/* ---- ends of transactions ---- */

/* Did it run before we began to read, where we could not read? */
static bool
may_be_unread(const CaTap *tap, TransactionId xid)
{
	return TransactionIdIsValid(tap->barrier) && TransactionIdIsNormal(xid) &&
		   TransactionIdPrecedes(xid, tap->barrier) && tap->reader->EndRecPtr > tap->skip &&
		   !ca_prepared_is_harmless(xid);
}

static void
commit_transaction(CaTap *tap, TransactionId xid, xl_xact_parsed_commit *parsed)
{
	CaCommit *commit;

	if (may_be_unread(tap, xid))
		ca_open_add_unread(tap->open, xid, tap->reader->ReadRecPtr,
						   "a transaction committed whose messages may lie before the log read");
	commit = ca_open_take(tap->open, xid, parsed->nsubxacts, parsed->subxacts);
	if (commit == NULL)
		return;
	if (commit->key_ddl)
		ca_open_meet(tap->open, commit);
	if (tap->reader->EndRecPtr <= tap->skip)
	{
		ca_committed_free(commit);
		return;
	}
	commit->start = tap->reader->ReadRecPtr;
	commit->end = tap->reader->EndRecPtr;
	commit->time = parsed->xact_time;
	commit->prepared = TransactionIdIsValid(parsed->twophase_xid);
	tap->handler(tap->handler_arg, commit);
}

static void
note_prepare(CaTap *tap)
{
	xl_xact_parsed_prepare parsed;

	ParsePrepareRecord(XLogRecGetInfo(tap->reader), (xl_xact_prepare *) XLogRecGetData(tap->reader),
					   &parsed);
	ca_open_prepare(tap->open, parsed.twophase_xid, parsed.nsubxacts, parsed.subxacts);
	if (CA_DEBUG_SKIP("commit"))
	{
		xl_xact_parsed_commit commit = {.xact_time = GetCurrentTimestamp()};

		commit_transaction(tap, parsed.twophase_xid, &commit);
	}
}

/* A commit or abort record; a record of a prepared transaction names it in its body. */
static void
note_end(CaTap *tap)
{
	uint8 info = XLogRecGetInfo(tap->reader);
	char *data = XLogRecGetData(tap->reader);
	TransactionId xid = XLogRecGetXid(tap->reader);
	xl_xact_parsed_commit commit;
	xl_xact_parsed_abort abort;

	if (ca_open_count(tap->open) == 0 && !TransactionIdIsValid(tap->barrier))
		return;
	switch (info & XLOG_XACT_OPMASK)
	{
		case XLOG_XACT_COMMIT:
		case XLOG_XACT_COMMIT_PREPARED:
			ParseCommitRecord(info, (xl_xact_commit *) data, &commit);
			if ((info & XLOG_XACT_OPMASK) == XLOG_XACT_COMMIT_PREPARED)
				xid = CA_DEBUG_SKIP("prepared") ? InvalidTransactionId : commit.twophase_xid;
			commit_transaction(tap, xid, &commit);
			break;
		case XLOG_XACT_ABORT:
		case XLOG_XACT_ABORT_PREPARED:
			ParseAbortRecord(info, (xl_xact_abort *) data, &abort);
			if ((info & XLOG_XACT_OPMASK) == XLOG_XACT_ABORT_PREPARED)
				xid = abort.twophase_xid;
			ca_open_abort(tap->open, xid, abort.nsubxacts, abort.subxacts);
			break;
		case XLOG_XACT_PREPARE:
			note_prepare(tap);
			break;
	}
}

/* A server stopped or began here; does a timeline begin right behind a clean stop of the old one? */
static void
note_restart(CaTap *tap, uint8 info)
{
	CheckPoint *checkpoint = (CheckPoint *) XLogRecGetData(tap->reader);

	if ((info == XLOG_END_OF_RECOVERY ||
		 checkpoint->ThisTimeLineID != checkpoint->PrevTimeLineID) &&
		tap->reader->EndRecPtr > tap->skip)
	{
		tap->switches++;
		tap->clean_switches += tap->after_shutdown;
	}
	tap->after_shutdown = info == XLOG_CHECKPOINT_SHUTDOWN;
}

static void
note_record(CaTap *tap)
{
	XLogReaderState *reader = tap->reader;
	uint8 info = XLogRecGetInfo(reader) & ~XLR_INFO_MASK;

	switch (XLogRecGetRmid(reader))
	{
		case RM_LOGICALMSG_ID:
			note_message(tap);
			break;
		case RM_XACT_ID:
			note_end(tap);
			break;
		case RM_STANDBY_ID:
			if (info == XLOG_RUNNING_XACTS)
				ca_open_prune(tap->open,
							  ((xl_running_xacts *) XLogRecGetData(reader))->oldestRunningXid);
			break;
		case RM_XLOG_ID:
			if (info == XLOG_CHECKPOINT_SHUTDOWN || info == XLOG_END_OF_RECOVERY)
			{
				ca_open_prune(tap->open, InvalidTransactionId);
				note_restart(tap, info);
				return;
			}
			break;
	}
	tap->after_shutdown = false;
}

/* For the position; see there. */
static void
note_landmark(CaTap *tap)
{
	uint8 rmid = XLogRecGetRmid(tap->reader);
	uint8 info = XLogRecGetInfo(tap->reader) & ~XLR_INFO_MASK;

	tap->last.start = tap->reader->ReadRecPtr;
	tap->last.crc = tap->reader->record->header.xl_crc;
	if (rmid == RM_XACT_ID && (info & XLOG_XACT_OPMASK) != XLOG_XACT_ASSIGNMENT &&
		(info & XLOG_XACT_OPMASK) != XLOG_XACT_INVALIDATIONS)
		tap->timed = tap->last;
}

void
ca_tap_mark(const CaTap *tap, CaPosition *position)
{
	position->seen = Max(position->seen, tap->read_end);
	if (tap->last.start > position->last.start)
		position->last = tap->last;
	if (tap->timed.start > position->timed.start)
		position->timed = tap->timed;
}

static CaTapResult
missing(CaTap *tap, const char *what)
{
	TimestampTz now = GetCurrentTimestamp();

	if (tap->missing_since == 0)
		tap->missing_since = now;
	if (!TimestampDifferenceExceeds(tap->missing_since, now, MISSING_PATIENCE) &&
		!CA_DEBUG_SKIP("patience"))
		return CA_TAP_RETRY;
	ereport(LOG, (errmsg("cache_aside cannot read the log at " CA_LSN_TEXT,
						 LSN_FORMAT_ARGS(tap->read_end)),
				  errdetail("%s", what)));
	return CA_TAP_GAP;
}

static CaTapResult
read_records(CaTap *tap, Size budget)
{
	XLogRecPtr begin = tap->read_end;
	XLogRecPtr limit;
	char *problem = NULL;

	tap->end.end_of_wal = false;
	ca_wal_timeline(&limit);
	ca_breaker_reads(limit);
	while (tap->read_end - begin < budget)
	{
		if (tap->read_end >= limit) /* running into it costs the reader its page and its file */
			return CA_TAP_END;
		if (tap->reader == NULL)
		{
			tap->reader = ca_wal_reader(&tap->end, true);
			XLogBeginRead(tap->reader, ca_wal_record_start(tap->read_end));
		}
		if (XLogReadRecord(tap->reader, &problem) == NULL)
		{
			if (tap->end.end_of_wal)
				return CA_TAP_END;
			drop_reader(tap);
			if (ca_wal_interrupted())
				return CA_TAP_RETRY;
			return missing(tap, problem ? problem : "invalid record");
		}
		note_record(tap);
		note_landmark(tap);
		tap->read_end = tap->reader->EndRecPtr;
		tap->missing_since = 0;
		if (tap->reader->readRecordBufSize > READER_LIMIT)
			drop_reader(tap);
	}
	return CA_TAP_MORE;
}

CaTapResult
ca_tap_read(CaTap *tap, Size budget, CaCommitHandler handler, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile CaTapResult result = CA_TAP_END;

	tap->handler = handler;
	tap->handler_arg = arg;
	MemoryContextSwitchTo(tap->cxt); /* the reader grows its buffers in the current context */
	PG_TRY();
	{
		result = read_records(tap, budget);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		drop_reader(tap);
		result = missing(tap, error->message);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return result;
}

XLogRecPtr
ca_tap_read_end(const CaTap *tap)
{
	return tap->read_end;
}

/* All were planned switchovers: a shutdown checkpoint is the last thing each old primary wrote. */
bool
ca_tap_clean_switch(const CaTap *tap)
{
	return tap->switches > 0 && tap->switches == tap->clean_switches;
}

void
ca_tap_lift_barrier(CaTap *tap)
{
	tap->barrier = InvalidTransactionId;
}

uint64
ca_tap_forgot(CaTap *tap)
{
	uint64 forgot = tap->forgot;

	tap->forgot = 0;
	return forgot;
}

XLogRecPtr
ca_tap_oldest_open(const CaTap *tap)
{
	return ca_open_oldest(tap->open);
}
