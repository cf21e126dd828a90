/*
 * wal.h: core's WAL reader as tap.c and reread.c use it.
 */
#ifndef CA_WAL_H
#define CA_WAL_H

#include "access/xlogreader.h"
#include "access/xlogutils.h"

extern XLogReaderState *ca_wal_reader(ReadLocalXLogPageNoWaitPrivate *end);
extern XLogRecPtr ca_wal_record_start(XLogRecPtr lsn);
extern const char *ca_wal_payload(XLogReaderState *reader, Size *len, Oid *dbid);

#endif
