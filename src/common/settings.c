/*
 * settings.c: settings that are numbers, and their ranges.
 *
 * Ranges: what lies outside of bounds given to PostgreSQL it refuses without a hint. So every number
 * is given the bounds of its type, and refused by a check hook, with DETAIL and HINT; pg_settings
 * tells the range in extra_desc, not in min_val and max_val. A value in a file that is refused leaves
 * the old one in force, or the default when the server starts, as with any setting.
 */
#include "cache_aside.h"
#include "common/common.h"

#include <limits.h>

bool
ca_settings_in_range(int value, int lowest, int highest, const char *unit, const char *hint)
{
	if (value >= lowest && value <= highest)
		return true;
	GUC_check_errdetail("It must be from %d%s to %d%s, and is %d%s.", lowest, unit, highest, unit,
						value, unit);
	GUC_check_errhint("%s", hint);
	return false;
}

void
ca_settings_number(const char *name, const char *what, const char *why, int *variable, int preset,
				   GucContext context, int flags, GucIntCheckHook check)
{
	DefineCustomIntVariable(name, what, why, variable, preset, INT_MIN, INT_MAX, context, flags,
							check, NULL, NULL);
}
