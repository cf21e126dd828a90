/*
 * check_redis.c: what this Redis can, and what follows from what it cannot. SQL: check_redis()
 *
 * A connection of its own, as the server's Redis user, and two round trips of questions: what Redis tells
 * of itself (INFO in parts, TIME), and each command that is needed, tried without an effect
 * (check_commands.c); then a few PINGs. One row for each finding: ok (NULL: Redis does not tell, or it is neither
 * good nor bad), what was found, what follows from it here, how it is repaired.
 *
 * What can fail: everything, and then it is a row, not an error. Who asks waits for connect_timeout until
 * there is a connection, and for command_timeout for all the answers together; check() no longer than SHORT_MS. Redis is not trusted: answers are
 * used by their type, a text up to its first character that is not printable.
 *
 * Memory: the answers live in the caller's context, as the handlers that fill them are called by the wait
 * alone, which forgets them when it is interrupted.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "redis/redis.h"
#include "shared/sync.h"
#include "shared/trouble.h"
#include "reads/check.h"
#include "reads/reads.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(cache_aside_check_redis);

#define PINGS 5
#define SHORT_MS 2000 /* check() has more to say than what Redis says */
#define INFOS 4

typedef enum Verdict
{
	NO,
	YES,
	UNKNOWN
} Verdict;

static const char *const sections[INFOS] = {"server", "replication", "memory", "cluster"};

typedef struct Check
{
	ReturnSetInfo *result;
	bool bad_only; /* leave out what is as it should be, or is not known */
	CaRedis *redis;
	instr_time begun;
	CaGot infos[INFOS];
	int64 clock; /* Redis's, us; 0: not told */
	TimestampTz clock_asked, clock_told;
	CaCheckAnswer *commands;
	int64 pings[PINGS]; /* us */
	int npings;
} Check;

static void
put_row(Check *check, const char *item, Verdict ok, const char *value, const char *follows,
		const char *repair)
{
	const char *texts[] = {value, follows, repair};
	Datum values[5] = {0};
	bool nulls[5] = {false};

	if (check->bad_only && ok != NO)
		return;
	values[0] = CStringGetTextDatum(item);
	values[1] = BoolGetDatum(ok == YES);
	nulls[1] = ok == UNKNOWN;
	for (int i = 0; i < 3; i++)
	{
		nulls[2 + i] = texts[i] == NULL || texts[i][0] == '\0';
		if (!nulls[2 + i])
			values[2 + i] = CStringGetTextDatum(texts[i]);
	}
	tuplestore_putvalues(check->result->setResult, check->result->setDesc, values, nulls);
}

/* ---- asking ---- */

static long
time_left(const Check *check)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, check->begun);
	return Max((check->bad_only ? Min(guc_command_timeout, SHORT_MS) : guc_command_timeout) -
				   (long) INSTR_TIME_GET_MILLISEC(now),
			   1);
}

static bool
wait_for_answers(Check *check)
{
	return ca_redis_wait(check->redis, time_left(check), PG_WAIT_EXTENSION);
}

static void
handle_time(void *arg, const CaReply *reply)
{
	Check *check = arg;
	Size len;

	check->clock_told = GetCurrentTimestamp();
	if (reply == NULL || ca_redis_reply_count(reply) != 2)
		return;
	check->clock =
		strtoll(ca_redis_reply_text(ca_redis_reply_element(reply, 0), &len), NULL, 10) * 1000000 +
		strtoll(ca_redis_reply_text(ca_redis_reply_element(reply, 1), &len), NULL, 10) % 1000000;
}

static void
ignore(void *arg, const CaReply *reply)
{
}

static bool
ask_about_redis(Check *check)
{
	for (int i = 0; i < INFOS; i++)
	{
		const char *words[] = {"INFO", sections[i]};
		size_t lens[] = {4, strlen(sections[i])};

		check->infos[i].cxt = CurrentMemoryContext;
		ca_redis_send(check->redis, 2, words, lens, ca_reads_handle, &check->infos[i]);
	}
	check->clock_asked = GetCurrentTimestamp();
	ca_redis_send(check->redis, 1, (const char *[]){"TIME"}, (size_t[]){4}, handle_time, check);
	return wait_for_answers(check);
}

