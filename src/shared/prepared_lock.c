/*
 * prepared_lock.c: who is prepared, and has logged messages?
 *
 * A prepared transaction may stay so for days, and most have nothing to do with any cache. Core tells nobody
 * what one has logged, so that is put down where it survives with the transaction, through crashes and
 * promotions: in its locks. Who prepares with messages holds the advisory lock of database 0, which no SQL
 * function can name, in a mode that excludes nobody. Not in recovery, where those locks are not restored.
 */
#include "cache_aside.h"
#include "shared/shared.h"

static LOCKTAG
lock_tag(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, InvalidOid, 0x63616368, 0x655f6173, 0x6964);
	return tag;
}

/* In a transaction that is being prepared, and has logged messages. */
void
ca_prepared_lock_take(void)
{
	LOCKTAG tag = lock_tag();

	(void) LockAcquire(&tag, ShareLock, false, false);
}

/* In a transaction, in whose memory they are. */
VirtualTransactionId *
ca_prepared_lock_holders(int *count)
{
	LOCKTAG tag = lock_tag();

	return GetLockConflicts(&tag, AccessExclusiveLock, count);
}
