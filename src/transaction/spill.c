/*
 * spill.c: the temporary file of a pending set that outgrew memory.
 *
 * The file belongs to the top-level transaction, whatever subtransaction needs it first: it survives
 * rolled-back savepoints and is removed at abort. It counts towards temp_file_limit and lies in
 * temp_tablespaces. Every failure of the disk is an error of the statement, or of the commit before
 * its record is written.
 */
#include "cache_aside.h"
#include "transaction/transaction.h"

#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

struct BufFile *
ca_spill_create(void)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext previous = MemoryContextSwitchTo(TopTransactionContext);
	BufFile *volatile file = NULL;

	CurrentResourceOwner = TopTransactionResourceOwner;
	PG_TRY();
	{
		file = BufFileCreateTemp(false);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = owner;
		MemoryContextSwitchTo(previous);
	}
	PG_END_TRY();
	return file;
}

void
ca_spill_seek(struct BufFile *file, int64 offset)
{
	if (BufFileSeek(file, 0, (off_t) offset, SEEK_SET) == 0)
		return;
	ereport(ERROR, (errcode_for_file_access(),
					errmsg("could not position in the temporary file of pending cache keys: %m"),
					errdetail("Offset " INT64_FORMAT ".", offset),
					errhint("Check the disk that holds temp_tablespaces.")));
}

void
ca_spill_read(struct BufFile *file, void *target, Size len)
{
	if (BufFileRead(file, target, len) == len)
		return;
	ereport(ERROR, (errcode_for_file_access(),
					errmsg("could not read the temporary file of pending cache keys: %m"),
					errdetail("%zu bytes were expected.", len),
					errhint("Check the disk that holds temp_tablespaces.")));
}