static bool
try_commands(Check *check)
{
	char own[64];
	char *name = psprintf("cache_aside_check_%d", MyProcPid);
	CaText other = ca_reads_key(name, strlen(name));

	snprintf(own, sizeof(own), CA_RESERVED "check:%d", MyProcPid);
	check->commands = palloc0(sizeof(CaCheckAnswer) * ca_check_commands_count());
	ca_check_commands_send(check->redis, own, pnstrdup(other.data, other.len), check->commands);
	return wait_for_answers(check);
}

static void
measure_round_trips(Check *check)
{
	while (check->npings < PINGS)
	{
		instr_time start;
		instr_time end;

		INSTR_TIME_SET_CURRENT(start);
		ca_redis_send(check->redis, 1, (const char *[]){"PING"}, (size_t[]){4}, ignore, NULL);
		if (!wait_for_answers(check))
			return;
		INSTR_TIME_SET_CURRENT(end);
		INSTR_TIME_SUBTRACT(end, start);
		check->pings[check->npings++] = (int64) INSTR_TIME_GET_MICROSEC(end);
	}
}

/* ---- what was found ---- */

/* The value of a field of INFO, printable; NULL: it is not told. */
static char *
find_field(const Check *check, const char *section, const char *name)
{
	for (int i = 0; i < INFOS; i++)
	{
		const CaGot *info = &check->infos[i];
		char *line = psprintf("\n%s:", name);
		const char *at;
		Size n = 0;

		if (strcmp(sections[i], section) != 0 || info->type != CA_REPLY_STRING ||
			(at = strstr(info->data, line)) == NULL)
			continue;
		for (at += strlen(line); n < CA_CHECK_KEPT && at[n] >= ' ' && at[n] <= '~'; n++)
			;
		return pnstrdup(at, n);
	}
	return NULL;
}

#define NOT_TOLD "INFO does not tell it."

static void
put_version(Check *check)
{
	char *version = find_field(check, "server", "redis_version");
	char *valkey = find_field(check, "server", "valkey_version");
	int major = version ? atoi(version) : 0;

	if (version == NULL)
		put_row(check, "version", UNKNOWN, NULL, NOT_TOLD, NULL);
	else
		put_row(check, "version", major >= 6 ? YES : NO,
				psprintf("%s %s", valkey ? "Valkey" : "Redis", valkey ? valkey : version),
				major < 6   ? "UNLINK and scripts as they are needed came with Redis 6."
				: major < 7 ? "No functions: plain mode, guarded fills are refused."
							: NULL,
				major < 7 ? "Use Redis 7, or Valkey." : NULL);
}

static void
put_mode(Check *check)
{
	char *mode = find_field(check, "server", "redis_mode");
	char *clustered = find_field(check, "cluster", "cluster_enabled");
	bool cluster = (clustered && clustered[0] == '1') || (mode && strcmp(mode, "cluster") == 0);

	if (mode == NULL && clustered == NULL)
		put_row(check, "mode", UNKNOWN, NULL, NOT_TOLD, NULL);
	else if (cluster)
		put_row(check, "mode", NO, "cluster", "Batches cross slots, which it refuses.",
				"Name a server that is no cluster in cache_aside.redis_url.");
	else if (mode && strcmp(mode, "sentinel") == 0)
		put_row(check, "mode", NO, mode, "It holds no keys.",
				"Name the master that this Sentinel watches in cache_aside.redis_url.");
	else
		put_row(check, "mode", YES, mode ? mode : "standalone", NULL, NULL);
}

