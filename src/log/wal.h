/*
 * wal.h: core's WAL reader as tap.c and reread.c use it.
 */
#ifndef CA_WAL_H
#define CA_WAL_H

#include "cache_aside.h"
#include "common/common.h"

#include "access/xlogreader.h"
#include "access/xlogutils.h"

extern bool ca_wal_interrupted(void);
/* gives_way: it may fail because there is something else to do; see ca_wal_interrupted. */
extern XLogReaderState *ca_wal_reader(ReadLocalXLogPageNoWaitPrivate *end, bool gives_way);
extern XLogRecPtr ca_wal_record_start(XLogRecPtr lsn);
extern CaRecordKind ca_wal_message(XLogReaderState *reader, CaMessage *message,
								   const char **problem);

/* ---- not_followed.c: records that have our name and are not believed ---- */
extern void ca_not_followed_foreign(XLogReaderState *reader);
extern void ca_not_followed_unreadable(XLogReaderState *reader, const char *problem);

#endif
