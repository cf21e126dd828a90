/*
 * key_ddl.c: is DDL under way that changes what keys are called, or was any since?
 *
 * A function that a query rule calls, or a label of an enum in a key, may be replaced while a transaction is open that worked
 * out keys with the old one. DDL that may do so counts `begun` before its commit record is written, and `ended` when its
 * invalidation messages are sent. Who works out keys looks before and after (transaction/computed.c).
 *
 * Who prepares such DDL holds an advisory lock that no SQL function can name, as prepared_lock.c explains: COMMIT PREPARED
 * asks for holders, and if there are any it may be one of them.
 *
 * Shared memory: two atomics, `ended` never above `begun`. A process that dies between the two without an abort takes the
 * shared memory with it.
 */
#include "cache_aside.h"
#include "shared/shared.h"

#include "port/atomics.h"
#include "storage/shmem.h"

typedef struct Shared
{
	pg_atomic_uint64 begun;
	pg_atomic_uint64 ended;
} Shared;

static Shared *shared; /* NULL without preload */

void
ca_key_ddl_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
}

void
ca_key_ddl_shmem_init(void)
{
	bool found;

	shared = ShmemInitStruct("cache_aside key DDL", MAXALIGN(sizeof(Shared)), &found);
	if (found)
		return;
	pg_atomic_init_u64(&shared->begun, 0);
	pg_atomic_init_u64(&shared->ended, 0);
}

void
ca_key_ddl_begin(void)
{
	if (shared != NULL)
		pg_atomic_fetch_add_u64(&shared->begun, 1);
}

void
ca_key_ddl_end(void)
{
	if (shared != NULL)
		pg_atomic_fetch_add_u64(&shared->ended, 1);
}

/* How many have begun; `quiet`: all of them have ended. Both are full barriers by themselves. */
uint64
ca_key_ddl_count(bool *quiet)
{
	uint64 ended;
	uint64 begun;

	*quiet = true;
	if (shared == NULL)
		return 0;
	pg_memory_barrier();
	ended = pg_atomic_read_u64(&shared->ended);
	pg_read_barrier(); /* `ended` first: one that begins in between is seen as not ended */
	begun = pg_atomic_read_u64(&shared->begun);
	pg_memory_barrier();
	*quiet = begun == ended;
	return begun;
}

static LOCKTAG
lock_tag(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, InvalidOid, 0x63616368, 0x655f6173, 0x6965);
	return tag;
}

/* In a transaction with such DDL that is being prepared. */
void
ca_key_ddl_prepare(void)
{
	LOCKTAG tag = lock_tag();

	(void) LockAcquire(&tag, ShareLock, false, false);
}

/* In a transaction, in whose memory the answer is. */
bool
ca_key_ddl_is_prepared(void)
{
	LOCKTAG tag = lock_tag();
	int count;

	(void) GetLockConflicts(&tag, AccessExclusiveLock, &count);
	return count > 0;
}
