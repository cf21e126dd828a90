/*
 * run.c: any fate of three Redis under one run (run.c, round.c, catch_up.c, sinks.c, session.c).
 *
 * Input: one byte for each thing that may go wrong or be late: connections, claims, answers, the log, the
 * timeline. When there is none left all goes well. delivery.c here is what they ask of everything else.
 *
 * Holds: log is read only while all three are claimed, and every one is served then, with that tap and no
 * other; one that fails ends the run, with all connections of it, before anything that was read is forgotten,
 * and all of it is; what is published and told is true of all three; pings are refused when nobody is
 * connected; and in the end all of them run. Bites: `claimed &=` in connect_sinks() made `|=`; the loop of
 * end() left out, or ca_scan_forget() there; `tells &=` in tell() made `|=`; the comparison in
 * ca_sinks_position() or ca_sinks_oldest() turned round; the first loop of end_outage(), refuse_pings() or
 * owes() left out; advance() of one only.
 */
#include "fuzz.h"

#include "shared/status.h"
#include "shared/sync.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/redelete.h"
#include "delivery/run.h"
#include "delivery/sink.h"

#include "delivery.h"

#define SINKS 3
#define STEPS 40 /* after the input has ended */

struct CaRedis
{
	int sink;
	CaRedisState state;
};

struct CaTap
{
	XLogRecPtr read_end;
};

typedef struct World /* one Redis */
{
	CaRedis redis;
	bool open;
	bool claimed;
	bool running;
	bool failed;
	bool untold;
	bool owes;
	bool busy;  /* something is unanswered */
	int served; /* in this round */
	int beaten;
	TimestampTz oldest;
	CaHandshake handshake;
	CaPosition acked;
} World;

static FuzzInput *input;
static CaSink sinks[SINKS];
static CaRun run;
static World world[SINKS];
static struct CaTap the_tap;
static bool tap_open;
static bool forgotten[5]; /* queue, batch, patterns, resync, redelete; since the last run */
static TimeLineID timeline;
static bool queue_owes;
static bool outage;

/* Of n, one; never when the input has ended. */
static bool
bad(int n)
{
	return fuzz_byte(input) % n == n - 1;
}

static World *
of(CaSink *sink)
{
	return &world[sink - sinks];
}

static bool
any(Size flag)
{
	for (int i = 0; i < SINKS; i++)
		if (((bool *) &world[i])[flag])
			return true;
	return false;
}

#define ANY(flag) any(offsetof(World, flag))

static bool
are_claimed(void)
{
	for (int i = 0; i < SINKS; i++)
		if (!world[i].open || !world[i].claimed)
			return false;
	return true;
}

/* ---- redis ---- */

CaRedis *
ca_redis_open(MemoryContext cxt, const CaRedisAddress *address, const char *client_name)
{
	for (int i = 0; i < SINKS; i++)
		if (address == &sinks[i].session.address)
		{
			FUZZ_CHECK(!world[i].open);
			memset(&world[i], 0, sizeof(World));
			world[i].open = true;
			world[i].redis.sink = i;
			return &world[i].redis;
		}
	FUZZ_CHECK(false);
}

void
ca_redis_close(CaRedis *redis)
{
	if (redis == NULL)
		return;
	FUZZ_CHECK(world[redis->sink].open);
	world[redis->sink].open = world[redis->sink].claimed = false;
}

CaRedisState
ca_redis_advance(CaRedis *redis)
{
	World *w = &world[redis->sink];

	FUZZ_CHECK(w->open);
	w->busy &= bad(3);
	if (redis->state == CA_REDIS_CONNECTING && !bad(4))
		redis->state = CA_REDIS_READY;
	if (bad(20))
		redis->state = CA_REDIS_FAILED;
	return redis->state;
}

CaRedisState
ca_redis_state(const CaRedis *redis)
{
	return redis->state;
}

/* ---- the session ---- */

void
ca_handshake_begin(CaSink *sink, CaRedis *redis)
{
	FUZZ_CHECK(redis == &of(sink)->redis && redis->state == CA_REDIS_READY);
}

CaHandshakeState
ca_handshake_step(CaSink *sink)
{
	if (bad(3))
		return CA_HANDSHAKE_WAITING;
	if (bad(10))
		return CA_HANDSHAKE_FENCED;
	if (bad(10))
		return CA_HANDSHAKE_OCCUPIED;
	of(sink)->claimed = true;
	return CA_HANDSHAKE_DONE;
}

