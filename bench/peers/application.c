/*
 * application.c: the clients. Each updates one row a transaction and then, if that is how keys are deleted here, sends
 * DEL on a connection of its own and waits for the answer.
 *
 *	application -d conninfo -n rows [-c clients] [-t seconds] [-s start] [-r rate] [-D redis.sock] [-k]
 *
 * No row is written twice in a run: the number of commits is that of the keys that have to go; when a tenth of the rows
 * is left, the run ends. -r: so many commits a second, evenly; else each client begins the next when the last is done.
 * -k: connections that break are made again, and a DEL that fails is left, as applications do. At the end a line:
 * commits, seconds, CPU seconds.
 *
 * One thread for all of them, asleep in ppoll while nobody has an answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <hiredis/hiredis.h>
#include <libpq-fe.h>

#include "cache.h"

#define STRIDE INT64_C(999983) /* a prime that is no divisor of the number of rows */
#define MOST_CLIENTS 1000

typedef enum State
{
	IDLE,
	COMMITTING,
	DELETING,
	BROKEN /* to be connected again */
} State;

typedef struct Client
{
	State state;
	PGconn *db;
	redisContext *redis;
	int id;
} Client;

static const char *conninfo, *redis_path;
static int64_t rows, most, start, begun, commits;
static int clients = 8;
static double seconds = 1, rate;
static bool keep_going;
static Client all[MOST_CLIENTS];
static struct pollfd fds[MOST_CLIENTS];
static double began, next_try;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
broken(Client *client, const char *what)
{
	if (!keep_going)
		die("%s", what);
	PQfinish(client->db);
	client->db = NULL;
	client->state = BROKEN;
	next_try = now() + 0.02;
}

/* There are thousands while a cache is down. */
static void
ignore_notice(void *arg, const char *message)
{
}

