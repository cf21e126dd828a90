/*
 * handshake.c: the first questions of a session: who is this Redis, and what does it hold?
 *
 * INFO tells its version and the identity of its data; the claim of the function library puts this
 * connection's nonce into Redis and answers with the stored position. A library that is missing or
 * older is loaded and the claim repeated. Redis before 7 knows no functions: the position
 * is read with GET and deliveries use a plain script.
 *
 * Handlers run inside ca_redis_advance; when all answers are in, ca_handshake_step decides. Nothing is
 * written to Redis here but the nonce, the library, and what stands where the position belongs.
 */
#include "cache_aside.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "log/log.h"
#include "delivery/delivery.h"

static CaRedis *redis;
static CaHandshake claimed;
static int answers_missing;
static char failure[256]; /* empty: none */
static CaGuardProblem problem;
static TimeLineID announced; /* in plain mode: the timeline that this server streamed just now */
static bool library_older;
static bool library_loaded; /* by this session */

/* Redis' words reach the log and the view status: what is not printable ASCII ends them. */
static bool
printable(char c)
{
	return c >= ' ' && c <= '~';
}

static void
copy_field(const char *info, const char *name, char *out, Size size)
{
	const char *at = strstr(info, name);
	Size n = 0;

	if (at == NULL)
		return;
	for (at += strlen(name); printable(*at) && n < size - 1; at++)
		out[n++] = *at;
	out[n] = '\0';
}

static bool
claim_answered(const CaReply *reply)
{
	Size len;

	answers_missing--;
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_ERROR)
		return reply != NULL;
	strlcpy(failure, ca_redis_reply_text(reply, &len), sizeof(failure));
	return false;
}

static void
handle_info(void *arg, const CaReply *reply)
{
	Size len;
	const char *info;

	if (!claim_answered(reply) || ca_redis_reply_type(reply) != CA_REPLY_STRING)
		return;
	info = ca_redis_reply_text(reply, &len);
	copy_field(info, "\nredis_version:", ca_status_now.redis_version,
			   sizeof(ca_status_now.redis_version));
	copy_field(info, "\nrun_id:", claimed.run_id, sizeof(claimed.run_id));
	copy_field(info, "\nmaster_replid:", claimed.replication_id, sizeof(claimed.replication_id));
}

static void
keep_stored(const char *found, Size len)
{
	/* Nothing, or a NUL: as a text it would be another than the one that Redis compares with. */
	if (len == 0 || len >= sizeof(claimed.stored) || memchr(found, '\0', len) != NULL)
		claimed.nonsense = true;
	else
	{
		memcpy(claimed.stored, found, len);
		claimed.stored[len] = '\0';
	}
}

/* Redis before 7: GET instead of the claim. */

static void
handle_announcement(void *arg, const CaReply *reply)
{
	Size len;

	answers_missing--;
	announced = reply && ca_redis_reply_type(reply) == CA_REPLY_STRING
					? (TimeLineID) strtoul(ca_redis_reply_text(reply, &len), NULL, 10)
					: 0;
}

static void
handle_position(void *arg, const CaReply *reply)
{
	Size len;
	const char *found;

	answers_missing--;
	if (reply == NULL || ca_redis_reply_type(reply) == CA_REPLY_NIL)
		return;
	found = ca_redis_reply_text(reply, &len);
	if (ca_redis_reply_type(reply) == CA_REPLY_STRING)
		keep_stored(found, len);
	else if (ca_redis_reply_type(reply) == CA_REPLY_ERROR && strncmp(found, "WRONGTYPE", 9) != 0)
		strlcpy(failure, found, sizeof(failure));
	else
		claimed.nonsense = true;
}

static void
handle_claim(void *arg, const CaReply *reply)
{
	CaClaim claim;
	Size len;

	answers_missing--;
	problem = ca_guard_problem(reply);
	if (problem == CA_GUARD_OTHER || problem == CA_GUARD_CONNECT_AGAIN ||
		problem == CA_GUARD_OCCUPIED)
		strlcpy(failure, ca_redis_reply_text(reply, &len), sizeof(failure));
	else if (problem == CA_GUARD_NO_PROBLEM && !ca_guard_read_claim(reply, &claim))
		strlcpy(failure, "unexpected answer to the claim", sizeof(failure));
	else if (problem == CA_GUARD_NO_PROBLEM)
	{
		library_older = claim.older;
		if (claim.older)
			problem = CA_GUARD_NOT_LOADED;
		else if (claim.found)
			keep_stored(claim.position, claim.position_len);
		claimed.guard_known = claim.guard_known;
		claimed.role = claim.role;
		if (!claim.older)
			ca_arming_claimed(&claim);
	}
}

static void
handle_load(void *arg, const CaReply *reply)
{
	Size len;

	/* One of the two always is; the claim that follows tells whether one was loaded. */
	if (reply && ca_redis_reply_type(reply) == CA_REPLY_ERROR &&
		strstr(ca_redis_reply_text(reply, &len), "already exists"))
		answers_missing--;
	else
		claim_answered(reply);
}

static void
ignore_answer(void *arg, const CaReply *reply)
{
}

