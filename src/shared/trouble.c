/*
 * trouble.c: what keeps the worker from its duty: said once, shown while it lasts, said when over.
 *
 * Each cause has one entry in a table: SQLSTATE, what follows from it (DETAIL), what to do (HINT).
 * Whoever meets a trouble names its area and cause. The first time that a cause appears in a trouble
 * it is logged; a trouble may change its cause (Redis refuses the login, then is gone, then refuses
 * again) and each cause is logged once, however often it returns. The end is one line.
 *
 * Status shows the cause as it is now, since when there has been trouble, its first error, which is
 * what an operator looks for, and the last one. What is over leaves last_error alone.
 *
 * Memory: fixed, and shared, so that a worker that was ended and started again in the middle of a
 * trouble repeats nothing. One writer, the worker, and no lock: nobody else looks at it, but for what
 * goes into CaStatus and for one atomic, which committing backends read when they do not wait
 * (ca_trouble_excuse): a stale value there costs a wrong word in a WARNING.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/endpoint.h"
#include "shared/status.h"
#include "shared/trouble.h"

#include "utils/timestamp.h"

#define KEPT "Commits go on; their keys stay in the log and are delivered later."
#define SEEKS "Without them a connection that works goes on, but none is made. " KEPT
#define WAITS                                                                                      \
	"What needs the rules of every database (a resync, the first look for the extension) waits."
#define ACL                                                                                        \
	"docs/operations.md, \"Users in Redis\", has the rights that the Redis user needs (ACL "       \
	"SETUSER). They take effect at once."

typedef struct Entry
{
	const char *name; /* in status */
	int sqlstate;
	bool answer; /* Redis was reached */
	const char *excuse;
	const char *detail; /* NULL: is logged by who knows more */
	const char *hint;
} Entry;

