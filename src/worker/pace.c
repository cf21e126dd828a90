/*
 * pace.c: pauses between rounds while commits come fast.
 *
 * A round costs the worker and Redis a good deal before the first key, each commit that finds the worker asleep on its
 * latch costs a system call, and sessions lose their place on a processor to both. So when more than one commit comes
 * each FAST_US, the worker pauses between two rounds and leaves its latch set: batches get larger.
 *
 * The pause does not depend on how busy the machine is. Shorter ones while processors were idle were tried, and cost a
 * single session, with a processor to spare, a third of its throughput: what sessions lose is time to wake up, and a
 * machine whose sessions wait for the disk is never quite busy. Figures in docs/internals/cost.md.
 *
 * Nobody who waits for a delivery is made to wait longer: then there is no pause, and one under way ends within SLICE. A
 * signal ends a slice at once, and what is asked by signals is answered in the next round; the postmaster's death is
 * found at the end. Redis's answers wait for it, too; its time-outs are longer by far.
 * Of the worker alone.
 */
#include "cache_aside.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "delivery/delivery.h"
#include "worker/worker.h"

#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define WINDOW 32000 /* us over which commits are counted */
#define FAST_US 400  /* one commit each so many us, or faster: pauses */
#define SLICE 1000   /* us after which a pause looks whether somebody waits */

int guc_batch_delay;

static bool
somebody_waits(void)
{
	return pg_atomic_read_u32(&ca_status_shared->waiters) > 0 || ca_sync_active();
}

/*
 * Do commits come so fast that there should be pauses? Judged by how many were read from the log in the
 * last window; half as many are enough to go on. Not by how many were delivered: those of a pause longer
 * than the window are read when it is over, and their answer comes after we have judged.
 */
bool
ca_pace_is_due(void)
{
	static TimestampTz window_start;
	static uint64 commits_before;
	static bool fast;
	TimestampTz now = GetCurrentTimestamp();
	int64 us = now - window_start;

	if (us >= WINDOW)
	{
		int64 enough = us / (fast ? 2 * FAST_US : FAST_US);

		fast = (int64) (ca_queue_commits() - commits_before) >= enough;
		window_start = now;
		commits_before = ca_queue_commits();
	}
	return fast && guc_batch_delay > 0 && !somebody_waits();
}

void
ca_pace_pause(uint32 wait_event)
{
	pgstat_report_wait_start(wait_event);
	for (long left = 1000L * guc_batch_delay; left > 0 && !somebody_waits(); left -= SLICE)
		pg_usleep(Min(left, SLICE));
	pgstat_report_wait_end();
	if (!PostmasterIsAlive())
		proc_exit(1);
}
