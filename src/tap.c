/*
 * tap.c: WAL to committed transactions.
 *
 * Input: the server's own log, read with core's XLogReader and read_local_xlog_page_no_wait: flushed
 * WAL on a primary, replayed WAL on a standby, timelines followed. Output: one CaCommit for each
 * transaction that logged messages, handed over when its commit record is read, in log order.
 *
 * An open transaction's payloads are kept in memory up to OPEN_LIMIT bytes (ALL_OPEN_LIMIT for all
 * of them together); beyond that only the range of its messages is kept and read again at commit.
 * An abort record forgets a transaction. Crash and promotion write none, so whoever is neither
 * running in an xl_running_xacts record nor prepared at a shutdown or end-of-recovery record is
 * dead. That is exact: a transaction leaves the running set after it wrote its commit record and
 * before the running set is logged, so its end was read before the xl_running_xacts that omits it.
 *
 * What can fail: a segment is not there. Around a promotion that lasts a moment (core renames the
 * last segment of the old timeline), so the caller is told to retry until MISSING_PATIENCE is over;
 * then the log is gone (CA_TAP_GAP). Errors of core's reader end here; they never leave the process.
 *
 * Memory: everything lives in one context, a child of the caller's; commits handed over are chunks
 * of the caller's own context and are freed with ca_commit_free.
 */
#include "worker.h"
#include "debug.h"

#include "access/rmgr.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "catalog/pg_control.h"
#include "storage/standbydefs.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "wal.h"

#define OPEN_LIMIT (256 * 1024)
#define ALL_OPEN_LIMIT (32 * 1024 * 1024)
#define MISSING_PATIENCE 10000 /* ms */

typedef struct OpenTransaction
{
	TransactionId xid; /* hash key */
	bool prepared;
	CaCommit *commit; /* what is known of it so far */
} OpenTransaction;

struct CaTap
{
	MemoryContext cxt;
	MemoryContext commit_cxt;
	XLogReaderState *reader;
	ReadLocalXLogPageNoWaitPrivate end;
	HTAB *open;
	Size open_bytes;
	XLogRecPtr read_end;
	XLogRecPtr skip;           /* commits ending at or below it were delivered before */
	TransactionId barrier;     /* older ones may have messages never read; invalid: none */
	bool after_shutdown;       /* the last record was a shutdown checkpoint */
	int switches;              /* timelines that began above `skip` */
	int clean_switches;        /* ... right behind a shutdown checkpoint */
	TimestampTz missing_since; /* 0: nothing is missing */
	CaCommitHandler handler;   /* during ca_tap_read only */
	void *handler_arg;
};