static void
put_role(Check *check)
{
	char *role = find_field(check, "replication", "role");
	char *replicas = find_field(check, "replication", "connected_slaves");

	if (role == NULL)
		put_row(check, "role", UNKNOWN, NULL, NOT_TOLD, NULL);
	else if (strcmp(role, "master") == 0)
		put_row(check, "role", YES, role, NULL, NULL);
	else
		put_row(check, "role", NO, role, "It takes no writes, or keeps them to itself.",
				ca_trouble_hint(CA_TROUBLE_READONLY));
	put_row(check, "replicas",
			replicas == NULL                           ? UNKNOWN
			: atoi(replicas) >= guc_redis_min_replicas ? YES
													   : NO,
			replicas,
			replicas == NULL                          ? NOT_TOLD
			: atoi(replicas) < guc_redis_min_replicas ? "Synchronous commits wait for more of them."
			: atoi(replicas) == 0                     ? "What Redis acknowledged is lost with it."
								  : "They may lag: who reads there may read an old value.",
			replicas && atoi(replicas) < guc_redis_min_replicas
				? "Add replicas, or lower cache_aside.redis_min_replicas."
				: NULL);
}

static void
put_memory(Check *check)
{
	char *policy = find_field(check, "memory", "maxmemory_policy");
	char *limit = find_field(check, "memory", "maxmemory");
	bool bounded = limit && strtoll(limit, NULL, 10) > 0;

	if (policy == NULL)
		put_row(check, "memory policy", UNKNOWN, NULL, NOT_TOLD, NULL);
	else if (!bounded)
		put_row(check, "memory policy", YES, psprintf("%s, maxmemory 0", policy),
				"It takes what the machine has.", NULL);
	else if (strcmp(policy, "noeviction") == 0)
		put_row(check, "memory policy", NO, psprintf("%s, maxmemory %s", policy, limit),
				"When it is full it refuses writes: keys are deleted, but fills and sticks are not "
				"stored.",
				"Set maxmemory-policy allkeys-lru, or a volatile one and expiries.");
	else
		put_row(check, "memory policy", YES, psprintf("%s, maxmemory %s", policy, limit),
				strncmp(policy, "allkeys", 7) == 0
					? "Position and guard may be evicted; the worker writes them again."
					: "Keys without an expiry are never evicted.",
				NULL);
}

static void
put_tls(Check *check)
{
	CaRedisAddress address;
	bool local;
	bool tls;

	ca_redis_address_of_settings(&address);
	explicit_bzero(address.password, sizeof(address.password));
	local = address.path[0] != '\0';
	tls = address.tls;

	put_row(check, "TLS", tls || local ? YES : UNKNOWN,
			tls     ? "yes"
			: local ? "a unix socket"
					: "no",
			tls || local ? NULL : "Who sees the network sees password, keys and values.",
			tls || local ? NULL : "Use rediss:// where the network is not your own.");
}

static void
put_credentials(Check *check)
{
	const char *unused;
	const char *source = ca_credential_words_source(&unused);

	put_row(check, "credentials", unused ? NO : YES, source,
			unused ? psprintf("The %s has a password, too, which is not used.", unused) : NULL,
			unused ? "Leave one in the configuration, and reload it; see docs/credentials.md."
				   : NULL);
}

