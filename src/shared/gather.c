/*
 * gather.c: how many synchronous committers are worth waking the worker for.
 *
 * A batch costs nearly the same for one commit as for eight. When synchronous commits come fast, the
 * worker says how many waiters it would like to see (enough), sleeps a millisecond at most, and then
 * delivers whatever came. A number that is not reached costs that millisecond, and then nothing for
 * GATHER_REST batches. A client alone never meets this.
 *
 * Who may be missed: nobody for longer than that sleep. The worker publishes `enough`, then looks at
 * the number of waiters; a waiter enters the queue, then looks at `enough`: one of them sees the
 * other. When the sleep is over `enough` is 1 again before the log is read: whoever saw the old number
 * had flushed his commit before.
 *
 * Shared: everything in CaGather. The counts are statistics: an error makes a batch smaller or
 * larger. `enough` is written by the worker alone.
 */
#include "cache_aside.h"
#include "shared/sync.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#define GATHER_US 500   /* about as long a batch waits for company */
#define GATHER_WINDOW 8 /* ms over which commits and committers are counted */
#define GATHER_REST 16  /* batches without gathering after one that was in vain */

static int rest; /* batches until the next gathering */

void
ca_gather_init(CaGather *gather)
{
	pg_atomic_init_u32(&gather->waiting, 0);
	pg_atomic_init_u32(&gather->enlisted, 0);
	pg_atomic_init_u32(&gather->enough, 1);
	pg_atomic_init_u32(&gather->window, 0);
	pg_atomic_init_u32(&gather->people, 0);
}

/* A waiter enters the queue; `window` is where it was counted last. Under the lock of the queue. */
void
ca_gather_enter(CaGather *gather, uint32 *window)
{
	uint32 now = pg_atomic_read_u32(&gather->window);

	if (*window != now)
	{
		*window = now;
		pg_atomic_fetch_add_u32(&gather->people, 1);
	}
	pg_atomic_fetch_add_u32(&gather->enlisted, 1);
	pg_atomic_fetch_add_u32(&gather->waiting, 1);
}

bool
ca_gather_active(CaGather *gather)
{
	pg_memory_barrier(); /* the caller's flush came before */
	return pg_atomic_read_u32(&gather->enough) > 1;
}

/* Are there enough, counting the one that has just entered? */
bool
ca_gather_complete(CaGather *gather)
{
	uint32 enough = pg_atomic_read_u32(&gather->enough);

	return enough > 1 && pg_atomic_read_u32(&gather->waiting) >= enough;
}

/* ---- worker ---- */

/* Of those who committed in the last window, how many come within GATHER_US? */
static uint32
expect_waiters(CaGather *gather)
{
	static TimestampTz start;
	static uint32 enlisted_before, expected;
	TimestampTz now = GetCurrentTimestamp();
	int64 us = now - start;

	if (us >= GATHER_WINDOW * 1000)
	{
		uint32 enlisted = pg_atomic_read_u32(&gather->enlisted);
		uint32 people = pg_atomic_exchange_u32(&gather->people, 0);

		expected = Min(people - people / 4, (enlisted - enlisted_before) * (uint64) GATHER_US / us);
		pg_atomic_fetch_add_u32(&gather->window, 1);
		enlisted_before = enlisted;
		start = now;
	}
	return expected;
}

/* True: sleep on the latch, for a millisecond at most, then call ca_gather_end. */
bool
ca_gather_begin(CaGather *gather)
{
	uint32 expected = expect_waiters(gather);

	if (expected < 2 || (rest > 0 && rest-- > 0))
		return false;
	ResetLatch(MyLatch); /* set by those who came before; what else it was for can wait as long */
	pg_atomic_write_u32(&gather->enough, expected);
	pg_memory_barrier();
	if (pg_atomic_read_u32(&gather->waiting) >= expected)
		SetLatch(MyLatch);
	return true;
}

void
ca_gather_end(CaGather *gather)
{
	if (!ca_gather_complete(gather))
		rest = GATHER_REST;
	pg_atomic_write_u32(&gather->enough, 1);
	pg_memory_barrier(); /* before the log is read */
}
