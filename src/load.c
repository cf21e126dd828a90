/*
 * load.c: load the library, declare settings, let each file set itself up.
 *
 * Two ways in. Through shared_preload_libraries: everything, the worker included. Loaded later by a
 * session (no preload): the trigger functions still work, so that a server whose administrator took
 * the library out of shared_preload_libraries refuses no write, but CREATE EXTENSION says what to do.
 *
 * Settings that reach outside the server (endpoint, secrets) are SIGHUP and visible to superusers
 * only: a role that could set them per session could aim the server at any host.
 *
 * Ranges: what lies outside of bounds given to PostgreSQL it refuses without a hint. So every number
 * is given the bounds of its type, and refused by a check hook, with DETAIL and HINT; pg_settings
 * tells the range in extra_desc, not in min_val and max_val. A value in a file that is refused leaves
 * the old one in force, or the default when the server starts, as with any setting.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "delivery/redelete.h"
#include "routing/routing.h"
#include "shared/sync.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

bool guc_enabled = true;
bool guc_ddl_invalidates = true;
char *guc_key_prefix;
char *guc_redis_url;
char *guc_redis_password_file;
int guc_connect_timeout;
int guc_command_timeout;
bool guc_import_mode = false;
int guc_delivery;
int guc_resync_on_promotion;
int guc_redelivery_window;
int guc_max_wal_retained;
bool guc_guard;
int guc_scan_rate;

static bool preloaded = false;
static shmem_request_hook_type previous_shmem_request;
static shmem_startup_hook_type previous_shmem_startup;

void _PG_init(void);

bool
ca_preloaded(void)
{
	return preloaded;
}

void
ca_require_preload(void)
{
	if (preloaded)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cache_aside is not loaded by shared_preload_libraries"),
			 errdetail("Without it no worker delivers invalidations to Redis."),
			 errhint("Add cache_aside to shared_preload_libraries and restart the server.")));
}

static void
request_shmem(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(ca_status_shmem_size());
	RequestAddinShmemSpace(ca_token_shmem_size());
	RequestAddinShmemSpace(ca_warm_shmem_size());
	RequestAddinShmemSpace(ca_allowance_shmem_size());
	ca_progress_shmem_request();
	ca_topology_shmem_request();
	ca_sync_shmem_request();
}

static void
startup_shmem(void)
{
	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	ca_status_shmem_init();
	ca_token_shmem_init();
	ca_warm_shmem_init();
	ca_allowance_shmem_init();
	ca_progress_shmem_init();
	ca_topology_shmem_init();
	ca_sync_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

/* ---- ranges ---- */

static bool
check_range(int value, int lowest, int highest, const char *unit, const char *hint)
{
	if (value >= lowest && value <= highest)
		return true;
	GUC_check_errdetail("It must be from %d%s to %d%s, and is %d%s.", lowest, unit, highest, unit,
						value, unit);
	GUC_check_errhint("%s", hint);
	return false;
}

/* A check hook is not told whose it is: one for each number. */
#define CA_RANGE(setting, lowest, highest, unit, hint)                                             \
	static bool check_##setting(int *newval, void **extra, GucSource source)                       \
	{                                                                                              \
		return check_range(*newval, lowest, highest, unit, hint);                                  \
	}

CA_RANGE(connect_timeout, 10, 60000, " ms",
		 "One second suits most networks; an outage is known only after this time.")
CA_RANGE(command_timeout, 10, 60000, " ms",
		 "Redis answers within milliseconds; what is not answered in time is sent again.")
CA_RANGE(max_backend_connections, 1, 262143, "",
		 "Keep it, and what applications use, below maxclients of Redis: the worker needs one.")
CA_RANGE(backend_idle_timeout, 0, 86400 * 1000, " ms",
		 "Use 0 to keep them as long as the sessions.")
CA_RANGE(scan_rate, 0, INT_MAX, " keys/s", "Use 0 for as fast as Redis answers.")
CA_RANGE(publish_interval, 0, 60000, " ms",
		 "Use 0 to publish never; applications route by what was published last.")
CA_RANGE(redelete_delay, 0, 3600 * 1000, " ms",
		 "Use 0 for never; for longer than an hour keys would pile up in memory.")
CA_RANGE(synchronous_timeout, 1, 60000, " ms",
		 "Set cache_aside.synchronous to off to wait not at all. A backend that waits longer would "
		 "serve nothing but cancel and termination for too long.")
CA_RANGE(redelivery_window, 0, 86400, " s",
		 "Use 0 to keep no delivered log. A Redis that goes back further costs a resync.")
