/*
 * switches.c: what the settings, and a standby, switch off here and now.
 */
#include "cache_aside.h"
#include "rules/rules.h"

#include "access/xlog.h"

/* Are keys captured at all? */
bool
ca_switches_capture(void)
{
	return guc_enabled && !RecoveryInProgress();
}

/* Does DDL delete the patterns of rules? */
bool
ca_switches_ddl(void)
{
	return ca_switches_capture() && guc_ddl_invalidates;
}
