/*
 * outage.c: Redis cannot be delivered to: since when, how long until the next attempt, who is told.
 *
 * An outage begins with the first failed session and ends when keys were acknowledged again, or none
 * are left; session.c says so. What the log and status say of it is in trouble.c. Meanwhile synchronous
 * committers do not wait.
 *
 * A server that was told of no Redis is in an outage without attempts, until a reload names one.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "shared/trouble.h"
#include "delivery/delivery.h"
#include "delivery/run_state.h"
#include "delivery/sink.h"

#include "common/pg_prng.h"

#define BACKOFF_FIRST 50 /* ms */
#define BACKOFF_LAST 5000
#define BACKOFF_PLACE 100 /* a place among maxclients is free for moments only */

static char told[320]; /* why there is no Redis at all: of the settings */

/* Between half and the whole of it, so that many servers do not come back in step. */
static int
jittered(int ms)
{
	return ms / 2 + (int) (pg_prng_double(&pg_global_prng_state) * (ms / 2));
}

/* A session failed. Returns ms until the next attempt. */
int
ca_outage_begin(CaSink *sink, const char *reason)
{
	CaTrouble cause = ca_trouble_judge(reason);

	ca_endpoint_state(&sink->endpoint, ca_trouble_is_answer(cause) ? "refuses" : "unreachable");
	ca_status_state("waiting");
	ca_endpoint_error(&sink->endpoint, reason);
	ca_trouble_begin_at(CA_AREA_DELIVERY, cause, reason, sink->endpoint.name);
	ca_sync_outage();
	sink->outage.backoff =
		sink->outage.backoff == 0 ? BACKOFF_FIRST : Min(sink->outage.backoff * 2, BACKOFF_LAST);
	if (cause == CA_TROUBLE_MAXCLIENTS)
		sink->outage.backoff = BACKOFF_PLACE;
	return jittered(sink->outage.backoff);
}

/* Another server delivers here by now. */
void
ca_outage_fenced(CaSink *sink)
{
	const char *why = "Redis follows a newer timeline than this server's";

	ca_endpoint_state(&sink->endpoint, "not connected");
	ca_endpoint_error(&sink->endpoint, why);
	ca_status_state("fenced");
	ca_trouble_begin_at(CA_AREA_DELIVERY, CA_TROUBLE_FENCED, why, sink->endpoint.name);
	ca_sync_outage();
}

/* Another one does, and this one may not take over. */
void
ca_outage_refused(CaSink *sink, const char *why)
{
	ca_endpoint_state(&sink->endpoint, "not connected");
	ca_endpoint_error(&sink->endpoint, why);
	ca_status_state("refused");
	ca_trouble_begin_at(CA_AREA_DELIVERY, CA_TROUBLE_REFUSED, why, sink->endpoint.name);
	ca_sync_outage();
}

bool
ca_outage_lasts(void)
{
	return ca_trouble_of(CA_AREA_DELIVERY) != CA_TROUBLE_NONE;
}

/* Delivery goes on. */
void
ca_outage_end(CaSink *sink)
{
	sink->outage.backoff = 0;
	if (!ca_outage_lasts())
		return;
	ca_trouble_over(CA_AREA_DELIVERY);
	ca_sync_available();
}

/* Asked in each round by those who would connect. True: there is no Redis, and it was said. */
bool
ca_outage_misconfigured(CaRun *run, CaTroubleArea area)
{
	const char *problem = ca_redis_url_lacking();
	bool known = ca_trouble_of(area) == CA_TROUBLE_MISCONFIGURED;

	CA_EACH_SINK (sink, run)
		if (problem)
			ca_endpoint_state(&sink->endpoint, "misconfigured");
	if (problem && (!known || strcmp(problem, told) != 0))
	{
		strlcpy(told, problem, sizeof(told));
		CA_EACH_SINK (sink, run)
			ca_endpoint_name(&sink->endpoint, "");
		ca_trouble_begin(area, CA_TROUBLE_MISCONFIGURED, problem);
	}
	else if (problem == NULL && known)
		ca_trouble_over(area);
	return problem != NULL;
}
