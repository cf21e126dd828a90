/*
 * allowance.c: how many backends may be connected to Redis at once, and for how long idle.
 *
 * Redis admits `maxclients` clients, and the one that must get in is the worker. So backends take a place
 * before they connect, of max_backend_connections of the whole server, and give it back when they let go:
 * when a connection breaks or is closed, when a transaction ends that lost one by an error, and when the
 * process ends, however it does (a process that dies without its exit callbacks takes the shared memory
 * with it, and the count begins anew).
 *
 * Places are shared. A backend that finds none leaves a wish and waits, at most connect_timeout. A backend that has had a
 * place for SLICE_MS, and has finished with Redis for now, looks for a wish, then and whenever its clock ticks; if it sees one
 * it closes its connection, strikes the wish out, and queues behind those who wait. While Redis refuses the worker because it
 * has too many clients, everybody who is idle lets go and nobody connects: what becomes free is the worker's.
 *
 * The clock is a time-out that ticks only while the connection is idle, so that the signal handler finds
 * it in no one's hands: whoever uses it stops the clock first. The handler shuts the socket down, which
 * ends the connection for Redis, and gives the place back; closing the rest is left to the next use.
 *
 * Shared state: `used` by compare-and-swap, never above the bound in force; `wished_until` a time, which
 * anybody may overwrite: a wish that is lost is made again after 10 ms.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/shared.h"
#include "shared/status.h"
#include "shared/trouble.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define TICK_MS 500
#define TURN_MS 10 /* between two looks for a free place */
#define WISH_MS 100
#define SLICE_MS 100

int guc_max_backend_connections;
int guc_backend_idle_timeout; /* ms; 0: never */

typedef struct Allowance
{
	pg_atomic_uint32 used;
	pg_atomic_uint64 wished_until; /* TimestampTz; 0: no wish */
} Allowance;

static Allowance *allowance; /* NULL without preload: no bound, but the clock */
static volatile sig_atomic_t taken;
static TimestampTz taken_at;
static bool made_room; /* for somebody who waits: let him be first */
static CaRedis *idle;  /* what the clock watches */
static TimestampTz idle_since;
static TimeoutId clock_id;
static bool has_clock;

static Size
shmem_size(void)
{
	return MAXALIGN(sizeof(Allowance));
}

void
ca_allowance_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
}

void
ca_allowance_shmem_init(void)
{
	bool found;

	allowance = ShmemInitStruct("cache_aside allowance", shmem_size(), &found);
	if (found)
		return;
	pg_atomic_init_u32(&allowance->used, 0);
	pg_atomic_init_u64(&allowance->wished_until, 0);
}

uint32
ca_allowance_used(void)
{
	return allowance ? pg_atomic_read_u32(&allowance->used) : 0;
}

/* ---- places ---- */

static bool
worker_lacks_one(void)
{
	return ca_status_shared != NULL &&
		   pg_atomic_read_u32(&ca_status_shared->trouble) == CA_TROUBLE_MAXCLIENTS;
}

/* Somebody waits for a place, and this process has had its own for long enough. */
static bool
is_wished(void)
{
	uint64 until;
	TimestampTz now;

	if (allowance == NULL)
		return false;
	if (worker_lacks_one())
		return true;
	if (ca_allowance_used() > (uint32) guc_max_backend_connections)
		return true; /* it was lowered */
	if ((until = pg_atomic_read_u64(&allowance->wished_until)) == 0)
		return false;
	now = GetCurrentTimestamp();
	return (TimestampTz) until > now && TimestampDifferenceExceeds(taken_at, now, SLICE_MS);
}

void
ca_allowance_give_back(void)
{
	if (!taken)
		return;
	taken = false;
	if (allowance == NULL)
		return;
	pg_atomic_fetch_sub_u32(&allowance->used, 1);
	pg_atomic_write_u64(&allowance->wished_until, 0);
}

static void
give_back_at_exit(int code, Datum arg)
{
	ca_allowance_stop_clock();
	ca_allowance_give_back();
}

static bool
take_free(void)
{
	uint32 used = allowance ? pg_atomic_read_u32(&allowance->used) : 0;

	if (allowance == NULL)
		return true;
	while (used < (uint32) guc_max_backend_connections)
		if (pg_atomic_compare_exchange_u32(&allowance->used, &used, used + 1))
			return true;
	return false;
}

/* Not before_shmem_exit: PG_ENSURE_ERROR_CLEANUP wants to take its own off that list again. */
static void
begin_exit_callback(void)
{
	static bool registered;

	if (!registered)
		on_shmem_exit(give_back_at_exit, (Datum) 0);
	registered = true;
}

static void
wait_turn(int ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

const char *
ca_allowance_take(void)
{
	static char reason[96];
	TimestampTz start = GetCurrentTimestamp();

	if (taken)
		return NULL;
	begin_exit_callback();
	if (made_room)
	{
		made_room = false;
		wait_turn(2 * TURN_MS);
	}
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (worker_lacks_one())
			return "Redis has its max number of clients, and the worker goes first";
		if (take_free())
			break;
		if (TimestampDifferenceExceeds(start, now, guc_connect_timeout))
		{
			snprintf(reason, sizeof(reason),
					 "all %d connections of cache_aside.max_backend_connections are in use",
					 guc_max_backend_connections);
			return reason;
		}
		pg_atomic_write_u64(&allowance->wished_until,
							(uint64) TimestampTzPlusMilliseconds(now, WISH_MS));
		wait_turn(TURN_MS);
	}
	taken_at = GetCurrentTimestamp();
	taken = true;
	return NULL;
}

/* ---- idleness ---- */

static void
set_clock(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int period = TICK_MS;

	if (TimestampDifferenceExceeds(idle_since, now, 10000))
		period = 2 * TICK_MS; /* it is not used much: wake the backend less often */
	if (guc_backend_idle_timeout > 0)
		period = Min(period, guc_backend_idle_timeout);
	enable_timeout_after(clock_id, period);
}

/* In a signal handler, while nobody uses the connection. */
static void
tick(void)
{
	bool over =
		guc_backend_idle_timeout > 0 &&
		TimestampDifferenceExceeds(idle_since, GetCurrentTimestamp(), guc_backend_idle_timeout);

	if (!taken || idle == NULL)
		return;
	if (!over && !is_wished())
	{
		set_clock();
		return;
	}
	ca_redis_hang_up(idle);
	ca_allowance_give_back();
}

void
ca_allowance_stop_clock(void)
{
	idle = NULL;
	if (has_clock)
		disable_timeout(clock_id, false);
}

bool
ca_allowance_keep(CaRedis *redis)
{
	if (taken && idle == redis && get_timeout_active(clock_id))
		return true; /* nobody has used it since */
	if (!taken)
		return false;
	if (is_wished())
	{
		made_room = true;
		return false;
	}
	if (!has_clock)
		clock_id = RegisterTimeout(USER_TIMEOUT, tick);
	has_clock = true;
	idle = redis;
	idle_since = GetCurrentTimestamp();
	set_clock();
	return true;
}
