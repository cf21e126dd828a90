/*
 * sentinel.c: which Redis is the master, asked of Sentinels.
 *
 *	redis+sentinel://host:port,host:port,.../name
 *
 * Two connections to each Sentinel that is listed. On one it is asked once a second (SENTINEL
 * GET-MASTER-ADDR-BY-NAME), and at once when somebody wants to know. The other subscribes to +switch-master, which makes
 * us ask all of them at once, no more: what it says is one Sentinel's word. At each of them, for they hear of a
 * fail-over one after the other, up to two seconds apart, and nobody knows whose word will be the one that makes the
 * majority. A subscription can be dead without our knowing, so it is pinged; until that is noticed, the questions of each
 * second find out.
 *
 * A majority of those listed counts, not of those that answer: a fail-over needs one, so of two parts of a net
 * at most one has it. A Sentinel that is cut off goes on naming the old master, and is outvoted.
 *
 * An answer is worth as much as its question is young: nobody knows what changed behind its back. So whoever
 * must be sure asks anew, gets a ticket, and counts only answers to questions sent from then on. A Sentinel
 * that has not answered within ANSWER_MS is not waited for, nor one that was lost and is being connected again.
 *
 * What can fail: everything outside. A connection that fails is closed and opened again after RETRY_MS; what
 * that Sentinel said is forgotten with it. Nothing blocks, nothing raises but palloc. What they say is not
 * trusted: anything but nil or a host and a port is no answer, and its bytes are not kept.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_private.h"
#include "redis/sentinel.h"

#include "utils/memutils.h"

#define POLL_MS 1000
#define RETRY_MS 1000
#define ANSWER_MS 500

typedef enum Answer
{
	NOTHING,
	MASTER,
	NO_NAME,
	NONSENSE
} Answer;

/* The subscription at one of them. */
typedef struct Ear
{
	CaSentinels *owner;
	CaRedis *redis; /* NULL: not before `next` */
	int64 next;     /* to connect, or to ping */
	bool subscribed;
} Ear;

typedef struct Peer
{
	CaRedisHost host;
	CaRedis *redis; /* NULL: not before `next` */
	int64 next;     /* to be asked, or connected */
	bool tried;     /* it has answered or failed, ever */
	bool asked;     /* a question is on its way: */
	int64 asked_at;
	uint64 asked_for; /* the last ticket then */
	Answer said;      /* last, to a question of this ticket: */
	uint64 said_for;
	CaRedisHost master; /* if that is what it said */
	char problem[128];
	Ear ear;
} Peer;

struct CaSentinels
{
	MemoryContext cxt;
	CaRedisAddress address; /* of the one connected to last */
	char name[CA_REDIS_MAX_NAME];
	int n;
	Peer peers[CA_REDIS_MAX_HOSTS];
	uint64 tickets; /* given out */
};

/* ---- answers ---- */

/* A name or an address without anything else: it reaches the log, and a resolver. */
static bool
read_host(const CaReply *reply, CaRedisHost *host)
{
	Size len;
	const char *said = ca_redis_reply_text(reply, &len);

	memset(host, 0, sizeof(*host));
	if (ca_redis_reply_type(reply) != CA_REPLY_STRING || len == 0 || len >= sizeof(host->name))
		return false;
	for (Size i = 0; i < len; i++)
		if (!isalnum((unsigned char) said[i]) &&
			(said[i] == '\0' || strchr(".-_:%", said[i]) == NULL))
			return false;
	memcpy(host->name, said, len);
	return true;
}

static bool
read_port(const CaReply *reply, CaRedisHost *host)
{
	Size len;
	const char *said = ca_redis_reply_text(reply, &len);

	if (ca_redis_reply_type(reply) != CA_REPLY_STRING || len == 0 || len > 5)
		return false;
	for (Size i = 0; i < len; i++)
	{
		if (said[i] < '0' || said[i] > '9')
			return false;
		host->port = host->port * 10 + (said[i] - '0');
	}
	return host->port > 0 && host->port <= 65535;
}

static void
note_error(Peer *peer, const char *said)
{
	strlcpy(peer->problem, said, sizeof(peer->problem));
}

static void
handle_answer(void *arg, const CaReply *reply)
{
	Peer *peer = arg;
	Size len;

	peer->asked = false;
	if (reply == NULL)
		return;
	peer->tried = true;
	peer->said_for = peer->asked_for;
	peer->said = NONSENSE;
	peer->problem[0] = '\0';
	if (ca_redis_reply_type(reply) == CA_REPLY_NIL)
	{
		peer->said = NO_NAME;
		note_error(peer, "it knows no master of that name");
	}
	else if (ca_redis_reply_type(reply) == CA_REPLY_ERROR)
		note_error(peer, ca_redis_reply_text(reply, &len));
	else if (ca_redis_reply_type(reply) != CA_REPLY_ARRAY || ca_redis_reply_count(reply) != 2 ||
			 !read_host(ca_redis_reply_element(reply, 0), &peer->master) ||
			 !read_port(ca_redis_reply_element(reply, 1), &peer->master))
		note_error(peer, "its answer is no address");
	else
		peer->said = MASTER;
}

