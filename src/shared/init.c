/*
 * init.c: shared memory and settings of what waits for the worker.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "shared/long_work.h"
#include "shared/master.h"
#include "shared/shared.h"
#include "shared/sync.h"

CA_RANGE(max_backend_connections, 1, 262143, "",
		 "Keep it, and what applications use, below maxclients of Redis: the worker needs one.")
CA_RANGE(backend_idle_timeout, 0, 86400 * 1000, " ms",
		 "Use 0 to keep them as long as the sessions.")
CA_RANGE(redis_min_replicas, 0, 100, "",
		 "Use 0 to wait for the master alone; a Redis has a few replicas.")
CA_RANGE(synchronous_timeout, 1, 60000, " ms",
		 "Set cache_aside.synchronous to off to wait not at all. A backend that waits longer would "
		 "serve nothing but cancel and termination for too long.")

static void
define_settings(void)
{
	ca_settings_number(
		"cache_aside.max_backend_connections", "Most connections of all backends to Redis.",
		"From 1 to 262143. A backend that finds none free waits up to connect_timeout. "
		"The worker's own is not among them.",
		&guc_max_backend_connections, 100, PGC_SIGHUP, 0, check_max_backend_connections);
	ca_settings_number(
		"cache_aside.backend_idle_timeout",
		"Time after which a backend closes a connection to Redis that it does not use.",
		"From 0 to a day; 0: never.", &guc_backend_idle_timeout, 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS,
		check_backend_idle_timeout);
	DefineCustomBoolVariable("cache_aside.synchronous", "COMMIT returns when its keys are deleted.",
							 "After its locks are released; a commit without keys does not wait. "
							 "Whatever happens to the wait, the commit stands.",
							 &guc_synchronous, false, PGC_USERSET, 0, NULL, NULL, NULL);
	ca_settings_number(
		"cache_aside.synchronous_timeout", "Longest time a synchronous commit waits.",
		"From 1 ms to 60 s. Then it returns with a WARNING and the keys are deleted later. "
		"The backend serves no interrupts but cancel and termination meanwhile.",
		&guc_synchronous_timeout, 1000, PGC_USERSET, GUC_UNIT_MS, check_synchronous_timeout);
	ca_settings_number(
		"cache_aside.redis_min_replicas",
		"Replicas of Redis that must have deleted the keys before a synchronous commit returns.",
		"From 0 to 100. Redis's own WAIT: fewer than these, and it ends with its time-out.",
		&guc_redis_min_replicas, 0, PGC_SIGHUP, 0, check_redis_min_replicas);
}

void
ca_shared_init(void)
{
	define_settings();
	if (!ca_preload_done())
		return;
	ca_preload_shmem(ca_status_shmem_request, ca_status_shmem_init);
	ca_preload_shmem(ca_key_ddl_shmem_request, ca_key_ddl_shmem_init);
	ca_preload_shmem(ca_endpoint_shmem_request, ca_endpoint_shmem_init);
	ca_preload_shmem(ca_read_token_shmem_request, ca_read_token_shmem_init);
	ca_preload_shmem(ca_allowance_shmem_request, ca_allowance_shmem_init);
	ca_preload_shmem(ca_sync_shmem_request, ca_sync_shmem_init);
	ca_preload_shmem(ca_master_shmem_request, ca_master_shmem_init);
	ca_preload_shmem(ca_long_work_shmem_request, ca_long_work_shmem_init);
}
