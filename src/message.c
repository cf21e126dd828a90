/*
 * message.c: bytes of the WAL message that carries pending entries to the worker.
 *
 *	byte    format version (CA_MESSAGE_VERSION)
 *	byte    flags (MESSAGE_ASYNC_COMMIT)
 *	entries kind (1 byte), length (uint32, native order as everything in WAL), data
 *
 * Input is a buffer of entries that ca_message_append made; output a logical message, transactional,
 * under CA_MESSAGE_PREFIX. The database is in the record itself (xl_logical_message.dbId) and is
 * handed to the reader by the tap. Logging assigns a transaction id, so that a transaction that only
 * invalidates has a commit record.
 *
 * Writing raises what XLogInsert raises, always before the commit record, hence the transaction
 * aborts as a whole. Reading never raises: a record under our prefix that we did not write, or that
 * a newer library wrote before a downgrade, makes the reader return false, and the worker decides.
 */
#include "cache_aside.h"

#include "access/xact.h"
#include "replication/message.h"

#define CA_MESSAGE_VERSION 1
#define MESSAGE_ASYNC_COMMIT 0x01
#define HEADER_SIZE 2
#define ENTRY_HEADER_SIZE (1 + sizeof(uint32))

void
ca_message_append(StringInfo entries, char kind, const char *data, Size len)
{
	uint32 size = (uint32) len;

	enlargeStringInfo(entries, ENTRY_HEADER_SIZE + len);
	appendStringInfoCharMacro(entries, kind);
	appendBinaryStringInfoNT(entries, (const char *) &size, sizeof(size));
	appendBinaryStringInfoNT(entries, data, len);
}

/* Returns the end of the record. */
XLogRecPtr
ca_message_log(const char *entries, Size len)
{
	char *payload = palloc(HEADER_SIZE + len);
	XLogRecPtr end;

	payload[0] = CA_MESSAGE_VERSION;
	payload[1] = synchronous_commit == SYNCHRONOUS_COMMIT_OFF ? MESSAGE_ASYNC_COMMIT : 0;
	memcpy(payload + HEADER_SIZE, entries, len);
	end = ca_log_message(CA_MESSAGE_PREFIX, payload, HEADER_SIZE + len, true);
	pfree(payload);
	return end;
}

XLogRecPtr
ca_message_log_barrier(void)
{
	char payload[HEADER_SIZE] = {CA_MESSAGE_VERSION, 0};

	return ca_log_message(CA_MESSAGE_PREFIX, payload, HEADER_SIZE, false);
}

bool
ca_message_open(CaMessage *message, Oid dbid, const char *payload, Size len)
{
	if (len < HEADER_SIZE || payload[0] != CA_MESSAGE_VERSION)
		return false;
	message->async_commit = (payload[1] & MESSAGE_ASYNC_COMMIT) != 0;
	message->dbid = dbid;
	message->next = payload + HEADER_SIZE;
	message->end = payload + len;
	return true;
}

/* False at the end; a truncated entry ends the message too (then message->next < message->end). */
bool
ca_message_next(CaMessage *message, CaEntry *entry)
{
	uint32 size;

	if (message->end - message->next < ENTRY_HEADER_SIZE)
		return false;
	memcpy(&size, message->next + 1, sizeof(size));
	if (message->end - message->next - ENTRY_HEADER_SIZE < size)
		return false;
	entry->kind = message->next[0];
	entry->data = message->next + ENTRY_HEADER_SIZE;
	entry->len = size;
	message->next += ENTRY_HEADER_SIZE + size;
	return true;
}
