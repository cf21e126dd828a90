/*
 * init.c: shared memory, callbacks and settings of routing.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "routing/routing.h"

CA_RANGE(publish_interval, 0, 60000, " ms",
		 "Use 0 to publish never; applications route by what was published last.")

/* What can be registered (replica_name_check in the install script). */
static bool
check_replica_name(char **newval, void **extra, GucSource source)
{
	Size len = 0;

	while (*newval && (*newval)[len] >= '!' && (*newval)[len] <= '~')
		len++;
	if (*newval == NULL || ((*newval)[len] == '\0' && len < NAMEDATALEN))
		return true;
	GUC_check_errdetail("A registered name has at most %d printable ASCII characters, no blank.",
						NAMEDATALEN - 1);
	GUC_check_errhint("Use the name given to cache_aside.add_replica(), which is also the "
					  "application_name of this server's walreceiver.");
	return false;
}

static void
define_settings(void)
{
	ca_settings_number(
		"cache_aside.publish_interval",
		"Time between two publications of the replicas' state in Redis; 0 means never.",
		"From 0 to 60 s. What applications read there is at most this old. Nothing is "
		"published while no replica is registered.",
		&guc_publish_interval, 250, PGC_SIGHUP, GUC_UNIT_MS, check_publish_interval);
	DefineCustomStringVariable(
		"cache_aside.replica_name", "Name of this server in the registry of replicas.",
		"Empty means cluster_name. It is also the application_name of its "
		"walreceiver, by which the primary knows it.",
		&guc_replica_name, "", PGC_SIGHUP, 0, check_replica_name, NULL, NULL);
}

void
ca_routing_init(void)
{
	define_settings();
	ca_replicas_init();
	if (!ca_preload_done())
		return;
	ca_preload_shmem(ca_progress_shmem_request, ca_progress_shmem_init);
	ca_preload_shmem(ca_visit_registries_shmem_request, ca_visit_registries_shmem_init);
}
