/*
 * committed.c: a committed transaction as the log told it, until delivery is done with it.
 *
 * The tap makes one for each transaction that logged messages (open.c) and hands it over when its commit record
 * is read; who has it frees it. A chunk of memory of its own, with its entries and children.
 */
#include "cache_aside.h"
#include "log/log.h"

#include "utils/memutils.h"

/* Messages of this transaction are its own, too. */
void
ca_committed_add_child(CaCommit *commit, TransactionId xid)
{
	if (commit->nchildren == commit->children_room)
	{
		int room = Max(4, 2 * commit->children_room);
		Size size = room * sizeof(TransactionId);

		commit->children = commit->children
							   ? repalloc(commit->children, size)
							   : MemoryContextAlloc(GetMemoryChunkContext(commit), size);
		commit->children_room = room;
	}
	commit->children[commit->nchildren++] = xid;
}

void
ca_committed_free(CaCommit *commit)
{
	if (commit->entries.data)
		pfree(commit->entries.data);
	if (commit->children)
		pfree(commit->children);
	pfree(commit);
}
