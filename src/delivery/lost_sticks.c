/*
 * lost_sticks.c: sticks that Redis forgot: what is left in their place.
 *
 * Input: whether the position was there when a session began. Output: the LSN of a stick without a name, for the
 * session's first batch. What it means for who looks for a stick is said in stick.c. Of the worker alone.
 */
#include "cache_aside.h"
#include "shared/status.h"
#include "delivery/delivery.h"

static XLogRecPtr forgotten; /* the next batch leaves a stick without a name; 0: it need not */

/*
 * A session begins; `absent`: Redis holds no position. Sticks may have been lost unless none can have
 * been left: neither by this process nor, as far as anybody knows, by one before. `end`: of the log;
 * whatever was delivered ends at or before it.
 */
void
ca_lost_sticks_begin(bool absent, XLogRecPtr end)
{
	static bool began;

	forgotten =
		absent && (began || ca_arming_untold() || !ca_apply_guarded()) ? end : InvalidXLogRecPtr;
	began = true;
}

/* Until what was in the log when the session began is delivered, Redis may lack sticks of before. */
void
ca_lost_sticks_settle(bool delivered)
{
	ca_status_now.settled |= delivered;
}

/* For the first batch of that session, which writes the position. */
XLogRecPtr
ca_lost_sticks_forgotten(uint32 *ttl)
{
	XLogRecPtr lsn = forgotten;

	forgotten = InvalidXLogRecPtr;
	*ttl = (uint32) CA_LONGEST_STICK;
	return lsn;
}
