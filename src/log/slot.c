/*
 * slot.c: the log that may be needed again.
 *
 * A physical replication slot keeps WAL from the restart LSN, and behind it what the last
 * redelivery_window wrote, so that a Redis that went back in time can be brought forward again. It
 * never keeps more than max_wal_retained: past that the slot moves on, and a session that needs what
 * is gone finds the gap when it reads.
 *
 * A slot that was invalidated or dropped is made anew, and the server log says so. Invalid is not only one
 * without a restart LSN: one that was idle for too long (18) has its own still, and keeps nothing. The new
 * one begins where log is needed, if that is still there: a checkpoint would take what lies before its
 * own. Not, if the old one had grown too large: the same would happen to the new one.
 *
 * The slot is acquired, moved and released within one call: whoever invalidates slots waits for a
 * holder. Without a slot (none free, wal_level = minimal) delivery goes on and says so once. Errors
 * of core's slot code end here.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "common/debug.h"
#include "shared/status.h"
#include "log/log.h"

#include <sys/stat.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#define SLOT_NAME "cache_aside"
#define SAMPLES 64

/* Restart LSNs of the last redelivery_window, oldest first; one process, no lock. */
static struct
{
	TimestampTz time;
	XLogRecPtr lsn;
} samples[SAMPLES];
static int nsamples;
static char last_complaint[128];

static void
sample(XLogRecPtr restart, TimestampTz now)
{
	if (nsamples > 0 && !TimestampDifferenceExceeds(samples[nsamples - 1].time, now,
													guc_redelivery_window * 1000 / (SAMPLES - 4)))
		return;
	if (nsamples == SAMPLES)
		memmove(samples, samples + 1, sizeof(samples[0]) * --nsamples);
	samples[nsamples].time = now;
	samples[nsamples++].lsn = restart;
}

/*
 * The oldest LSN to keep: the restart LSN of redelivery_window ago, within max_wal_retained. While
 * the restart LSN is unknown (no session since the worker began) the bound alone.
 */
static XLogRecPtr
keep_from(XLogRecPtr restart)
{
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr keep = restart;
	XLogRecPtr end;
	uint64 most = (uint64) guc_max_wal_retained * 1024 * 1024;

	if (!XLogRecPtrIsInvalid(restart))
	{
		sample(restart, now);
		while (nsamples > 1 &&
			   TimestampDifferenceExceeds(samples[1].time, now, guc_redelivery_window * 1000))
			memmove(samples, samples + 1, sizeof(samples[0]) * --nsamples);
		if (guc_redelivery_window > 0)
			keep = Min(keep, samples[0].lsn);
	}
	ca_wal_timeline(&end);
	if (end > most && keep < end - most)
		keep = end - most;
	return keep;
}

/* A segment that has the name of an older timeline counts as gone. */
static bool
segment_is_there(XLogSegNo segment)
{
	XLogRecPtr end;
	char path[MAXPGPATH];
	struct stat info;

	XLogFilePath(path, ca_wal_timeline(&end), segment, wal_segment_size);
	return stat(path, &info) == 0;
}

/* The first place between the two from which all log is there. */
static XLogRecPtr
first_kept(XLogRecPtr from, XLogRecPtr to)
{
	XLogSegNo first, segment;

	XLByteToSeg(from, first, wal_segment_size);
	XLByteToSeg(to, segment, wal_segment_size);
	while (segment > first && segment_is_there(segment - 1))
		segment--;
	return segment == first ? from : Min(to, segment * wal_segment_size);
}

/* Of the slot that we hold. Log that goes between the look and this leaves a gap, as it would have. */
static void
set_restart(XLogRecPtr lsn)
{
	SpinLockAcquire(&MyReplicationSlot->mutex);
	MyReplicationSlot->data.restart_lsn = lsn;
	SpinLockRelease(&MyReplicationSlot->mutex);
	ReplicationSlotMarkDirty();
	ReplicationSlotsComputeRequiredLSN();
}

/*
 * `from`: keep the log from there, if it can be had; invalid: from the last checkpoint. A checkpoint that is
 * under way has noted already which log slots need: it would remove what lies before its redo point all the
 * same, and invalidate the slot for it. So the slot begins at that point then. (One that ends just now is
 * taken for none: the slot is invalidated then, and made anew a second later.)
 */