static const Entry entries[CA_TROUBLES] = {
	[CA_TROUBLE_NONE] = {"", 0, false, "Redis cannot be reached", "", ""},
	[CA_TROUBLE_MISCONFIGURED] = {"misconfigured", ERRCODE_CONFIG_FILE_ERROR, false,
								  "no Redis is configured", KEPT, CA_REDIS_URL_HINT},
	[CA_TROUBLE_UNREACHABLE] = {"unreachable", ERRCODE_CONNECTION_FAILURE, false,
								"Redis cannot be reached", KEPT,
								"Is Redis running, at the address in cache_aside.redis_url, and is "
								"the way there open? The "
								"worker goes on trying."},
	[CA_TROUBLE_TLS] = {"TLS", ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, false,
						"TLS with Redis fails", KEPT,
						"Compare the certificate of Redis with cache_aside.redis_url and the "
						"settings cache_aside.redis_tls_*."},
	[CA_TROUBLE_CREDENTIAL] = {"no credential", ERRCODE_INVALID_PASSWORD, false,
							   "there is no credential for Redis", KEPT,
							   "cache_aside.redis_credential_command gives none; the server log "
							   "has what it said. It is run "
							   "again after pauses of a second to a minute, and at once after a "
							   "reload that changes it. See "
							   "docs/credentials.md."},
	[CA_TROUBLE_WRONGPASS] =
		{"WRONGPASS", ERRCODE_INVALID_PASSWORD, true, "Redis refuses the login", KEPT,
		 "Put the password into the file that cache_aside.redis_password_file "
		 "names, which is read at each attempt, or into cache_aside.redis_url; what "
		 "cache_aside.redis_credential_command gives is asked for again. And is the user right?"},
	[CA_TROUBLE_NOPERM] = {"NOPERM", ERRCODE_INSUFFICIENT_PRIVILEGE, true,
						   "the Redis user lacks a right", KEPT, ACL},
	[CA_TROUBLE_READONLY] = {"READONLY", ERRCODE_READ_ONLY_SQL_TRANSACTION, true,
							 "Redis is a replica, and read-only", KEPT,
							 "Set cache_aside.redis_url to the master, or promote this one "
							 "(REPLICAOF NO ONE). During a "
							 "failover this passes by itself."},
	[CA_TROUBLE_OOM] = {"OOM", ERRCODE_OUT_OF_MEMORY, true, "Redis is full", KEPT,
						"Raise maxmemory in Redis, or set a maxmemory-policy that evicts."},
	[CA_TROUBLE_MISCONF] = {"MISCONF", ERRCODE_IO_ERROR, true,
							"Redis cannot save to its disk and takes no writes", KEPT,
							"See the log of Redis; its disk may be full. CONFIG SET "
							"stop-writes-on-bgsave-error no lets it go on without saving."},
	[CA_TROUBLE_LOADING] = {"LOADING", ERRCODE_CANNOT_CONNECT_NOW, true, "Redis is loading", KEPT,
							"Wait until Redis has read its data."},
	[CA_TROUBLE_BUSY] = {"BUSY", ERRCODE_OBJECT_IN_USE, true, "Redis is busy with a script", KEPT,
						 "SCRIPT KILL, or FUNCTION KILL, ends a script that has written nothing."},
	[CA_TROUBLE_MASTERDOWN] = {"MASTERDOWN", ERRCODE_CANNOT_CONNECT_NOW, true,
							   "Redis is a replica without its master", KEPT,
							   "Set cache_aside.redis_url to the master."},
	[CA_TROUBLE_NOREPLICAS] = {"NOREPLICAS", ERRCODE_CANNOT_CONNECT_NOW, true,
							   "Redis lacks the replicas that it is to write with", KEPT,
							   "See min-replicas-to-write in Redis, and its replicas."},
	[CA_TROUBLE_MAXCLIENTS] = {"too many clients", ERRCODE_TOO_MANY_CONNECTIONS, true,
							   "Redis has too many clients", KEPT,
							   "Raise maxclients in Redis, or find who keeps the connections "
							   "(CLIENT LIST)."},
	[CA_TROUBLE_CLUSTER] = {"cluster", ERRCODE_FEATURE_NOT_SUPPORTED, true,
							"Redis is a cluster, or part of one", KEPT,
							"Redis Cluster is not supported: name a server of its own in "
							"cache_aside.redis_url."},
	[CA_TROUBLE_CHANGED] =
		{"changed", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, true,
		 "Redis is not what it was, or another server delivers to it", KEPT,
		 "The worker looks again what Redis holds. If this comes again and again, two servers "
		 "deliver to one Redis: give each its own."},
	[CA_TROUBLE_SENTINEL] =
		{"Sentinel", ERRCODE_CONNECTION_FAILURE, false,
		 "no majority of the Sentinels names a master", SEEKS,
		 "SELECT * FROM cache_aside.sentinels shows what each says. A majority of those that "
		 "cache_aside.redis_url lists has to name the same Redis, and that has to be a master; "
		 "during a failover this passes by itself."},
	[CA_TROUBLE_SENTINEL_NAME] =
		{"unknown master", ERRCODE_CONFIG_FILE_ERROR, false, "the Sentinels know no such master",
		 SEEKS,
		 "The name stands behind the Sentinels in cache_aside.redis_url: "
		 "redis+sentinel://host:port,.../name. SENTINEL MASTERS, asked of one of them, tells the "
		 "names that it knows."},
	[CA_TROUBLE_SENTINEL_LOGIN] =
		{"Sentinel login", ERRCODE_INVALID_PASSWORD, false, "the Sentinels refuse the login", SEEKS,
		 "Put the Sentinels' password into the file that cache_aside.redis_sentinel_password_file "
		 "names, and their user into cache_aside.redis_sentinel_user; user and password in "
		 "cache_aside.redis_url are for Redis. The user needs the commands SENTINEL "
		 "GET-MASTER-ADDR-BY-NAME, SUBSCRIBE and PING, and the channel +switch-master."},
	[CA_TROUBLE_ANSWER] = {"error", ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, true, "Redis refuses", KEPT,
						   "The worker goes on trying; the error is Redis's own."},
	[CA_TROUBLE_FENCED] = {"fenced", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, true,
						   "this server is fenced: another one of a newer timeline delivers", KEPT,
						   "Shut this server down, or make it a standby of the new primary "
						   "(pg_rewind). If it is the right one after all, SELECT "
						   "cache_aside.adopt()."},
	[CA_TROUBLE_REFUSED] =
		{"refused", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, true,
		 "this server is refused: another one, which lives, delivers", KEPT,
		 "If this server is a copy (a restored backup, a test), give it another "
		 "cache_aside.redis_url. If it is to take over, shut the other one down, or "
		 "SELECT cache_aside.adopt() here."},
	[CA_TROUBLE_SECOND] =
		{"second", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, false, "",
		 "Keys are deleted all the same.",
		 "When this system is to take over (blue/green, an upgrade), stop the other "
		 "one, or SELECT cache_aside.adopt() here. If it has nothing to do with the "
		 "other, give it another cache_aside.key_prefix or cache_aside.redis_url."},
	[CA_TROUBLE_PAUSED] = {"paused", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, false,
						   "the worker is paused", NULL,
						   "The server log says how it ended. A reload ends the wait; "
						   "cache_aside.delivery = off keeps it from beginning."},
	[CA_TROUBLE_FAILING] = {"failing", ERRCODE_INTERNAL_ERROR, false, "the worker met an error",
							NULL,
							"The worker tries again, and less often the longer it lasts. A reload "
							"makes it try at once."},
	[CA_TROUBLE_DATABASE] =
		{"waits for a database", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, false, "", WAITS,
		 "The log has the error of the visitor, if there was one. If there is none, somebody holds "
		 "a lock: look in pg_locks for one that is not granted to a cache_aside background worker, "
		 "and end whoever holds it. DROP DATABASE ends it as well."},
	[CA_TROUBLE_NO_WORKER] =
		{"no background worker", ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, false, "", WAITS,
		 "Raise max_worker_processes, which takes a restart: cache_aside needs "
		 "one for itself and one for short visits to databases."},
};