CaTap *
ca_tap_open(MemoryContext cxt, XLogRecPtr restart, XLogRecPtr confirmed, TransactionId barrier)
{
	MemoryContext own = AllocSetContextCreate(cxt, "cache_aside tap", ALLOCSET_DEFAULT_SIZES);
	CaTap *tap = MemoryContextAllocZero(own, sizeof(CaTap));
	HASHCTL ctl = {0};

	ctl.keysize = sizeof(TransactionId);
	ctl.entrysize = sizeof(OpenTransaction);
	ctl.hcxt = own;
	tap->cxt = own;
	tap->commit_cxt = cxt;
	tap->open = hash_create("cache_aside open transactions", 64, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	tap->read_end = restart;
	tap->skip = confirmed;
	tap->barrier = barrier;
	return tap;
}

static void
drop_reader(CaTap *tap)
{
	if (tap->reader)
		XLogReaderFree(tap->reader);
	tap->reader = NULL;
}

void
ca_tap_close(CaTap *tap)
{
	HASH_SEQ_STATUS scan;
	OpenTransaction *open;

	if (tap == NULL)
		return;
	hash_seq_init(&scan, tap->open);
	while ((open = hash_seq_search(&scan)) != NULL)
		ca_commit_free(open->commit);
	drop_reader(tap);
	MemoryContextDelete(tap->cxt);
}

static void
forget(CaTap *tap, OpenTransaction *open)
{
	tap->open_bytes -= open->commit->entries.len;
	ca_commit_free(open->commit);
	hash_search(tap->open, &open->xid, HASH_REMOVE, NULL);
}

/* Keep only the range: its payloads are read again when it commits. */
static void
make_large(CaTap *tap, CaCommit *commit)
{
	if (commit->large)
		return;
	tap->open_bytes -= commit->entries.len;
	pfree(commit->entries.data);
	memset(&commit->entries, 0, sizeof(commit->entries));
	commit->large = true;
}

static CaCommit *
note_open(CaTap *tap, TransactionId xid)
{
	bool found;
	OpenTransaction *open = hash_search(tap->open, &xid, HASH_ENTER, &found);

	if (!found)
	{
		open->prepared = false;
		open->commit = MemoryContextAllocZero(tap->commit_cxt, sizeof(CaCommit));
		open->commit->xid = xid;
		open->commit->first = tap->reader->ReadRecPtr;
	}
	return open->commit;
}

static void
append_payload(CaTap *tap, CaCommit *commit, const char *payload, uint32 len)
{
	if (commit->large)
		return;
	if (commit->entries.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(tap->commit_cxt);

		initStringInfo(&commit->entries);
		MemoryContextSwitchTo(old);
	}
	tap->open_bytes -= commit->entries.len;
	appendBinaryStringInfo(&commit->entries, (char *) &len, sizeof(len));
	appendBinaryStringInfo(&commit->entries, payload, len);
	tap->open_bytes += commit->entries.len;
	if (commit->entries.len > OPEN_LIMIT || tap->open_bytes > ALL_OPEN_LIMIT)
		make_large(tap, commit);
}

static void
note_message(CaTap *tap)
{
	Size len;
	Oid dbid;
	const char *payload = ca_wal_payload(tap->reader, &len, &dbid);
	CaMessage message;
	CaCommit *commit;

	if (payload == NULL || !ca_message_open(&message, dbid, payload, len))
		return;
	commit = note_open(tap, XLogRecGetXid(tap->reader));
	commit->last = tap->reader->ReadRecPtr;
	commit->async |= message.async_commit;
	append_payload(tap, commit, payload, len);
}

static void
adopt(CaTap *tap, CaCommit *parent, OpenTransaction *open)
{
	CaCommit *child = open->commit;
	Size done = 0;

	parent->first = Min(parent->first, child->first);
	parent->last = Max(parent->last, child->last);
	parent->async |= child->async;
	if (child->large)
		make_large(tap, parent);
	while (done < child->entries.len)
	{
		uint32 len;

		memcpy(&len, child->entries.data + done, sizeof(len));
		append_payload(tap, parent, child->entries.data + done + sizeof(len), len);
		done += sizeof(len) + len;
	}
	ca_commit_add_child(tap->commit_cxt, parent, open->xid);
	forget(tap, open);
}

static void
adopt_children(CaTap *tap, TransactionId xid, int nsubxacts, TransactionId *subxacts)
{
	CaCommit *parent = NULL;

	for (int i = 0; i < nsubxacts; i++)
	{
		OpenTransaction *child = hash_search(tap->open, &subxacts[i], HASH_FIND, NULL);

		if (child == NULL)
			continue;
		if (parent == NULL)
			parent = note_open(tap, xid);
		adopt(tap, parent, child);
	}
}

/* Did it run before we began to read, where we could not read? */
static bool
may_be_unread(const CaTap *tap, TransactionId xid)
{
	return TransactionIdIsValid(tap->barrier) && TransactionIdIsNormal(xid) &&
		   TransactionIdPrecedes(xid, tap->barrier) && tap->reader->EndRecPtr > tap->skip;
}

static void
commit_transaction(CaTap *tap, TransactionId xid, xl_xact_parsed_commit *parsed)
{
	OpenTransaction *open;
	CaCommit *commit;

	if (parsed->nsubxacts > 0)
		adopt_children(tap, xid, parsed->nsubxacts, parsed->subxacts);
	if (may_be_unread(tap, xid))
		note_open(tap, xid)->unread = true;
	open = hash_search(tap->open, &xid, HASH_FIND, NULL);
	if (open == NULL)
		return;
	commit = open->commit;
	tap->open_bytes -= commit->entries.len;
	hash_search(tap->open, &xid, HASH_REMOVE, NULL);
	if (tap->reader->EndRecPtr <= tap->skip)
	{
		ca_commit_free(commit);
		return;
	}
	commit->start = tap->reader->ReadRecPtr;
	commit->end = tap->reader->EndRecPtr;
	commit->time = parsed->xact_time;
	commit->prepared = TransactionIdIsValid(parsed->twophase_xid);
	tap->handler(tap->handler_arg, commit);
}

static void
abort_transaction(CaTap *tap, TransactionId xid, int nsubxacts, TransactionId *subxacts)
{
	OpenTransaction *open;

	for (int i = -1; i < nsubxacts && hash_get_num_entries(tap->open) > 0; i++)
	{
		open = hash_search(tap->open, i < 0 ? &xid : &subxacts[i], HASH_FIND, NULL);
		if (open)
			forget(tap, open);
	}
}

static void
mark_prepared(CaTap *tap)
{
	xl_xact_parsed_prepare parsed;
	OpenTransaction *open;
	TransactionId xid;

	ParsePrepareRecord(XLogRecGetInfo(tap->reader), (xl_xact_prepare *) XLogRecGetData(tap->reader),
					   &parsed);
	xid = parsed.twophase_xid;
	if (parsed.nsubxacts > 0)
		adopt_children(tap, xid, parsed.nsubxacts, parsed.subxacts);
	open = hash_search(tap->open, &xid, HASH_FIND, NULL);
	if (open)
		open->prepared = true;
	if (CA_DEBUG_SKIP("commit"))
	{
		xl_xact_parsed_commit commit = {.xact_time = GetCurrentTimestamp()};

		commit_transaction(tap, xid, &commit);
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

	if (hash_get_num_entries(tap->open) == 0 && !TransactionIdIsValid(tap->barrier))
		return;
	switch (info & XLOG_XACT_OPMASK)
	{
		case XLOG_XACT_COMMIT:
		case XLOG_XACT_COMMIT_PREPARED:
			ParseCommitRecord(info, (xl_xact_commit *) data, &commit);
			if ((info & XLOG_XACT_OPMASK) == XLOG_XACT_COMMIT_PREPARED)
				xid = commit.twophase_xid;
			commit_transaction(tap, xid, &commit);
			break;
		case XLOG_XACT_ABORT:
		case XLOG_XACT_ABORT_PREPARED:
			ParseAbortRecord(info, (xl_xact_abort *) data, &abort);
			if ((info & XLOG_XACT_OPMASK) == XLOG_XACT_ABORT_PREPARED)
				xid = abort.twophase_xid;
			abort_transaction(tap, xid, abort.nsubxacts, abort.subxacts);
			break;
		case XLOG_XACT_PREPARE:
			mark_prepared(tap);
			break;
	}
}

/* Forgets transactions that ended without a record; `oldest` invalid: all but prepared ones. */
static void
prune(CaTap *tap, TransactionId oldest)
{
	HASH_SEQ_STATUS scan;
	OpenTransaction *open;

	hash_seq_init(&scan, tap->open);
	while ((open = hash_seq_search(&scan)) != NULL)
	{
		if (!open->prepared &&
			(!TransactionIdIsValid(oldest) || TransactionIdPrecedes(open->xid, oldest)))
			forget(tap, open);
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
				prune(tap, ((xl_running_xacts *) XLogRecGetData(reader))->oldestRunningXid);
			break;
		case RM_XLOG_ID:
			if (info == XLOG_CHECKPOINT_SHUTDOWN || info == XLOG_END_OF_RECOVERY)
			{
				prune(tap, InvalidTransactionId);
				note_restart(tap, info);
				return;
			}
			break;
	}
	tap->after_shutdown = false;
}

static CaTapResult
missing(CaTap *tap, const char *what)
{
	TimestampTz now = GetCurrentTimestamp();

	if (tap->missing_since == 0)
		tap->missing_since = now;
	if (!TimestampDifferenceExceeds(tap->missing_since, now, MISSING_PATIENCE))
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

	if (tap->reader == NULL)
	{
		tap->reader = ca_wal_reader(&tap->end);
		XLogBeginRead(tap->reader, ca_wal_record_start(tap->read_end));
	}
	tap->end.end_of_wal = false;
	ca_wal_timeline(&limit);
	while (tap->read_end - begin < budget)
	{
		if (tap->read_end >= limit) /* running into it costs the reader its page and its file */
			return CA_TAP_END;
		if (XLogReadRecord(tap->reader, &problem) == NULL)
		{
			if (tap->end.end_of_wal)
				return CA_TAP_END;
			drop_reader(tap);
			return missing(tap, problem ? problem : "invalid record");
		}
		note_record(tap);
		tap->read_end = tap->reader->EndRecPtr;
		tap->missing_since = 0;
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

XLogRecPtr
ca_tap_oldest_open(const CaTap *tap)
{
	XLogRecPtr oldest = InvalidXLogRecPtr;
	HASH_SEQ_STATUS scan;
	OpenTransaction *open;

	hash_seq_init(&scan, tap->open);
	while ((open = hash_seq_search(&scan)) != NULL)
		if (oldest == InvalidXLogRecPtr || open->commit->first < oldest)
			oldest = open->commit->first;
	return oldest;
}
