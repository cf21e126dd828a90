/*
 * handshake.c: the first questions of a session: who is this Redis, and what does it hold?
 *
 * INFO tells its version and the identity of its data; the claim of the function library puts this
 * connection's nonce into Redis and answers with the stored position. A library that is missing or
 * older is loaded and the claim repeated. Redis before 7 knows no functions, and services forbid them: the
 * position is read with GET and deliveries use a plain script. Where INFO is forbidden, nobody knows whether a Redis is
 * the one that it was: an absent position costs a resync then.
 *
 * The library takes the time from Redis, for what it promises must end by one clock, whichever worker or standby calls. A
 * user who may not ask for TIME has a library that fails in the claim, with words that differ by version and do not
 * name the command. So TIME is asked for before the claim; where that is forbidden, and the claim fails, it is as without
 * functions.
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
#include "delivery/sink.h"

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
claim_answered(CaSink *sink, const CaReply *reply)
{
	Size len;

	sink->handshake.answers_missing--;
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_ERROR)
		return reply != NULL;
	strlcpy(sink->handshake.failure, ca_redis_reply_text(reply, &len),
			sizeof(sink->handshake.failure));
	return false;
}

static void
handle_info(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	char version[sizeof(sink->endpoint.version)] = "";
	Size len;
	const char *info;

	if (reply && ca_redis_reply_forbids(reply))
	{
		sink->handshake.answers_missing--;
		ca_endpoint_version(&sink->endpoint, "");
		return;
	}
	if (!claim_answered(sink, reply) || ca_redis_reply_type(reply) != CA_REPLY_STRING)
		return;
	info = ca_redis_reply_text(reply, &len);
	copy_field(info, "\nredis_version:", version, sizeof(version));
	if (version[0])
		ca_endpoint_version(&sink->endpoint, version);
	copy_field(info, "\nrun_id:", sink->handshake.claimed.run_id,
			   sizeof(sink->handshake.claimed.run_id));
	copy_field(info, "\nmaster_replid:", sink->handshake.claimed.replication_id,
			   sizeof(sink->handshake.claimed.replication_id));
}

static void
keep_stored(CaSink *sink, const char *found, Size len)
{
	/* Nothing, or a NUL: as a text it would be another than the one that Redis compares with. */
	if (len == 0 || len >= sizeof(sink->handshake.claimed.stored) ||
		memchr(found, '\0', len) != NULL)
		sink->handshake.claimed.nonsense = true;
	else
	{
		memcpy(sink->handshake.claimed.stored, found, len);
		sink->handshake.claimed.stored[len] = '\0';
	}
}

/* Redis before 7: GET instead of the claim. */

static void
handle_announcement(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	Size len;

	sink->handshake.answers_missing--;
	sink->handshake.announced =
		reply && ca_redis_reply_type(reply) == CA_REPLY_STRING
			? (TimeLineID) strtoul(ca_redis_reply_text(reply, &len), NULL, 10)
			: 0;
}

static void
handle_position(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	Size len;
	const char *found;

	sink->handshake.answers_missing--;
	if (reply == NULL || ca_redis_reply_type(reply) == CA_REPLY_NIL)
		return;
	found = ca_redis_reply_text(reply, &len);
	if (ca_redis_reply_type(reply) == CA_REPLY_STRING)
		keep_stored(sink, found, len);
	else if (ca_redis_reply_type(reply) == CA_REPLY_ERROR && strncmp(found, "WRONGTYPE", 9) != 0)
		strlcpy(sink->handshake.failure, found, sizeof(sink->handshake.failure));
	else
		sink->handshake.claimed.nonsense = true;
}

static void
note_words(char *kept, Size size, const CaReply *reply)
{
	Size len;

	strlcpy(kept, ca_redis_reply_text(reply, &len), size);
}

static void
note_forbidden(CaSink *sink, const CaReply *reply)
{
	note_words(sink->handshake.forbidden, sizeof(sink->handshake.forbidden), reply);
}

static void
handle_time(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;

	sink->handshake.answers_missing--;
	if (reply && ca_redis_reply_forbids(reply))
		note_words(sink->handshake.no_time, sizeof(sink->handshake.no_time), reply);
}

