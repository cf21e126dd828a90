/*
 * message.c: writes the WAL record that carries pending entries to the worker; record.c reads it.
 *
 * Input is a buffer of entries that ca_message_append made; output a logical message, transactional,
 * with our mark as its prefix. It is the record that core's LogLogicalMessage writes (the same in
 * PostgreSQL 15 to 19), but for the prefix, which that function would cut at its first NUL. So
 * nothing of ours is needed to replay it, or to decode it. It assigns a transaction id, so that a
 * transaction that only invalidates has a commit record.
 *
 * Writing raises what XLogInsert raises, always before the commit record, hence the transaction
 * aborts as a whole. An entry that record.c would refuse to read is refused here.
 */
#include "cache_aside.h"
#include "common/common.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "replication/message.h"

static const char mark[] = CA_MESSAGE_MARK; /* ends with a NUL, as core asserts */

static void
refuse(const char *what, Size len)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR), errmsg("%s that could not be read again", what),
			 errdetail("It has %zu bytes.", len), errhint("This is a bug of cache_aside.")));
}

void
ca_message_append(StringInfo entries, char kind, const char *data, Size len)
{
	uint32 size = (uint32) len;
	char *at;

	if (!ca_record_entry_is_valid(kind, data, len))
		refuse("pending entry of the cache", len);
	if (entries->maxlen - entries->len <= (int) (CA_ENTRY_HEADER_SIZE + len))
		enlargeStringInfo(entries, (int) (CA_ENTRY_HEADER_SIZE + len));
	at = entries->data + entries->len;
	at[0] = kind;
	memcpy(at + 1, &size, sizeof(size));
	memcpy(at + CA_ENTRY_HEADER_SIZE, data, len);
	entries->len += (int) (CA_ENTRY_HEADER_SIZE + len);
}

/* Returns the end of the record. */
static XLogRecPtr
log_record(bool transactional, char flags, const char *entries, Size len)
{
	xl_logical_message record;

	memset(&record, 0, sizeof(record)); /* its padding goes into the log */
	record.dbId = MyDatabaseId;
	record.transactional = transactional;
	record.prefix_size = sizeof(mark);
	record.message_size = sizeof(flags) + len;
	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfLogicalMessage);
	XLogRegisterData(unconstify(char *, &mark[0]), sizeof(mark));
	XLogRegisterData(&flags, sizeof(flags));
	if (len > 0)
		XLogRegisterData(unconstify(char *, entries), (uint32) len);
	XLogSetRecordFlags(XLOG_INCLUDE_ORIGIN);
	return XLogInsert(RM_LOGICALMSG_ID, XLOG_LOGICAL_MESSAGE);
}

/* At most CA_MESSAGE_CHUNK bytes, or one entry. Returns the end of the record. */
XLogRecPtr
ca_message_log(char flags, const char *entries, Size len)
{
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		flags |= CA_MESSAGE_ASYNC_COMMIT;
	Assert(IsTransactionState());
	if (len > CA_MESSAGE_MAX)
		refuse("message with pending entries of the cache", len);
	(void) GetCurrentTransactionId();
	return log_record(true, flags, entries, len);
}

XLogRecPtr
ca_message_log_barrier(void)
{
	return log_record(false, 0, NULL, 0);
}
