/*
 * check_server.c: what an operator should mend on this server, for check(). SQL: check_server()
 *
 * Input: the status as the worker published it last, settings of the server, its replication slots. Output: a row for each
 * finding: how bad it is, what it is about, what was seen, and the SQL that mends it, or a comment where no SQL can. Nothing is
 * changed, nobody is waited for, and no network is used; without the library preloaded that is the one finding.
 *
 *	error	keys are not deleted, or are lost
 *	warning	they will be if it goes on, or more is deleted than need be
 *	advice	it has done no harm yet
 */
#include "cache_aside.h"
#include "common/common.h"
#include "log/log.h"
#include "redis/redis.h"
#include "shared/endpoint.h"
#include "shared/shared.h"
#include "shared/status.h"
#include "shared/trouble.h"
#include "worker/worker.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "replication/slot.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/varlena.h"

#define LATE_MS 5000 /* age of a commit that is not delivered although nothing seems wrong */
/* One statement each, for whoever pastes it where several are one transaction, in which ALTER SYSTEM is refused. */
#define RESTART "-- then restart the server"
#define RELOAD "-- then SELECT pg_catalog.pg_reload_conf();"

PG_FUNCTION_INFO_V1(cache_aside_check_server);

static void
tell(ReturnSetInfo *result, const char *severity, const char *what, const char *detail,
	 const char *remedy)
{
	Datum values[4] = {CStringGetTextDatum(severity), CStringGetTextDatum(what),
					   CStringGetTextDatum(detail), CStringGetTextDatum(remedy)};
	bool nulls[4] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static char *
set(const char *name, const char *value)
{
	return psprintf("ALTER SYSTEM SET %s TO %s; " RELOAD, name, value);
}

static char *
set_number(const char *name, int64 value, const char *unit)
{
	return set(name, psprintf("'" INT64_FORMAT "%s'", value, unit));
}

static char *
set_at_start(const char *name, int value)
{
	return psprintf("ALTER SYSTEM SET %s TO %d; " RESTART, name, value);
}

/* ---- the library and the worker ---- */

static void
look_at_library(ReturnSetInfo *result)
{
	char *now = pstrdup(GetConfigOption("shared_preload_libraries", false, false));
	StringInfoData list;
	List *names;
	ListCell *cell;

	initStringInfo(&list);
	if (SplitDirectoriesString(now, ',', &names))
		foreach (cell, names)
			if (strcmp(lfirst(cell), "cache_aside") != 0)
				appendStringInfo(&list, "%s, ", quote_literal_cstr(lfirst(cell)));
	tell(result, "error", "library",
		 "shared_preload_libraries does not name cache_aside: keys are logged, and nobody delivers "
		 "them",
		 psprintf("ALTER SYSTEM SET shared_preload_libraries TO %s'cache_aside'; " RESTART,
				  list.data));
}

static void
look_at_worker(ReturnSetInfo *result, const CaStatus *s)
{
	if (s->pid != 0)
		return;
	if (s->stats_reset == 0)
		tell(result, "error", "worker",
			 "no worker has begun: there may be too few background workers, the server log says so",
			 set_at_start("max_worker_processes", max_worker_processes + 2));
	else
		tell(result, "error", "worker",
			 psprintf("no worker runs; the last error: %s", s->last_error),
			 "-- it is started again after a second; the server log says why it ended");
}

/* ---- what is wrong now ---- */

static const char *
mend_trouble(const CaStatus *s)
{
	switch (s->trouble.cause)
	{
		case CA_TROUBLE_MISCONFIGURED:
			return psprintf("%s The value is an example: where is Redis?",
							set("cache_aside.redis_url", "'redis://host:6379/0'"));
		case CA_TROUBLE_FENCED:
		case CA_TROUBLE_REFUSED:
		case CA_TROUBLE_SECOND:
			return psprintf("SELECT cache_aside.adopt(); -- if this is the right server: %s",
							ca_trouble_hint(s->trouble.cause));
		case CA_TROUBLE_PAUSED:
		case CA_TROUBLE_FAILING:
			return psprintf("SELECT pg_catalog.pg_reload_conf(); -- tries at once: %s",
							ca_trouble_hint(s->trouble.cause));
		case CA_TROUBLE_NO_WORKER:
			return set_at_start("max_worker_processes", max_worker_processes + 2);
		default:
			return psprintf("-- %s", ca_trouble_hint_for(s->trouble.cause, s->last_error));
	}
}

/* Are keys deleted all the same? What is told is the first trouble that there is, and that of events is the last. */
static bool
is_beside(CaTrouble cause)
{
	CaTroubleArea area = 0;

	while (area < CA_AREA_EVENTS && ca_trouble_of(area) == CA_TROUBLE_NONE)
		area++;
	return cause == CA_TROUBLE_SECOND ||
		   (area == CA_AREA_EVENTS && ca_trouble_of(area) != CA_TROUBLE_NONE);
}

static void
look_at_trouble(ReturnSetInfo *result, const CaStatus *s)
{
	CaTrouble cause = s->trouble.cause;
	const char *name = cause == CA_TROUBLE_DATABASE
						   ? psprintf("waits for database %s", ca_text_show(s->waits_for))
						   : ca_trouble_name(cause);

	if (s->pid != 0 && cause != CA_TROUBLE_NONE)
		tell(result, is_beside(cause) ? "warning" : "error", "delivery",
			 psprintf("%s since %s: %s", name, timestamptz_to_str(s->trouble.since),
					  s->trouble.first_error),
			 mend_trouble(s));
}

static void
look_at_state(ReturnSetInfo *result, const CaStatus *s)
{
	if (s->pid == 0)
		return;
	if (strcmp(s->state, "off") == 0)
		tell(result, "error", "delivery", "cache_aside.delivery is off: nothing is deleted here",
			 set("cache_aside.delivery", "'primary'"));
	if (strcmp(s->state, "uninstalled") == 0)
		tell(result, "error", "delivery", "uninstall() was called: nothing is deleted any more",
			 "-- restart the server to begin again, or take cache_aside out of "
			 "shared_preload_libraries");
	if (s->trouble.cause == CA_TROUBLE_NONE && s->progress.oldest != 0 &&
		TimestampDifferenceExceeds(s->progress.oldest, GetCurrentTimestamp(), LATE_MS))
		tell(
			result, "warning", "delivery",
			psprintf("a commit of %s is not delivered yet, although nothing seems wrong (state %s)",
					 timestamptz_to_str(s->progress.oldest), s->state),
			"-- it waits for Redis, for a standby that commits wait for, or for a large one before "
			"it: see cache_aside.endpoints and pg_stat_replication");
}

/* ---- the log that is kept ---- */

static int
slots_in_use(void)
{
	int count = 0;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
		count += ReplicationSlotCtl->replication_slots[i].in_use;
	LWLockRelease(ReplicationSlotControlLock);
	return count;
}

static void
look_at_missing_slot(ReturnSetInfo *result)
{
	const char *remedy = "-- the server log says why: \"runs without its replication slot\"";

	if (wal_level < WAL_LEVEL_REPLICA)
		remedy = "ALTER SYSTEM SET wal_level TO 'replica'; " RESTART;
	else if (slots_in_use() >= max_replication_slots)
		remedy = set_at_start("max_replication_slots", max_replication_slots + 2);
	tell(result, "warning", "slot",
		 "there is no replication slot: log that is removed before it was delivered costs a resync",
		 remedy);
}

static int64
retained(const CaStatus *s)
{
	XLogRecPtr end = GetFlushRecPtr(NULL);

	return end > s->slot_restart ? (int64) ((end - s->slot_restart) / (1024 * 1024)) : 0;
}

static void
look_at_slot(ReturnSetInfo *result, const CaStatus *s)
{
	if (s->pid == 0 || RecoveryInProgress() || strcmp(s->state, "delivering") != 0)
		return;
	if (XLogRecPtrIsInvalid(s->slot_restart))
		look_at_missing_slot(result);
}

static void
look_at_retained(ReturnSetInfo *result, const CaStatus *s)
{
	if (s->pid != 0 && !RecoveryInProgress() && !XLogRecPtrIsInvalid(s->slot_restart) &&
		s->trouble.cause != CA_TROUBLE_NONE &&
		retained(s) * 10 > guc_max_wal_retained * INT64CONST(8))
		tell(result, "warning", "slot",
			 psprintf(INT64_FORMAT " MB of log are kept for delivery, of %d MB in "
								   "cache_aside.max_wal_retained: beyond, a resync is due",
					  retained(s), guc_max_wal_retained),
			 set_number("cache_aside.max_wal_retained", retained(s) * 2 + 1024, "MB"));
	if (max_slot_wal_keep_size_mb < 0)
		tell(result, "advice", "slot",
			 "max_slot_wal_keep_size is -1: a slot that nobody moves keeps log until the disk is "
			 "full",
			 set_number("max_slot_wal_keep_size", guc_max_wal_retained * INT64CONST(4), "MB"));
	else if (max_slot_wal_keep_size_mb < guc_max_wal_retained)
		tell(result, "warning", "slot",
			 psprintf("max_slot_wal_keep_size is %d MB, less than cache_aside.max_wal_retained: an "
					  "outage of Redis costs a resync earlier than it says",
					  max_slot_wal_keep_size_mb),
			 set_number("max_slot_wal_keep_size", guc_max_wal_retained * INT64CONST(4), "MB"));
}

/* ---- settings ---- */

static const struct
{
	const char *name;
	const char *good;
	const char *severity;
	const char *harm;
} switches[] = {
	{"cache_aside.enabled", "on", "error", "writes delete nothing"},
	{"cache_aside.ddl_invalidates", "on", "warning", "DDL leaves what is cached as it was"},
	{"cache_aside.log_keys", "off", "advice", "every key is logged"},
};

/* As sessions begin with them: what this one has set for itself is its own. */
static void
look_at_switches(ReturnSetInfo *result)
{
	for (int i = 0; i < lengthof(switches); i++)
	{
		const char *now = GetConfigOptionResetString(switches[i].name);

		if (strcmp(now, switches[i].good) != 0)
			tell(result, switches[i].severity, "settings",
				 psprintf("%s is %s: %s", switches[i].name, now, switches[i].harm),
				 set(switches[i].name, switches[i].good));
	}
}

static void
look_at_credentials(ReturnSetInfo *result)
{
	const char *unused;
	const char *source = ca_credential_words_source(&unused);

	if (unused != NULL)
		tell(result, "warning", "settings",
			 psprintf("the password for Redis comes from the %s; the %s has one, too, which is not "
					  "used",
					  source, unused),
			 strcmp(unused, "password file") == 0
				 ? set("cache_aside.redis_password_file", "''")
				 : "-- take it out of cache_aside.redis_url, and reload");
}

static void
look_at_redis(ReturnSetInfo *result)
{
	CaEndpoint endpoint = {0};

	if (ca_endpoint_copy(&endpoint, 1) == 1 && strcmp(endpoint.mode, "plain") == 0 &&
		strcmp(GetConfigOption("cache_aside.guard", false, false), "on") == 0)
		tell(result, "warning", "Redis",
			 psprintf("%s has no functions, or forbids them: guarded fills are refused",
					  endpoint.name),
			 psprintf("%s Unless Redis 7 or Valkey takes its place.",
					  set("cache_aside.guard", "off")));
	if (endpoint.library > CA_LIBRARY_REVISION)
		tell(result, "advice", "Redis",
			 psprintf("%s has a function library of revision " INT64_FORMAT
					  ", this server's is %d: a server of a newer release delivers there, too",
					  endpoint.name, endpoint.library, CA_LIBRARY_REVISION),
			 "-- install that release here, too; until then its library serves both");
	if (ca_allowance_used() >= (uint32) guc_max_backend_connections)
		tell(result, "warning", "Redis",
			 psprintf("all %d connections of cache_aside.max_backend_connections are in use",
					  guc_max_backend_connections),
			 set_number("cache_aside.max_backend_connections",
						guc_max_backend_connections * INT64CONST(2), ""));
}

Datum
cache_aside_check_server(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CaStatus status;

	InitMaterializedSRF(fcinfo, 0);
	if (!ca_preload_done())
	{
		look_at_library(result);
		return (Datum) 0;
	}
	ca_status_copy(&status);
	look_at_worker(result, &status);
	look_at_trouble(result, &status);
	look_at_state(result, &status);
	look_at_slot(result, &status);
	look_at_retained(result, &status);
	look_at_switches(result);
	look_at_credentials(result);
	look_at_redis(result);
	return (Datum) 0;
}
