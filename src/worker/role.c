/*
 * role.c: what this server is to do now: deliver, follow, or nothing.
 *
 * The answer follows from settings, recovery, the census and uninstall(), and is asked anew in each
 * round of the worker's loop: a reload, a promotion, CREATE and DROP EXTENSION take effect with the
 * next one. A duty that ends leaves nothing behind but what the next one needs: no connection, and,
 * where nothing will be delivered any more, no slot and no file.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "shared/trouble.h"
#include "shared/visitor.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/disarm.h"
#include "delivery/run.h"
#include "delivery/sink.h"
#include "delivery/watch.h"
#include "worker/worker.h"

#include "access/xlog.h"
#include "storage/latch.h"

#define IDLE_PAUSE 10000 /* ms, when there is nothing to do here */
#define STANDBY_PAUSE 10
#define STANDBY_QUIET_PAUSE 100 /* a second without any log: */
#define QUIET_LOOKS 100
#define STANDBY_IDLE_PAUSE 1000 /* ten seconds: */
#define IDLE_LOOKS 200

typedef enum Duty
{
	NONE_YET,
	DELIVER,
	MISCONFIGURED, /* would deliver, but was told of no Redis */
	FOLLOW,
	NOT_INSTALLED,
	UNINSTALLED,
	SWITCHED_OFF
} Duty;

static Duty duty = NONE_YET;
static CaSink sinks[1];
static CaRun the_run = {.sinks = sinks, .nsinks = lengthof(sinks)};
/* Of the server. */
static bool moves;        /* the settings name another Redis, or other keys */
static int looks_in_vain; /* at the log of a standby, which had nothing new */

void
ca_role_attach(void)
{
	CA_EACH_SINK (sink, &the_run)
	{
		ca_endpoint_attach(&sink->endpoint);
		ca_contest_attach(sink);
	}
}

static void
note_disconnected(void)
{
	CA_EACH_SINK (sink, &the_run)
		ca_endpoint_state(&sink->endpoint, "not connected");
}

static Duty
current_duty(void)
{
	if (pg_atomic_read_u32(&ca_status_shared->uninstalled))
		return UNINSTALLED;
	if (guc_delivery == CA_DELIVER_OFF)
		return SWITCHED_OFF;
	if (!ca_census_installed())
		return ca_census_counted() ? NOT_INSTALLED : NONE_YET; /* which leaves all as it is */
	if (guc_delivery == CA_DELIVER_PRIMARY && RecoveryInProgress())
		return FOLLOW;
	return ca_outage_misconfigured(&the_run, CA_AREA_DELIVERY) ? MISCONFIGURED : DELIVER;
}

static void
stop_following(void)
{
	ca_follow_close(&the_run);
	ca_follow_reconnect(&the_run);
}

/* Who is MISCONFIGURED keeps the log as in an outage; the other duties leave nothing behind. */
static void
leave_duty(Duty next)
{
	if (duty == FOLLOW)
		stop_following();
	else
		ca_run_close(&the_run);
	duty = next;
	if (next != DELIVER && next != FOLLOW)
		ca_watch_forget();
	if (next != DELIVER && next != MISCONFIGURED)
		ca_trouble_drop(CA_AREA_DELIVERY);
	if (next != DELIVER)
		ca_trouble_drop(CA_AREA_FILLS);
	if (next != DELIVER)
		ca_trouble_drop(CA_AREA_EVENTS);
	if (next != FOLLOW)
		ca_trouble_drop(CA_AREA_FOLLOWING);
	ca_breaker_duty(next == DELIVER || next == FOLLOW);
	if (next == MISCONFIGURED)
	{
		ca_status_state("misconfigured");
		ca_sync_switched_off();
	}
	if (next == NOT_INSTALLED || next == UNINSTALLED || next == SWITCHED_OFF)
	{
		ca_status_state(next == NOT_INSTALLED ? "not installed"
						: next == UNINSTALLED ? "uninstalled"
											  : "off");
		note_disconnected();
		ca_lag_forget();
		if (next != SWITCHED_OFF)
		{
			ca_slot_forget();
			ca_breaker_forget();
		}
		ca_sync_switched_off();
		ca_ping_refuse();
	}
}

/* What could not be removed is for whoever called uninstall(), or for the log. */
static void
tell_left(Duty next)
{
	char all[sizeof(ca_status_shared->left)] = "";

	CA_EACH_SINK (sink, &the_run)
	{
		const char *left = ca_farewell_left(sink);

		if (left[0] == '\0')
			continue;
		ereport(LOG, (errmsg("cache_aside leaves something behind in Redis: %s", left)));
		strlcat(all, all[0] ? "; " : "", sizeof(all));
		strlcat(all, left, sizeof(all));
	}
	if (next != UNINSTALLED)
		return;
	SpinLockAcquire(&ca_status_shared->mutex);
	strlcpy(ca_status_shared->left, all, sizeof(ca_status_shared->left));
	SpinLockRelease(&ca_status_shared->mutex);
	pg_atomic_write_u32(&ca_status_shared->parted, 1);
	ConditionVariableBroadcast(&ca_status_shared->progress);
}

/* Each Redis that we deliver to is told. True: it is over. */
static bool
has_said_farewell(bool remove)
{
	bool said = true;

	CA_EACH_SINK (sink, &the_run)
		said &=
			ca_farewell_said(sink, ca_run_lasts(&the_run) ? ca_session_redis(sink) : NULL, remove);
	return said;
}

static bool
says_farewell(void)
{
	CA_EACH_SINK (sink, &the_run)
		if (ca_farewell_lasts(sink))
			return true;
	return false;
}

static void
end_farewell(void)
{
	CA_EACH_SINK (sink, &the_run)
		ca_farewell_over(sink);
}

