/*
 * reread.c: the messages of a large transaction, read again when it has committed.
 *
 * The tap keeps of a large transaction only where its first and last message lie. Delivery reads that
 * range again in steps, with a reader of its own, and takes the messages of the transaction (and of
 * its subtransactions that logged any). Memory: one record. The log being gone (-1) ends the session,
 * and the next one finds the gap.
 */
#include "worker.h"

#include "access/rmgr.h"
#include "access/xlog.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "wal.h"

struct CaReread
{
	XLogReaderState *reader;
	ReadLocalXLogPageNoWaitPrivate end;
	const CaCommit *commit;
	MemoryContext cxt;
	bool begun;
};

CaReread *
ca_reread_open(MemoryContext cxt, const CaCommit *commit)
{
	CaReread *reread;
	MemoryContext own =
		AllocSetContextCreate(cxt, "cache_aside large transaction", ALLOCSET_DEFAULT_SIZES);

	reread = MemoryContextAllocZero(own, sizeof(CaReread));
	reread->cxt = own;
	reread->commit = commit;
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

static int
next_message(CaReread *reread, CaMessage *message)
{
	char *problem = NULL;
	const char *unreadable;

	if (!reread->begun)
	{
		reread->reader = ca_wal_reader(&reread->end);
		XLogBeginRead(reread->reader, reread->commit->first);
		reread->begun = true;
	}
	while (reread->reader->ReadRecPtr < reread->commit->last)
	{
		if (XLogReadRecord(reread->reader, &problem) == NULL)
			return -1;
		if (XLogRecGetRmid(reread->reader) != RM_LOGICALMSG_ID ||
			!belongs(reread->commit, XLogRecGetXid(reread->reader)))
			continue;
		if (ca_wal_message(reread->reader, message, &unreadable) == CA_RECORD_MESSAGE)
			return 1; /* what is unreadable the commit knows: see its `unread` */
	}
	return 0;
}

int
ca_reread_next(CaReread *reread, CaMessage *message)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile int result = -1;

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
