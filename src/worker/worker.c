/*
 * worker.c: the one background worker of a server; its life and its loop.
 *
 * Started by the postmaster as soon as the server is consistent, so that it runs on hot standbys
 * too; connected to no database, like the logical replication launcher, which gives it a line in
 * pg_stat_activity and shared catalogs. It exits with 1 whatever the reason (0 would mean "never
 * start me again") and is started again a second later; everything it knows is in Redis, in the log
 * and in shared memory, but for how often it died of what it read (breaker.c).
 *
 * Each round makes one step of the session, publishes the status and waits for whatever comes first:
 * the latch (a commit with keys, a signal, a survey), the socket, or a time-out. It never blocks on
 * Redis, so signals and ProcSignal barriers (DROP DATABASE) are answered however slow Redis is. What
 * raises in a round is logged, and rests for a while (mishap.c).
 *
 * Pacing: an idle worker delivers a commit at once. When commits come fast, rounds are spaced
 * (pace.c): batches get larger, and because the worker does not wait on its latch meanwhile,
 * committing backends find the latch set already and make no system call. A backend that waits for
 * delivery ends the spacing.
 * Synchronous committers are paced by Redis instead: while a batch is unanswered only the answer
 * wakes us, so that commits that come meanwhile share the next one, and when they come fast it waits
 * for some more of them (gather.c).
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "shared/shared.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "routing/routing.h"
#include "worker/mishap.h"
#include "worker/worker.h"
#include "worker/worker_wait.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define PACE_MS 1
#define SLOT_INTERVAL 1000  /* ms */
#define LONGEST_REST 600000 /* ms, after errors */
#define LAST_DELIVERY 500   /* ms for what is in the log when the server stops */

PGDLLEXPORT void cache_aside_worker_main(Datum arg);

static uint32 wait_main;
static uint32 wait_pace;
static uint64 tls_state; /* of the settings, and of the files they name, at the last reload */
static bool paused;      /* it may not do its duty yet */
static bool more;        /* the duty has something to do at once */

void
ca_worker_register(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "cache_aside");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "cache_aside_worker_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "cache_aside worker");
	snprintf(worker.bgw_type, BGW_MAXLEN, "cache_aside worker");
	RegisterBackgroundWorker(&worker);
}

/* ---- waiting ---- */

static void
wait_for_event(CaWaitKind kind, long timeout)
{
	CaRedis *connections[CA_MOST_CONNECTIONS];
	int n = ca_role_connections(connections, lengthof(connections));
	CaChildPipes pipes;

	ca_credential_command_pipes(&pipes);
	if (paused)
		pipes.n = 0; /* nobody reads them meanwhile */
	ca_worker_wait_for(kind, connections, n, &pipes, timeout,
					   kind == CA_WAIT_ANYTHING ? wait_main : wait_pace);
}

/* ---- the loop ---- */

static void
note_certificates(void)
{
	CaRedisAddress address;

	ca_redis_address_of_settings(&address);
	tls_state = address.tls_state;
	explicit_bzero(address.password, sizeof(address.password));
}

/* The connection goes on: it is better than none. */
static void
tell_unusable(const char *problem)
{
	ereport(LOG, (errcode(ERRCODE_CONFIG_FILE_ERROR),
				  errmsg("cache_aside keeps its connection to Redis: %s", problem),
				  errdetail("New ones use what was read before, until the files can be used."),
				  errhint("Repair what the settings cache_aside.redis_tls_* name, and reload.")));
}

/* More than one setting has a password. Said when it begins, and when another one does not count. */
static void
tell_unused_password(void)
{
	static const char *told = "";
	const char *unused;
	const char *source = ca_credential_words_source(&unused);

	if (unused && strcmp(unused, told) != 0)
		ereport(LOG,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("cache_aside takes the password for Redis from the %s, not from the %s",
						source, unused),
				 errdetail("Both are in the configuration; the command counts before the "
						   "password file, that before the URL."),
				 errhint("Leave one, and reload; see docs/credentials.md.")));
	told = unused ? unused : "";
}

/* What decides where keys are, and who we are there: a new session compares it with what Redis holds. */
static void
reload(void)
{
	CaRedisAddress *before = palloc(sizeof(CaRedisAddress));
	CaRedisAddress *now = palloc(sizeof(CaRedisAddress));
	char *prefix = pstrdup(guc_key_prefix);
	char *command = pstrdup(guc_redis_credential_command);
	const char *problem = NULL;

	ca_redis_address_of_settings(before);
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	ca_breaker_end_pause();
	ca_mishap_end_rests();
	ca_redis_address_of_settings(now);
	if (!ca_redis_address_is_place_of(before, now) || strcmp(prefix, guc_key_prefix) != 0 ||
		strcmp(command, guc_redis_credential_command) != 0)
		ca_role_reconnect();
	else if (now->tls_state != tls_state && (problem = ca_redis_address_problem(now)) == NULL)
		ca_role_reconnect();
	tell_unused_password();
	if (problem)
		tell_unusable(problem);
	else
		tls_state = now->tls_state;
	explicit_bzero(before->password, sizeof(before->password));
	explicit_bzero(now->password, sizeof(now->password));
}

/* The server stops: deliver what is in the log, if Redis is there and quick. */
static void
finish(void)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LAST_DELIVERY);
	CaRun *run = ca_role_run();

	CA_DEBUG_POINT("stops");
	ca_wal_finish_by(deadline);
	while (ca_run_lasts(run) && !ca_run_settled(run) && GetCurrentTimestamp() < deadline)
		if (!ca_role_step())
			wait_for_event(CA_WAIT_ANSWER, PACE_MS);
	if (ca_run_lasts(run))
	{
		ca_run_hurry(run);
		ca_role_step();
	}
	ca_status_publish();
}