/* Delivery ends, or goes on elsewhere: Redis is told first. True: it is over. */
static bool
has_parted(Duty next)
{
	bool remove = next == NOT_INSTALLED || next == UNINSTALLED;

	if (duty == DELIVER)
	{
		if (!has_said_farewell(remove))
			return false;
		tell_left(next);
		ca_run_close(&the_run);
	}
	else if (next == UNINSTALLED && duty != UNINSTALLED)
	{
		(void) has_said_farewell(duty != FOLLOW); /* a standby left nothing there */
		tell_left(next);
	}
	end_farewell();
	if (moves)
		ca_watch_forget();
	moves = false;
	return true;
}

/* One step, never blocking. True: call again at once. */
bool
ca_role_step(void)
{
	Duty now = current_duty();

	ca_census_step(ca_resync_running());
	ca_credential_command_step(now == DELIVER || now == FOLLOW || now == SWITCHED_OFF);
	ca_watch_step();
	ca_disarm_step();
	if ((now != duty || moves || says_farewell()) && !has_parted(now))
		return false;
	if (now != duty)
		leave_duty(now);
	if (duty == DELIVER)
		return ca_run_step(&the_run);
	ca_ping_refuse();
	if (duty == MISCONFIGURED)
		return ca_lag_look();
	return duty == FOLLOW && ca_follow_step(&the_run);
}

/* Is there anything to do when keys were committed? */
bool
ca_role_wants_commits(void)
{
	switch (duty)
	{
		case SWITCHED_OFF:
		case UNINSTALLED:
			return false;
		case MISCONFIGURED:
			return ca_lag_watches();
		case DELIVER:
			return ca_run_lasts(&the_run) || ca_lag_watches();
		default: /* a standby that is promoted; one that does not know that it is needed */
			return true;
	}
}

void
ca_role_reconnect(void)
{
	if (duty == FOLLOW)
	{
		ca_watch_forget();
		ca_follow_reconnect(&the_run);
	}
	else
		moves = true;
}

/* A step raised: what it had begun is begun anew. */
void
ca_role_abandon(const char *what)
{
	if (ca_census_running())
		ca_census_yield();
	ca_watch_forget();
	ca_disarm_forget();
	if (duty == FOLLOW)
		ca_follow_close(&the_run);
	else
		ca_run_close(&the_run);
	if (duty != FOLLOW && duty != DELIVER)
		return;
	ca_trouble_begin(duty == FOLLOW ? CA_AREA_FOLLOWING : CA_AREA_DELIVERY, CA_TROUBLE_FAILING,
					 what);
	ca_status_state("failing");
	note_disconnected();
	ca_sync_outage();
}

CaRun *
ca_role_run(void)
{
	return &the_run;
}

static CaRedis *
connection(CaSink *sink)
{
	return duty == FOLLOW ? ca_followed_redis(sink) : ca_session_redis(sink);
}

/*
 * A standby that follows and has no log to read wakes for that alone, and reads then what Redis answered
 * before: it moves nothing but the log that is kept. Each answer would be a wake-up of its own.
 */
static bool
is_patient(void)
{
	if (duty != FOLLOW || looks_in_vain < IDLE_LOOKS)
		return false;
	CA_EACH_SINK (sink, &the_run)
	{
		const CaRedis *redis = connection(sink);

		if (redis && (ca_redis_state(redis) != CA_REDIS_READY ||
					  (ca_redis_events(redis) & WL_SOCKET_WRITEABLE) != 0))
			return false;
	}
	return true;
}

/* One that is not heard, for it is not known whether its Redis is the master, would be readable all the time. */
static bool
is_heard(CaSink *sink)
{
	return duty == FOLLOW || !ca_session_held(sink);
}

/* Those whose answers are waited for, but no more than so many. */
int
ca_role_connections(CaRedis **connections, int most)
{
	int n = ca_watch_connections(connections, most);

	if (is_patient())
		return n;
	CA_EACH_SINK (sink, &the_run)
		if (n < most && connection(sink) != NULL && is_heard(sink))
			connections[n++] = connection(sink);
	if (n < most && ca_disarm_connection() != NULL)
		connections[n++] = ca_disarm_connection();
	return n;
}

/* What is published stands in one Redis. */
CaRedis *
ca_role_redis(void)
{
	return connection(sinks);
}

/*
 * Nobody wakes us when log is replayed: look often while there is some. The first after ten seconds
 * without any is seen up to a second late.
 */
static long
standby_pause(void)
{
	static XLogRecPtr before;
	XLogRecPtr end;

	ca_wal_timeline(&end);
	looks_in_vain = end == before ? looks_in_vain + 1 : 0;
	before = end;
	if (looks_in_vain < QUIET_LOOKS)
		return STANDBY_PAUSE;
	return looks_in_vain < IDLE_LOOKS ? STANDBY_QUIET_PAUSE : STANDBY_IDLE_PAUSE;
}

static long
sooner(long a, long b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static long
duty_timeout(void)
{
	long timeout = ca_credential_command_timeout();
	long visit;

	if (duty == FOLLOW)
		return sooner(timeout, standby_pause());
	timeout = sooner(timeout, duty == DELIVER ? ca_run_timeout(&the_run) : IDLE_PAUSE);
	visit = ca_visits_timeout();
	if (visit < 0)
		visit = ca_census_timeout(ca_resync_running());
	timeout = sooner(timeout, visit);
	if (duty == DELIVER && RecoveryInProgress() && ca_run_lasts(&the_run))
		timeout = sooner(timeout, standby_pause());
	return timeout;
}

/* Milliseconds until ca_role_step has something to do; -1: only events matter. */
long
ca_role_timeout(void)
{
	return sooner(duty_timeout(), sooner(ca_watch_timeout(), ca_disarm_timeout()));
}
