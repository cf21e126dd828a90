/*
 * credential.c: the credential that redis_credential_command gave last, for every process of the server.
 *
 * One writer, the worker (credential_command.c); backends copy it when they connect, and log in anew on an open
 * connection when its number has changed. It lies in shared memory and nowhere else: no function shows it, and
 * copies are wiped as soon as they were sent. Whoever may read the memory of the server's processes, or their
 * core files, may read it, as he may read the password in redis_url.
 *
 * Locks: `credential` under the lock; `number` and `refused` are atomics; who lacks one sleeps on `news`. A login that Redis refused is noted with
 * the number it was made with, so that one who was late with an old one does not spoil a new one.
 */
#include "cache_aside.h"
#include "redis/credential.h"
#include "redis/redis.h"

#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define TRANCHE "cache_aside_credential"

typedef struct Shared
{
	pg_atomic_uint64 number;  /* as credential.number; 0: there is none */
	pg_atomic_uint64 refused; /* highest that a server refused */
	uint64 numbered;          /* under the lock: how many there were */
	ConditionVariable news;   /* another number */
	CaCredential credential;
} Shared;

static Shared *shared; /* NULL without preload */
static LWLock *lock;

void
ca_credential_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

void
ca_credential_shmem_init(void)
{
	bool found;

	shared = ShmemInitStruct("cache_aside credential", sizeof(Shared), &found);
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	if (found)
		return;
	memset(shared, 0, sizeof(Shared));
	pg_atomic_init_u64(&shared->number, 0);
	pg_atomic_init_u64(&shared->refused, 0);
	ConditionVariableInit(&shared->news);
}

void
ca_credential_wipe(CaCredential *credential)
{
	explicit_bzero(credential, sizeof(*credential));
}

bool
ca_credential_copy(CaCredential *credential)
{
	if (shared == NULL)
	{
		memset(credential, 0, sizeof(*credential));
		return false;
	}
	LWLockAcquire(lock, LW_SHARED);
	*credential = shared->credential;
	LWLockRelease(lock);
	return credential->number != 0;
}

void
ca_credential_store(CaCredential *credential)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	credential->number = ++shared->numbered;
	shared->credential = *credential;
	LWLockRelease(lock);
	pg_atomic_write_u64(&shared->number, credential->number);
	ConditionVariableBroadcast(&shared->news);
}

void
ca_credential_forget(void)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	ca_credential_wipe(&shared->credential);
	LWLockRelease(lock);
	pg_atomic_write_u64(&shared->number, 0);
}

uint64
ca_credential_number(void)
{
	return shared ? pg_atomic_read_u64(&shared->number) : 0;
}

bool
ca_credential_await(uint64 before, long timeout)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);

	while (ca_credential_number() == before && timeout > 0)
	{
		if (ConditionVariableTimedSleep(&shared->news, timeout, PG_WAIT_EXTENSION))
			break;
		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
	}
	ConditionVariableCancelSleep();
	return ca_credential_number() != before;
}

void
ca_credential_refuse(uint64 number)
{
	uint64 before;

	if (shared == NULL)
		return;
	before = pg_atomic_read_u64(&shared->refused);
	while (before < number && !pg_atomic_compare_exchange_u64(&shared->refused, &before, number))
		;
}

bool
ca_credential_is_refused(uint64 number)
{
	return shared && pg_atomic_read_u64(&shared->refused) >= number;
}
