/*
 * init.c: hooks and settings of rules.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "rules/rule_stats.h"
#include "rules/rules.h"

bool guc_enabled = true;
bool guc_ddl_invalidates = true;

static void
define_settings(void)
{
	DefineCustomBoolVariable("cache_aside.enabled", "Capture the keys that writes invalidate.",
							 "Off loses invalidations; for bulk loads into a cache that is flushed "
							 "afterwards.",
							 &guc_enabled, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"cache_aside.ddl_invalidates",
		"Delete a rule's whole pattern when DDL changes what its rows show.",
		"Off, for the time of a migration (SET LOCAL), what is cached keeps the shape it had; for "
		"huge caches whose values do not show the change, or are flushed otherwise.",
		&guc_ddl_invalidates, true, PGC_SUSET, 0, NULL, NULL, NULL);
}

void
ca_rules_init(void)
{
	define_settings();
	ca_ddl_init();
	ca_merge_init();
	if (ca_preload_done())
		ca_preload_shmem(ca_rule_stats_shmem_request, ca_rule_stats_shmem_init);
}
