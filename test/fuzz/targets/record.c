/*
 * record.c: any bytes as a record of a logical message in the log (record.c, message.c, batch.c).
 *
 * Input: 0 and a whole record; or anything else and what is behind its mark, for which header and
 * mark are made here. It is parsed; what is believed is read entry by entry, and then filled into
 * batches.
 *
 * Holds: what an entry points to lies inside the record, reading always ends, all entries of a
 * message are valid and are the same bytes when they are written again; keys and sticks of a batch lie
 * inside its bytes. Bites: the `- CA_ENTRY_HEADER_SIZE` of ca_record_next() left out; NAME_SIZE left
 * out of the first line of ca_record_parse(); `payload_size != left - prefix_size` left out;
 * stick_is_valid() without its lower bound.
 */
#include "fuzz.h"

#include "common/common.h"
#include "keys/keys.h"
#include "shared/status.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/redelete.h"
#include "delivery/sink.h"

#include "replication/message.h"

static CaSink fuzz_sink;

int synchronous_commit;
Oid MyDatabaseId;

static dlist_head queue = DLIST_STATIC_INIT(queue);

/* ---- what batch.c hands on to ---- */

static void
use(const char *data, Size len)
{
	char *copy = palloc(len);

	memcpy(copy, data, len);
	pfree(copy);
}

uint64
ca_scan_request(const char *pattern, Size len)
{
	use(pattern, len);
	return 0;
}

void
ca_redelete_note(char kind, const char *text, Size len, XLogRecPtr lsn)
{
	use(text, len);
}

uint64
ca_resync_request(CaVisitScope scope, const char *reason)
{
	return 0;
}

void
ca_census_ask(void)
{
}

void
ca_status_count(CaCount what, uint64 by)
{
	FUZZ_CHECK(what < CA_COUNTS);
}

char *guc_key_prefix;

bool
ca_queue_async(void)
{
	return false;
}

dlist_head *
ca_queue_list(void)
{
	return &queue;
}

void
ca_queue_take(CaCommit *commit)
{
	dlist_delete(&commit->node);
}

void
ca_committed_free(CaCommit *commit)
{
}

CaReread *
ca_reread_open(MemoryContext cxt, CaCommit *commit)
{
	return NULL;
}

CaRereadResult
ca_reread_next(CaReread *reread, CaMessage *message)
{
	return CA_REREAD_END;
}

void
ca_reread_close(CaReread *reread)
{
}

bool
ca_scan_full(void)
{
	return false;
}

void
ca_queue_wait(CaCommit *commit)
{
}

void
ca_queue_unblock(CaCommit *commit)
{
}

void
ca_queue_block(CaCommit *commit)
{
}

XLogRecPtr
ca_lost_sticks_forgotten(CaSink *sink, uint32 *ttl)
{
	*ttl = 0;
	return InvalidXLogRecPtr;
}

/* ---- the record ---- */

static void
read_entries(const char *data, Size len, CaMessage message)
{
	StringInfoData again;
	CaEntry entry;
	const char *begin = message.next;

	FUZZ_CHECK(begin > data && begin <= message.end && message.end == data + len);
	initStringInfo(&again);
	while (ca_record_next(&message, &entry))
	{
		FUZZ_CHECK(entry.data > data && entry.data <= message.end);
		FUZZ_CHECK(entry.len <= message.end - entry.data);
		ca_message_append(&again, entry.kind, entry.data, entry.len); /* raises if invalid */
	}
	FUZZ_CHECK(again.len == message.end - begin && memcmp(again.data, begin, again.len) == 0);
}

static void
check_batch(const CaBatch *batch)
{
	for (int i = 0; i < batch->nkeys; i++)
		FUZZ_CHECK(batch->keys[i].len <= batch->bytes.len &&
				   batch->keys[i].offset <= batch->bytes.len - batch->keys[i].len);
	for (int i = 0; i < batch->nsticks; i++)
		FUZZ_CHECK(batch->sticks[i].len > strlen("cache_aside:stick:") &&
				   batch->sticks[i].offset + batch->sticks[i].len <= batch->bytes.len);
}

/* As open.c keeps what a transaction logged. */
static void
fill_batches(const CaMessage *message)
{
	CaCommit *commit = palloc0(sizeof(CaCommit));

	initStringInfo(&commit->entries);
	appendBinaryStringInfo(&commit->entries, message->next, (int) (message->end - message->next));
	commit->visible = true;
	commit->end = 2;
	dlist_push_tail(&queue, &commit->node);
	while (!dlist_is_empty(&queue))
	{
		CaBatch *batch = ca_batch_make(&fuzz_sink);

		FUZZ_CHECK(ca_batch_fill(batch, false));
		check_batch(batch);
		ca_batch_free(batch);
	}
}

static char *
make_record(const char *rest, Size rest_len, Size *len)
{
	xl_logical_message header = {
		.transactional = true, .prefix_size = sizeof(CA_MESSAGE_MARK), .message_size = rest_len};
	char *record;

	*len = SizeOfLogicalMessage + sizeof(CA_MESSAGE_MARK) + rest_len;
	record = palloc(*len);
	memcpy(record, &header, SizeOfLogicalMessage);
	memcpy(record + SizeOfLogicalMessage, CA_MESSAGE_MARK, sizeof(CA_MESSAGE_MARK));
	memcpy(record + *len - rest_len, rest, rest_len);
	return record;
}

static void
try(void *arg)
{
	bool whole = fuzz_byte(arg) == 0;
	Size len;
	char *data = fuzz_rest(arg, &len);
	const char *problem = NULL;
	CaMessage message;
	CaRecordKind kind;

	if (!whole)
		data = make_record(data, len, &len);
	dlist_init(&queue);
	kind = ca_record_parse(data, len, &message, &problem);
	FUZZ_CHECK((kind == CA_RECORD_UNREADABLE) == (problem != NULL));
	if (kind != CA_RECORD_MESSAGE)
		return;
	read_entries(data, len, message);
	fill_batches(&message);
}

const FuzzTarget fuzz_target = {try, .raises = false};