static void
make_slot(XLogRecPtr from)
{
	XLogRecPtr reserved;
	uint64 xid;

	ca_check_slot_requirements();
	ca_create_physical_slot(SLOT_NAME);
	ReplicationSlotReserveWal();
	reserved = MyReplicationSlot->data.restart_lsn;
	if (!XLogRecPtrIsInvalid(from) && from < reserved && ca_wal_last_checkpoint(&xid) == reserved)
		set_restart(first_kept(from, reserved));
	ReplicationSlotMarkDirty();
	ReplicationSlotSave();
	ereport(LOG,
			(errmsg("cache_aside keeps the log it needs with replication slot \"%s\"", SLOT_NAME)));
}

static void
tell_lost(const char *how)
{
	ereport(LOG, (errmsg("replication slot \"%s\" %s; making it anew", SLOT_NAME, how),
				  errdetail("If log that had yet to be delivered was removed meanwhile, everything "
							"the rules could have cached is deleted instead.")));
}

/* Leaves the slot acquired. */
static void
acquire_slot(XLogRecPtr keep)
{
	static bool had; /* it is gone although nobody uninstalled anything */

	if (SearchNamedReplicationSlot(SLOT_NAME, true) == NULL)
	{
		if (had)
			tell_lost("was dropped");
		had = false; /* told once, however often making it fails */
		make_slot(keep);
	}
	else
		ca_acquire_slot(SLOT_NAME);
	if (SlotIsLogical(MyReplicationSlot))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("replication slot \"%s\" is somebody's logical slot", SLOT_NAME)));
	had = true;
	if (!ca_slot_is_invalid(MyReplicationSlot))
		return;
	tell_lost("was invalidated");
	if (XLogRecPtrIsInvalid(MyReplicationSlot->data.restart_lsn))
		keep = InvalidXLogRecPtr; /* it had grown too large */
	ReplicationSlotRelease();
	ReplicationSlotDrop(SLOT_NAME, true);
	make_slot(keep);
}

static void
move_slot(XLogRecPtr keep)
{
	XLogRecPtr now;

	acquire_slot(keep);
	CA_DEBUG_POINT("slot-moves");
	if (MyReplicationSlot->data.restart_lsn < keep)
		set_restart(keep);
	now = MyReplicationSlot->data.restart_lsn;
	ReplicationSlotRelease();
	ca_status_put_slot(now);
	last_complaint[0] = '\0';
}

/* One line for each new reason, not one a second. */
static void
complain(const char *reason)
{
	ca_status_put_slot(InvalidXLogRecPtr);
	if (strncmp(last_complaint, reason, sizeof(last_complaint) - 1) == 0)
		return;
	strlcpy(last_complaint, reason, sizeof(last_complaint));
	ereport(LOG,
			(errmsg("cache_aside runs without its replication slot: %s", reason),
			 errdetail("If the log it needs is removed before it was delivered, everything the "
					   "rules could have cached is deleted instead.")));
}

/* Runs core's slot code; what it raises ends here. */
static void
guarded(void (*action)(XLogRecPtr), XLogRecPtr lsn)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		action(lsn);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		LWLockReleaseAll();
		ConditionVariableCancelSleep();
		if (MyReplicationSlot)
			ReplicationSlotRelease();
		complain(error->message);
		FreeErrorData(error);
	}
	PG_END_TRY();
}

/* `restart` invalid: not known yet; a slot that is there is still kept within its bound. */
void
ca_slot_keep(XLogRecPtr restart)
{
	if (XLogRecPtrIsInvalid(restart) && SearchNamedReplicationSlot(SLOT_NAME, true) == NULL)
		return;
	guarded(move_slot, keep_from(restart));
}

static void
drop_slot(XLogRecPtr unused)
{
	if (SearchNamedReplicationSlot(SLOT_NAME, true) != NULL)
		ReplicationSlotDrop(SLOT_NAME, true);
	ca_status_put_slot(InvalidXLogRecPtr);
}

/* Nothing is delivered here any more: let the log go. */
void
ca_slot_forget(void)
{
	nsamples = 0;
	guarded(drop_slot, InvalidXLogRecPtr);
}
