/*
 * reread.c: the messages of a large transaction, read again when it has committed.
 *
 * The tap keeps of a large transaction only where its first and last message lie. Delivery reads that
 * range again in steps, with a reader of its own, and takes the messages of the transaction, of its subtransactions that
 * logged any, and of other transactions that were merged into it (queue.c). Memory: one record. The range may hold any amount
 * of other people's log, so a call reads READ_BUDGET of it, then asks to be called again in a later round. If the log is
 * gone the session ends, and the next one finds the gap.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "log/log.h"
#include "log/wal.h"

#include "access/rmgr.h"
#include "access/xlog.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define READ_BUDGET (1024 * 1024)

struct CaReread
{
	XLogReaderState *reader;
	ReadLocalXLogPageNoWaitPrivate end;
	const CaCommit *commit;
	MemoryContext cxt;
	bool begun;
};

CaReread *
ca_reread_open(MemoryContext cxt, CaCommit *commit)
{
	CaReread *reread;
	MemoryContext own =
		AllocSetContextCreate(cxt, "cache_aside large transaction", ALLOCSET_DEFAULT_SIZES);

	reread = MemoryContextAllocZero(own, sizeof(CaReread));
	reread->cxt = own;
	reread->commit = commit;
	if (commit->nchildren > 1) /* for the search */
		qsort(commit->children, commit->nchildren, sizeof(TransactionId), xidComparator);
	return reread;
}

void
ca_reread_close(CaReread *reread)
{
	if (reread == NULL)
		return;
	if (reread->reader)
		XLogReaderFree(reread->reader);
	MemoryContextDelete(reread->cxt);
}

static bool
belongs(const CaCommit *commit, TransactionId xid)
{
	if (xid == commit->xid)
		return true;
	return commit->nchildren > 0 && bsearch(&xid, commit->children, commit->nchildren,
											sizeof(TransactionId), xidComparator) != NULL;
}

static CaRereadResult
next_message(CaReread *reread, CaMessage *message)
{
	char *problem = NULL;
	const char *unreadable;
	XLogRecPtr begin;

	if (!reread->begun)
	{
		reread->reader = ca_wal_reader(&reread->end, true);
		XLogBeginRead(reread->reader, reread->commit->first);
		reread->begun = true;
	}
	begin = reread->reader->EndRecPtr;
	while (reread->reader->ReadRecPtr < reread->commit->last)
	{
		if (reread->reader->EndRecPtr - begin > READ_BUDGET)
		{
			CA_DEBUG_POINT("reread-later");
			return CA_REREAD_LATER;
		}
		if (XLogReadRecord(reread->reader, &problem) == NULL)
			return ca_wal_interrupted() ? CA_REREAD_LATER : CA_REREAD_GONE;
		if (XLogRecGetRmid(reread->reader) != RM_LOGICALMSG_ID ||
			!belongs(reread->commit, XLogRecGetXid(reread->reader)))
			continue;
		if (ca_wal_message(reread->reader, message, &unreadable) == CA_RECORD_MESSAGE)
			return CA_REREAD_MESSAGE; /* what is unreadable the commit knows: see its `unread` */
	}
	return CA_REREAD_END;
}

CaRereadResult
ca_reread_next(CaReread *reread, CaMessage *message)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile CaRereadResult result = CA_REREAD_GONE;

	MemoryContextSwitchTo(reread->cxt);
	PG_TRY();
	{
		result = next_message(reread, message);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		EmitErrorReport();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return result;
}