/* ---- one Sentinel ---- */

static void
send_words(CaRedis *redis, int n, const char **words, CaReplyHandler handler, void *arg)
{
	size_t lens[4];

	Assert(n <= lengthof(lens));
	for (int i = 0; i < n; i++)
		lens[i] = strlen(words[i]);
	ca_redis_send(redis, n, words, lens, handler, arg);
}

static CaRedis *
connect_to(CaSentinels *s, const Peer *peer)
{
	ca_redis_address_of_sentinel(&s->address, &peer->host);
	return ca_redis_open(s->cxt, &s->address, "cache_aside sentinel");
}

static void
lose(Peer *peer, int64 now)
{
	note_error(peer, ca_redis_error(peer->redis));
	ca_redis_close(peer->redis);
	peer->redis = NULL;
	peer->next = now + RETRY_MS;
	peer->said = NOTHING;
	peer->tried = true;
}

static void
step_peer(CaSentinels *s, Peer *peer, int64 now)
{
	if (peer->redis == NULL && now >= peer->next)
	{
		peer->redis = connect_to(s, peer);
		peer->next = now;
	}
	if (peer->redis == NULL)
		return;
	if (ca_redis_advance(peer->redis) == CA_REDIS_READY && !peer->asked && now >= peer->next)
	{
		peer->asked = true;
		peer->asked_at = now;
		peer->asked_for = s->tickets;
		peer->next = now + POLL_MS;
		send_words(peer->redis, 3, (const char *[]){"SENTINEL", "GET-MASTER-ADDR-BY-NAME", s->name},
				   handle_answer, peer);
		ca_redis_advance(peer->redis);
	}
	if (ca_redis_state(peer->redis) == CA_REDIS_FAILED)
		lose(peer, now);
}

/* ---- the subscriptions ---- */

static bool
is_text(const CaReply *reply, const char *wanted)
{
	Size len;
	const char *said = ca_redis_reply_text(reply, &len);

	return ca_redis_reply_type(reply) == CA_REPLY_STRING && len == strlen(wanted) &&
		   memcmp(said, wanted, len) == 0;
}

/*
 * Messages, and the answers to SUBSCRIBE and PING, which may come in any order. A message begins with the name of
 * a master; those of others are not for us.
 */
static void
handle_message(void *arg, const CaReply *reply)
{
	Ear *ear = arg;
	CaSentinels *s = ear->owner;
	Size len;
	Size name = strlen(s->name);
	const char *said;

	if (reply == NULL || ca_redis_reply_type(reply) != CA_REPLY_ARRAY ||
		ca_redis_reply_count(reply) < 2)
		return;
	if (is_text(ca_redis_reply_element(reply, 0), "subscribe"))
		ear->subscribed = true;
	if (ca_redis_reply_count(reply) != 3 || !is_text(ca_redis_reply_element(reply, 0), "message"))
		return;
	said = ca_redis_reply_text(ca_redis_reply_element(reply, 2), &len);
	if (len > name && memcmp(said, s->name, name) == 0 && said[name] == ' ')
		(void) ca_sentinel_ask(s);
}

static void
stop_listening(Ear *ear, int64 now)
{
	ca_redis_close(ear->redis);
	ear->redis = NULL;
	ear->subscribed = false;
	ear->next = now + RETRY_MS;
}

static void
say_to_listener(Ear *ear, int n, const char **words, int64 now)
{
	ear->next = now + POLL_MS;
	send_words(ear->redis, n, words, handle_message, ear);
	ca_redis_advance(ear->redis);
}

static void
step_listener(CaSentinels *s, Peer *peer, int64 now)
{
	Ear *ear = &peer->ear;
	bool ready;

	if (ear->redis == NULL && now >= ear->next)
	{
		ear->redis = connect_to(s, peer);
		ca_redis_listen(ear->redis, handle_message, ear);
		ear->next = now;
	}
	if (ear->redis == NULL)
		return;
	ready = ca_redis_advance(ear->redis) == CA_REDIS_READY;
	if (ready && now >= ear->next && ca_redis_in_flight(ear->redis) == 0)
	{
		if (ear->subscribed)
			say_to_listener(ear, 1, (const char *[]){"PING"}, now);
		else
			say_to_listener(ear, 2, (const char *[]){"SUBSCRIBE", "+switch-master"}, now);
	}
	if (ca_redis_state(ear->redis) == CA_REDIS_FAILED)
		stop_listening(ear, now);
}

/* ---- all of them ---- */

CaSentinels *
ca_sentinel_open(MemoryContext cxt, const CaRedisAddress *address)
{
	MemoryContext own = AllocSetContextCreate(cxt, "cache_aside sentinels", ALLOCSET_SMALL_SIZES);
	CaSentinels *s = MemoryContextAllocZero(own, sizeof(CaSentinels));

	s->cxt = own;
	s->address = *address;
	strlcpy(s->name, address->sentinel_name, sizeof(s->name));
	s->n = address->nhosts;
	for (int i = 0; i < s->n; i++)
	{
		s->peers[i].host = address->hosts[i];
		s->peers[i].ear.owner = s;
	}
	explicit_bzero(s->address.password, sizeof(s->address.password)); /* is for the master */
	return s;
}

