/*
 * pending.c: the open transaction's set of entries, and its way into WAL.
 *
 * Input: ca_pending_add, from triggers, invalidate() and the utility hook. Output: transactional
 * messages of at most CA_MESSAGE_CHUNK bytes, written at PRE_COMMIT or PRE_PREPARE, so that they
 * stand close to the commit record. Transaction callbacks run last-registered first, and another
 * library's may write rows after ours has run: from then on entries are logged at once.
 *
 * The set is a buffer of entries, encoded as message.c writes them, in order of arrival. A position
 * in it is a logical offset: the bytes that were spilled, then the buffer. seen.c de-duplicates the
 * entries in the buffer; each appears at most once per spill, which is harmless.
 *
 * A subtransaction that adds something pushes a mark (nest level, offset), and only then: a million
 * subtransactions that add nothing, or roll back, cost nothing that stays. Rolling back cuts the set
 * at the mark; committing hands the mark to the parent.
 *
 * Memory: one backend-lifetime context, so that a small transaction allocates nothing; reset at the
 * end of a transaction that made it grow. Past CA_PENDING_MEMORY the buffer goes to a temporary file
 * that belongs to TopTransactionResourceOwner: it survives rolled-back savepoints and is removed at
 * abort. The file is closed before commit, else the resource owner would report a leak.
 *
 * Failure: out of memory, temp_file_limit or a full disk fail the statement that adds, or the commit
 * before its record is written; the set stays consistent because offsets move only after success.
 * End-of-transaction callbacks neither allocate nor raise.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "shared/shared.h"
#include "shared/sync.h"
#include "transaction/transaction.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"

#define CA_PENDING_MEMORY (1024 * 1024) /* bytes in the buffer before it is spilled */
#define RETAINED_MEMORY (64 * 1024)     /* a buffer no larger than this outlives its transaction */

typedef struct Mark
{
	int level;    /* nest level of the subtransaction that added from here on */
	int64 offset; /* logical */
} Mark;

static struct
{
	MemoryContext context;
	StringInfoData buffer;
	Mark *marks;
	int mark_count;
	int mark_room;
	BufFile *file;  /* NULL until the first spill */
	int64 spilled;  /* valid bytes in the file */
	bool written;   /* the pre-commit callback ran: log at once */
	bool logged;    /* this transaction has messages in WAL */
	bool preparing; /* it ends with PREPARE TRANSACTION */
} set;

uint64 ca_pending_turn = 1;
void (*ca_pending_when_logged)(void); /* of this transaction; NULL: nothing */

static int64
logical_end(void)
{
	return set.spilled + set.buffer.len;
}

/* First use in this backend, or after the context was reset. */
static void
create_set(void)
{
	MemoryContext previous;

	if (set.context == NULL)
		set.context =
			AllocSetContextCreate(TopMemoryContext, "cache_aside pending", ALLOCSET_DEFAULT_SIZES);
	previous = MemoryContextSwitchTo(set.context);
	set.mark_room = 8;
	set.marks = palloc(set.mark_room * sizeof(Mark));
	initStringInfo(&set.buffer);
	MemoryContextSwitchTo(previous);
}

/* Forgets the transaction. The file, if any, is closed already or belongs to an aborted owner. */
static void
reset_set(void)
{
	set.mark_count = 0;
	set.file = NULL;
	set.spilled = 0;
	set.written = set.preparing = false;
	ca_pending_when_logged = NULL;
	ca_pending_turn++;
	ca_log_keys_forget();
	if (set.buffer.data == NULL)
		return;
	if (set.buffer.maxlen > RETAINED_MEMORY || ca_seen_is_large() || set.mark_room > 64)
	{
		MemoryContextReset(set.context);
		memset(&set.buffer, 0, sizeof(set.buffer));
		ca_seen_is_gone();
	}
	else if (set.buffer.len > 0)
	{
		resetStringInfo(&set.buffer);
		ca_seen_forget_all();
	}
}

/* ---- spilling ---- */

static void
spill(void)
{
	if (set.file == NULL)
		set.file = ca_spill_create();
	ca_spill_seek(set.file, set.spilled);
	BufFileWrite(set.file, set.buffer.data, set.buffer.len);
	set.spilled += set.buffer.len;
	resetStringInfo(&set.buffer);
	ca_seen_forget_all();
}