static const struct
{
	const char *begins; /* the endpoint follows, then the error */
	const char *over;
	const char *detail; /* NULL: that of the cause */
} areas[CA_AREAS] = {
	[CA_AREA_DELIVERY] = {"cannot deliver to Redis", "delivers to Redis"},
	[CA_AREA_FILLS] = {"has no fills admitted in Redis", "has fills admitted in Redis"},
	[CA_AREA_FOLLOWING] = {"cannot read the position from Redis", "reads the position from Redis"},
	[CA_AREA_VISITS] = {"cannot look into every database", "has looked into every database"},
	[CA_AREA_SENTINELS] = {"does not hear which Redis is the master",
						   "hears which Redis is the master"},
	[CA_AREA_PUBLISHING] = {"cannot publish the replicas in Redis", "publishes the replicas in "
																	"Redis"},
	[CA_AREA_EVENTS] = {"cannot tell others of deletions in Redis",
						"tells others of deletions in Redis",
						"Keys are deleted all the same. Whoever follows cache_aside.events hears "
						"nothing until this "
						"is over, and then that everything may have changed."},
};

/* Redis's error codes; the first that is a word of the error counts. */
static const struct
{
	const char *word;
	CaTrouble cause;
} codes[] = {
	{"WRONGPASS", CA_TROUBLE_WRONGPASS},
	{"NOAUTH", CA_TROUBLE_WRONGPASS},
	{"NOPERM", CA_TROUBLE_NOPERM},
	{"READONLY", CA_TROUBLE_READONLY},
	{"OOM", CA_TROUBLE_OOM},
	{"MISCONF", CA_TROUBLE_MISCONF},
	{"LOADING", CA_TROUBLE_LOADING},
	{"BUSY", CA_TROUBLE_BUSY},
	{"MASTERDOWN", CA_TROUBLE_MASTERDOWN},
	{"NOREPLICAS", CA_TROUBLE_NOREPLICAS},
	{"CLUSTERDOWN", CA_TROUBLE_CLUSTER},
	{"CA_FENCED", CA_TROUBLE_FENCED},
	{"CA_OCCUPIED", CA_TROUBLE_REFUSED},
	{"CA_NONCE", CA_TROUBLE_CHANGED},
	{"CA_POSITION", CA_TROUBLE_CHANGED},
	{"MOVED", CA_TROUBLE_CLUSTER},
	{"CROSSSLOT", CA_TROUBLE_CLUSTER},
	{"TLS:", CA_TROUBLE_TLS},
	{"AUTH", CA_TROUBLE_WRONGPASS}, /* refused for no other reason */
};

