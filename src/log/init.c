/*
 * init.c: settings of the log that is kept.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "log/log.h"

#include <limits.h>

int guc_redelivery_window;
int guc_max_wal_retained;

CA_RANGE(redelivery_window, 0, 86400, " s",
		 "Use 0 to keep no delivered log. A Redis that goes back further costs a resync.")
CA_RANGE(max_wal_retained, 16, MAX_KILOBYTES / 1024, " MB",
		 "With less than a few segments of log every pause of Redis would cost a resync.")

static void
define_settings(void)
{
	ca_settings_number(
		"cache_aside.redelivery_window", "Time for which delivered log is kept.",
		"From 0 to a day. Covers a Redis that goes back in time: restarted from a "
		"snapshot, failed over to a lagging replica. What lies further back costs a resync.",
		&guc_redelivery_window, 300, PGC_SIGHUP, GUC_UNIT_S, check_redelivery_window);
	ca_settings_number(
		"cache_aside.max_wal_retained", "Most log kept for delivery, however long Redis is away.",
		"From 16 MB. Past it precision is lost (a resync), never correctness.",
		&guc_max_wal_retained, 1024, PGC_SIGHUP, GUC_UNIT_MB, check_max_wal_retained);
}

void
ca_log_init(void)
{
	define_settings();
}