/* Appends the next entry of the file to `target`; returns its size. */
static Size
read_entry(StringInfo target)
{
	char header[CA_ENTRY_HEADER_SIZE];
	uint32 len;

	ca_spill_read(set.file, header, CA_ENTRY_HEADER_SIZE);
	memcpy(&len, header + 1, sizeof(len));
	enlargeStringInfo(target, CA_ENTRY_HEADER_SIZE + len);
	appendBinaryStringInfoNT(target, header, CA_ENTRY_HEADER_SIZE);
	ca_spill_read(set.file, target->data + target->len, len);
	target->len += len;
	return CA_ENTRY_HEADER_SIZE + len;
}

/* ---- adding ---- */

static void
refuse_read_only(void)
{
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("cannot invalidate cache keys during recovery"),
						errdetail("This server is a standby and writes no log of its own."),
						errhint("Invalidate on the primary; standbys deliver what it logged.")));
	if (XactReadOnly)
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("cannot invalidate cache keys in a read-only transaction"),
						errdetail("An invalidation is a write: it becomes part of the commit."),
						errhint("Start the transaction with BEGIN READ WRITE.")));
}

/* Before the first entry that the current subtransaction adds. */
static void
push_mark(int level)
{
	if (set.mark_count == set.mark_room)
	{
		set.marks = repalloc(set.marks, 2 * set.mark_room * sizeof(Mark));
		set.mark_room *= 2;
	}
	set.marks[set.mark_count].level = level;
	set.marks[set.mark_count].offset = logical_end();
	set.mark_count++;
}

/* The transaction has a message in WAL, hence its commit has keys to deliver. */
static void
note_logged(void)
{
	if (!set.logged && ca_sync_must_flush(ca_commit_waits()))
		ForceSyncCommit();
	if (!set.logged && set.preparing)
		ca_prepared_lock_take();
	set.logged = true;
}

/* The pre-commit callback has run already: nothing would collect this entry. */
static void
log_at_once(char kind, const char *data, Size len)
{
	StringInfoData entry;

	initStringInfo(&entry);
	ca_message_append(&entry, kind, data, len);
	ca_message_log(ca_replacing_flag(), entry.data, entry.len);
	note_logged();
	pfree(entry.data);
}

void
ca_pending_add(char kind, const char *data, Size len)
{
	int level = GetCurrentTransactionNestLevel();
	uint32 offset;

	if (set.written) /* maybe SET TRANSACTION READ ONLY came last, and a pattern that its writes want */
	{
		if (unlikely(guc_log_keys != 0))
			ca_log_keys_show(kind, data, len);
		log_at_once(kind, data, len);
		return;
	}
	refuse_read_only();
	if (set.buffer.data == NULL)
		create_set();
	if (set.buffer.len >= CA_PENDING_MEMORY)
		spill();
	if (level > 1 && (set.mark_count == 0 || set.marks[set.mark_count - 1].level < level))
		push_mark(level);

	/* Entries in the buffer are compared, hence append first and take back a duplicate. */
	offset = (uint32) set.buffer.len;
	ca_message_append(&set.buffer, kind, data, len);
	if (ca_seen_before(&set.buffer, offset, set.context))
		set.buffer.len = (int) offset;
	else if (unlikely(guc_log_keys != 0))
		ca_log_keys_show(kind, data, len);
}

/* ---- looking ---- */

