/*
 * watch.c: is the Redis that is delivered to still the master? Asked of Sentinels, where redis_url lists them.
 *
 *	find       each session begins by asking all of them, and waits for a majority (redis/sentinel.c)
 *	role       who is connected to must say that he is a master, or the session ends: a Sentinel knows what is
 *	           to be, the server knows what is
 *	moved      a majority names another: the session ends, disarms the old one if it answers, begins anew
 *	silence    a connection that works proves nothing, see below
 *
 * SILENCE. A master that was stopped (SIGSTOP, a virtual machine that pauses) past its replacement takes writes
 * for ten seconds when it wakes, over connections that never broke; so does one that Sentinels cannot reach and we
 * can, and SENTINEL FAILOVER leaves the old one a master as long. What is delivered there is not lost: the
 * new master's position does not tell of it, and the session that begins there delivers it again. But somebody
 * may be told of it meanwhile, and read the old value at the new master. So nothing is sent to a
 * master, nor taken from it, that was silent for more than SILENCE_MS, before a majority named it in
 * answer to a question asked after that silence. Who slept may have been this process: both clocks count.
 * While a master talks, what changes is known by the subscription at once, and by the question of each second.
 *
 * Between its answer and the act Sentinels may change their minds; that is some milliseconds, and a fail-over
 * takes longer than its down-after time, in which the master must not have answered them. One that answers us
 * and not them is two masters at once, which Redis itself cannot tell (min-replicas-to-write can).
 *
 * NO MAJORITY answers, or they are divided. A session that runs goes on, silence or not, after ANSWER_MS at
 * most (sentinel.c): without a majority there is no fail-over, and if it is only we who do not reach them, then what is
 * delivered to a master that was replaced is delivered again when we do. Stopping would make each outage of the Sentinels one
 * of Redis; who waits for a delivery is told, for the same reason, and may be told too early if we and the master are
 * cut off together. A replica takes no writes, so a connection whose server was demoted ends by itself
 * (READONLY). But no session begins: which one is the master is not known.
 *
 * WAIT is not asked for after a claim. It was thought of for a fail-over and back to a master which still has its
 * arming in memory (A, B, A): B acknowledged, A does not have it and admits an old value. An arming ends by
 * itself, and on a process that was not claimed last nobody is told before each other arming has ended (arming.c;
 * test/model: "two Redis behind one address", where armings that last, and telling at once, each do harm). What A lacks it
 * is sent again, for its position lacks it too. WAIT would narrow what a fail-over loses, which is a choice of its own.
 *
 * Everything is of the worker alone and its one thread. If it dies, the next one asks anew; backends go on with what
 * shared/master.c has.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "redis/redis.h"
#include "redis/sentinel.h"
#include "shared/master.h"
#include "shared/status.h"
#include "shared/trouble.h"
#include "delivery/watch.h"

#include "portability/instr_time.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SILENCE_MS 1000
#define SURE_MS 50 /* what Sentinels confirmed is not asked again */
#define ASK_MS 20  /* between two looks for their answers */
#define PUBLISH_MS 1000
#define TALKS_MS 3000 /* it is asked something each two seconds */

static CaSentinels *sentinels; /* NULL: redis_url lists none, or nobody asked yet */
static bool begun;             /* the settings were looked at */
static CaMaster known;         /* as it was published last, but for the witnesses */
static TimestampTz published_at;
static bool waits;      /* somebody waits for answers */
static int64 talked_at; /* some master did, ms */
static char problem[256];