CaHandshake *
ca_handshake_result(CaSink *sink)
{
	return &of(sink)->handshake;
}

int
ca_outage_begin(CaSink *sink, const char *reason)
{
	FUZZ_CHECK(!of(sink)->open && reason[0]);
	outage = true;
	return 50;
}

void
ca_outage_end(CaSink *sink)
{
	FUZZ_CHECK(tap_open && !ANY(busy));
	outage = false;
}

bool
ca_outage_lasts(void)
{
	return outage;
}

void
ca_ping_refuse(void)
{
	FUZZ_CHECK(!ANY(open));
}

/* ---- the log ---- */

TimeLineID
ca_wal_timeline(XLogRecPtr *end)
{
	*end = the_tap.read_end + (bad(2) ? 100 : 0);
	timeline += bad(200);
	return timeline;
}

void
ca_resume_choose(CaSink *sink, CaResume *resume, const CaHandshake *claimed, bool log_gone)
{
	FUZZ_CHECK(are_claimed());
	memset(resume, 0, sizeof(*resume));
	resume->fenced = bad(10);
	resume->reason = bad(3) ? "why" : NULL;
	resume->after_promotion = bad(3);
	resume->position.barrier = bad(3) ? 7 : 0;
}

CaTap *
ca_tap_open(MemoryContext cxt, XLogRecPtr restart, XLogRecPtr confirmed, TransactionId barrier)
{
	FUZZ_CHECK(!tap_open && are_claimed() && !ANY(running));
	for (int i = 0; i < lengthof(forgotten); i++)
	{
		FUZZ_CHECK(forgotten[i]);
		forgotten[i] = false;
	}
	tap_open = true;
	the_tap.read_end = 1000;
	return &the_tap;
}

void
ca_tap_close(CaTap *tap)
{
	FUZZ_CHECK((tap != NULL) == tap_open);
	FUZZ_CHECK(!ANY(running));
	tap_open = false;
}

CaTapResult
ca_tap_read(CaTap *tap, Size budget, CaCommitHandler handler, void *arg)
{
	FUZZ_CHECK(tap == &the_tap && tap_open);
	for (int i = 0; i < SINKS; i++)
		FUZZ_CHECK(world[i].running && !world[i].failed);
	tap->read_end += fuzz_byte(input);
	return bad(50) ? CA_TAP_GAP : bad(4) ? CA_TAP_RETRY : bad(4) ? CA_TAP_MORE : CA_TAP_END;
}

XLogRecPtr
ca_tap_read_end(const CaTap *tap)
{
	FUZZ_CHECK(tap == &the_tap && tap_open);
	return tap->read_end;
}

uint64
ca_tap_forgot(CaTap *tap)
{
	return bad(10) ? 9 : 0;
}

/* ---- delivery to one ---- */

static World *
running(CaSink *sink, const CaTap *tap)
{
	FUZZ_CHECK(tap == &the_tap && tap_open && of(sink)->running && of(sink)->open);
	return of(sink);
}

void
ca_delivery_start(CaSink *sink, CaRedis *redis, const CaPosition *position, const char *stored)
{
	FUZZ_CHECK(redis == &of(sink)->redis && tap_open && !of(sink)->running);
	of(sink)->running = true;
	of(sink)->acked = *position;
}

void
ca_ledger_reset(CaSink *sink)
{
	FUZZ_CHECK(!of(sink)->running || (tap_open && !forgotten[0]));
	of(sink)->running = of(sink)->failed = false;
	of(sink)->busy = false;
}

bool
ca_delivery_send(CaSink *sink, const CaTap *tap)
{
	World *w = running(sink, tap);

	w->served++;
	w->acked.confirmed = tap->read_end - fuzz_byte(input) % 3;
	w->oldest = fuzz_byte(input) % 4;
	w->untold = bad(5);
	w->owes = bad(5);
	w->failed = bad(30);
	w->busy |= bad(2);
	return w->busy;
}

bool
ca_delivery_full(CaSink *sink)
{
	return of(sink)->busy;
}

void
ca_delivery_heartbeat(CaSink *sink, const CaTap *tap, bool now)
{
	FUZZ_CHECK(running(sink, tap)->served > 0);
	of(sink)->beaten++;
}

void
ca_admission_raise_floor(CaSink *sink, const CaTap *tap, bool clear)
{
	(void) running(sink, tap);
}

