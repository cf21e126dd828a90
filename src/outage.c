/*
 * outage.c: Redis cannot be delivered to: since when, how long until the next attempt, who is told.
 *
 * An outage begins with the first failed session and ends when keys were acknowledged again, or none
 * are left; session.c says so. One line in the server log for each end of it. Meanwhile synchronous
 * committers do not wait.
 *
 * A server that was told of no Redis is in an outage without attempts, until a reload names one.
 */
#include "worker.h"
#include "status.h"
#include "sync.h"

#include "common/pg_prng.h"

#define BACKOFF_FIRST 50 /* ms */
#define BACKOFF_LAST 5000

static int backoff;    /* ms; 0: no outage */
static char told[320]; /* why there is no Redis; empty: there is */

/* Between half and the whole of it, so that many servers do not come back in step. */
static int
jittered(int ms)
{
	return ms / 2 + (int) (pg_prng_double(&pg_global_prng_state) * (ms / 2));
}

/* A session failed. Returns ms until the next attempt. */
int
ca_outage_begin(const char *reason)
{
	ca_status_error(reason);
	ca_status_redis_state("unreachable");
	ca_status_state("waiting");
	ca_sync_outage();
	if (backoff == 0)
		ereport(LOG,
				(errmsg("cache_aside cannot deliver to Redis at %s: %s", ca_status_now.endpoint,
						reason),
				 errdetail("Commits go on; their keys stay in the log and are delivered later.")));
	backoff = backoff == 0 ? BACKOFF_FIRST : Min(backoff * 2, BACKOFF_LAST);
	return jittered(backoff);
}

bool
ca_outage_lasts(void)
{
	return backoff != 0;
}

/* Delivery goes on. */
void
ca_outage_end(void)
{
	if (backoff == 0)
		return;
	ereport(LOG, (errmsg("cache_aside delivers to Redis at %s again", ca_status_now.endpoint)));
	backoff = 0;
	ca_sync_available();
}

/* Asked in each round by those who would connect. True: there is no Redis, and it was said. */
bool
ca_outage_misconfigured(void)
{
	const char *problem = ca_redis_misconfigured();

	if (problem)
		ca_status_redis_state("misconfigured");
	if (problem && strcmp(problem, told) != 0)
	{
		strlcpy(told, problem, sizeof(told));
		ca_status_error(problem);
		ca_status_now.endpoint[0] = '\0';
		ereport(LOG,
				(errmsg("cache_aside has no Redis to deliver to: %s", problem),
				 errdetail("Commits go on; their keys stay in the log and are delivered later."),
				 errhint("%s", CA_REDIS_URL_HINT)));
	}
	else if (problem == NULL && told[0] != '\0')
	{
		told[0] = '\0';
		ereport(LOG, (errmsg("cache_aside connects to Redis at %s", ca_redis_endpoint())));
	}
	return problem != NULL;
}