static int64
now_ms(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

static const char *
show_host(const CaRedisHost *host)
{
	return psprintf(strchr(host->name, ':') ? "[%s]:%d" : "%s:%d", host->name, host->port);
}

/* ---- what they say ---- */

/* The master of before is believed until they say otherwise: a worker that is started again disturbs nobody. */
static void
begin(const CaRedisAddress *address)
{
	begun = true;
	if (address->sentinel_name[0])
		sentinels = ca_sentinel_open(TopMemoryContext, address);
	ca_master_recall(&known);
	ca_master_publish(&known);
}

void
ca_watch_forget(void)
{
	ca_sentinel_close(sentinels);
	sentinels = NULL;
	begun = waits = false;
	talked_at = 0;
	ca_trouble_drop(CA_AREA_SENTINELS);
}

static void
publish(void)
{
	published_at = GetCurrentTimestamp();
	known.listed = ca_sentinel_listed(sentinels);
	for (int i = 0; i < known.listed; i++)
	{
		CaMasterWitness *witness = &known.witnesses[i];
		CaSentinelPeer peer;

		ca_sentinel_peer(sentinels, i, &peer);
		memset(witness, 0, sizeof(*witness));
		witness->sentinel = *peer.host;
		if (peer.master)
			witness->names = *peer.master;
		strlcpy(witness->problem, peer.problem, sizeof(witness->problem));
	}
	ca_master_publish(&known);
}

static void
note_master(const CaRedisHost *master)
{
	int votes = ca_sentinel_votes(sentinels, master);

	if (known.host.port == 0)
		ereport(LOG, (errmsg("cache_aside: %d of %d Sentinels name %s as the master", votes,
							 ca_sentinel_listed(sentinels), show_host(master))));
	else
		ereport(LOG, (errmsg("cache_aside: %d of %d Sentinels name %s as the master, no longer %s",
							 votes, ca_sentinel_listed(sentinels), show_host(master),
							 show_host(&known.host))));
	known.host = *master;
	known.since = GetCurrentTimestamp();
	publish();
}

/* The first that does not say what is to be said, for whoever has to find out why. */
static const char *
first_problem(void)
{
	for (int i = 0; i < ca_sentinel_listed(sentinels); i++)
	{
		CaSentinelPeer peer;

		ca_sentinel_peer(sentinels, i, &peer);
		if (peer.problem[0])
			return psprintf("%s: %s", show_host(peer.host), peer.problem);
	}
	return "no answer";
}

static void
note_problem(CaSentinelWord word)
{
	if (word == CA_SENTINEL_NO_NAME)
		snprintf(problem, sizeof(problem), "Sentinels have no master of the name in redis_url");
	else if (word == CA_SENTINEL_DIVIDED)
		snprintf(problem, sizeof(problem), "Sentinels do not agree which Redis is the master");
	else
		snprintf(problem, sizeof(problem),
				 "Sentinels are silent, or too few of those listed answer (%s)", first_problem());
}

const char *
ca_watch_problem(void)
{
	return problem;
}

/* While a master talks to us. Else delivery is in trouble, which tells. */
static void
tell_trouble(CaSentinelWord word)
{
	if (word == CA_SENTINEL_AGREED)
		ca_trouble_over(CA_AREA_SENTINELS);
	else if (word != CA_SENTINEL_ASKED && ca_trouble_of(CA_AREA_SENTINELS) == CA_TROUBLE_NONE &&
			 talked_at != 0 && now_ms() - talked_at < TALKS_MS)
	{
		note_problem(word);
		ca_trouble_begin(CA_AREA_SENTINELS, ca_trouble_judge(problem), problem);
	}
}

void
ca_watch_step(void)
{
	CaSentinelWord word;
	CaRedisHost master;

	if (sentinels == NULL)
		return;
	ca_sentinel_step(sentinels);
	word = ca_sentinel_word(sentinels, 0, &master);
	if (word == CA_SENTINEL_AGREED && !ca_redis_address_is_host(&master, &known.host))
		note_master(&master);
	else if (TimestampDifferenceExceeds(published_at, GetCurrentTimestamp(), PUBLISH_MS))
		publish();
	tell_trouble(word);
}

/* ---- a session ---- */

/* The host found before stays until another is found: what moved is told by it. */
static void
begin_anew(CaWatch *watch)
{
	CaRedisHost host = watch->host;

	memset(watch, 0, sizeof(*watch));
	watch->host = host;
}

CaWatchStep
ca_watch_find(CaWatch *watch, CaRedisAddress *address)
{
	CaSentinelWord word;
	CaRedisHost master;
	uint64 ticket = watch->finding;

	ca_redis_address_of_settings(address);
	if (!begun)
		begin(address);
	begin_anew(watch);
	if (sentinels == NULL)
	{
		watch->host.port = 0;
		return CA_WATCH_GOOD;
	}
	if (ticket == 0)
		ticket = ca_sentinel_ask(sentinels);
	word = ca_sentinel_word(sentinels, ticket, &master);
	if (word == CA_SENTINEL_ASKED)
	{
		watch->finding = ticket;
		waits = true;
		return CA_WATCH_WAITS;
	}
	if (word == CA_SENTINEL_AGREED)
	{
		watch->host = master;
		ca_redis_address_of_master(address, &master);
		return CA_WATCH_GOOD;
	}
	note_problem(word);
	return CA_WATCH_BAD;
}

bool
ca_watch_moved(const CaWatch *watch)
{
	return sentinels && known.host.port != 0 && watch->host.port != 0 &&
		   !ca_redis_address_is_host(&known.host, &watch->host);
}

/* ---- its role ---- */

/* Who may not ask is not told, and finds out by writing. */
static void
handle_role(void *arg, const CaReply *reply)
{
	CaWatch *watch = arg;
	const CaReply *role;
	const char *said;
	Size len;

	watch->role_known = true;
	watch->is_master = true;
	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_ARRAY ||
		ca_redis_reply_count(reply) == 0)
		return;
	role = ca_redis_reply_element(reply, 0);
	if (ca_redis_reply_type(role) != CA_REPLY_STRING)
		return;
	said = ca_redis_reply_text(role, &len);
	watch->is_master = len == strlen("master") && memcmp(said, "master", len) == 0;
}

