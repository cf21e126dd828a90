/*
 * init.c: callbacks and settings of the open transaction.
 */
#include "cache_aside.h"
#include "transaction/transaction.h"

static void
define_settings(void)
{
	DefineCustomBoolVariable(
		"cache_aside.report_commit_lsn", "Tell the client the LSN of each commit that wrote.",
		"As the parameter cache_aside.commit_lsn, which drivers expose without a "
		"round trip and poolers pass on.",
		&guc_report_commit_lsn, false, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"cache_aside.log_keys", "Level at which each key that a write invalidates is shown.",
		"The first 1000 of a transaction. They tell values of rows that the client may not be "
		"allowed to read.",
		&guc_log_keys, 0, ca_log_keys_levels, PGC_SUSET, 0, NULL, NULL, NULL);
}

void
ca_transaction_init(void)
{
	define_settings();
	ca_pending_init();
	ca_commit_init();
}
