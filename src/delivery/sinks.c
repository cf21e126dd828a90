/*
 * sinks.c: what is true of all sinks of a run together.
 */
#include "cache_aside.h"
#include "delivery/delivery.h"
#include "delivery/run_state.h"
#include "delivery/sink.h"

/* With everything that was read. */
bool
ca_sinks_idle(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		if (!ca_ledger_idle(sink))
			return false;
	return true;
}

/* Is every event sent that there is (events.c)? Of who may be told that keys are gone, see below. */
bool
ca_sinks_told(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		if (ca_events_unsent(sink))
			return false;
	return true;
}

/* May nobody be told yet of what is delivered? */
bool
ca_sinks_untold(CaRun *run)
{
	CA_EACH_SINK (sink, run)
		if (ca_arming_untold(sink))
			return true;
	return false;
}

/* Commit time of the oldest commit that is not delivered; 0: there is none. */
TimestampTz
ca_sinks_oldest(CaRun *run)
{
	TimestampTz oldest = 0;

	CA_EACH_SINK (sink, run)
	{
		TimestampTz time = ca_ledger_oldest(sink);

		if (oldest == 0 || (time != 0 && time < oldest))
			oldest = time;
	}
	return oldest;
}

/* The lowest that was acknowledged. */
const CaPosition *
ca_sinks_position(CaRun *run)
{
	const CaPosition *lowest = NULL;

	CA_EACH_SINK (sink, run)
	{
		const CaPosition *acked = ca_ledger_acked(sink);

		if (lowest == NULL || acked->confirmed < lowest->confirmed)
			lowest = acked;
	}
	return lowest;
}

/* Of the position as it is written next. */
uint64
ca_sinks_barrier(CaRun *run)
{
	uint64 highest = 0;

	CA_EACH_SINK (sink, run)
		highest = Max(highest, ca_ledger_barrier(sink));
	return highest;
}

void
ca_sinks_mark(CaRun *run, CaPositionState state, uint64 barrier)
{
	CA_EACH_SINK (sink, run)
		ca_ledger_mark(sink, state, barrier);
}
