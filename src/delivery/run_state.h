/*
 * run_state.h: what a run of delivery is about: one reading of the log, and the sinks it goes to.
 *
 * run.c begins and ends it. Those below, to whom it is handed, know nothing of run.c.
 */
#ifndef CA_RUN_STATE_H
#define CA_RUN_STATE_H

#include "cache_aside.h"
#include "log/log.h"
#include "delivery/delivery.h"

typedef struct CaRun /* all zero, but for the sinks: none yet */
{
	CaSink *sinks; /* all there are */
	int nsinks;
	bool on; /* it goes on */
	MemoryContext cxt;
	CaTap *tap;
	TimeLineID timeline;     /* of the log that it reads */
	CaResume resume;         /* where it began */
	bool resync_due;         /* begins when caught up, and is not over */
	uint64 resync_ticket;    /* 0: none is awaited */
	bool log_gone;           /* survives the run that found it */
	bool caught_up;          /* read to the end that was current when it began */
	XLogRecPtr catch_up_to;  /* that end */
	XLogRecPtr caught_up_to; /* how far we had read then, to the end of a record */
	XLogRecPtr looked_at;    /* end of what was read at the last look for what is visible */
	bool behind;             /* the queue had no room to read on, in this round */
	XLogRecPtr quiet_at;     /* end of what was read when asked last when to wake */
} CaRun;

#define CA_EACH_SINK(sink, run)                                                                    \
	for (CaSink *sink = (run)->sinks; sink < (run)->sinks + (run)->nsinks; sink++)

/* ---- round.c: once around ---- */
extern bool ca_round_read(CaRun *run);
extern bool ca_round_deliver(CaRun *run);
extern void ca_round_beat(CaRun *run, bool now);

/* ---- outage.c ---- */
/* No Redis was named: do not connect. */
extern bool ca_outage_misconfigured(CaRun *run, CaTroubleArea area);

/* ---- catch_up.c: until nothing of before is in doubt ---- */
extern void ca_catch_up_reached(CaRun *run); /* what was in the log when it began is read */
extern void ca_catch_up_resync(CaRun *run, TransactionId oldest_running); /* if one is due */
extern void ca_catch_up_progress(CaRun *run, TransactionId oldest_running);

/* ---- sinks.c: all together ---- */
extern bool ca_sinks_idle(CaRun *run);   /* everything that was read is delivered */
extern bool ca_sinks_told(CaRun *run);   /* of what was deleted by a scan, who wants to know */
extern bool ca_sinks_untold(CaRun *run); /* nobody may be told yet of what is */
extern TimestampTz ca_sinks_oldest(CaRun *run); /* commit time of what is not; 0: there is none */
extern const CaPosition *ca_sinks_position(CaRun *run); /* the lowest that was acknowledged */
extern uint64 ca_sinks_barrier(CaRun *run);             /* as the next position has it */
extern void ca_sinks_mark(CaRun *run, CaPositionState state, uint64 barrier);

#endif