static void
handle_claim(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	CaClaim claim;
	Size len;

	sink->handshake.answers_missing--;
	sink->handshake.problem = ca_guard_problem(reply);
	if (sink->handshake.problem == CA_GUARD_UNSUPPORTED)
		note_forbidden(sink, reply);
	if (sink->handshake.problem == CA_GUARD_OTHER && sink->handshake.no_time[0])
	{
		sink->handshake.problem = CA_GUARD_UNSUPPORTED;
		strlcpy(sink->handshake.forbidden, sink->handshake.no_time,
				sizeof(sink->handshake.forbidden));
	}
	if (sink->handshake.problem == CA_GUARD_OTHER ||
		sink->handshake.problem == CA_GUARD_CONNECT_AGAIN ||
		sink->handshake.problem == CA_GUARD_OCCUPIED)
		strlcpy(sink->handshake.failure, ca_redis_reply_text(reply, &len),
				sizeof(sink->handshake.failure));
	else if (sink->handshake.problem == CA_GUARD_NO_PROBLEM && !ca_guard_read_claim(reply, &claim))
		strlcpy(sink->handshake.failure, "unexpected answer to the claim",
				sizeof(sink->handshake.failure));
	else if (sink->handshake.problem == CA_GUARD_NO_PROBLEM)
	{
		sink->handshake.library_older = claim.older;
		ca_endpoint_library(&sink->endpoint, claim.revision);
		if (claim.older)
			sink->handshake.problem = CA_GUARD_NOT_LOADED;
		else if (claim.found)
			keep_stored(sink, claim.position, claim.position_len);
		sink->handshake.claimed.guard_known = claim.guard_known;
		sink->handshake.claimed.role = claim.role;
		if (!claim.older)
			ca_arming_claimed(sink, &claim);
	}
}

static void
handle_load(void *arg, const CaReply *reply)
{
	CaSink *sink = arg;
	Size len;

	if (reply && ca_redis_reply_forbids(reply))
	{
		sink->handshake.answers_missing--;
		note_forbidden(sink, reply);
		return;
	}

	/* One of the two always is; the claim that follows tells whether one was loaded. */
	if (reply && ca_redis_reply_type(reply) == CA_REPLY_ERROR &&
		strstr(ca_redis_reply_text(reply, &len), "already exists"))
		sink->handshake.answers_missing--;
	else
		claim_answered(sink, reply);
}

static void
ignore_answer(void *arg, const CaReply *reply)
{
}

static void
send_words(CaSink *sink, CaReplyHandler handler, const char *first, const char *second)
{
	const char *argv[] = {first, second};
	size_t len[] = {strlen(first), strlen(second)};

	ca_redis_send(sink->handshake.redis, 2, argv, len, handler, sink);
}

static void
send_claim(CaSink *sink)
{
	CaClaimCall call = {0};
	CaKeyspace keyspace;
	XLogRecPtr end;
	char scope[16];
	char writers[CA_KEYSPACE_PREFIXES][32];
	const char *pointers[CA_KEYSPACE_PREFIXES];

	sink->handshake.claimed.stored[0] = '\0';
	sink->handshake.claimed.nonsense = false;
	sink->handshake.claimed.database = ca_redis_database(sink->handshake.redis);
	ca_keyspace_current(sink->handshake.claimed.database, &keyspace);
	for (int i = 0; i < keyspace.count; i++)
	{
		snprintf(writers[i], sizeof(writers[i]), "cache_aside:writer:%s%08x",
				 keyspace.combined ? "*" : "", keyspace.hashes[i]);
		pointers[i] = writers[i];
	}
	snprintf(scope, sizeof(scope), "%d", sink->handshake.claimed.database);
	call.timeline = ca_wal_timeline(&end);
	call.previous = ca_arming_previous();
	call.scope = scope;
	call.announcement = ca_announce_key();
	call.writers = pointers;
	call.nwriters = keyspace.count;
	call.force = ca_contest_force(sink);
	call.server = ca_status_shared->server_id;
	sink->handshake.claimed.forced = call.force[0] == '1';
	ca_guard_claim(sink, sink->handshake.redis, &call, handle_claim, sink);
	sink->handshake.answers_missing++;
}

void
ca_handshake_begin(CaSink *sink, CaRedis *new_redis)
{
	sink->handshake.redis = new_redis;
	memset(&sink->handshake.claimed, 0, sizeof(sink->handshake.claimed));
	sink->handshake.failure[0] = '\0';
	sink->handshake.library_loaded = sink->handshake.library_older = false;
	sink->handshake.forbidden[0] = '\0';
	sink->handshake.no_time[0] = '\0';
	sink->handshake.answers_missing = 3;
	ca_apply_use_functions(sink);
	send_words(sink, handle_info, "INFO", "server");
	send_words(sink, handle_info, "INFO", "replication");
	ca_redis_send(new_redis, 1, (const char *[]){"TIME"}, (size_t[]){4}, handle_time, sink);
	send_claim(sink);
}

