/*
 * init.c: the setting of the worker, and its start.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "worker/worker.h"

#include "miscadmin.h"
#include "utils/guc.h"

CA_RANGE(batch_delay, 0, 100, " ms",
		 "Use 0 for none; beyond some milliseconds a longer one saves next to nothing.")

void
ca_worker_init(void)
{
	ca_settings_number(
		"cache_aside.batch_delay", "Pause between two batches while commits come fast.",
		"From 0 to 100 ms. The longer, the less CPU a commit costs, and the later its "
		"keys are deleted. 0: none.",
		&guc_batch_delay, 1, PGC_SIGHUP, GUC_UNIT_MS, check_batch_delay);
	/* A server of pg_upgrade has half of the rules, and its log is about to be reset: it says nothing to Redis. */
	if (!ca_preload_done() || IsBinaryUpgrade)
		return;
	ca_worker_register();
}
