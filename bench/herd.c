/*
 * herd.c: many readers of one key, cheap ones: each a connection to Redis and a state, all in one process. Compiled by
 * herd.pl.
 *
 *	herd redis-socket conninfo key readers reads-per-second seconds lease-ms how
 *
 * A reader does what docs/fills.md says: asks for the value; reads the database if it gets a lease (or lease-ms is 0), and
 * fills; looks again after some milliseconds if another one has the lease. Databases are read over CONNECTIONS that all
 * share. `how`:
 *	fresh    with the token of the read
 *	late     likewise, but each second time another invalidation is delivered before the fill, which is refused
 *	refused  with a token that is older than all invalidations
 * Prints: reads, of them hits, reads of the database, fills stored, fills refused, invalidations of its own, and p50, p99,
 * p99.9 and the most of the milliseconds from the wish to the value.
 */
#include <errno.h>
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#define CONNECTIONS 16
#define MOST_READERS 4096
#define MOST_READS 4000000
#define FIRST_PAUSE 0.001 /* s; doubled each time, with jitter */
#define LAST_PAUSE 0.05

typedef enum Wants
{
	NOTHING, /* until `at` */
	VALUE,
	ROW, /* in the queue, or being read */
	STORED
} Wants;

typedef struct Reader
{
	redisContext *redis;
	Wants wants;
	double at;    /* when to ask (again) */
	double since; /* when the value was first asked for */
	double pause;
	char lease[64]; /* empty: none */
} Reader;

typedef struct Database
{
	PGconn *conn;
	Reader *reader; /* NULL: free */
	char value[64], token[64];
	enum { READS, IS_TO_DELETE, DELETES } step; /* the invalidation of `late` */
} Database;

static Reader readers[MOST_READERS];
static Database databases[CONNECTIONS];
static Reader *queue[MOST_READERS]; /* who waits for a database */
static int queued, nreaders, poller, timer;
static const char *key, *lease_ms, *how;
static char old_token[64];
static double rate;
static float *times;
static long hits, rows, stored, refused, deleted, ntimes, nleases;

static void
die(const char *what)
{
	fprintf(stderr, "herd: %s\n", what);
	exit(1);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
watch(int fd, void *whom)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = whom};

	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll");
}

static void
flush(Reader *r)
{
	int done = 0;

	while (!done)
		if (redisBufferWrite(r->redis, &done) != REDIS_OK)
			die(r->redis->errstr);
}

static void
ask(Reader *r)
{
	if (r->wants == NOTHING && r->since == 0)
		r->since = r->at; /* what was due is counted from then, however late we are */
	r->wants = VALUE;
	redisAppendCommand(r->redis, "FCALL cache_aside_get 1 %s %s", key, lease_ms);
	flush(r);
}

static void
has_value(Reader *r)
{
	if (ntimes < MOST_READS)
		times[ntimes++] = 1000 * (now() - r->since);
}

static void
rests(Reader *r)
{
	r->wants = NOTHING;
	r->at = now() - log(1 - drand48()) / rate;
	r->since = 0;
	r->pause = FIRST_PAUSE;
	r->lease[0] = '\0';
}

/* ---- the database ---- */

static void
read_row(Database *d, Reader *r)
{
	d->reader = r;
	if (!PQsendQueryPrepared(d->conn, "row", 0, NULL, NULL, NULL, 0))
		die(PQerrorMessage(d->conn));
}

static void
want_row(Reader *r)
{
	r->wants = ROW;
	for (int i = 0; i < CONNECTIONS; i++)
		if (databases[i].reader == NULL)
		{
			read_row(&databases[i], r);
			return;
		}
	queue[queued++] = r;
}

static void
fill(Reader *r, const char *value, const char *token)
{
	r->wants = STORED;
	token = strcmp(how, "refused") ? token : old_token;
	if (r->lease[0])
		redisAppendCommand(r->redis, "FCALL cache_aside_fill 1 %s %s 60000 %s %s", key, value, token, r->lease);
	else
		redisAppendCommand(r->redis, "FCALL cache_aside_fill 1 %s %s 60000 %s", key, value, token);
	flush(r);
}

static void
frees(Database *d)
{
	Reader *r = d->reader;

	d->reader = NULL;
	if (queued > 0)
	{
		read_row(d, queue[0]);
		memmove(queue, queue + 1, --queued * sizeof(*queue));
	}
	if (d->token[0])
		fill(r, d->value, d->token);
	else
		rests(r);
}

static void
has_row(Database *d, PGresult *result)
{
	rows++;
	snprintf(d->value, sizeof(d->value), "%s", PQgetvalue(result, 0, 0));
	snprintf(d->token, sizeof(d->token), "%s", PQgetvalue(result, 0, 1));
	has_value(d->reader);
	if (strcmp(how, "late") == 0 && d->reader->lease[0] && nleases++ % 2 == 0)
		d->step = IS_TO_DELETE;
}

static void
database_answers(Database *d)
{
	PGresult *result;

	if (!PQconsumeInput(d->conn))
		die(PQerrorMessage(d->conn));
	while (!PQisBusy(d->conn))
	{
		if ((result = PQgetResult(d->conn)) == NULL)
		{
			if (d->step == IS_TO_DELETE)
				PQsendQueryPrepared(d->conn, "delete", 0, NULL, NULL, NULL, 0);
			else
				frees(d);
			d->step = d->step == IS_TO_DELETE ? DELETES : READS;
			return;
		}
		if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
			has_row(d, result);
		else if (PQresultStatus(result) == PGRES_COMMAND_OK)
			deleted++;
		else
			die(PQerrorMessage(d->conn));
		PQclear(result);
	}
}