/* No functions here: deliver without guard. */
static void
claim_plainly(CaSink *sink)
{
	if (!sink->handshake.told)
		ereport(LOG,
				(errmsg("guarded fills are not available with Redis %s", sink->endpoint.version),
				 errdetail("They need functions (Redis 7 or Valkey); everything else works. "
						   "Redis said: %s",
						   sink->handshake.forbidden),
				 errhint("SELECT * FROM cache_aside.check_redis() says what is forbidden.")));
	sink->handshake.told = true;
	sink->handshake.problem = CA_GUARD_NO_PROBLEM;
	sink->handshake.claimed.role = CA_ROLE_WRITER;
	ca_apply_use_plain(sink, sink->handshake.redis);
	send_words(sink, handle_position, "GET", ca_position_key());
	send_words(sink, handle_announcement, "GET", ca_announce_key());
	sink->handshake.answers_missing += 2;
}

/* The library is missing or older: load it and claim again. */
static void
load_and_claim(CaSink *sink)
{
	if (sink->handshake.forbidden[0])
	{
		claim_plainly(sink);
		return;
	}
	if (sink->handshake.library_loaded)
	{
		strlcpy(sink->handshake.failure, "Redis does not keep the function library",
				sizeof(sink->handshake.failure));
		return;
	}
	sink->handshake.library_loaded = true;
	ca_function_library_load(sink->handshake.redis, sink->handshake.library_older, handle_load,
							 sink);
	sink->handshake.answers_missing += 2;
	send_claim(sink);
}

/* Is what is stored of a server of an older timeline, that may live? */
static bool
is_plainly_occupied(CaSink *sink)
{
	CaPosition position;
	XLogRecPtr end;

	if (ca_apply_has_functions(sink) || sink->handshake.claimed.stored[0] == '\0' ||
		!ca_position_parse(sink->handshake.claimed.stored, strlen(sink->handshake.claimed.stored),
						   &position) ||
		position.timeline >= ca_wal_timeline(&end) ||
		position.timeline == sink->handshake.announced ||
		ca_contest_watch(sink, sink->handshake.claimed.stored))
		return false;
	snprintf(sink->handshake.failure, sizeof(sink->handshake.failure),
			 "a server of timeline %u may deliver here; this one was not its standby just now",
			 position.timeline);
	return true;
}

static CaHandshakeState
conclude(CaSink *sink)
{
	if (sink->handshake.problem == CA_GUARD_FENCED)
		return CA_HANDSHAKE_FENCED;
	if (is_plainly_occupied(sink))
		return CA_HANDSHAKE_OCCUPIED;
	ca_contest_claimed(sink, sink->handshake.claimed.role);
	sink->handshake.told &= !ca_apply_has_functions(sink);
	ca_endpoint_mode(&sink->endpoint, ca_apply_has_functions(sink) ? "functions" : "plain");
	return CA_HANDSHAKE_DONE;
}

/* What is not a position is in the way of one. */
void
ca_handshake_drop_nonsense(CaSink *sink)
{
	ereport(LOG, (errmsg("cache_aside found nonsense where its position should be; replacing it")));
	send_words(sink, ignore_answer, "UNLINK", ca_position_key());
	sink->handshake.claimed.stored[0] = '\0';
}

/*
 * Goes on when everything sent so far is answered. CLAIMED: ca_handshake_result tells what was found.
 */
CaHandshakeState
ca_handshake_step(CaSink *sink)
{
	if (sink->handshake.answers_missing > 0)
		return CA_HANDSHAKE_WAITING;
	if (sink->handshake.failure[0] == '\0' && sink->handshake.problem == CA_GUARD_NOT_LOADED)
		load_and_claim(sink);
	else if (sink->handshake.failure[0] == '\0' && sink->handshake.problem == CA_GUARD_UNSUPPORTED)
		claim_plainly(sink);
	else if (sink->handshake.problem == CA_GUARD_OCCUPIED)
		return CA_HANDSHAKE_OCCUPIED;
	else if (sink->handshake.failure[0] == '\0')
		return conclude(sink);
	return sink->handshake.failure[0] ? CA_HANDSHAKE_FAILED : CA_HANDSHAKE_WAITING;
}

const char *
ca_handshake_error(CaSink *sink)
{
	return sink->handshake.failure;
}

CaHandshake *
ca_handshake_result(CaSink *sink)
{
	return &sink->handshake.claimed;
}