CaWatchStep
ca_watch_ask_role(CaWatch *watch, CaRedis *redis)
{
	const char *argv[] = {"ROLE"};
	size_t len[] = {4};

	if (watch->host.port == 0)
		return CA_WATCH_GOOD;
	if (!watch->role_asked)
		ca_redis_send(redis, 1, argv, len, handle_role, watch);
	watch->role_asked = true;
	(void) ca_redis_advance(redis);
	if (!watch->role_known)
		return CA_WATCH_WAITS;
	if (watch->is_master)
		return CA_WATCH_GOOD;
	snprintf(problem, sizeof(problem),
			 "Sentinels name %s as the master, which says that it is a replica",
			 show_host(&watch->host));
	return CA_WATCH_BAD;
}

/* ---- after a silence ---- */

static bool
was_silent(const CaWatch *watch, int64 now)
{
	return watch->heard_at == 0 || now - watch->heard_at > SILENCE_MS ||
		   TimestampDifferenceExceeds(watch->heard_on, GetCurrentTimestamp(), SILENCE_MS);
}

/* Is it the master, as far as anybody can be asked? */
static bool
is_sure(CaWatch *watch, int64 now)
{
	CaRedisHost master;
	CaSentinelWord word;

	if (!was_silent(watch, now) || (watch->sure_at != 0 && now - watch->sure_at <= SURE_MS))
		return true;
	if (watch->ticket == 0)
		watch->ticket = ca_sentinel_ask(sentinels);
	word = ca_sentinel_word(sentinels, watch->ticket, &master);
	waits |= word == CA_SENTINEL_ASKED;
	if (word == CA_SENTINEL_ASKED)
		return false;
	watch->ticket = 0;
	if (word == CA_SENTINEL_AGREED && !ca_redis_address_is_host(&master, &watch->host))
		return false; /* the next step finds out that it moved */
	watch->sure_at = now;
	return true;
}

void
ca_watch_advance(CaWatch *watch, CaRedis *redis)
{
	int64 now = now_ms();
	int unanswered = ca_redis_in_flight(redis);

	watch->held =
		sentinels && watch->host.port != 0 && !CA_DEBUG_SKIP("silence") && !is_sure(watch, now);
	if (watch->held)
		return;
	(void) ca_redis_advance(redis);
	if (ca_redis_in_flight(redis) >= unanswered)
		return;
	watch->heard_at = talked_at = now;
	watch->heard_on = GetCurrentTimestamp();
}

/* ---- waiting ---- */

int
ca_watch_connections(CaRedis **connections, int most)
{
	return sentinels ? ca_sentinel_connections(sentinels, connections, most) : 0;
}

long
ca_watch_timeout(void)
{
	long timeout = sentinels ? ca_sentinel_timeout(sentinels) : -1;

	if (!waits)
		return timeout;
	waits = false;
	return timeout < 0 ? ASK_MS : Min(timeout, ASK_MS);
}
