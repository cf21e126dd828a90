/*
 * session.c: one connection to Redis, from the claim to its end.
 *
 * Every session begins by reading the position back from Redis, whatever this process remembers:
 * Redis may have restarted from an old snapshot, failed over to a lagging replica, been flushed,
 * restored, or swapped behind its address. The log is then read from the position's restart LSN and
 * commits at or below its confirmed LSN are skipped.
 *
 *	position found, our timeline       go on from it
 *	found, an older timeline           we were promoted: go on from it, no further than the fork
 *	found, a newer timeline            we are an old primary: write nothing ("fenced")
 *	found, resync pending              begin the resync again
 *	found, beyond our log              out of recovery only: our log was lost, resync
 *	absent, but Redis's very history   evicted: go on from what was acknowledged, write it again
 *	absent or nonsense                 blind start: go on from the last checkpoint, resync
 *
 * Phases: WAITING (back-off, or nothing to deliver here) -> OPENING -> CLAIMING -> RUNNING. Any
 * failure ends the session; everything queued is forgotten and read again by the next one, so there
 * is one way to recover and it is used every time. If we die between any two lines, the next session
 * finds the position of the last batch that Redis applied.
 */
#include "worker.h"
#include "status.h"
#include "redelete.h"
#include "sync.h"

#include "access/timeline.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define BACKOFF_FIRST 50 /* ms */
#define BACKOFF_LAST 5000
#define FENCED_RETRY 5000
#define READ_BUDGET (1024 * 1024)
#define IDLE_PAUSE 10000 /* ms, when there is nothing to do here */
#define STANDBY_PAUSE 10
#define STANDBY_QUIET_PAUSE 100

typedef enum Phase
{
	WAITING,
	OPENING,
	CLAIMING,
	RUNNING
} Phase;

typedef enum Duty
{
	NONE_YET,
	DELIVER,
	FOLLOW,
	NOT_INSTALLED,
	UNINSTALLED,
	SWITCHED_OFF
} Duty;

/* Who Redis says it is: the same process with the same data history. */
typedef struct Identity
{
	char run_id[48];
	char replication_id[48];
} Identity;

static Duty duty = NONE_YET;
static Phase phase = WAITING;
static TimeLineID session_timeline;
static MemoryContext session_cxt;
static CaRedis *redis;
static CaTap *tap;
static TimestampTz retry_at; /* in WAITING and FOLLOWING */
static int backoff;          /* ms; 0: the last session was healthy */
static bool outage_logged;

/* Gathered while CLAIMING */
static int answers_missing;
static Identity identity;
static char stored[CA_POSITION_TEXT]; /* the position's text; empty: absent */
static bool stored_nonsense;
static char claim_error[256];
static CaGuardProblem claim_problem;
static bool library_loaded; /* by this session */

/* Of the last session that ran in this process */
static Identity known_identity;
static CaPosition known_position;
static bool position_known;

/* Of this session */
static char resync_reason[128]; /* empty: none is needed */
static uint64 resync_ticket;    /* 0: none is awaited */
static bool after_promotion;
static bool log_gone;           /* survives the session that found it */
static uint64 keys_before;      /* delivered by earlier sessions */
static bool caught_up;          /* read to the end that was current after connecting */
static XLogRecPtr catch_up_to;  /* that end */
static XLogRecPtr caught_up_to; /* how far we had read then, to the end of a record */
static bool arming;             /* the arming was sent */
static XLogRecPtr looked_at;    /* end of what was read at the last look for what is visible */
static uint32 ping_sent;
static TimestampTz ping_at;

/* ---- the end of a session ---- */

static void
answer_pings(uint64 us)
{
	pg_atomic_write_u64(&ca_shared->ping_us, us);
	pg_atomic_write_u32(&ca_shared->ping_answered, pg_atomic_read_u32(&ca_shared->ping_asked));
	ConditionVariableBroadcast(&ca_shared->progress);
}

