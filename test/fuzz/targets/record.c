/*
 * record.c: any bytes as the payload of a message, as the tap finds it (message.c, batch.c).
 *
 * Input: the payload. It is opened and read entry by entry, then once more as the only message of a
 * commit that batches are filled from.
 *
 * Holds: what an entry points to lies inside the record, reading always ends, what was read and is
 * written again is the same bytes; keys and sticks of a batch lie inside its bytes. Bites: the
 * `- ENTRY_HEADER_SIZE` of ca_message_next() left out, and add_entry() without its check of a stick's
 * length.
 */
#include "fuzz.h"

#include "redelete.h"
#include "status.h"
#include "worker.h"

int synchronous_commit;
CaStatus ca_status_now;

static dlist_head queue = DLIST_STATIC_INIT(queue);
static const char *begin;
static const char *end;

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
ca_resync_request(CaSurveyScope scope, const char *reason)
{
	return 0;
}

void
ca_census_ask(void)
{
}

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
ca_commit_free(CaCommit *commit)
{
}

const CaPosition *
ca_delivery_position(void)
{
	static CaPosition position;

	return &position;
}

CaReread *
ca_reread_open(MemoryContext cxt, const CaCommit *commit)
{
	return NULL;
}

int
ca_reread_next(CaReread *reread, const char **payload, Size *len)
{
	return 0;
}

void
ca_reread_close(CaReread *reread)
{
}

XLogRecPtr
LogLogicalMessage(const char *prefix, const char *message, size_t size, bool transactional
#if PG_VERSION_NUM >= 170000
				  ,
				  bool flush
#endif
)
{
	return 1;
}

/* ---- the record ---- */

static void
read_entries(const char *payload, Size len)
{
	CaMessage message;
	CaEntry entry;
	StringInfoData again;

	if (!ca_message_open(&message, 1, payload, len))
		return;
	begin = payload;
	end = payload + len;
	initStringInfo(&again);
	while (ca_message_next(&message, &entry))
	{
		FUZZ_CHECK(entry.data > begin && entry.data <= end && entry.len <= end - entry.data);
		ca_message_append(&again, entry.kind, entry.data, entry.len);
		FUZZ_CHECK(message.next - again.len > begin);
		FUZZ_CHECK(memcmp(message.next - again.len, again.data, again.len) == 0);
	}
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

static void
fill_batches(const char *payload, uint32 len)
{
	CaCommit *commit = palloc0(sizeof(CaCommit));

	initStringInfo(&commit->entries);
	appendBinaryStringInfo(&commit->entries, (char *) &len, sizeof(len));
	appendBinaryStringInfo(&commit->entries, payload, (int) len);
	commit->visible = true;
	commit->end = 2;
	dlist_push_tail(&queue, &commit->node);
	while (!dlist_is_empty(&queue))
	{
		CaBatch *batch = ca_batch_make();

		FUZZ_CHECK(ca_batch_fill(batch));
		check_batch(batch);
		ca_batch_free(batch);
	}
}

static void
try(void *arg)
{
	Size len;
	char *payload = fuzz_rest(arg, &len);
	CaMessage message;

	dlist_init(&queue);
	read_entries(payload, len);
	if (ca_message_open(&message, 1, payload, len))
		fill_batches(payload, (uint32) len);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	FuzzInput input = {data, data + size};

	FUZZ_CHECK(fuzz_run(try, &input));
	return 0;
}
