/*
 * census.c: is there any database that has the extension?
 *
 * The worker runs for the whole server and knows no database. Where the library is loaded but the
 * extension is not created, or was dropped everywhere, it must leave nothing behind: no slot that
 * keeps the log, no key in Redis. It counts when it starts, when CREATE EXTENSION commits, and when
 * the log says that the extension, or a database, was dropped; that message reaches every standby.
 * A standby that stands idle counts again once a minute, because nobody wakes it, and when it is
 * promoted: then the first commit with keys does.
 *
 * Until the first count is in, a slot that is there stands for "yes": delivery begins at once.
 */
#include "worker.h"
#include "status.h"

#include "access/xlog.h"
#include "replication/slot.h"
#include "utils/timestamp.h"

#define RECOUNT_MS 60000

static bool asked = true;
static bool running;
static bool counted;             /* at least once */
static bool counted_in_recovery; /* the last time */
static bool installed;
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
due(void)
{
	uint32 now = pg_atomic_read_u32(&ca_shared->census_asked);

	if (now != asked_seen)
	{
		asked_seen = now;
		asked = true;
	}
	if (counted && !installed && counted_in_recovery &&
		(!RecoveryInProgress() ||
		 TimestampDifferenceExceeds(last_count, GetCurrentTimestamp(), RECOUNT_MS)))
		asked = true;
	return asked && !ca_resync_running();
}

void
ca_census_step(void)
{
	if (!running && due())
	{
		asked = false;
		running = true;
		found = 0;
		counted_in_recovery = RecoveryInProgress();
		ca_survey_begin(CA_SURVEY_CENSUS);
	}
	if (!running || !ca_survey_step(count_one))
		return;
	running = false;
	counted = true;
	installed = found > 0;
	last_count = GetCurrentTimestamp();
}
