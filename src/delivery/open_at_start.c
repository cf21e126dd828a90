/*
 * open_at_start.c: transactions that were open where reading began, without their messages.
 *
 * After a blind start, or beyond a fork, reading begins behind messages of transactions that may not
 * have ended: prepared ones, and those that logged at the very moment of the checkpoint. The position
 * carries the barrier, a full transaction id: everybody below may be one of them. Their commits, when
 * read, ask for a resync (tap.c), and no token is given out until all have ended.
 *
 * Prepared ones that are known to have no messages (prepared.c) count for nothing here.
 *
 * The barrier is passed when a snapshot shows none of them running and their ends were read, for the
 * snapshot is newer than what was read before it. One that had committed before reading began, but was
 * not visible yet (it waits for a synchronous standby), is in no part of the log that is read: what a
 * resync deletes before it is visible can come back. So if anybody was open when the resync began,
 * passing the barrier asks for another.
 *
 * The tap raises a barrier of its own when more transactions are open than it can remember: what it
 * forgot is as good as never read. It is in force with the round that read so far, and in each position
 * that is written from then on; a position from before leads back to where all that is read again.
 *
 * Dying in between: the barrier is in the position until it is passed, and the position says pending
 * until the last resync has ended.
 */
#include "cache_aside.h"
#include "log/log.h"
#include "delivery/delivery.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"

/* Of the run, which is one. */
static bool resync_early;     /* it began while some were open */
static XLogRecPtr ends_below; /* the ends of all lie below it; invalid: some are open */

/* A run begins with this position. */
void
ca_open_at_start_begin(const CaPosition *position)
{
	resync_early = position->barrier != 0;
	ends_below = InvalidXLogRecPtr;
}

/* The tap forgot what some have logged: the barrier was raised. */
void
ca_open_at_start_raised(void)
{
	ends_below = InvalidXLogRecPtr;
}

/* Has everybody ended, as a snapshot has it? */
static bool
all_ended(uint64 barrier, TransactionId oldest_running)
{
	TransactionId xid = XidFromFullTransactionId(FullTransactionIdFromU64(barrier));

	return TransactionIdIsNormal(oldest_running) && !TransactionIdPrecedes(oldest_running, xid);
}

/* A resync of everything begins, after a snapshot with this oldest running transaction. */
void
ca_open_at_start_resync_begins(uint64 barrier, TransactionId oldest_running)
{
	resync_early = barrier && !all_ended(barrier, oldest_running);
}

/* End of all that was written (standby: is being replayed): asynchronous commits are not flushed. */
static XLogRecPtr
written_end(void)
{
	return RecoveryInProgress() ? GetCurrentReplayRecPtr(NULL) : ca_wal_inserted();
}

/* `resync`: set to whether it asks for one. */
bool
ca_open_at_start_passed(uint64 barrier, XLogRecPtr read_end, TransactionId oldest_running,
						bool *resync)
{
	if (!barrier || !all_ended(barrier, oldest_running))
		return false;
	if (XLogRecPtrIsInvalid(ends_below))
		ends_below = written_end();
	if (read_end < ends_below)
		return false;
	*resync = resync_early;
	resync_early = false;
	return true;
}
