/*
 * wal.c: the server's own log: where it stands, core's reader, our messages in it.
 *
 * On a primary flushed WAL is read, on a standby replayed WAL, page by page with core's
 * read_local_xlog_page_no_wait, which follows timelines.
 *
 * One record may have a gigabyte, and the worker must not be deaf for so long. So before each page it answers
 * ProcSignal barriers, and when the server stops or a reload was asked for it gives the record up: the read
 * fails, ca_wal_interrupted says why, and the caller reads the same record again from its beginning. For a reload
 * a record is given up once only, else one that takes longer than the reloads are apart would never be read.
 * When the server stops, reading goes on until a deadline (ca_wal_finish_by), for what can still be delivered.
 *
 * The reader grows its buffers in the current memory context: callers switch to one that lives as long as the
 * reader does.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "log/log.h"
#include "log/wal.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogrecovery.h"
#include "access/xlogutils.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "replication/message.h"
#include "storage/procsignal.h"
#include "utils/timestamp.h"

TimeLineID
ca_wal_timeline(XLogRecPtr *end)
{
	TimeLineID timeline;

	*end = RecoveryInProgress() ? GetXLogReplayRecPtr(&timeline) : GetFlushRecPtr(&timeline);
	return timeline;
}

/* A standby that was restarted replays its log again: it may have read, and delivered, more than it has now. */
bool
ca_wal_ends_before(XLogRecPtr lsn)
{
	XLogRecPtr end;

	ca_wal_timeline(&end);
	return end < lsn;
}

/*
 * The redo point of the last checkpoint, and a full xid: whoever has that or a later one began after it. From the
 * control file; it may be written at the moment and be torn, and then we take what this server knows of its own.
 */
XLogRecPtr
ca_wal_last_checkpoint(uint64 *next_xid)
{
	bool valid;
	ControlFileData *control = get_controlfile(DataDir, &valid);
	XLogRecPtr redo = valid ? control->checkPointCopy.redo : GetRedoRecPtr();
	FullTransactionId next = valid ? control->checkPointCopy.nextXid : ReadNextFullTransactionId();

	*next_xid = U64FromFullTransactionId(next);
	pfree(control);
	return redo;
}

/* The full id next to one that is in use, or is in the log. */
uint64
ca_wal_xid_after(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	FullTransactionId full = FullTransactionIdFromU64(
		U64FromFullTransactionId(next) - (uint32) (XidFromFullTransactionId(next) - xid));

	FullTransactionIdAdvance(&full);
	return U64FromFullTransactionId(full);
}

/*
 * The end of the log, which is the end of a record: on a primary of one written for this, because the flush
 * LSN may lie inside a record; on a standby, of what was replayed. `next_xid` is asked for afterwards: every
 * transaction that has something in the log before that end has a lower one.
 */
XLogRecPtr
ca_wal_end(uint64 *next_xid)
{
	XLogRecPtr end;

	if (RecoveryInProgress())
		end = GetXLogReplayRecPtr(NULL);
	else
	{
		end = ca_message_log_barrier();
		XLogFlush(end);
	}
	*next_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
	return end;
}

/*
 * A place in the log above every commit that was visible before the call, which reading will come to soon. On
 * a primary: the end of a record that is written now, and which the log's writer is told to flush. On a
 * standby: just behind what was replayed.
 */
XLogRecPtr
ca_wal_mark(void)
{
	XLogRecPtr end;

	if (RecoveryInProgress())
		return GetXLogReplayRecPtr(NULL) + 1;
	end = ca_message_log_barrier();
	XLogSetAsyncXactLSN(end);
	return end;
}

/* ---- reading ---- */

static bool interrupted;      /* the read that failed last was given up for this */
static XLogRecPtr gave_way;   /* the record that was given up for a reload: once each */
static TimestampTz finish_by; /* a server that stops reads until then; 0: it reads no more */

void
ca_wal_finish_by(TimestampTz deadline)
{
	finish_by = deadline;
}

/* Is there something else to do, so that this record is read again later, or never? */
static bool
should_give_up(XLogRecPtr record)
{
	if (ShutdownRequestPending)
		return GetCurrentTimestamp() >= finish_by;
	if (!ConfigReloadPending || record == gave_way)
		return false;
	gave_way = record;
	return true;
}

/* Was the read that failed given up, because the worker has something else to do? */
bool
ca_wal_interrupted(void)
{
	bool was = interrupted;

	interrupted = false;
	return was;
}

static int
read_page(XLogReaderState *reader, XLogRecPtr page, int wanted, XLogRecPtr record, char *buffer)
{
	if (ProcSignalBarrierPending)
		ProcessProcSignalBarrier();
	interrupted = should_give_up(record);
	if (interrupted)
		return -1;
	if (finish_by == 0)
		CA_DEBUG_POINT("page-read");
	return read_local_xlog_page_no_wait(reader, page, wanted, record, buffer);
}

XLogReaderState *
ca_wal_reader(ReadLocalXLogPageNoWaitPrivate *end, bool gives_way)
{
	XLogReaderState *reader = XLogReaderAllocate(
		wal_segment_size, NULL,
		XL_ROUTINE(.page_read = gives_way ? &read_page : &read_local_xlog_page_no_wait,
				   .segment_open = &wal_segment_open, .segment_close = &wal_segment_close),
		end);

	if (reader == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("Failed while allocating a WAL reading processor.")));
	return reader;
}

/* Where the record begins that follows one that ends here: on a new page, behind its header. */
XLogRecPtr
ca_wal_record_start(XLogRecPtr lsn)
{
	if (lsn % wal_segment_size == 0)
		return lsn + SizeOfXLogLongPHD;
	if (lsn % XLOG_BLCKSZ == 0)
		return lsn + SizeOfXLogShortPHD;
	return lsn;
}

/* What the current record is, one of RM_LOGICALMSG_ID; see ca_record_parse. */
CaRecordKind
ca_wal_message(XLogReaderState *reader, CaMessage *message, const char **problem)
{
	if ((XLogRecGetInfo(reader) & ~XLR_INFO_MASK) != XLOG_LOGICAL_MESSAGE)
		return CA_RECORD_OTHER;
	return ca_record_parse(XLogRecGetData(reader), XLogRecGetDataLen(reader), message, problem);
}

/*
 * The end of the last record. Where that fills its page, core's insert position lies behind the header of the
 * next page, which nobody has written yet: a standby could never be said to have replayed it.
 */
XLogRecPtr
ca_wal_inserted(void)
{
	XLogRecPtr end = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		return end - SizeOfXLogLongPHD;
	if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return end - SizeOfXLogShortPHD;
	return end;
}