/* Once a second, and at once when the restart LSN becomes known. */
static void
keep_log(void)
{
	static TimestampTz last;
	static XLogRecPtr kept; /* restart LSN of the last call */
	XLogRecPtr restart = ca_lag_keep();
	TimestampTz now = GetCurrentTimestamp();

	if (XLogRecPtrIsInvalid(kept) == XLogRecPtrIsInvalid(restart) &&
		!TimestampDifferenceExceeds(last, now, SLOT_INTERVAL))
		return;
	last = now;
	kept = restart;
	ca_slot_keep(restart);
}

/*
 * After a crash: say so in the log, where it is found however often the server restarts before Redis
 * can be told. Dying before the commit is flushed leaves the control file to say it again.
 */
static void
log_crash(void)
{
	StringInfoData entries;

	if (!ca_status_shared->crashed || RecoveryInProgress())
		return;
	initStringInfo(&entries);
	ca_message_append(&entries, CA_ENTRY_CRASH, "", 0);
	StartTransactionCommand();
	CA_DEBUG_POINT("crash-noted");
	ForceSyncCommit();
	ca_message_log(0, entries.data, entries.len);
	CommitTransactionCommand();
	ca_status_shared->crashed = false;
}

/* ---- its steps; each may raise ---- */

static void
answer_signals(void)
{
	if (ConfigReloadPending)
		reload();
	CA_DEBUG_POINT("signals");
	if (ProcSignalBarrierPending)
		ProcessProcSignalBarrier();
	CHECK_FOR_INTERRUPTS();
}

static void
publish_replicas(void)
{
	CA_DEBUG_POINT("publish-begins");
	ca_publish_step(ca_role_redis());
}

static void
do_duty(void)
{
	more = false;
	if (!paused)
		more = ca_role_step();
}

/* An error that tells of the log and not of the machine counts as a death where we read. */
static void
abandon_duty(const ErrorData *error)
{
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_INSUFFICIENT_RESOURCES)
		ca_breaker_died();
	more = false;
	ca_role_abandon(error->message);
}

static CaMishap answering = {"answering signals", 1000, NULL};
static CaMishap publishing = {"publishing replicas", LONGEST_REST, NULL};
static CaMishap noting = {"noting that the server crashed", LONGEST_REST, NULL};
static CaMishap duty = {"its duty", LONGEST_REST, abandon_duty};

static void
shut_down(void)
{
	ca_mishap_guard(&duty, finish);
	ca_breaker_leave();
	proc_exit(1);
}

static long
sooner(long a, long b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static long
next_timeout(void)
{
	long pause = Max(ca_breaker_pause(), ca_mishap_rest(&duty));
	long publish = ca_mishap_rest(&publishing);

	return sooner(pause > 0 ? pause : ca_role_timeout(),
				  publish > 0 ? publish : ca_publish_timeout());
}

/* Synchronous committers: the answer first, then company for those who came while we waited for it. */
static void
wait_for_waiters(void)
{
	wait_for_event(CA_WAIT_ANSWER, PACE_MS);
	ca_run_listen(ca_role_run());
	if (!ca_run_unanswered(ca_role_run()) && ca_sync_gather())
	{
		wait_for_event(CA_WAIT_ANYTHING, PACE_MS);
		ca_sync_gathered();
	}
}

/* A backlog is delivered as fast as Redis takes it. */
static void
pause_round(void)
{
	if (ca_run_full(ca_role_run()))
		wait_for_event(CA_WAIT_ANSWER, PACE_MS);
	else
		ca_pace_pause(wait_pace);
}

static void
run_round(void)
{
	if (ShutdownRequestPending)
		shut_down();
	ca_mishap_guard(&answering, answer_signals);
	ca_mishap_guard(&publishing, publish_replicas);
	ca_mishap_guard(&noting, log_crash);
	paused = ca_breaker_pause() > 0 || ca_mishap_rest(&duty) > 0;
	if (paused)
		ca_ping_refuse();
	ca_mishap_guard(&duty, do_duty);
	keep_log();
	ca_breaker_lives(ca_run_lasts(ca_role_run()));
	ca_status_publish();
	if (ca_status_want_commits(!paused && ca_role_wants_commits()))
		return; /* somebody may have committed before that was known */
	if (ca_run_unanswered(ca_role_run()) && ca_sync_active())
		wait_for_waiters();
	else if (ca_pace_is_due() && !more)
		pause_round();
	else
		wait_for_event(CA_WAIT_ANYTHING, more ? 0 : next_timeout());
}

void
cache_aside_worker_main(Datum arg)
{
	MemoryContext round_cxt;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, PG_SIG_IGN); /* there is no statement to cancel */
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	/* log_crash: flushed, but without waiting for a standby, which would answer to nobody meanwhile */
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
	wait_main = ca_wait_event("CacheAsideMain");
	wait_pace = ca_wait_event("CacheAsidePace");
	note_certificates();
	tell_unused_password();
	ca_status_attach();
	ca_lag_attach();
	ca_read_token_attach();
	ca_sync_attach();
	ca_role_attach();
	ca_status_state("starting");
	ca_breaker_attach();
	round_cxt =
		AllocSetContextCreate(TopMemoryContext, "cache_aside round", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContextReset(round_cxt);
		MemoryContextSwitchTo(round_cxt);
		run_round();
	}
}
