/*
 * prober.c: from COMMIT's return to the key being gone, as a client sees it: it caches a key, makes sure that it is
 * there, updates the row, and asks the cache until the key is gone. The answer that says so is included.
 *
 *	prober -d conninfo -u cache -n first row [-t seconds | -m samples] [-w seconds] [-D]
 *
 * Rows first to first + 99 are its own. Asks with pauses of 20 us, and waits 0 to 2 ms before the next sample, so that
 * it falls anywhere into the rhythm of whoever deletes. -D: it deletes the key itself, as applications do. It gives
 * up on a key after -w seconds. Writes every sample in microseconds, sorted.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "cache.h"

#define ROWS 100

static const char *conninfo, *url;
static int first;
static double seconds = 1e9, deadline = 20;
static long most = 1000 * 1000;
static bool deletes;
static PGconn *db;
static Cache *cache;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
pause_for(long microseconds)
{
	struct timespec t = {.tv_nsec = 1000 * microseconds};

	nanosleep(&t, NULL);
}

static void
update(int id)
{
	char text[16];
	const char *value = text;
	PGresult *result;

	snprintf(text, sizeof(text), "%d", id);
	result = PQexecPrepared(db, "update", 1, &value, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_COMMAND_OK || PQcmdTuples(result)[0] != '1')
		die("%s", PQerrorMessage(db));
	PQclear(result);
}

static double
sample(int id)
{
	char key[32];
	double committed;

	snprintf(key, sizeof(key), "account:%d", id);
	cache_set(cache, key, "a value of an ordinary size");
	if (!cache_found(cache, NULL, 0) || !cache_has(cache, key))
		die("the key was not there before");
	update(id);
	committed = now();
	if (deletes)
	{
		cache_delete(cache, key);
		cache_found(cache, NULL, 0);
	}
	while (cache_has(cache, key))
	{
		if (now() - committed > deadline)
			die("the key of row %d is not gone", id);
		pause_for(20);
	}
	return 1e6 * (now() - committed);
}

static int
ascending(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return (x > y) - (x < y);
}

static void
read_options(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "d:u:n:t:m:w:D")) != -1)
	{
		switch (option)
		{
			case 'd':
				conninfo = optarg;
				break;
			case 'u':
				url = optarg;
				break;
			case 'n':
				first = atoi(optarg);
				break;
			case 't':
				seconds = atof(optarg);
				break;
			case 'm':
				most = atol(optarg);
				break;
			case 'w':
				deadline = atof(optarg);
				break;
			case 'D':
				deletes = true;
				break;
			default:
				die("what?");
		}
	}
	if (conninfo == NULL || url == NULL || first == 0)
		die("conninfo, cache, first row?");
}

int
main(int argc, char **argv)
{
	double *samples, end;
	long n = 0;

	read_options(argc, argv);
	samples = malloc(most * sizeof(double));
	prctl(PR_SET_TIMERSLACK, 1000);
	cache = cache_open(url);
	db = PQconnectdb(conninfo);
	PQclear(PQprepare(db, "update", "UPDATE account SET n = n + 1 WHERE id = $1", 0, NULL));
	end = now() + seconds;
	for (; n < most && now() < end; n++)
	{
		samples[n] = sample(first + n % ROWS);
		pause_for(random() % 2000);
	}
	qsort(samples, n, sizeof(double), ascending);
	for (long i = 0; i < n; i++)
		printf("%.1f\n", samples[i]);
	return 0;
}