static int
compare_times(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

static void
put_latency(Check *check)
{
	int64 us;

	if (check->npings == 0)
	{
		put_row(check, "latency", UNKNOWN, NULL, "PING was not answered.", NULL);
		return;
	}
	qsort(check->pings, check->npings, sizeof(int64), compare_times);
	us = check->pings[check->npings / 2];
	put_row(check, "latency", us < 10000 ? YES : NO, psprintf("%.3f ms", us / 1000.0),
			us < 10000 ? NULL : "A synchronous commit waits for at least so long.",
			us < 10000 ? NULL : "Place Redis nearer to the database.");
}

/* Redis counts the time for which fills are admitted by its own clock; nobody compares the two. */
static void
put_clock(Check *check)
{
	int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	int64 here = check->clock_asked / 2 + check->clock_told / 2 + epoch;

	if (check->clock == 0)
		put_row(check, "clock", UNKNOWN, NULL, "TIME was not answered.", NULL);
	else
		put_row(check, "clock", YES, psprintf("%+.3f s", (check->clock - here) / 1e6),
				"Nothing: no decision compares it with the clock of this server.", NULL);
}

static void
put_commands(Check *check)
{
	for (int i = 0; i < ca_check_commands_count(); i++)
	{
		const char *name = ca_check_commands_name(i);
		const char *refusal = ca_check_commands_refusal(i, &check->commands[i]);
		CaTrouble cause = refusal ? ca_trouble_judge(refusal) : CA_TROUBLE_NONE;
		bool forbidden = cause == CA_TROUBLE_NOPERM || cause == CA_TROUBLE_ANSWER;

		if (name && (guc_redis_min_replicas > 0 || strcmp(name, "wait") != 0))
			put_row(check, psprintf("command %s", name), refusal ? NO : YES, refusal,
					refusal ? ca_check_commands_use(i) : NULL,
					refusal == NULL ? NULL
					: forbidden ? psprintf("ACL SETUSER ... +%s; a service that forbids it: see "
										   "docs/managed-redis.md.",
										   name)
								: ca_trouble_hint(cause));
	}
}

static const CaCheckAnswer *
find_answer(const Check *check, const char *command, const char **refusal)
{
	int i = 0;

	while (strcmp(ca_check_commands_name(i), command) != 0)
		i++;
	*refusal = ca_check_commands_refusal(i, &check->commands[i]);
	return &check->commands[i];
}

/* Is the library there? The call of it, among the commands, says so; the worker's calls need TIME, too. */
static void
put_library(Check *check)
{
	const char *refusal;
	const char *timeless;
	const CaCheckAnswer *called = find_answer(check, "fcall", &refusal);

	(void) find_answer(check, "time", &timeless);
	if (refusal)
		put_row(check, "function library", NO, "cannot be called",
				"Plain mode: guarded fills are refused.", "Permit fcall and function|load.");
	else if (timeless)
		put_row(check, "function library", NO, "cannot be used",
				"Plain mode: guarded fills are refused.", "Permit time.");
	else if (strstr(called->text, "not found"))
		put_row(check, "function library", NO, "not loaded",
				"Guarded fills are refused until the worker has loaded it.",
				"The worker loads it when it connects; see cache_aside.status.");
	else
		put_row(check, "function library", YES, "loaded", NULL, NULL);
}

/* ---- all of it ---- */

static void
put_findings(Check *check)
{
	put_version(check);
	put_mode(check);
	put_role(check);
	put_memory(check);
	put_tls(check);
	put_credentials(check);
	put_library(check);
	put_commands(check);
	put_latency(check);
	put_clock(check);
}

static void
put_connected(Check *check, const char *problem)
{
	char *endpoint = ca_backend_connection_endpoint();

	if (problem == NULL)
		put_row(check, "connection", YES, endpoint, NULL, NULL);
	else
		put_row(check, "connection", NO, psprintf("%s: %s", endpoint, problem),
				"Nothing is delivered while the worker meets the same.",
				ca_trouble_hint_for(ca_trouble_judge(problem), problem));
}

static void
ask(Check *check)
{
	bool answered;

	INSTR_TIME_SET_CURRENT(check->begun);
	answered = ask_about_redis(check) && try_commands(check);
	if (answered)
		measure_round_trips(check);
	put_connected(check, ca_redis_state(check->redis) == CA_REDIS_FAILED
							 ? ca_redis_error(check->redis)
							 : NULL);
	if (answered)
		put_findings(check);
}

Datum
ca_check_redis_run(FunctionCallInfo fcinfo, bool bad_only)
{
	Check *check = palloc0(sizeof(Check));

	ca_preload_require();
	InitMaterializedSRF(fcinfo, 0);
	check->result = (ReturnSetInfo *) fcinfo->resultinfo;
	check->bad_only = bad_only;
	check->redis = ca_backend_connection_hold_new();
	if (check->redis == NULL)
	{
		put_connected(check, ca_backend_connection_problem());
		return (Datum) 0;
	}
	PG_TRY();
	{
		ask(check);
	}
	PG_FINALLY();
	{
		ca_backend_connection_release(check->redis);
	}
	PG_END_TRY();
	return (Datum) 0;
}

/* cache_aside.check_redis() -> (item, ok, value, follows, repair) */
Datum
cache_aside_check_redis(PG_FUNCTION_ARGS)
{
	return ca_check_redis_run(fcinfo, false);
}
