/*
 * init.c: the setting of row versions.
 */
#include "cache_aside.h"
#include "rows/rows.h"

bool guc_import_mode = false;

static void
define_settings(void)
{
	DefineCustomBoolVariable("cache_aside.import_mode",
							 "Store row versions as they are given, without checking them.",
							 "For a load that must keep the versions of its source, which may go "
							 "back. Meant for SET LOCAL, hence not for configuration files.",
							 &guc_import_mode, false, PGC_SUSET, GUC_DISALLOW_IN_FILE, NULL,
							 ca_version_increment_assign, NULL);
}

void
ca_rows_init(void)
{
	define_settings();
	ca_version_increment_init();
}
