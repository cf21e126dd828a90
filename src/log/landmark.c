/*
 * landmark.c: is this still the log that was read?
 *
 * A record is known by where it starts and by its CRC, which covers its content and, through the address of
 * the record before it, its place. position.c says which ones a position keeps, and why.
 *
 * Reads one record with a reader of its own. Errors of core's reader end here.
 */
#include "cache_aside.h"
#include "log/log.h"
#include "log/wal.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "utils/memutils.h"

static CaLandmarkState
read_landmark(const CaLandmark *landmark)
{
	ReadLocalXLogPageNoWaitPrivate end = {0};
	XLogReaderState *reader = ca_wal_reader(&end, false);
	CaLandmarkState state = CA_LANDMARK_OTHER;
	char *problem;

	XLogBeginRead(reader, landmark->start);
	if (XLogReadRecord(reader, &problem) == NULL)
		state = end.end_of_wal ? CA_LANDMARK_AHEAD : CA_LANDMARK_OTHER;
	else if (reader->ReadRecPtr == landmark->start &&
			 reader->record->header.xl_crc == landmark->crc)
		state = CA_LANDMARK_SAME;
	XLogReaderFree(reader);
	return state;
}

CaLandmarkState
ca_landmark_check(const CaLandmark *landmark)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext own;
	volatile CaLandmarkState state = CA_LANDMARK_NONE;
	XLogRecPtr limit;

	if (XLogRecPtrIsInvalid(landmark->start))
		return CA_LANDMARK_NONE;
	ca_wal_timeline(&limit);
	if (landmark->start >= limit)
		return CA_LANDMARK_AHEAD;
	if (!XRecOffIsValid(landmark->start))
		return CA_LANDMARK_OTHER;
	own = AllocSetContextCreate(caller, "cache_aside landmark", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(own);
	PG_TRY();
	{
		state = read_landmark(landmark);
	}
	PG_CATCH();
	{
		state = geterrcode() == ERRCODE_UNDEFINED_FILE ? CA_LANDMARK_GONE : CA_LANDMARK_OTHER;
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(own);
	return state;
}
