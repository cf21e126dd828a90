/*
 * harmless.c: may this function be called on a standby?
 *
 * Functions are believed when they are marked STABLE or IMMUTABLE, except built-in ones known better. Of the
 * volatile ones, those listed below are known to read only, in recovery too, and to depend on nothing of
 * the session. The lists were made from the source of PostgreSQL 15 to 18; a function that a later version
 * adds is not harmless when it is volatile, and harmless when it says that it is not.
 */
#include "cache_aside.h"
#include "routing/classify.h"

#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"

/* Volatile built-in functions that change nothing and work in recovery; sorted. */
static const char *const harmless[] = {
	"clock_timestamp",
	"current_query",
	"gen_random_uuid",
	"pg_blocking_pids",
	"pg_collation_actual_version",
	"pg_control_checkpoint",
	"pg_control_init",
	"pg_control_recovery",
	"pg_control_system",
	"pg_database_collation_actual_version",
	"pg_database_size",
	"pg_get_backend_memory_contexts",
	"pg_get_shmem_allocations",
	"pg_get_wal_resource_managers",
	"pg_hba_file_rules",
	"pg_ident_file_mappings",
	"pg_indexes_size",
	"pg_is_in_recovery",
	"pg_jit_available",
	"pg_last_wal_receive_lsn",
	"pg_last_wal_replay_lsn",
	"pg_last_xact_replay_timestamp",
	"pg_lock_status",
	"pg_notification_queue_usage",
	"pg_partition_ancestors",
	"pg_partition_tree",
	"pg_prepared_xact",
	"pg_relation_size",
	"pg_safe_snapshot_blocking_pids",
	"pg_show_all_file_settings",
	"pg_sleep",
	"pg_sleep_for",
	"pg_sleep_until",
	"pg_stat_get_recovery_prefetch",
	"pg_stat_get_xact_blocks_fetched",
	"pg_stat_get_xact_blocks_hit",
	"pg_stat_get_xact_function_calls",
	"pg_stat_get_xact_function_self_time",
	"pg_stat_get_xact_function_total_time",
	"pg_stat_get_xact_numscans",
	"pg_stat_get_xact_tuples_deleted",
	"pg_stat_get_xact_tuples_fetched",
	"pg_stat_get_xact_tuples_hot_updated",
	"pg_stat_get_xact_tuples_inserted",
	"pg_stat_get_xact_tuples_returned",
	"pg_stat_get_xact_tuples_updated",
	"pg_stat_have_stats",
	"pg_table_size",
	"pg_tablespace_size",
	"pg_total_relation_size",
	"pg_xact_status",
	"random",
	"random_normal",
	"timeofday",
	"txid_status",
	"uuidv4",
	"uuidv7",
};

/*
 * Built-in functions that are not volatile and yet write, fail in recovery, run a query we cannot see, or
 * call the input function of a type that is named in their arguments; sorted.
 */
static const char *const harmful[] = {
	"database_to_xml",    "database_to_xml_and_xmlschema",
	"pg_current_xact_id", "pg_input_error_info",
	"pg_input_is_valid",  "pg_replication_origin_oid",
	"pg_walfile_name",    "pg_walfile_name_offset",
	"schema_to_xml",      "schema_to_xml_and_xmlschema",
	"table_to_xml",       "table_to_xml_and_xmlschema",
	"txid_current",
};

/* Volatile functions of this extension that a standby can answer; sorted. */
static const char *const ours[] = {
	"caught_up",
	"read_token",
	"route",
	"stuck_at",
};

static int
compare_names(const void *a, const void *b)
{
	return strcmp((const char *) a, *(const char *const *) b);
}

#define LISTED(name, list)                                                                         \
	(bsearch((name), (list), lengthof(list), sizeof(char *), compare_names) != NULL)

bool
ca_harmless_function(Form_pg_proc proc, bool executed)
{
	const char *name = NameStr(proc->proname);

	if (proc->provolatile == PROVOLATILE_VOLATILE && !executed)
		return true;
	if (proc->oid < FirstNormalObjectId && proc->pronamespace == PG_CATALOG_NAMESPACE)
	{
		if (proc->provolatile == PROVOLATILE_VOLATILE)
			return LISTED(name, harmless);
		return !LISTED(name, harmful);
	}
	if (proc->provolatile != PROVOLATILE_VOLATILE)
		return true;
	return proc->prolang == ClanguageId && LISTED(name, ours) &&
		   proc->pronamespace == get_namespace_oid("cache_aside", true);
}
