/*
 * record.c: what of a log record is believed.
 *
 * Any role may write logical messages (pg_logical_emit_message), under any prefix, so a prefix alone
 * proves nothing. Ours goes on behind its NUL: "cache_aside", NUL, a format mark, NUL. No SQL function
 * can write that, because their prefixes end at the first NUL, and whoever may load C code is beyond
 * our defence. Core reads prefixes as C strings, hence logical decoding and pg_waldump show
 * "cache_aside". The record is core's in every other respect; message.c writes it.
 *
 *	xl_logical_message   database, transactional, length of prefix, length of payload
 *	prefix               14 bytes: CA_MESSAGE_MARK
 *	payload              flags (1 byte: 0x01 the writer ran with synchronous_commit = off, 0x02 it has
 *	                     DDL that may change what keys are called), then entries, maybe none: kind
 *	                     (1 byte), length (uint32, native order as everything in WAL), data
 *
 * Nothing is followed that was not compared with the size of the record before: header, prefix and
 * payload must add up to it exactly, each entry must lie within the payload, be of a known kind and
 * have the shape of that kind. message.c puts the same question to each entry that it is given, so
 * that we can never write what we refuse to read.
 *
 * A record that has our mark and is not believed was not forged. It is of a newer library, before a
 * downgrade, or damaged, and may stand for keys to delete: UNREADABLE, and its transaction has to ask
 * for a resync. What only has our name is FOREIGN: counted, never followed. Messages that are not
 * transactional are barriers (ca_message_log_barrier); nothing in them is looked at.
 *
 * The database in the record decides nothing here: keys are keys, whichever database they come from.
 *
 * Pure functions of bytes: nothing is allocated, kept or raised. `data` need not be aligned.
 */
#include "cache_aside.h"
#include "common/common.h"

#include "replication/message.h"

#define NAME_SIZE (sizeof(CA_MESSAGE_PREFIX) - 1)
#define MARK_SIZE sizeof(CA_MESSAGE_MARK)
#define FORMAT_AT sizeof(CA_MESSAGE_PREFIX) /* in the mark */
#define FLAGS_SIZE 1

static bool
stick_is_valid(const char *data, Size len)
{
	uint32 ttl;

	if (len <= sizeof(ttl) || len > sizeof(ttl) + CA_MAX_STICK)
		return false;
	memcpy(&ttl, data, sizeof(ttl));
	return ttl > 0;
}

/* As keyspace.c packs them: "," and the hash of each prefix, or "*" and one hash of all. */
static bool
prefixes_are_valid(const char *data, Size len)
{
	return len > 1 && len <= CA_KEYSPACE_PACKED && (len - 1) % sizeof(uint32) == 0 &&
		   (data[0] == ',' || (data[0] == '*' && len == 1 + sizeof(uint32)));
}

/* A key may be empty: the template {name} names that of an empty name, and Redis can hold it. */
bool
ca_record_entry_is_valid(char kind, const char *data, Size len)
{
	switch (kind)
	{
		case CA_ENTRY_KEY:
			return len <= CA_MAX_KEY;
		case CA_ENTRY_PATTERN:
			return len > 0 && len <= CA_MAX_KEY;
		case CA_ENTRY_PREFIXES:
			return prefixes_are_valid(data, len);
		case CA_ENTRY_STICK:
			return stick_is_valid(data, len);
		case CA_ENTRY_RESYNC:
		case CA_ENTRY_CENSUS:
		case CA_ENTRY_CRASH:
			return len == 0;
	}
	return false;
}

/* False at the end, and when what is left is no whole entry (then next < end). */
bool
ca_record_next(CaMessage *message, CaEntry *entry)
{
	Size left = message->end - message->next;
	uint32 size;

	if (left < CA_ENTRY_HEADER_SIZE)
		return false;
	memcpy(&size, message->next + 1, sizeof(size));
	if (left - CA_ENTRY_HEADER_SIZE < size)
		return false;
	entry->kind = message->next[0];
	entry->data = message->next + CA_ENTRY_HEADER_SIZE;
	entry->len = size;
	message->next += CA_ENTRY_HEADER_SIZE + size;
	return true;
}

static const char *
find_problem_in_entries(CaMessage message)
{
	CaEntry entry;

	while (ca_record_next(&message, &entry))
		if (!ca_record_entry_is_valid(entry.kind, entry.data, entry.len))
			return "It has an entry of an unknown kind, or of a wrong length for its kind.";
	return message.next < message.end ? "Its last entry is longer than the record." : NULL;
}

/* The payload, whose size is that of the record's rest. */
static const char *
find_problem_in_payload(CaMessage *message, const char *payload, Size size)
{
	if (size < FLAGS_SIZE || size - FLAGS_SIZE > CA_MESSAGE_MAX)
		return "Its payload is shorter or longer than any that is written.";
	if ((payload[0] & ~(CA_MESSAGE_ASYNC_COMMIT | CA_MESSAGE_KEY_DDL)) != 0)
		return "It has unknown flags.";
	message->async_commit = (payload[0] & CA_MESSAGE_ASYNC_COMMIT) != 0;
	message->key_ddl = (payload[0] & CA_MESSAGE_KEY_DDL) != 0;
	message->next = payload + FLAGS_SIZE;
	message->end = payload + size;
	return find_problem_in_entries(*message);
}

/* `prefix` and all behind it, `left` bytes; the sizes are those that the header claims. */
static const char *
find_problem(CaMessage *message, const char *prefix, Size left, Size prefix_size, Size payload_size)
{
	if (left < MARK_SIZE || prefix_size != MARK_SIZE || prefix[MARK_SIZE - 1] != '\0')
		return "Its prefix has another length.";
	if (prefix[FORMAT_AT] != CA_MESSAGE_MARK[FORMAT_AT])
		return "It is of another format.";
	if (payload_size != left - prefix_size)
		return "Its lengths do not add up to that of the record.";
	return find_problem_in_payload(message, prefix + prefix_size, payload_size);
}

/*
 * `data` is the main data of a record of RM_LOGICALMSG_ID. MESSAGE: `message` iterates over its
 * entries, all of which are valid. UNREADABLE: `problem` is a sentence.
 */
CaRecordKind
ca_record_parse(const char *data, Size len, CaMessage *message, const char **problem)
{
	const char *prefix = data + SizeOfLogicalMessage;
	Size prefix_size, payload_size;

	if (len < SizeOfLogicalMessage + NAME_SIZE || memcmp(prefix, CA_MESSAGE_PREFIX, NAME_SIZE) != 0)
		return CA_RECORD_OTHER;
	memcpy(&prefix_size, data + offsetof(xl_logical_message, prefix_size), sizeof(Size));
	memcpy(&payload_size, data + offsetof(xl_logical_message, message_size), sizeof(Size));
	len -= SizeOfLogicalMessage;
	if (len == NAME_SIZE || prefix[NAME_SIZE] != '\0' || prefix_size == NAME_SIZE + 1)
		return CA_RECORD_FOREIGN; /* the first NUL ends the prefix, as SQL has it */
	if (data[offsetof(xl_logical_message, transactional)] == 0)
		return CA_RECORD_OTHER;
	*problem = find_problem(message, prefix, len, prefix_size, payload_size);
	return *problem ? CA_RECORD_UNREADABLE : CA_RECORD_MESSAGE;
}