/* ---- Redis ---- */

static void
redis_answers(Reader *r)
{
	redisReply *reply = NULL;

	if (redisBufferRead(r->redis) != REDIS_OK || redisGetReplyFromReader(r->redis, (void **) &reply) != REDIS_OK)
		die(r->redis->errstr);
	if (reply == NULL)
		return;
	if (reply->type == REDIS_REPLY_ERROR)
		die(reply->str);
	if (r->wants == STORED)
	{
		*(reply->integer == 1 ? &stored : &refused) += 1;
		rests(r);
	}
	else if (reply->type == REDIS_REPLY_STRING)
	{
		hits++;
		has_value(r);
		rests(r);
	}
	else if (reply->type == REDIS_REPLY_ARRAY || atoi(lease_ms) == 0 ||
			 now() - r->since > atoi(lease_ms) / 1000.0)
	{
		if (reply->type == REDIS_REPLY_ARRAY)
			snprintf(r->lease, sizeof(r->lease), "%s", reply->element[0]->str);
		want_row(r);
	}
	else
	{
		r->wants = NOTHING;
		r->at = now() + r->pause * (0.5 + drand48());
		r->pause = fmin(2 * r->pause, LAST_PAUSE);
	}
	freeReplyObject(reply);
}

/* ---- all of it ---- */

static void
connect_all(const char *socket, const char *conninfo)
{
	for (int i = 0; i < nreaders; i++)
	{
		readers[i].redis = redisConnectUnix(socket);
		if (readers[i].redis == NULL || readers[i].redis->err)
			die("no connection to Redis");
		watch(readers[i].redis->fd, &readers[i]);
	}
	for (int i = 0; i < CONNECTIONS; i++)
	{
		PGconn *conn = databases[i].conn = PQconnectdb(conninfo);

		PQclear(PQexec(conn, "SET cache_aside.synchronous = on"));
		PQclear(PQprepare(conn, "row", "SELECT v, cache_aside.read_token() FROM t WHERE id = 1", 0, NULL));
		PQclear(PQprepare(conn, "delete", "UPDATE t SET v = v + 1 WHERE id = 1", 0, NULL));
		if (PQstatus(conn) != CONNECTION_OK)
			die(PQerrorMessage(conn));
		watch(PQsocket(conn), &databases[i]);
	}
	PGresult *result = PQexec(databases[0].conn, "SELECT cache_aside.read_token()");
	snprintf(old_token, sizeof(old_token), "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
	if (strcmp(how, "refused") == 0)
	{
		PQclear(PQexecPrepared(databases[0].conn, "delete", 0, NULL, NULL, NULL, 0));
		deleted++;
	}
}

static int
by_size(const void *a, const void *b)
{
	float x = *(const float *) a, y = *(const float *) b;

	return x < y ? -1 : x > y;
}

static double
percentile(double percent)
{
	return ntimes ? times[(long) fmin(ntimes - 1, ntimes * percent / 100)] : 0;
}

/* epoll_wait's own time-out has milliseconds only. */
static void
wake_at(double t)
{
	struct itimerspec spec = {.it_value = {(time_t) t, (long) (1e9 * (t - floor(t)))}};

	if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL) < 0)
		die("timerfd");
}

static void
run_until(double end)
{
	struct epoll_event events[256];

	for (int i = 0; i < nreaders; i++)
		rests(&readers[i]);
	while (now() < end)
	{
		double next = end, t = now();
		int n;

		for (int i = 0; i < nreaders; i++)
		{
			if (readers[i].wants == NOTHING && readers[i].at <= t)
				ask(&readers[i]);
			if (readers[i].wants == NOTHING && readers[i].at < next)
				next = readers[i].at;
		}
		wake_at(next);
		n = epoll_wait(poller, events, 256, -1);
		for (int i = 0; i < n; i++)
		{
			void *whom = events[i].data.ptr;

			if (whom == &timer)
				continue;
			if (whom >= (void *) databases && whom < (void *) (databases + CONNECTIONS))
				database_answers(whom);
			else
				redis_answers(whom);
		}
	}
}

int
main(int argc, char **argv)
{
	if (argc != 9)
		die("eight arguments");
	key = argv[3];
	nreaders = atoi(argv[4]);
	rate = atof(argv[5]);
	lease_ms = argv[7];
	how = argv[8];
	if (nreaders > MOST_READERS)
		die("so many readers");
	times = malloc(MOST_READS * sizeof(float));
	poller = epoll_create1(0);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	watch(timer, &timer);
	srand48(1);
	connect_all(argv[1], argv[2]);
	printf("ready\n");
	fflush(stdout);
	run_until(now() + atof(argv[6]));
	qsort(times, ntimes, sizeof(float), by_size);
	printf("%ld %ld %ld %ld %ld %ld %.2f %.2f %.2f %.2f\n", ntimes, hits, rows, stored, refused, deleted,
		   percentile(50), percentile(99), percentile(99.9), percentile(100));
	return 0;
}