static void
close_session(void)
{
	ca_redis_close(redis);
	redis = NULL;
	ca_resync_interrupted();
	ca_redelete_interrupted();
	ca_delivery_reset();
	ca_scan_reset();
	ca_tap_close(tap);
	tap = NULL;
	if (session_cxt)
		MemoryContextReset(session_cxt);
	phase = WAITING;
}

static void
retry_in(int ms)
{
	retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* Between half and the whole of the back-off, so that many servers do not come back in step. */
static int
jittered(int ms)
{
	return ms / 2 + (int) (pg_prng_double(&pg_global_prng_state) * (ms / 2));
}

/* Redis is gone, refuses, or is not what it was: begin again after a while. */
static void
fail_session(const char *why)
{
	char reason[256];

	strlcpy(reason, why, sizeof(reason));
	if (phase == RUNNING)
	{
		known_position = *ca_delivery_position();
		position_known = true;
		ca_status_now.retries++;
	}
	close_session();
	ca_status_error(reason);
	ca_status_redis_state("unreachable");
	ca_status_state("waiting");
	backoff = backoff == 0 ? BACKOFF_FIRST : Min(backoff * 2, BACKOFF_LAST);
	retry_in(jittered(backoff));
	answer_pings(PG_UINT64_MAX);
	ca_sync_outage();
	if (!outage_logged)
		ereport(LOG,
				(errmsg("cache_aside cannot deliver to Redis at %s: %s", ca_status_now.endpoint,
						reason),
				 errdetail("Commits go on; their keys stay in the log and are delivered later.")));
	outage_logged = true;
}

/*
 * A connection is no delivery: a Redis that is full or read only accepts every login. The outage
 * ends, and the back-off with it, when keys were acknowledged or none are left.
 */
static void
note_healthy(void)
{
	if ((!outage_logged && backoff == 0) ||
		(ca_status_now.keys == keys_before && !(caught_up && ca_delivery_idle())))
		return;
	if (outage_logged)
		ereport(LOG, (errmsg("cache_aside delivers to Redis at %s again", ca_status_now.endpoint)));
	outage_logged = false;
	backoff = 0;
	ca_sync_available();
}

/* ---- claim ---- */

static void
copy_field(const char *info, const char *name, char *out, Size size)
{
	const char *at = strstr(info, name);
	Size n = 0;

	if (at == NULL)
		return;
	for (at += strlen(name); *at && *at != '\r' && *at != '\n' && n < size - 1; at++)
		out[n++] = *at;
	out[n] = '\0';
}

static bool
claim_answered(const CaReply *reply)
{
	Size len;

	answers_missing--;
	if (reply == NULL || ca_reply_type(reply) != CA_REPLY_ERROR)
		return reply != NULL;
	strlcpy(claim_error, ca_reply_text(reply, &len), sizeof(claim_error));
	return false;
}

static void
handle_info(void *arg, const CaReply *reply)
{
	Size len;
	const char *info;

	if (!claim_answered(reply) || ca_reply_type(reply) != CA_REPLY_STRING)
		return;
	info = ca_reply_text(reply, &len);
	copy_field(info, "\nredis_version:", ca_status_now.redis_version,
			   sizeof(ca_status_now.redis_version));
	copy_field(info, "\nrun_id:", identity.run_id, sizeof(identity.run_id));
	copy_field(info, "\nmaster_replid:", identity.replication_id, sizeof(identity.replication_id));
}

static void
keep_stored(const char *found, Size len)
{
	if (len >= sizeof(stored))
		stored_nonsense = true;
	else
	{
		memcpy(stored, found, len);
		stored[len] = '\0';
	}
}

/* Redis before 7: GET instead of the claim. */
static void
handle_position(void *arg, const CaReply *reply)
{
	Size len;
	const char *found;

	answers_missing--;
	if (reply == NULL || ca_reply_type(reply) == CA_REPLY_NIL)
		return;
	found = ca_reply_text(reply, &len);
	if (ca_reply_type(reply) == CA_REPLY_STRING)
		keep_stored(found, len);
	else if (ca_reply_type(reply) == CA_REPLY_ERROR && strncmp(found, "WRONGTYPE", 9) != 0)
		strlcpy(claim_error, found, sizeof(claim_error));
	else
		stored_nonsense = true;
}

static void
handle_claim(void *arg, const CaReply *reply)
{
	CaClaim claim;
	Size len;

	answers_missing--;
	claim_problem = ca_guard_problem(reply);
	if (claim_problem == CA_GUARD_OTHER || claim_problem == CA_GUARD_CONNECT_AGAIN)
		strlcpy(claim_error, ca_reply_text(reply, &len), sizeof(claim_error));
	else if (claim_problem == CA_GUARD_NO_PROBLEM && !ca_guard_read_claim(reply, &claim))
		strlcpy(claim_error, "unexpected answer to the claim", sizeof(claim_error));
	else if (claim_problem == CA_GUARD_NO_PROBLEM)
	{
		if (!claim.current)
			claim_problem = CA_GUARD_NOT_LOADED;
		else if (claim.found)
			keep_stored(claim.position, claim.position_len);
	}
}

static void
handle_load(void *arg, const CaReply *reply)
{
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
	XLogRecPtr end;

	stored[0] = '\0';
	stored_nonsense = false;
	ca_guard_claim(redis, ca_tap_timeline(&end), handle_claim, NULL);
	answers_missing++;
}

static void
begin_claim(void)
{
	memset(&identity, 0, sizeof(identity));
	claim_error[0] = '\0';
	library_loaded = false;
	answers_missing = 2;
	ca_apply_use_functions();
	send_words(handle_info, "INFO", "server");
	send_words(handle_info, "INFO", "replication");
	send_claim();
	phase = CLAIMING;
}

/* The library is missing or of another version: load it and claim again. */
static void
load_and_claim(void)
{
	if (library_loaded)
	{
		strlcpy(claim_error, "Redis does not keep the function library", sizeof(claim_error));
		return;
	}
	library_loaded = true;
	ca_guard_load(redis, handle_load, NULL);
	answers_missing++;
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
	claim_problem = CA_GUARD_NO_PROBLEM;
	ca_apply_use_plain(redis);
	send_words(handle_position, "GET", ca_position_key());
	answers_missing++;
}

/* What is not a position is in the way of one. */
static void
drop_nonsense(void)
{
	ereport(LOG, (errmsg("cache_aside found nonsense where its position should be; replacing it")));
	send_words(ignore_answer, "UNLINK", ca_position_key());
	stored[0] = '\0';
}

/* ---- where to go on ---- */

static bool
same_history(void)
{
	return position_known && identity.replication_id[0] &&
		   strcmp(identity.run_id, known_identity.run_id) == 0 &&
		   strcmp(identity.replication_id, known_identity.replication_id) == 0;
}

/*
 * From the last checkpoint's redo point: a record's start, and always there. Transactions older than
 * its next id may have logged messages before it.
 */
static void
start_blind(CaPosition *position, TimeLineID timeline)
{
	memset(position, 0, sizeof(*position));
	position->timeline = timeline;
	position->restart = ca_tap_last_checkpoint(&position->barrier);
	position->confirmed = position->restart;
}

/* We were promoted since: what lies beyond the fork was written by a server that lost. */
static const char *
cross_fork(CaPosition *position, TimeLineID timeline)
{
	List *history = readTimeLineHistory(timeline);
	XLogRecPtr fork = InvalidXLogRecPtr;

	if (tliInHistory(position->timeline, history))
		fork = tliSwitchPoint(position->timeline, history, NULL);
	list_free_deep(history);
	if (XLogRecPtrIsInvalid(fork))
	{
		start_blind(position, timeline);
		return "the position is of a timeline that is not in this server's history";
	}
	position->confirmed = Min(position->confirmed, fork);
	position->restart = Min(position->restart, position->confirmed);
	position->timeline = timeline;
	after_promotion = true;
	return guc_resync_on_promotion == CA_RESYNC_NEVER ? NULL : "this server was promoted";
}

static const char *
resume_stored(CaPosition *position, TimeLineID timeline, XLogRecPtr end)
{
	if (position->timeline < timeline)
		return cross_fork(position, timeline);
	if (position->confirmed > end && !RecoveryInProgress())
	{
		start_blind(position, timeline);
		return "the position in Redis lies beyond this server's log";
	}
	return position->state == CA_POSITION_PENDING ? "a resync was not finished" : NULL;
}

/*
 * Decides where reading resumes. Returns why a resync is needed, or NULL. *fenced: Redis follows a
 * newer timeline than ours, so we must not touch it.
 */
static const char *
choose_position(CaPosition *position, bool *fenced)
{
	XLogRecPtr end;
	TimeLineID timeline = ca_tap_timeline(&end);
	bool absent = stored[0] == '\0' && !stored_nonsense;

	*fenced = after_promotion = false;
	if (log_gone)
	{
		uint64 sequence = 0;

		if (!absent && ca_position_parse(stored, strlen(stored), position))
			sequence = position->sequence;
		*fenced = !absent && position->timeline > timeline;
		start_blind(position, timeline);
		position->sequence = sequence;
		return "the log that had to be delivered next is gone";
	}
	if (absent && same_history() && known_position.timeline == timeline)
	{
		*position = known_position;
		return position->state == CA_POSITION_OK ? NULL : "a resync was not finished";
	}
	if (absent || stored_nonsense || !ca_position_parse(stored, strlen(stored), position))
	{
		stored_nonsense = !absent;
		start_blind(position, timeline);
		return absent ? "Redis holds no position" : "the position in Redis is not one";
	}
	*fenced = position->timeline > timeline;
	return *fenced ? NULL : resume_stored(position, timeline, end);
}

static void
begin_running(void)
{
	CaPosition position;
	bool fenced;
	const char *reason = choose_position(&position, &fenced);

	if (fenced || claim_problem == CA_GUARD_FENCED)
	{
		close_session();
		ca_sync_outage();
		ca_status_state("fenced");
		ca_status_error("Redis follows a newer timeline than this server's");
		retry_in(FENCED_RETRY);
		return;
	}
	if (stored_nonsense)
		drop_nonsense();
	strlcpy(resync_reason, reason ? reason : "", sizeof(resync_reason));
	resync_ticket = 0;
	if (reason)
		position.state = CA_POSITION_PENDING;
	log_gone = false;
	tap = ca_tap_open(session_cxt, position.restart, position.confirmed,
					  XidFromFullTransactionId(FullTransactionIdFromU64(position.barrier)));
	ca_delivery_start(tap, redis, &position, stored);
	session_timeline = ca_tap_timeline(&catch_up_to);
	caught_up = arming = false;
	looked_at = InvalidXLogRecPtr;
	known_identity = identity;
	phase = RUNNING;
	ca_status_redis_state("connected");
	ca_status_state("catching up");
	if (!outage_logged && backoff == 0)
		ca_sync_available();
	keys_before = ca_status_now.keys;
}

/* ---- running ---- */

static void
handle_ping(void *arg, const CaReply *reply)
{
	Size len;

	if (reply == NULL)
		return;
	if (ca_reply_type(reply) == CA_REPLY_ERROR)
	{
		ca_status_error(ca_reply_text(reply, &len));
		ca_status_publish();
		answer_pings(PG_UINT64_MAX);
		return;
	}
	pg_atomic_write_u64(&ca_shared->ping_us, GetCurrentTimestamp() - ping_at);
	pg_atomic_write_u32(&ca_shared->ping_answered, ping_sent);
	ConditionVariableBroadcast(&ca_shared->progress);
}

static void
ping_if_asked(void)
{
	uint32 asked = pg_atomic_read_u32(&ca_shared->ping_asked);
	const char *argv[] = {"PING"};
	size_t len[] = {4};

	if (asked == ping_sent || pg_atomic_read_u32(&ca_shared->ping_answered) == asked)
		return;
	ping_sent = asked;
	ping_at = GetCurrentTimestamp();
	ca_redis_send(redis, 1, argv, len, handle_ping, NULL);
}

/*
 * Everything that was in the log when we connected has been read: a resync may begin now, because
 * what it deletes cannot come back from a commit we have not seen.
 */
static void
note_caught_up(void)
{
	caught_up = true;
	caught_up_to = ca_tap_read_end(tap);
	if (resync_reason[0] && after_promotion && guc_resync_on_promotion == CA_RESYNC_AUTO &&
		ca_tap_clean_switch(tap))
	{
		ereport(LOG,
				(errmsg("cache_aside needs no resync: the old primary was shut down cleanly")));
		resync_reason[0] = '\0';
		ca_delivery_mark(CA_POSITION_OK, ca_delivery_position()->barrier);
	}
	if (after_promotion)
		ca_delivery_raise_floor(true); /* the buckets may hold LSNs beyond the fork */
	if (resync_reason[0])
		resync_ticket = ca_resync_request(CA_SURVEY_ALL, resync_reason);
}

/* Guarded fills are admitted when nothing that may have been lost is undelivered. */
static void
arm_if_due(void)
{
	if (!caught_up || resync_reason[0] || !ca_apply_guarded())
		return;
	if (ca_delivery_armed())
		arming = false;
	else if (!arming)
		arming = ca_delivery_arm(caught_up_to);
}

/* Have all transactions ended that the barrier is about, and did we read their ends? */
static bool
barrier_passed(uint64 barrier, TransactionId oldest_running)
{
	TransactionId xid = XidFromFullTransactionId(FullTransactionIdFromU64(barrier));

	return caught_up && TransactionIdIsNormal(oldest_running) &&
		   !TransactionIdPrecedes(oldest_running, xid);
}

/* Pending until the resync ended; a barrier until every transaction it is about has. */
static void
note_progress(TransactionId oldest_running)
{
	uint64 barrier = ca_delivery_position()->barrier;
	bool resynced = resync_ticket && ca_resync_done() >= resync_ticket;
	bool passed = barrier && barrier_passed(barrier, oldest_running);

	if (!resynced && !passed)
		return;
	if (resynced)
	{
		resync_ticket = 0;
		resync_reason[0] = '\0';
	}
	if (passed)
		ca_tap_lift_barrier(tap);
	ca_delivery_mark(resync_reason[0] ? CA_POSITION_PENDING : CA_POSITION_OK, passed ? 0 : barrier);
}

static void
publish_position(XLogRecPtr visible)
{
	const CaPosition *position = ca_delivery_position();

	ca_status_now.timeline = position->timeline;
	/* A resync is still to make good what was not delivered one by one: it is not confirmed yet. */
	ca_status_now.confirmed = position->state == CA_POSITION_OK
								  ? position->confirmed
								  : Min(ca_status_now.confirmed, position->confirmed);
	ca_status_now.restart = position->restart;
	ca_status_now.read_end = ca_tap_read_end(tap);
	ca_status_now.visible = visible;
	if (ca_resync_running())
		ca_status_state("resyncing");
	else
		ca_status_state(caught_up ? "delivering" : "catching up");
}

static const char *
session_error(void)
{
	if (ca_redis_state(redis) == CA_REDIS_FAILED)
		return ca_redis_error(redis);
	if (ca_delivery_error())
		return ca_delivery_error();
	return ca_scan_error();
}

static bool
read_log(void)
{
	CaTapResult result = CA_TAP_MORE;

	if (ca_delivery_full())
		return false;
	result = ca_tap_read(tap, READ_BUDGET, ca_delivery_enqueue, NULL);
	if (result == CA_TAP_GAP)
		log_gone = true;
	/* The flush LSN may lie inside a record; then the end of the log is as far as one can read. */
	if (!caught_up &&
		(result == CA_TAP_END || (result == CA_TAP_MORE && ca_tap_read_end(tap) >= catch_up_to)))
		note_caught_up();
	return result == CA_TAP_MORE;
}

/* One round: read, look, send. Returns true if there is more to do at once. */
static bool
run(void)
{
	TransactionId oldest_running = InvalidTransactionId;
	XLogRecPtr visible;
	bool more = read_log();
	int sent;

	if (log_gone)
	{
		fail_session("the log that had to be delivered next is gone");
		retry_in(0);
		return true;
	}
	visible = ca_tap_read_end(tap);
	if (ca_delivery_invisible() || ca_delivery_position()->barrier || visible != looked_at)
	{
		looked_at = visible;
		visible = ca_delivery_look(&oldest_running);
	}
	if (caught_up)
		ca_resync_step();
	sent = ca_delivery_send();
	ca_redelete_step(redis);
	if (ca_scan_begins())
		ca_delivery_raise_floor(false);
	ca_scan_step(redis);
	arm_if_due();
	note_progress(oldest_running);
	ca_delivery_heartbeat(pg_atomic_read_u32(&ca_shared->waiters) > 0);
	more |= ca_sync_answer(ca_tap_read_end(tap), ca_delivery_owes);
	ping_if_asked();
	publish_position(visible);
	return more || sent > 0;
}

static bool
deliver(void)
{
	bool more;
	const char *error;

	ca_redis_advance(redis); /* answers first: they make room */
	if ((error = session_error()) != NULL)
	{
		fail_session(error);
		return false;
	}
	note_healthy();
	more = run();
	if (phase == RUNNING)
		ca_redis_advance(redis); /* and write what the round queued */
	return more;
}

/* ---- phases ---- */

static void
open_session(void)
{
	char *endpoint = ca_redis_endpoint();

	strlcpy(ca_status_now.endpoint, endpoint, sizeof(ca_status_now.endpoint));
	pfree(endpoint);
	if (session_cxt == NULL)
		session_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside session", ALLOCSET_DEFAULT_SIZES);
	redis = ca_redis_open(session_cxt, "cache_aside worker");
	ca_status_redis_state("connecting");
	ca_status_now.reconnects++;
	phase = OPENING;
}

static void
finish_claim(void)
{
	if (claim_error[0] == '\0' && claim_problem == CA_GUARD_NOT_LOADED)
		load_and_claim();
	else if (claim_error[0] == '\0' && claim_problem == CA_GUARD_UNSUPPORTED)
		claim_plainly();
	else if (claim_error[0] == '\0')
	{
		begin_running();
		return;
	}
	if (claim_error[0])
		fail_session(claim_error);
	else
		ca_redis_advance(redis);
}

static void
advance_claim(void)
{
	CaRedisState state = ca_redis_advance(redis);

	if (state == CA_REDIS_FAILED)
		fail_session(ca_redis_error(redis));
	else if (phase == OPENING && state == CA_REDIS_READY)
	{
		begin_claim();
		ca_redis_advance(redis);
	}
	else if (phase == CLAIMING && answers_missing == 0)
		finish_claim();
}

/* ---- what this server is to do ---- */

static Duty
current_duty(void)
{
	if (pg_atomic_read_u32(&ca_shared->uninstalled))
		return UNINSTALLED;
	if (guc_delivery == CA_DELIVER_OFF)
		return SWITCHED_OFF;
	if (!ca_census_installed())
		return NOT_INSTALLED;
	return guc_delivery == CA_DELIVER_PRIMARY && RecoveryInProgress() ? FOLLOW : DELIVER;
}

/* The other duties leave nothing behind. */
static void
leave_duty(Duty next)
{
	if (duty == FOLLOW)
		ca_follow_close();
	else
		ca_session_close();
	duty = next;
	if (next == NOT_INSTALLED || next == UNINSTALLED || next == SWITCHED_OFF)
	{
		ca_status_state(next == NOT_INSTALLED ? "not installed"
						: next == UNINSTALLED ? "uninstalled"
											  : "off");
		ca_status_redis_state("not connected");
		ca_status_now.confirmed = ca_status_now.restart = InvalidXLogRecPtr;
		if (next != SWITCHED_OFF)
			ca_slot_forget();
		ca_sync_switched_off();
		answer_pings(PG_UINT64_MAX);
	}
}

/* We were promoted, or followed a promotion, while delivering: claim Redis for the new timeline. */
static bool
timeline_changed(void)
{
	XLogRecPtr end;

	return phase == RUNNING && ca_tap_timeline(&end) != session_timeline;
}

static bool
session_step(void)
{
	if (timeline_changed())
		ca_session_close();
	if (phase == RUNNING)
		return deliver();
	if (phase == WAITING)
	{
		answer_pings(PG_UINT64_MAX);
		if (GetCurrentTimestamp() < retry_at)
			return false;
		open_session();
	}
	advance_claim();
	return phase == RUNNING;
}

/* One step, never blocking. True: call again at once. */
bool
ca_session_step(void)
{
	Duty now = current_duty();

	ca_census_step();
	if (now != duty)
		leave_duty(now);
	if (duty == DELIVER)
		return session_step();
	answer_pings(PG_UINT64_MAX);
	return duty == FOLLOW && ca_follow_step();
}

/* Settings changed, or the server stops: begin again at the next step. */
void
ca_session_close(void)
{
	if (phase == RUNNING)
	{
		known_position = *ca_delivery_position();
		position_known = true;
	}
	close_session();
	retry_at = 0;
}

CaRedis *
ca_session_redis(void)
{
	return duty == FOLLOW ? ca_follow_redis() : redis;
}

/* Is everything that is flushed by now delivered and acknowledged? */
bool
ca_session_settled(void)
{
	XLogRecPtr end;

	ca_tap_timeline(&end);
	return phase == RUNNING && ca_delivery_idle() && ca_tap_read_end(tap) >= end;
}

bool
ca_session_running(void)
{
	return phase == RUNNING;
}

/* Nobody wakes us when log is replayed: look often while there is some. */
static long
standby_pause(void)
{
	static XLogRecPtr before;
	static int quiet;
	XLogRecPtr end;

	ca_tap_timeline(&end);
	quiet = end == before ? quiet + 1 : 0;
	before = end;
	return quiet < 100 ? STANDBY_PAUSE : STANDBY_QUIET_PAUSE;
}

/* Milliseconds until ca_session_step has something to do; -1: only events matter. */
long
ca_session_timeout(void)
{
	CaRedis *used = ca_session_redis();
	long timeout = used ? ca_redis_timeout(used) : -1;
	long scan, redelete;

	if (duty != DELIVER)
		return duty == FOLLOW ? standby_pause() : IDLE_PAUSE;
	if (phase == WAITING)
		return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), retry_at);
	if (phase != RUNNING)
		return timeout;
	scan = ca_scan_timeout();
	if (scan >= 0 && (timeout < 0 || scan < timeout))
		timeout = scan;
	redelete = ca_redelete_timeout();
	if (redelete >= 0 && (timeout < 0 || redelete < timeout))
		timeout = redelete;
	if (ca_delivery_invisible() && (timeout < 0 || timeout > 1))
		timeout = 1; /* nothing wakes us when a stalled commit becomes visible */
	if (RecoveryInProgress())
		timeout = timeout < 0 ? standby_pause() : Min(timeout, standby_pause());
	if (timeout < 0 || timeout > 1000)
		timeout = 1000; /* log without messages moves the position once a second */
	return timeout;
}
