/*
 * committed.c: a committed transaction as the log told it, until delivery is done with it.
 *
 * The tap makes one for each transaction that logged messages (open.c) and hands it over when its commit record
 * is read; who has it frees it. A chunk of memory of its own, with its entries and children.
 */
#include "cache_aside.h"
#include "log/log.h"

void
ca_committed_free(CaCommit *commit)
{
	if (commit->entries.data)
		pfree(commit->entries.data);
	if (commit->children)
		pfree(commit->children);
	pfree(commit);
}
