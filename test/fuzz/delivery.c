/*
 * delivery.c: what a run of delivery asks of everything that the target does not play itself: nothing is there to
 * wait for, nothing goes wrong, and time passes.
 */
#include "fuzz.h"

#include "shared/status.h"
#include "shared/sync.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/disarm.h"
#include "delivery/redelete.h"
#include "delivery/sink.h"
#include "delivery/watch.h"

#include "utils/timestamp.h"

#include "delivery.h"

CaStatus ca_status_now;
static CaShared shared_state;
CaShared *ca_status_shared = &shared_state;

static dlist_head queue = DLIST_STATIC_INIT(queue);
static TimestampTz now = 1000000;

void
fuzz_delivery_wait(void)
{
	now += USECS_PER_SEC;
}

TimestampTz
GetCurrentTimestamp(void)
{
	return now;
}

long
TimestampDifferenceMilliseconds(TimestampTz start_time, TimestampTz stop_time)
{
	return stop_time <= start_time ? 0 : (long) ((stop_time - start_time) / 1000);
}

dlist_head *
ca_queue_list(void)
{
	return &queue;
}

bool
ca_apply_guarded(CaSink *sink)
{
	return true;
}

long
ca_arming_timeout(CaSink *sink)
{
	return -1;
}

bool
ca_breaker_begin(const CaPosition *place, uint64 sequence)
{
	return false;
}

void
ca_breaker_end(void)
{
}

void
ca_breaker_gap(void)
{
}

void
ca_breaker_progress(const CaPosition *acked, bool delivered, bool due)
{
}

bool
ca_census_running(void)
{
	return false;
}

bool
ca_contest_second(CaSink *sink)
{
	return false;
}

const char *
ca_credential_command_error(void)
{
	return "failed";
}

CaCredentialState
ca_credential_command_ready(void)
{
	return 0;
}

void
ca_admission_arm(CaSink *sink, XLogRecPtr caught_up_to, XLogRecPtr read_end)
{
}

void
ca_ledger_cover(CaSink *sink, const CaKeyspace *keyspace)
{
}

void
ca_admission_renew(CaSink *sink, XLogRecPtr read_end)
{
}

void
ca_handshake_drop_nonsense(CaSink *sink)
{
}

const char *
ca_handshake_error(CaSink *sink)
{
	return "failed";
}

bool
ca_lag_look(void)
{
	return false;
}

void
ca_lag_note(TimestampTz oldest, bool caught_up)
{
}

void
ca_lost_sticks_begin(CaSink *sink, bool absent, XLogRecPtr end)
{
}

void
ca_open_at_start_begin(const CaPosition *position)
{
}

bool
ca_open_at_start_passed(uint64 barrier, XLogRecPtr read_end, TransactionId oldest_running,
						bool *resync)
{
	return true;
}

void
ca_open_at_start_raised(void)
{
}

void
ca_open_at_start_resync_begins(uint64 barrier, TransactionId oldest_running)
{
}

void
ca_outage_fenced(CaSink *sink)
{
}

void
ca_outage_refused(CaSink *sink, const char *why)
{
}

void
ca_ping_send(CaSink *sink, CaRedis *redis)
{
}

void
ca_prepared_look(bool any)
{
}

void
ca_queue_add(void *unused, CaCommit *commit)
{
}

bool
ca_queue_full(void)
{
	return false;
}

XLogRecPtr
ca_queue_look(XLogRecPtr read_end, TimeLineID timeline, TransactionId *oldest_running)
{
	return read_end;
}

bool
ca_queue_waits(void)
{
	return false;
}

void
ca_redelete_step(CaSink *sink, CaRedis *redis)
{
}

long
ca_redelete_timeout(CaSink *sink)
{
	return -1;
}

char *
ca_redis_address_endpoint(const CaRedisAddress *address)
{
	return pstrdup("here");
}

void
ca_redis_address_of_settings(CaRedisAddress *address)
{
}

const char *
ca_redis_error(const CaRedis *redis)
{
	return "failed";
}

void
ca_redis_login_again(CaRedis *redis)
{
}

long
ca_redis_timeout(const CaRedis *redis)
{
	return -1;
}

void
ca_resume_remember(CaSink *sink, const CaHandshake *claimed, const CaPosition *position)
{
}

void
ca_resume_skip(CaResume *resume)
{
}

CaPositionState
ca_resume_state(const CaResume *resume)
{
	return 0;
}

bool
ca_resume_verified(CaResume *resume, bool *log_gone)
{
	return true;
}

bool
ca_events_full(CaSink *sink)
{
	return false;
}

void
ca_events_note(CaSink *sink, char kind, const char *data, Size len)
{
	FUZZ_CHECK(kind == CA_ENTRY_RESYNC && len == 0);
}

void
ca_events_note_pattern(void *sink, const char *pattern, Size len)
{
}

void
ca_events_session_ended(CaSink *sink)
{
}

long
ca_events_timeout(CaSink *sink)
{
	return -1;
}

bool
ca_events_unsent(CaSink *sink)
{
	return false;
}

bool
ca_resync_ended(void)
{
	return true;
}

uint64
ca_resync_done(void)
{
	return 1; /* it takes no time */
}

uint64
ca_resync_request(CaVisitScope scope, const char *reason)
{
	return 1;
}

bool
ca_resync_running(void)
{
	return false;
}

void
ca_resync_step(void)
{
}

bool
ca_scan_begins(CaScan *scan)
{
	return true;
}

const char *
ca_scan_error(CaScan *scan)
{
	return NULL;
}

void
ca_scan_reset(CaScan *scan)
{
}

void
ca_scan_step(CaScan *scan, CaRedis *redis)
{
}

long
ca_scan_timeout(CaScan *scan)
{
	return -1;
}

void
ca_status_state(const char *state)
{
}

void
ca_sync_available(void)
{
}

bool
ca_tap_clean_switch(const CaTap *tap)
{
	return true;
}

void
ca_tap_lift_barrier(CaTap *tap)
{
}

bool
ca_wal_ends_before(XLogRecPtr lsn)
{
	return false;
}

void
ca_replicas_step(CaSink *sink, CaRedis *redis, bool unanswered, XLogRecPtr confirmed)
{
}

long
ca_replicas_timeout(CaSink *sink)
{
	return -1;
}

/* ---- no Sentinels: where Redis is, is known ---- */

CaWatchStep
ca_watch_find(CaWatch *watch, CaRedisAddress *address)
{
	return CA_WATCH_GOOD;
}

CaWatchStep
ca_watch_ask_role(CaWatch *watch, CaRedis *redis)
{
	return CA_WATCH_GOOD;
}

void
ca_watch_advance(CaWatch *watch, CaRedis *redis)
{
	(void) ca_redis_advance(redis);
}

bool
ca_watch_moved(const CaWatch *watch)
{
	return false;
}

const char *
ca_watch_problem(void)
{
	return "failed";
}

void
ca_disarm_begin(CaSink *sink, const CaRedisAddress *address)
{
}

bool
ca_ledger_began(CaSink *sink)
{
	return false;
}

bool
ca_scan_deleted(const CaScan *scan)
{
	return false;
}

void
ca_status_count(CaCount what, uint64 by)
{
}

void
ca_lost_sticks_unsettle(void)
{
}
