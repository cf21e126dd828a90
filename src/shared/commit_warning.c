/*
 * commit_warning.c: a WARNING right after a commit, when nothing may raise or block.
 *
 * In: why the commit did not wait for its keys to be deleted. Out: one line in the server's log if
 * log_min_messages says so, and a notice in the send buffer, which leaves with the CommandComplete
 * that follows.
 *
 * ereport() flushes what it sends, and interrupts are held off: a client that does not read would
 * keep this backend for ever. So the protocol's methods are replaced meanwhile by ones that only
 * append to the buffer. An error (out of memory) would end in a PANIC, so it is dropped; it lowers
 * the hold-off counts, so they are restored.
 *
 * libpq.h wants the headers of every authentication library PostgreSQL was built with, for a struct
 * that nothing here looks at.
 */
#include "postgres.h"

#undef ENABLE_GSS
#undef USE_OPENSSL
#undef USE_SSL
#include "libpq/libpq.h"
#include "miscadmin.h"

#include "shared/sync.h"

static const PQcommMethods *blocking;
static PQcommMethods appending;

/* The original may call other methods of its own, hence put it back for the call. */
static int
append(char type, const char *data, size_t len)
{
	PqCommMethods = blocking;
	blocking->putmessage_noblock(type, data, len);
	PqCommMethods = &appending;
	return 0;
}

static int
flush_later(void)
{
	return 0;
}

void
ca_commit_warning_send(const char *reason, const char *detail)
{
	MemoryContext context = CurrentMemoryContext;
	uint32 interrupts = InterruptHoldoffCount;
	uint32 cancels = QueryCancelHoldoffCount;

	blocking = PqCommMethods;
	appending = *blocking;
	appending.putmessage = append;
	appending.flush = flush_later;
	appending.flush_if_writable = flush_later;
	PqCommMethods = &appending;
	PG_TRY();
	{
		ereport(WARNING,
				(errmsg("the cache keys of this commit are not known to be deleted: %s", reason),
				 errdetail("%s", detail)));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		InterruptHoldoffCount = interrupts;
		QueryCancelHoldoffCount = cancels;
	}
	PG_END_TRY();
	PqCommMethods = blocking;
}
