/*
 * preload.c: how the library came in, and shared memory for those who need it.
 *
 * Two ways in. Through shared_preload_libraries: everything, the worker included. Loaded later by a
 * session (no preload): the trigger functions still work, so that a server whose administrator took
 * the library out of shared_preload_libraries refuses no write, but CREATE EXTENSION says what to do.
 *
 * Shared memory is to be had in the first case only. Each folder names, when it starts, what asks for its
 * memory and what makes it; both are called by the postmaster (under EXEC_BACKEND the second by all).
 */
#include "cache_aside.h"
#include "common/common.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

#define MOST_PARTS 16

PG_FUNCTION_INFO_V1(cache_aside_library_version);

static bool preloaded;
static shmem_request_hook_type previous_request;
static shmem_startup_hook_type previous_startup;
static void (*requests[MOST_PARTS])(void);
static void (*inits[MOST_PARTS])(void);
static int nparts;

bool
ca_preload_done(void)
{
	return preloaded;
}

void
ca_preload_require(void)
{
	if (preloaded)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cache_aside is not loaded by shared_preload_libraries"),
			 errdetail("Without it no worker delivers invalidations to Redis."),
			 errhint("Add cache_aside to shared_preload_libraries and restart the server.")));
}

static void
request_shmem(void)
{
	if (previous_request)
		previous_request();
	for (int i = 0; i < nparts; i++)
		requests[i]();
}

static void
startup_shmem(void)
{
	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < nparts; i++)
		inits[i]();
	LWLockRelease(AddinShmemInitLock);
}

void
ca_preload_begin(void)
{
	preloaded = process_shared_preload_libraries_in_progress;
	if (!preloaded)
		return;
	previous_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

void
ca_preload_shmem(void (*request)(void), void (*init)(void))
{
	if (nparts >= MOST_PARTS)
		elog(ERROR, "too many parts of cache_aside want shared memory");
	requests[nparts] = request;
	inits[nparts++] = init;
}

Datum
cache_aside_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(CA_RELEASE));
}