StaticAssertDecl(CA_TROUBLES <= 32, "one bit for each cause");

/* ---- for anybody ---- */

static const Entry *
entry_of(CaTrouble cause)
{
	return &entries[(uint32) cause < CA_TROUBLES ? cause : CA_TROUBLE_NONE];
}

const char *
ca_trouble_name(CaTrouble cause)
{
	return entry_of(cause)->name;
}

const char *
ca_trouble_hint(CaTrouble cause)
{
	return entry_of(cause)->hint;
}

const char *
ca_trouble_hint_for(CaTrouble cause, const char *error)
{
	const char *hint = entry_of(cause)->answer ? NULL : ca_redis_hint(error);

	return hint ? hint : ca_trouble_hint(cause);
}

bool
ca_trouble_is_answer(CaTrouble cause)
{
	return entry_of(cause)->answer;
}

const char *
ca_trouble_excuse(void)
{
	return entry_of(pg_atomic_read_u32(&ca_status_shared->trouble))->excuse;
}

/* ---- judging ---- */

static bool
ends_word(char c)
{
	return c == '\0' || c == ' ' || c == '.' || c == ',';
}

/* Scripts of Redis 6 put a minus before the code: "ERR Error running script ... -READONLY You" */
static bool
has_word(const char *error, const char *word)
{
	const char *at = error;
	Size len = strlen(word);

	while ((at = strstr(at, word)) != NULL)
	{
		if ((at == error || at[-1] == ' ' || at[-1] == '-') && ends_word(at[len]))
			return true;
		at += len;
	}
	return false;
}