CA_RANGE(max_wal_retained, 16, MAX_KILOBYTES / 1024, " MB",
		 "With less than a few segments of log every pause of Redis would cost a resync.")

/* A key is its prefix and its text, together no longer than CA_MAX_KEY, and not one of ours. */
static bool
check_key_prefix(char **newval, void **extra, GucSource source)
{
	for (const char *at = *newval ? *newval : ""; *at; at += *at == ',')
	{
		const char *prefix = at += strspn(at, " \t");
		Size len = 0; /* in a pattern, where its glob characters are escaped */

		for (; *at && *at != ','; at++)
			len += strchr("*?[]\\", *at) ? 2 : 1;
		if (len <= CA_MAX_KEY / 2 && !ca_prefix_is_reserved(prefix, at - prefix))
			continue;
		GUC_check_errmsg("invalid value for parameter \"cache_aside.key_prefix\"");
		if (len > CA_MAX_KEY / 2)
			GUC_check_errdetail("One of its prefixes is %zu bytes long; %d are allowed.", len,
								CA_MAX_KEY / 2);
		else
			GUC_check_errdetail("One of its prefixes begins with \"" CA_RESERVED
								"\"; such keys hold positions, guards, leases and sticks.");
		GUC_check_errhint("Choose another one; several prefixes are separated by commas.");
		return false;
	}
	return true;
}

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

/* ---- settings ---- */

static void
define_number(const char *name, const char *what, const char *why, int *variable, int preset,
			  GucContext context, int flags, GucIntCheckHook check)
{
	DefineCustomIntVariable(name, what, why, variable, preset, INT_MIN, INT_MAX, context, flags,
							check, NULL, NULL);
}

static void
define_redis_settings(void)
{
	DefineCustomStringVariable("cache_aside.redis_url", "Redis server that holds the cache.",
							   "redis://[user[:password]@]host[:port][/db] or "
							   "unix:///path/redis.sock?db=N",
							   &guc_redis_url, "", PGC_SIGHUP, /* no Redis that was not asked for */
							   GUC_SUPERUSER_ONLY, ca_redis_check_url, NULL, NULL);
	DefineCustomStringVariable(
		"cache_aside.redis_password_file", "File whose first line is the password for Redis.",
		"Read again at each connection, so that a rotated password needs no "
		"restart; overrides the password in redis_url.",
		&guc_redis_password_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	define_number("cache_aside.connect_timeout", "Longest time to establish a connection to Redis.",
				  "From 10 ms to 60 s; name resolution and login included.", &guc_connect_timeout,
				  1000, PGC_SIGHUP, GUC_UNIT_MS, check_connect_timeout);
	define_number("cache_aside.command_timeout", "Longest time to wait for an answer from Redis.",
				  "From 10 ms to 60 s; then the connection is made anew.", &guc_command_timeout,
				  2000, PGC_SIGHUP, GUC_UNIT_MS, check_command_timeout);
	define_number("cache_aside.max_backend_connections",
				  "Most connections of all backends to Redis.",
				  "From 1 to 262143. A backend that finds none free waits up to connect_timeout. "
				  "The worker's own is not among them.",
				  &guc_max_backend_connections, 100, PGC_SIGHUP, 0, check_max_backend_connections);
	define_number("cache_aside.backend_idle_timeout",
				  "Time after which a backend closes a connection to Redis that it does not use.",
				  "From 0 to a day; 0: never.", &guc_backend_idle_timeout, 60 * 1000, PGC_SIGHUP,
				  GUC_UNIT_MS, check_backend_idle_timeout);
	define_number("cache_aside.scan_rate",
				  "Keys a pattern scan looks at per second; 0 means as fast as Redis answers.",
				  "From 0. TRUNCATE, invalidate_pattern() and a resync scan the keyspace.",
				  &guc_scan_rate, 500000, PGC_SIGHUP, 0, check_scan_rate);
}

static void
define_capture_settings(void)
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
	DefineCustomStringVariable(
		"cache_aside.key_prefix",
		"Prefix of every key that is invalidated; several are separated by "
		"commas.",
		"Applied when the key is logged, so that a change leaves what is "
		"already in the log as it was. List both during a deploy that changes "
		"it.",
		&guc_key_prefix, "", PGC_SIGHUP, 0, check_key_prefix, ca_prefix_assign, NULL);
}

static const struct config_enum_entry delivery_modes[] = {
	{"primary", CA_DELIVER_PRIMARY, false},
	{"always", CA_DELIVER_ALWAYS, false},
	{"off", CA_DELIVER_OFF, false},
	{NULL, 0, false},
};

