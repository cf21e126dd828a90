/*
 * lost_sticks.c: what is left in Redis in the place of sticks that it forgot; sticks that it has no place for.
 *
 * Input: whether Redis had a position when the session began. Output: the LSN of a stick without a name, which the session's
 * first batch writes; stick.c says what it means for whoever looks for a stick. Of the worker alone.
 *
 * A stick whose name something else has (WRONGTYPE) can never be written, and is the only thing in a batch that
 * can fail so: UNLINK takes a key of any type and of any length that a rule can make. It is counted, said once, and
 * skipped. Every other error, also one about a single key (NOPERM), may be over in a moment: it stops the position.
 */
#include "cache_aside.h"
#include "shared/status.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

/*
 * A session begins; `absent`: Redis holds no position. Sticks may have been lost unless none can have
 * been left: neither by this process nor, as far as anybody knows, by one before. `end`: of the log;
 * whatever was delivered ends at or before it.
 */
void
ca_lost_sticks_begin(CaSink *sink, bool absent, XLogRecPtr end)
{
	sink->sticks.forgotten =
		absent && (sink->sticks.began || ca_arming_other(sink) || !ca_apply_guarded(sink))
			? end
			: InvalidXLogRecPtr;
	sink->sticks.began = true;
}

/* Until what was in the log when the session began is delivered, Redis may lack sticks of before. */
void
ca_lost_sticks_settle(bool delivered)
{
	if (delivered)
		ca_status_put_settled(true);
}

void
ca_lost_sticks_unsettle(void)
{
	ca_status_put_settled(false);
}

/* For the first batch of that session, which writes the position. */
XLogRecPtr
ca_lost_sticks_forgotten(CaSink *sink, uint32 *ttl)
{
	XLogRecPtr lsn = sink->sticks.forgotten;

	sink->sticks.forgotten = InvalidXLogRecPtr;
	*ttl = (uint32) CA_LONGEST_STICK;
	return lsn;
}

void
ca_lost_sticks_skipped(CaSink *sink, int64 count)
{
	if (count == 0)
		return;
	ca_status_count(CA_COUNT_SKIPPED, count);
	if (!sink->sticks.told_skipped)
		ereport(
			LOG,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cache_aside cannot leave a stick in Redis at %s, and does without",
					sink->endpoint.name),
			 errdetail("Something that is no text has its name. Further ones are only counted, in "
					   "\"skipped\" of cache_aside.status."),
			 errhint("Delete what begins with \"%s\" and is no string: who asks for that stick "
					 "gets an error.",
					 CA_STICK_PREFIX)));
	sink->sticks.told_skipped = true;
}
