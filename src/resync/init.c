/*
 * init.c: the setting of scans.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "resync/resync.h"

#include <limits.h>

int guc_scan_rate;

CA_RANGE(scan_rate, 0, INT_MAX, " keys/s", "Use 0 for as fast as Redis answers.")

static void
define_settings(void)
{
	ca_settings_number("cache_aside.scan_rate",
					   "Keys a pattern scan looks at per second; 0 means as fast as Redis answers.",
					   "From 0. TRUNCATE, invalidate_pattern() and a resync scan the keyspace.",
					   &guc_scan_rate, 500000, PGC_SIGHUP, 0, check_scan_rate);
}

void
ca_resync_init(void)
{
	define_settings();
}
