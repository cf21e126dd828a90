/*
 * census.c: is there any database that has the extension?
 *
 * The worker runs for the whole server and knows no database. Where the library is loaded but the
 * extension is not created, or was dropped everywhere, it must leave nothing behind: no slot that
 * keeps the log, no key in Redis. It counts when it starts, when CREATE EXTENSION commits, and when
 * the log says that the extension, or a database, was dropped; that message reaches every standby.
 * Whatever way an extension came here that nobody noticed: as long as none is known the worker counts
 * again once a minute, after a promotion, and when keys are committed.
 *
 * The first database that has it decides. That none has it is known only when every one was asked: as
 * long as one cannot be (visits.c), what was known stays known, and keys that were committed since the
 * last count are proof enough; they can only come from the extension's functions.
 *
 * Until the first count is in, a slot that is there stands for "yes": delivery begins at once.
 */
#include "cache_aside.h"
#include "shared/status.h"
#include "resync/resync.h"

#include "access/xlog.h"
#include "replication/slot.h"
#include "utils/timestamp.h"

#define RECOUNT_MS 60000
#define SHORTEST_MS 1000 /* between two counts because of keys */

static bool asked = true;
static bool running;
static bool counted;             /* at least once */
static bool counted_in_recovery; /* the last time */
static bool installed;
static bool by_proof; /* it is taken for installed without having been found */
static int found;
static uint32 asked_seen;
static TimestampTz last_count;

void
ca_census_ask(void)
{
	asked = true;
}

bool
ca_census_running(void)
{
	return running;
}

bool
ca_census_counted(void)
{
	return counted;
}

bool
ca_census_installed(void)
{
	if (!counted)
		return SearchNamedReplicationSlot("cache_aside", true) != NULL;
	return installed;
}

static void
count_one(const char *pattern, Size len)
{
	found++;
}

static bool
counts_for(long ms)
{
	return counted && !TimestampDifferenceExceeds(last_count, GetCurrentTimestamp(), ms);
}

static bool
due(bool resync)
{
	uint32 now = pg_atomic_read_u32(&ca_status_shared->census_asked);

	if (now != asked_seen)
	{
		asked_seen = now;
		asked = true;
	}
	if (counted && !installed && counted_in_recovery && !RecoveryInProgress())
		asked = true;
	if (pg_atomic_read_u32(&ca_status_shared->keys_logged) != 0 && !counts_for(SHORTEST_MS))
		asked = true;
	if (counted && (!installed || by_proof) && !counts_for(RECOUNT_MS))
		asked = true;
	return asked && !resync;
}

static void
conclude(bool yes, bool proven)
{
	ca_visit_rules_cancel();
	running = false;
	counted = true;
	installed = yes;
	by_proof = proven;
	last_count = GetCurrentTimestamp();
	(void) ca_status_take_keys();
	ca_status_put_installed(yes);
}

static void
begin(void)
{
	asked = false;
	running = true;
	found = 0;
	counted_in_recovery = RecoveryInProgress();
	ca_visit_rules_begin(CA_VISIT_CENSUS);
}

void
ca_census_step(bool resync)
{
	bool complete;

	if (!running && due(resync))
		begin();
	if (!running)
		return;
	complete = ca_visit_rules_step(count_one);
	if (complete || found > 0)
		conclude(found > 0, false);
	else if (ca_visit_rules_stuck() && ca_status_take_keys())
		conclude(true, true);
}

void
ca_census_yield(void)
{
	ca_visit_rules_cancel();
	running = false;
	asked = true;
}

/* Milliseconds until ca_census_step has something to do, besides visits; -1: events matter. */
long
ca_census_timeout(bool resync)
{
	bool keys = pg_atomic_read_u32(&ca_status_shared->keys_logged) != 0;

	return (asked || keys) && !running && !resync ? SHORTEST_MS : -1;
}