static void
connect_client(Client *client)
{
	PGresult *result;

	client->state = IDLE;
	client->db = PQconnectdb(conninfo);
	if (keep_going)
		PQsetNoticeProcessor(client->db, ignore_notice, NULL);
	result = PQprepare(client->db, "update", "UPDATE account SET n = n + 1 WHERE id = $1", 0, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		broken(client, PQerrorMessage(client->db));
	PQclear(result);
}

static void
connect_redis(Client *client)
{
	struct timeval timeout = {1, 0};

	client->redis = redisConnectUnixWithTimeout(redis_path, timeout);
	if (client->redis != NULL && !client->redis->err)
	{
		client->redis->flags &= ~REDIS_BLOCK; /* only connecting blocked */
		return;
	}
	if (!keep_going)
		die("no connection to %s", redis_path);
	redisFree(client->redis);
	client->redis = NULL;
}

static void
begin_update(Client *client)
{
	uint32_t id;
	const char *value = (const char *) &id;
	int length = sizeof(id), binary = 1;

	client->id = 1 + (start + begun++) * STRIDE % rows;
	id = htonl(client->id);
	client->state = COMMITTING;
	if (!PQsendQueryPrepared(client->db, "update", 1, &value, &length, &binary, 0))
		broken(client, PQerrorMessage(client->db));
}

static void
delete_failed(Client *client)
{
	if (!keep_going)
		die("DEL failed");
	redisFree(client->redis);
	client->redis = NULL;
	client->state = IDLE;
}

static void
begin_delete(Client *client)
{
	int sent = 0;

	client->state = DELETING;
	if (client->redis == NULL)
		connect_redis(client);
	if (client->redis == NULL)
		client->state = IDLE;
	else if (redisAppendCommand(client->redis, "DEL account:%d", client->id) != REDIS_OK ||
			 redisBufferWrite(client->redis, &sent) != REDIS_OK)
		delete_failed(client);
}

static void
finish_update(Client *client)
{
	PGresult *result;
	bool updated = false;

	if (!PQconsumeInput(client->db))
	{
		broken(client, PQerrorMessage(client->db));
		return;
	}
	if (PQisBusy(client->db))
		return;
	while ((result = PQgetResult(client->db)) != NULL)
	{
		updated =
			PQresultStatus(result) == PGRES_COMMAND_OK && strcmp(PQcmdTuples(result), "1") == 0;
		PQclear(result);
	}
	if (!updated)
	{
		broken(client, PQerrorMessage(client->db));
		return;
	}
	commits++;
	client->state = IDLE;
	if (redis_path)
		begin_delete(client);
}

static void
finish_delete(Client *client)
{
	redisReply *reply = NULL;

	if (redisBufferRead(client->redis) != REDIS_OK ||
		redisGetReply(client->redis, (void **) &reply) != REDIS_OK ||
		(reply != NULL && reply->type == REDIS_REPLY_ERROR))
		delete_failed(client);
	else if (reply != NULL)
		client->state = IDLE;
	freeReplyObject(reply);
}

/* Whoever is idle begins, as far as there are rows and the rate allows; returns when the next may. */
static double
begin_all(double t)
{
	double due = began + seconds;

	for (int i = 0; i < clients; i++)
	{
		Client *client = &all[i];

		if (client->state == BROKEN && t >= next_try)
			connect_client(client);
		if (client->state != IDLE || begun == most)
			continue;
		if (rate > 0 && began + begun / rate > t)
			return began + begun / rate < due ? began + begun / rate : due;
		begin_update(client);
	}
	if (begun == most)
		return t;
	return next_try > t && next_try < due ? next_try : due;
}

/* False when nobody has anything under way. */
static bool
wait_for_answers(double until)
{
	double left = until - now();
	struct timespec timeout = {0};
	int busy = 0;

	for (int i = 0; i < clients; i++)
	{
		fds[i].events = POLLIN;
		fds[i].fd = all[i].state == COMMITTING ? PQsocket(all[i].db)
					: all[i].state == DELETING ? all[i].redis->fd
											   : -1;
		busy += fds[i].fd >= 0;
	}
	if (left > 0)
	{
		timeout.tv_sec = (time_t) left;
		timeout.tv_nsec = (long) ((left - timeout.tv_sec) * 1e9);
	}
	else
		timeout.tv_sec = 5;
	if (busy > 0 || left > 0)
		ppoll(fds, clients, &timeout, NULL);
	return busy > 0;
}

static void
run(void)
{
	double end, t = began = now();
	bool busy = true;

	end = began + seconds;
	while (busy || (t < end && begun < most))
	{
		busy = wait_for_answers(t < end ? begin_all(t) : 0);
		for (int i = 0; i < clients; i++)
		{
			if (fds[i].fd >= 0 && fds[i].revents)
				(all[i].state == COMMITTING ? finish_update : finish_delete)(&all[i]);
		}
		t = now();
	}
}

static void
read_options(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "d:n:c:t:s:r:D:k")) != -1)
	{
		switch (option)
		{
			case 'd':
				conninfo = optarg;
				break;
			case 'n':
				rows = atoll(optarg);
				break;
			case 'c':
				clients = atoi(optarg);
				break;
			case 't':
				seconds = atof(optarg);
				break;
			case 's':
				start = atoll(optarg);
				break;
			case 'r':
				rate = atof(optarg);
				break;
			case 'D':
				redis_path = optarg;
				break;
			case 'k':
				keep_going = true;
				break;
			default:
				die("what?");
		}
	}
	if (conninfo == NULL || rows % STRIDE == 0 || clients < 1 || clients > MOST_CLIENTS)
		die("conninfo, number of rows, clients?");
	most = rows - rows / 10;
}

int
main(int argc, char **argv)
{
	struct rusage usage;

	read_options(argc, argv);
	for (int i = 0; i < clients; i++)
	{
		connect_client(&all[i]);
		if (redis_path)
			connect_redis(&all[i]);
	}
	run();
	getrusage(RUSAGE_SELF, &usage);
	printf("%lld %.4f %.4f\n", (long long) commits, now() - began,
		   usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
			   (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	return 0;
}