static const struct config_enum_entry resync_policies[] = {
	{"auto", CA_RESYNC_AUTO, false},
	{"always", CA_RESYNC_ALWAYS, false},
	{"never", CA_RESYNC_NEVER, false},
	{NULL, 0, false},
};

static void
define_routing_settings(void)
{
	DefineCustomBoolVariable(
		"cache_aside.report_commit_lsn", "Tell the client the LSN of each commit that wrote.",
		"As the parameter cache_aside.commit_lsn, which drivers expose without a "
		"round trip and poolers pass on.",
		&guc_report_commit_lsn, false, PGC_USERSET, 0, NULL, NULL, NULL);
	define_number("cache_aside.publish_interval",
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

static void
define_redelete_settings(void)
{
	DefineCustomBoolVariable(
		"cache_aside.redelete",
		"Delete each key again once every connected standby has its commit.",
		"For clients that fill with plain SET from a replica, or slowly: they can put an old value "
		"back. Guarded fills do not need it.",
		&guc_redelete, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_number("cache_aside.redelete_delay", "Time after which a key is deleted a last time.",
				  "From 0 to 1 h. Longer than a client takes from reading a row to storing it. 0: "
				  "never.",
				  &guc_redelete_delay, 1000, PGC_SIGHUP, GUC_UNIT_MS, check_redelete_delay);
}

static void
define_synchronous_settings(void)
{
	DefineCustomBoolVariable("cache_aside.synchronous", "COMMIT returns when its keys are deleted.",
							 "After its locks are released; a commit without keys does not wait. "
							 "Whatever happens to the wait, the commit stands.",
							 &guc_synchronous, false, PGC_USERSET, 0, NULL, NULL, NULL);
	define_number(
		"cache_aside.synchronous_timeout", "Longest time a synchronous commit waits.",
		"From 1 ms to 60 s. Then it returns with a WARNING and the keys are deleted later. "
		"The backend serves no interrupts but cancel and termination meanwhile.",
		&guc_synchronous_timeout, 1000, PGC_USERSET, GUC_UNIT_MS, check_synchronous_timeout);
}

static void
define_version_settings(void)
{
	DefineCustomBoolVariable("cache_aside.import_mode",
							 "Store row versions as they are given, without checking them.",
							 "For a load that must keep the versions of its source, which may go "
							 "back. Meant for SET LOCAL, hence not for configuration files.",
							 &guc_import_mode, false, PGC_SUSET, GUC_DISALLOW_IN_FILE, NULL,
							 ca_version_increment_assign, NULL);
}

static void
define_delivery_settings(void)
{
	DefineCustomEnumVariable(
		"cache_aside.delivery", "Which server deletes keys.",
		"primary: the primary; a standby keeps the log it needs to take over. always: this server "
		"also as a standby, in a Redis of its own, after replay. off: nobody.",
		&guc_delivery, CA_DELIVER_PRIMARY, delivery_modes, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"cache_aside.guard", "Keep the guard that admits guarded fills.",
		"Off saves a little work in Redis; then every guarded fill is refused.", &guc_guard, true,
		PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"cache_aside.resync_on_promotion", "Delete everything cached after a promotion?",
		"What was cached from commits that the old primary lost is invalidated by nobody. auto: "
		"unless the old primary was shut down cleanly.",
		&guc_resync_on_promotion, CA_RESYNC_AUTO, resync_policies, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_number(
		"cache_aside.redelivery_window", "Time for which delivered log is kept.",
		"From 0 to a day. Covers a Redis that goes back in time: restarted from a "
		"snapshot, failed over to a lagging replica. What lies further back costs a resync.",
		&guc_redelivery_window, 300, PGC_SIGHUP, GUC_UNIT_S, check_redelivery_window);
	define_number("cache_aside.max_wal_retained",
				  "Most log kept for delivery, however long Redis is away.",
				  "From 16 MB. Past it precision is lost (a resync), never correctness.",
				  &guc_max_wal_retained, 1024, PGC_SIGHUP, GUC_UNIT_MB, check_max_wal_retained);
}

void
_PG_init(void)
{
	preloaded = process_shared_preload_libraries_in_progress;
	define_redis_settings();
	define_delivery_settings();
	define_capture_settings();
	define_redelete_settings();
	define_synchronous_settings();
	define_routing_settings();
	define_version_settings();
	CA_DEBUG_INIT();
	MarkGUCPrefixReserved("cache_aside");
	ca_pending_init();
	ca_commit_init();
	ca_replicas_init();
	ca_ddl_init();
	ca_merge_init();
	ca_version_increment_init();
	if (!preloaded)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
	ca_worker_register();
}