/* Calls `handler` for each entry, as message.c writes them, spilled ones first. What it allocates is freed. */
void
ca_pending_each(CaPendingHandler handler, void *arg)
{
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "cache_aside entry", ALLOCSET_SMALL_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(scratch);

	if (set.file != NULL)
		ca_spill_seek(set.file, 0);
	for (int64 at = 0; at < logical_end();)
	{
		StringInfoData entry;
		uint32 len;

		CHECK_FOR_INTERRUPTS();
		initStringInfo(&entry);
		if (at < set.spilled)
			read_entry(&entry);
		else
			entry.data = set.buffer.data + (at - set.spilled);
		memcpy(&len, entry.data + 1, sizeof(len));
		at += CA_ENTRY_HEADER_SIZE + len;
		handler(arg, entry.data);
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(scratch);
}

/* ---- writing messages ---- */

static void
log_chunk(const char *entries, Size len)
{
	if (len == 0)
		return;
	CHECK_FOR_INTERRUPTS();
	ca_message_log(ca_replacing_flag(), entries, len);
	note_logged();
	CA_DEBUG_POINT("chunk-logged");
}

/* How much of what begins with an entry makes one message: whole entries, and the first in any case; 0: it is cut off. */
static Size
message_size(const char *entries, Size len)
{
	Size size = 0;

	while (len - size >= CA_ENTRY_HEADER_SIZE)
	{
		uint32 data;
		Size next;

		memcpy(&data, entries + size + 1, sizeof(data));
		next = size + CA_ENTRY_HEADER_SIZE + data;
		if (next > len || (next > CA_MESSAGE_CHUNK - CA_ENTRY_HEADER_SIZE && size > 0))
			break;
		size = next;
	}
	return size;
}

/* As much as makes a message at once: a call for each entry costs more than to make and keep it. */
static void
log_file(void)
{
	char *chunk = palloc(CA_MESSAGE_MAX);
	Size held = 0;

	ca_spill_seek(set.file, 0);
	for (int64 left = set.spilled; left > 0 || held > 0;)
	{
		Size more = (Size) Min(left, (int64) (CA_MESSAGE_MAX - held));
		Size size;

		ca_spill_read(set.file, chunk + held, more);
		left -= (int64) more;
		held += more;
		size = message_size(chunk, held);
		if (size == 0)
			elog(ERROR, "temporary file of pending cache keys ends within an entry");
		log_chunk(chunk, size);
		held -= size;
		memmove(chunk, chunk + size, held);
	}
	pfree(chunk);
	BufFileClose(set.file);
	set.file = NULL;
	set.spilled = 0;
}

static void
log_buffer(void)
{
	Size size;

	for (int at = 0; at < set.buffer.len; at += (int) size)
	{
		size = message_size(set.buffer.data + at, set.buffer.len - at);
		Assert(size > 0);
		log_chunk(set.buffer.data + at, size);
	}
}

static void
log_set(void)
{
	if (set.file != NULL)
		log_file();
	if (set.buffer.len > 0)
		log_buffer();
	set.written = true;
	ca_pending_turn++;
	if (ca_pending_when_logged != NULL)
		ca_pending_when_logged();
}

bool
ca_pending_is_logged(void)
{
	return set.written;
}

void
ca_pending_show_itself(void)
{
	if (set.logged)
		return;
	ca_message_log(ca_replacing_flag(), NULL, 0);
	note_logged();
}

/* ---- transaction callbacks ---- */

static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			ca_sync_wait_prepare(ca_commit_waits());
			set.preparing = event == XACT_EVENT_PRE_PREPARE;
			ca_replacing_before_log(logical_end() > 0, set.preparing);
			log_set();
			break;
		case XACT_EVENT_COMMIT:
			ca_replacing_committed();
			ca_commit_done(set.logged);
			set.logged = false;
			reset_set();
			break;
		case XACT_EVENT_ABORT:
			ca_commit_aborted();
			ca_replacing_ended();
			set.logged = false;
			reset_set();
			break;
		case XACT_EVENT_PREPARE:
			ca_commit_prepared();
			ca_replacing_ended();
			set.logged = false;
			reset_set();
			break;
		default: /* parallel workers write nothing */
			break;
	}
}

/* Takes back everything from logical offset `offset` on. */
static void
truncate_set(int64 offset)
{
	if (CA_DEBUG_SKIP("rollback-to"))
		return;
	if (offset < set.spilled)
	{
		/* What the outer levels spilled stays in the file; the rest is overwritten later. */
		set.spilled = offset;
		resetStringInfo(&set.buffer);
		ca_seen_forget_all();
		return;
	}
	ca_seen_forget_from(&set.buffer, (uint32) (offset - set.spilled));
	set.buffer.len = (int) (offset - set.spilled);
}

static void
at_subtransaction_event(SubXactEvent event, SubTransactionId my_id, SubTransactionId parent_id,
						void *arg)
{
	int level = GetCurrentTransactionNestLevel();
	Mark *top;

	if (set.mark_count == 0)
		return;
	top = &set.marks[set.mark_count - 1];
	if (top->level < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		truncate_set(top->offset);
		set.mark_count--;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		bool parent_has_mark =
			level == 2 || (set.mark_count > 1 && set.marks[set.mark_count - 2].level == level - 1);

		if (parent_has_mark)
			set.mark_count--;
		else
			top->level = level - 1;
	}
}

void
ca_pending_init(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
	RegisterSubXactCallback(at_subtransaction_event, NULL);
}