/* Does it begin as an error of Redis does, with a word in capitals? Words of ours do not. */
static bool
is_answer(const char *error)
{
	Size len = strspn(error, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");

	return (len > 1 && error[len] == ' ') || strstr(error, " was refused") != NULL;
}

/* What watch.c says begins so. */
static CaTrouble
judge_sentinels(const char *error)
{
	if (strstr(error, "no master of"))
		return CA_TROUBLE_SENTINEL_NAME;
	if (strstr(error, "NOAUTH") || strstr(error, "NOPERM") || strstr(error, "AUTH was refused"))
		return CA_TROUBLE_SENTINEL_LOGIN;
	return CA_TROUBLE_SENTINEL;
}

CaTrouble
ca_trouble_judge(const char *error)
{
	if (strncmp(error, CA_CREDENTIAL_LACKS, strlen(CA_CREDENTIAL_LACKS)) == 0)
		return CA_TROUBLE_CREDENTIAL;
	if (strncmp(error, "Sentinels ", 10) == 0)
		return judge_sentinels(error);
	if (has_word(error, "max number of clients"))
		return CA_TROUBLE_MAXCLIENTS;
	/* NOPERM of a command in a script, where it was caught: Redis 7.0; later ones and Valkey */
	if (strstr(error, "executing the script can't") || strstr(error, "ACL failure in script"))
		return CA_TROUBLE_NOPERM;
	for (int i = 0; i < lengthof(codes); i++)
		if (has_word(error, codes[i].word) || strcmp(codes[i].word, error) == 0)
			return codes[i].cause;
	return is_answer(error) ? CA_TROUBLE_ANSWER : CA_TROUBLE_UNREACHABLE;
}

/* ---- of the worker ---- */

CaTrouble
ca_trouble_of(CaTroubleArea area)
{
	return ca_status_shared->troubles[area].cause;
}

static void
show(void)
{
	const CaTroubleState *troubles = ca_status_shared->troubles;
	CaTroubleArea area = 0;
	CaStatusTrouble shown;

	while (area < CA_AREAS - 1 && troubles[area].cause == CA_TROUBLE_NONE)
		area++;
	shown.cause = troubles[area].cause;
	shown.since = troubles[area].since;
	strlcpy(shown.first_error, troubles[area].first, sizeof(shown.first_error));
	ca_status_put_trouble(&shown);
	pg_atomic_write_u32(&ca_status_shared->trouble, troubles[CA_AREA_DELIVERY].cause);
}

/* Visits and Sentinels have nothing to do with this Redis. */
static const char *
at_endpoint(CaTroubleArea area, const char *endpoint)
{
	if (area == CA_AREA_VISITS || area == CA_AREA_SENTINELS || endpoint[0] == '\0')
		return "";
	return psprintf(" at %s", endpoint);
}

static void
say(CaTroubleArea area, CaTrouble cause, const char *what, const char *endpoint)
{
	const Entry *entry = &entries[cause];
	bool none = cause == CA_TROUBLE_MISCONFIGURED;

	ereport(LOG, (errcode(entry->sqlstate),
				  errmsg("cache_aside %s%s: %s",
						 none ? "has no Redis to deliver to" : areas[area].begins,
						 none ? "" : at_endpoint(area, endpoint), what),
				  errdetail("%s", areas[area].detail ? areas[area].detail : entry->detail),
				  errhint("%s", ca_trouble_hint_for(cause, what))));
}

void
ca_trouble_begin_at(CaTroubleArea area, CaTrouble cause, const char *what, const char *endpoint)
{
	CaTroubleState *trouble = &ca_status_shared->troubles[area];
	TimestampTz now = GetCurrentTimestamp();

	ca_status_error(what);
	if (trouble->cause == CA_TROUBLE_NONE)
	{
		trouble->since = now;
		strlcpy(trouble->first, what, sizeof(trouble->first));
	}
	trouble->cause = cause;
	show();
	if ((trouble->told & (1U << cause)) == 0 && entries[cause].detail)
		say(area, cause, what, endpoint);
	trouble->told |= 1U << cause;
}

void
ca_trouble_begin(CaTroubleArea area, CaTrouble cause, const char *what)
{
	ca_trouble_begin_at(area, cause, what, ca_endpoint_first());
}

void
ca_trouble_tell(CaTroubleArea area, CaTrouble cause, bool tell)
{
	uint32 bit = 1U << cause;

	ca_status_shared->troubles[area].told &= ~bit;
	if (!tell)
		ca_status_shared->troubles[area].told |= bit;
}

void
ca_trouble_drop(CaTroubleArea area)
{
	memset(&ca_status_shared->troubles[area], 0, sizeof(CaTroubleState));
	show();
}

static char *
endpoint_of_settings(void)
{
	CaRedisAddress address;

	ca_redis_address_of_settings(&address);
	explicit_bzero(address.password, sizeof(address.password));
	return ca_redis_address_endpoint(&address);
}

void
ca_trouble_over(CaTroubleArea area)
{
	CaTrouble cause = ca_trouble_of(area);

	if (cause == CA_TROUBLE_NONE)
		return;
	ca_trouble_drop(area);
	if (cause == CA_TROUBLE_MISCONFIGURED)
		ereport(LOG, (errmsg("cache_aside connects to Redis at %s", endpoint_of_settings())));
	else
		ereport(LOG, (errmsg("cache_aside %s%s again", areas[area].over,
							 at_endpoint(area, ca_endpoint_first()))));
}