static void
send_words(CaReplyHandler handler, const char *first, const char *second)
{
	const char *argv[] = {first, second};
	size_t len[] = {strlen(first), strlen(second)};

	ca_redis_send(redis, 2, argv, len, handler, NULL);
}

static void
send_claim(void)
{
	CaClaimCall call = {0};
	CaKeyspace keyspace;
	XLogRecPtr end;
	char scope[16];
	char writers[CA_KEYSPACE_PREFIXES][32];
	const char *pointers[CA_KEYSPACE_PREFIXES];

	claimed.stored[0] = '\0';
	claimed.nonsense = false;
	claimed.database = ca_redis_database(redis);
	ca_keyspace_current(claimed.database, &keyspace);
	for (int i = 0; i < keyspace.count; i++)
	{
		snprintf(writers[i], sizeof(writers[i]), "cache_aside:writer:%s%08x",
				 keyspace.combined ? "*" : "", keyspace.hashes[i]);
		pointers[i] = writers[i];
	}
	snprintf(scope, sizeof(scope), "%d", claimed.database);
	call.timeline = ca_wal_timeline(&end);
	call.previous = ca_arming_previous();
	call.scope = scope;
	call.announcement = ca_announce_key();
	call.writers = pointers;
	call.nwriters = keyspace.count;
	call.force = ca_contest_force();
	call.server = ca_status_shared->server_id;
	claimed.forced = call.force[0] == '1';
	ca_guard_claim(redis, &call, handle_claim, NULL);
	answers_missing++;
}

void
ca_handshake_begin(CaRedis *new_redis)
{
	redis = new_redis;
	memset(&claimed, 0, sizeof(claimed));
	failure[0] = '\0';
	library_loaded = library_older = false;
	answers_missing = 2;
	ca_apply_use_functions();
	send_words(handle_info, "INFO", "server");
	send_words(handle_info, "INFO", "replication");
	send_claim();
}

/* The library is missing or older: load it and claim again. */
static void
load_and_claim(void)
{
	if (library_loaded)
	{
		strlcpy(failure, "Redis does not keep the function library", sizeof(failure));
		return;
	}
	library_loaded = true;
	ca_function_library_load(redis, library_older, handle_load, NULL);
	answers_missing += 2;
	send_claim();
}

/* No functions here: deliver without guard. */
static void
claim_plainly(void)
{
	static bool told;

	if (!told)
		ereport(
			LOG,
			(errmsg("guarded fills are not available with Redis %s", ca_status_now.redis_version),
			 errdetail("They need functions (Redis 7 or Valkey); everything else works.")));
	told = true;
	problem = CA_GUARD_NO_PROBLEM;
	claimed.role = CA_ROLE_WRITER;
	ca_apply_use_plain(redis);
	send_words(handle_position, "GET", ca_position_key());
	send_words(handle_announcement, "GET", ca_announce_key());
	answers_missing += 2;
}

/* Is what is stored of a server of an older timeline, that may live? */
static bool
is_plainly_occupied(void)
{
	CaPosition position;
	XLogRecPtr end;

	if (ca_apply_has_functions() || claimed.stored[0] == '\0' ||
		!ca_position_parse(claimed.stored, strlen(claimed.stored), &position) ||
		position.timeline >= ca_wal_timeline(&end) || position.timeline == announced ||
		ca_contest_watch(claimed.stored))
		return false;
	snprintf(failure, sizeof(failure),
			 "a server of timeline %u may deliver here; this one was not its standby just now",
			 position.timeline);
	return true;
}

static CaHandshakeState
conclude(void)
{
	if (problem == CA_GUARD_FENCED)
		return CA_HANDSHAKE_FENCED;
	if (is_plainly_occupied())
		return CA_HANDSHAKE_OCCUPIED;
	ca_contest_claimed(claimed.role);
	return CA_HANDSHAKE_DONE;
}

/* What is not a position is in the way of one. */
void
ca_handshake_drop_nonsense(void)
{
	ereport(LOG, (errmsg("cache_aside found nonsense where its position should be; replacing it")));
	send_words(ignore_answer, "UNLINK", ca_position_key());
	claimed.stored[0] = '\0';
}

/*
 * Goes on when everything sent so far is answered. CLAIMED: ca_handshake_result tells what was found.
 */
CaHandshakeState
ca_handshake_step(void)
{
	if (answers_missing > 0)
		return CA_HANDSHAKE_WAITING;
	if (failure[0] == '\0' && problem == CA_GUARD_NOT_LOADED)
		load_and_claim();
	else if (failure[0] == '\0' && problem == CA_GUARD_UNSUPPORTED)
		claim_plainly();
	else if (problem == CA_GUARD_OCCUPIED)
		return CA_HANDSHAKE_OCCUPIED;
	else if (failure[0] == '\0')
		return conclude();
	return failure[0] ? CA_HANDSHAKE_FAILED : CA_HANDSHAKE_WAITING;
}

const char *
ca_handshake_error(void)
{
	return failure;
}

CaHandshake *
ca_handshake_result(void)
{
	return &claimed;
}
