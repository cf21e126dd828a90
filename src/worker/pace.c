/*
 * pace.c: pauses between rounds while commits come fast, the shorter the more processors are idle.
 *
 * A round costs the worker and Redis a good deal before the first key, and each commit that finds the worker asleep on its
 * latch costs a system call. So when more than one commit comes each FAST_US, the worker pauses between two rounds
 * and leaves its latch set: batches get larger. For how long depends on who else needs the processors. While some
 * are idle, they are well used by delivering sooner; when none is, sessions pay for each round. Nothing that the
 * worker sees of its own work tells, for who sleeps a lot is scheduled at once on a busy machine, too. So the system is
 * asked for its idle time: each LOOK_US the pause grows by half when there was less than BUSY of it, and shrinks by a
 * third when there was more than IDLE, between SHORTEST and the setting. The rounds are part of what is seen, so it
 * settles where little is idle, or at the shortest.
 *
 * Where idle time cannot be read (it is Linux's /proc/stat; in a container, of the whole machine) the pause is the setting.
 *
 * Nobody who waits for a delivery is made to wait longer: then there is no pause, and one under way ends within SLICE. A
 * signal ends a slice at once, and what is asked by signals is answered in the next round; the postmaster's death is
 * found at the end. Redis's answers wait for it, too; its time-outs are longer by far.
 * Of the worker alone.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "delivery/delivery.h"
#include "worker/worker.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define WINDOW 32000   /* us over which commits are counted */
#define FAST_US 400    /* one commit each so many us, or faster: pauses */
#define SHORTEST 150   /* us */
#define SLICE 1000     /* us after which a pause looks whether somebody waits */
#define LOOK_US 200000 /* so long, for the system counts in hundredths of a second */
#define BUSY 0.05      /* of the time of all processors */
#define IDLE 0.10

typedef struct Processors
{
	TimestampTz at;
	uint64 idle; /* hundredths of a second, of all */
	uint64 total;
} Processors;

int guc_batch_delay;
static long pause_us; /* 0: not known yet */
static Processors seen;

static bool
somebody_waits(void)
{
	return pg_atomic_read_u32(&ca_status_shared->waiters) > 0 || ca_sync_active();
}

/*
 * Do commits come so fast that there should be pauses? Judged by how many were delivered in the
 * last window; half as many are enough to go on.
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

		fast = (int64) (ca_delivery_commits() - commits_before) >= enough;
		window_start = now;
		commits_before = ca_delivery_commits();
	}
	return fast && guc_batch_delay > 0 && !somebody_waits();
}

/* ---- how idle the machine is ---- */

/* The first line: "cpu  user nice system idle iowait irq softirq steal ...". Waiting for a disk is idle. */
static bool
parse(const char *line, Processors *now)
{
	unsigned long long spent[8] = {0};
	int n = sscanf(line, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &spent[0], &spent[1],
				   &spent[2], &spent[3], &spent[4], &spent[5], &spent[6], &spent[7]);

	now->total = 0;
	for (int i = 0; i < lengthof(spent); i++)
		now->total += spent[i];
	now->idle = spent[3] + spent[4];
	return n >= 5;
}

static bool
read_processors(Processors *now)
{
	char line[256];
	ssize_t n;
	int fd = BasicOpenFile("/proc/stat", O_RDONLY | PG_BINARY);

	if (fd < 0)
		return false;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return false;
	line[n] = '\0';
	return parse(line, now);
}

/* What lies far back tells nothing: there were no pauses meanwhile. */
static void
adjust(TimestampTz at)
{
	Processors now = {.at = at};

	if (!read_processors(&now))
		pause_us = LONG_MAX;
	else if (at - seen.at < 2 * LOOK_US && now.total > seen.total)
	{
		double idle = (double) (now.idle - seen.idle) / (double) (now.total - seen.total);

		if (idle < BUSY || CA_DEBUG_SKIP("idle"))
			pause_us += pause_us / 2;
		else if (idle > IDLE)
			pause_us -= pause_us / 3;
	}
	seen = now;
}

/* ---- pausing ---- */

void
ca_pace_pause(uint32 wait_event)
{
	TimestampTz now = GetCurrentTimestamp();
	long longest = 1000L * guc_batch_delay;

	if (pause_us == 0)
		pause_us = longest;
	if (now - seen.at >= LOOK_US || now < seen.at)
		adjust(now);
	pause_us = Min(Max(pause_us, SHORTEST), longest);
	pgstat_report_wait_start(wait_event);
	for (long left = pause_us; left > 0 && !somebody_waits(); left -= SLICE)
		pg_usleep(Min(left, SLICE));
	pgstat_report_wait_end();
	if (!PostmasterIsAlive())
		proc_exit(1);
}