void
ca_sentinel_close(CaSentinels *s)
{
	if (s == NULL)
		return;
	for (int i = 0; i < s->n; i++)
	{
		ca_redis_close(s->peers[i].redis);
		ca_redis_close(s->peers[i].ear.redis);
	}
	MemoryContextDelete(s->cxt);
}

/* The subscriptions first: what they hear makes us ask. */
void
ca_sentinel_step(CaSentinels *s)
{
	int64 now = ca_dial_clock();

	for (int i = 0; i < s->n; i++)
		step_listener(s, &s->peers[i], now);
	for (int i = 0; i < s->n; i++)
		step_peer(s, &s->peers[i], now);
}

uint64
ca_sentinel_ask(CaSentinels *s)
{
	for (int i = 0; i < s->n; i++)
		if (s->peers[i].redis)
			s->peers[i].next = 0;
	return ++s->tickets;
}

/* ---- counting ---- */

static bool
has_answered(const Peer *peer, uint64 ticket)
{
	return peer->said != NOTHING && peer->said_for >= ticket;
}

static bool
may_answer(const Peer *peer, int64 now)
{
	if (peer->redis == NULL || ca_redis_state(peer->redis) != CA_REDIS_READY)
		return !peer->tried;
	return !peer->asked || now - peer->asked_at <= ANSWER_MS;
}

/* How many name this one, among answers of this ticket or later. */
static int
count_votes(const CaSentinels *s, uint64 ticket, const CaRedisHost *master)
{
	int votes = 0;

	for (int i = 0; i < s->n; i++)
		votes += has_answered(&s->peers[i], ticket) && s->peers[i].said == MASTER &&
				 ca_redis_address_is_host(&s->peers[i].master, master);
	return votes;
}

CaSentinelWord
ca_sentinel_word(const CaSentinels *s, uint64 ticket, CaRedisHost *master)
{
	int64 now = ca_dial_clock();
	int answered = 0;
	int coming = 0;
	int nameless = 0;
	int most = 0;

	for (int i = 0; i < s->n; i++)
	{
		const Peer *peer = &s->peers[i];
		int votes = 0;

		if (!has_answered(peer, ticket))
		{
			coming += may_answer(peer, now);
			continue;
		}
		answered++;
		nameless += peer->said == NO_NAME;
		if (peer->said == MASTER)
			votes = count_votes(s, ticket, &peer->master);
		if (votes > most)
			*master = peer->master;
		most = Max(most, votes);
	}
	if (2 * most > s->n)
		return CA_SENTINEL_AGREED;
	if (2 * nameless > s->n)
		return CA_SENTINEL_NO_NAME;
	if (2 * (most + coming) > s->n || 2 * (nameless + coming) > s->n)
		return CA_SENTINEL_ASKED;
	return 2 * answered > s->n ? CA_SENTINEL_DIVIDED : CA_SENTINEL_SILENT;
}

int
ca_sentinel_votes(const CaSentinels *s, const CaRedisHost *master)
{
	return count_votes(s, 0, master);
}

/* ---- for others ---- */

int
ca_sentinel_listed(const CaSentinels *s)
{
	return s->n;
}

void
ca_sentinel_peer(const CaSentinels *s, int i, CaSentinelPeer *about)
{
	const Peer *peer = &s->peers[i];

	about->host = &peer->host;
	about->master = peer->said == MASTER ? &peer->master : NULL;
	about->problem = peer->problem;
}

int
ca_sentinel_connections(const CaSentinels *s, CaRedis **connections, int most)
{
	int n = 0;

	for (int i = 0; i < s->n; i++)
	{
		if (s->peers[i].redis && n < most)
			connections[n++] = s->peers[i].redis;
		if (s->peers[i].ear.redis && n < most)
			connections[n++] = s->peers[i].ear.redis;
	}
	return n;
}

static long
sooner(long a, long b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Until one connection has something to do; a question or a ping on its way is its own clock. */
static long
timeout_of(const CaRedis *redis, bool waits_for_answer, int64 next)
{
	int64 now = ca_dial_clock();
	long timeout = redis ? ca_redis_timeout(redis) : -1;
	bool waits = redis && (waits_for_answer || ca_redis_state(redis) == CA_REDIS_CONNECTING);

	return waits ? timeout : sooner(timeout, (long) Max(next - now, 0));
}

long
ca_sentinel_timeout(const CaSentinels *s)
{
	long timeout = -1;

	for (int i = 0; i < s->n; i++)
	{
		const Peer *peer = &s->peers[i];
		const Ear *ear = &peer->ear;
		bool said = ear->redis && ca_redis_in_flight(ear->redis) > 0;

		timeout = sooner(timeout, timeout_of(peer->redis, peer->asked, peer->next));
		timeout = sooner(timeout, timeout_of(ear->redis, said, ear->next));
	}
	return timeout;
}
