/*
 * resync.c: deleting everything the rules could have produced, because exact delivery became
 * impossible.
 *
 * A resync reads the rules of every database (visit_rules.c), then scans the keyspace for all their patterns in one pass
 * (scan.c). When a database cannot be asked now, what the others told is deleted meanwhile, and the resync ends when that one
 * has been asked, or is gone. With cache_aside.key_prefix set it asks no database and deletes what carries the prefix. It
 * runs in steps between normal deliveries. Requests that come while one runs are served together by the next one: a ticket
 * is done when a resync that began after it has ended.
 *
 * The session that begins a resync keeps the position marked as pending until it has ended, so that
 * dying in the middle begins it again. A session that ends forgets tickets: the commits that wait
 * for one, and the pending mark, are found again by the next session.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "shared/status.h"
#include "resync/resync.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

typedef enum Stage
{
	IDLE,
	SURVEYING,
	SCANNING
} Stage;

/* Of the server: the rules are read once for all sinks. */
static Stage stage = IDLE;
static bool wanted;
static CaVisitScope wanted_scope;
static bool of_all; /* the one under way */
static bool ended_of_all;
static uint64 begun;
static uint64 ended;
static uint64 scan_ticket;
static CaKeyspace known; /* prefixes that are not new */

uint64
ca_resync_request(CaVisitScope scope, const char *reason)
{
	if (wanted && scope != wanted_scope)
		scope = CA_VISIT_ALL;
	if (!wanted || scope != wanted_scope)
	{
		wanted_scope = scope;
		ereport(LOG, (errmsg(scope == CA_VISIT_ALL
								 ? "cache_aside deletes everything its rules could have cached: %s"
							 : scope == CA_VISIT_PREFIXES
								 ? "cache_aside deletes what is cached under new prefixes: %s"
								 : "cache_aside deletes what was cached from unlogged tables: %s",
							 reason)));
	}
	wanted = true;
	return begun + 1;
}

void
ca_resync_widen(const CaKeyspace *keyspace)
{
	known = *keyspace;
}

uint64
ca_resync_done(void)
{
	return ended;
}

bool
ca_resync_ended(void)
{
	bool was = ended_of_all;

	ended_of_all = false;
	return was;
}

bool
ca_resync_running(void)
{
	return wanted || stage != IDLE;
}

void
ca_resync_interrupted(void)
{
	if (stage == SURVEYING)
		ca_visit_rules_cancel();
	stage = IDLE;
	wanted = ended_of_all = false;
	ended = begun;
}

static void
want_pattern(const char *pattern, Size len)
{
	scan_ticket = Max(scan_ticket, ca_scan_request(pattern, len));
}

static void
look_at_prefix(void *all_prefixed, const char *pattern, Size len)
{
	if (len == 1) /* "*": no prefix */
		*(bool *) all_prefixed = false;
}

static void
want_prefix(void *unused, const char *pattern, Size len)
{
	want_pattern(pattern, len);
}

static void
want_new_prefixes(void)
{
	StringInfoData pattern;

	initStringInfo(&pattern);
	for (int i = 0; i < ca_prefix_count(); i++)
	{
		if (ca_keyspace_has(&known, ca_prefix_get(i)))
			continue;
		resetStringInfo(&pattern);
		ca_prefix_escape(&pattern, ca_prefix_get(i), strlen(ca_prefix_get(i)));
		appendStringInfoChar(&pattern, '*');
		want_pattern(pattern.data, pattern.len);
	}
	pfree(pattern.data);
}

/* The fast path: one pattern for each prefix; not when one of them is empty. */
static bool
want_prefixes(void)
{
	bool all_prefixed = true;

	if (wanted_scope == CA_VISIT_PREFIXES)
	{
		want_new_prefixes();
		return true;
	}
	if (wanted_scope != CA_VISIT_ALL)
		return false;
	ca_prefix_each(CA_ENTRY_PATTERN, "*", 1, NULL, look_at_prefix, &all_prefixed);
	if (all_prefixed)
		ca_prefix_each(CA_ENTRY_PATTERN, "*", 1, NULL, want_prefix, NULL);
	return all_prefixed;
}

static void
begin(void)
{
	CA_DEBUG_POINT("resync-begins");
	begun++;
	wanted = false;
	of_all = wanted_scope == CA_VISIT_ALL;
	scan_ticket = 0;
	ca_status_count(CA_COUNT_RESYNCS, 1);
	stage = SURVEYING;
	if (want_prefixes())
		stage = SCANNING;
	else
		ca_visit_rules_begin(wanted_scope);
}

void
ca_resync_step(void)
{
	if (stage == IDLE && wanted && ca_census_running() && ca_visit_rules_stuck())
		ca_census_yield();
	if (stage == IDLE && wanted && !ca_census_running())
		begin();
	if (stage == SURVEYING && ca_visit_rules_step(want_pattern))
		stage = SCANNING;
	if (stage == SCANNING && ca_scan_done() >= scan_ticket)
	{
		stage = IDLE;
		ended = begun;
		ended_of_all |= of_all;
	}
}