const char *
ca_ledger_error(CaSink *sink)
{
	return of(sink)->failed ? "failed" : NULL;
}

bool
ca_ledger_idle(CaSink *sink)
{
	return !of(sink)->busy;
}

int
ca_ledger_in_flight(CaSink *sink)
{
	return of(sink)->busy;
}

TimestampTz
ca_ledger_oldest(CaSink *sink)
{
	return of(sink)->oldest;
}

const CaPosition *
ca_ledger_acked(CaSink *sink)
{
	return &of(sink)->acked;
}

void
ca_ledger_mark(CaSink *sink, CaPositionState state, uint64 barrier)
{
	of(sink)->acked.barrier = running(sink, &the_tap)->acked.barrier ? barrier : 0;
	of(sink)->acked.state = state;
}

void
ca_ledger_raise_barrier(CaSink *sink, uint64 barrier)
{
	running(sink, &the_tap)->acked.barrier = barrier;
}

uint64
ca_ledger_barrier(CaSink *sink)
{
	return of(sink)->acked.barrier;
}

bool
ca_delivery_tells(CaSink *sink)
{
	return !running(sink, &the_tap)->untold;
}

bool
ca_ledger_owes(CaSink *sink, const CaAwaited *awaited)
{
	return of(sink)->owes;
}

bool
ca_arming_untold(CaSink *sink)
{
	return of(sink)->untold;
}

bool
ca_contest_step(CaSink *sink)
{
	return bad(100);
}

/* ---- all together ---- */

bool
ca_sync_answer(XLogRecPtr read_end, CaOwes asked, void *arg)
{
	CaAwaited awaited = {0};

	FUZZ_CHECK(!ANY(untold));
	queue_owes = bad(2);
	FUZZ_CHECK(asked(arg, &awaited) == (queue_owes || ANY(owes)));
	return false;
}

bool
ca_queue_owes(dlist_head *list, const CaAwaited *awaited)
{
	return queue_owes;
}

void
ca_lag_publish(const CaLagRound *round)
{
	TimestampTz oldest = 0;

	for (int i = 0; i < SINKS; i++)
	{
		FUZZ_CHECK(round->position->confirmed <= world[i].acked.confirmed);
		if (world[i].oldest != 0 && (oldest == 0 || world[i].oldest < oldest))
			oldest = world[i].oldest;
		FUZZ_CHECK(world[i].served == 1 && world[i].beaten == 1);
	}
	FUZZ_CHECK(round->oldest == oldest);
	FUZZ_CHECK(round->untold == ANY(untold) && round->idle == !ANY(busy));
}

#define FORGETS(function, i)                                                                       \
	void function(void)                                                                            \
	{                                                                                              \
		FUZZ_CHECK(!ANY(running));                                                                 \
		forgotten[i] = true;                                                                       \
	}
FORGETS(ca_queue_reset, 0)
FORGETS(ca_batch_reset, 1)
FORGETS(ca_scan_forget, 2)
FORGETS(ca_resync_interrupted, 3)
FORGETS(ca_redelete_interrupted, 4)

/* ---- the story ---- */

static void
step(void)
{
	int open = 0;

	for (int i = 0; i < SINKS; i++)
		world[i].served = world[i].beaten = 0;
	fuzz_delivery_wait();
	(void) ca_run_step(&run);
	(void) ca_run_timeout(&run);
	for (int i = 0; i < SINKS; i++)
	{
		FUZZ_CHECK(world[i].running == ca_run_lasts(&run));
		open += world[i].open;
	}
	FUZZ_CHECK(tap_open == ca_run_lasts(&run));
	FUZZ_CHECK(open == SINKS || !tap_open);
}

static void
live(void *arg)
{
	input = arg;
	memset(sinks, 0, sizeof(sinks));
	memset(world, 0, sizeof(world));
	memset(&run, 0, sizeof(run));
	run.sinks = sinks;
	run.nsinks = SINKS;
	tap_open = outage = false;
	memset(forgotten, true, sizeof(forgotten)); /* nothing was read */
	timeline = 1;
	while (input->at < input->end)
		step();
	for (int i = 0; i < STEPS; i++)
		step();
	FUZZ_CHECK(ca_run_lasts(&run) && run.caught_up && !outage && !ANY(busy));
	ca_run_close(&run);
	FUZZ_CHECK(!tap_open && !ANY(open));
}

const FuzzTarget fuzz_target = {live, .raises = false};
