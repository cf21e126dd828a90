/*
 * commit_token.c: tell the client the LSN of its commit, as ParameterStatus cache_aside.commit_lsn.
 *
 * In: the LSN, right after the commit released its locks. Out: one protocol message in the send
 * buffer, which leaves with the CommandComplete that follows. The protocol allows it at any time;
 * drivers keep the last value of each parameter, pgbouncer passes it on.
 *
 * The commit stands and interrupts are held off: this must not wait for a client that does not read
 * (nothing could end such a backend), hence putmessage_noblock, which makes the buffer larger when it
 * is full. Should even that fail, the client goes without the token, which costs it a round trip to
 * the primary. An error would end in a PANIC, so it is dropped here; it lowers the hold-off counts,
 * so they are restored.
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
#include "tcop/dest.h"
#include "tcop/tcopprot.h"

#include "cache_aside.h"
#include "common/compat.h"
#include "transaction/transaction.h"

#define PARAMETER "cache_aside.commit_lsn"
#define LSN_TEXT_SIZE 18 /* two 32-bit numbers in hexadecimal, slash, NUL */

bool guc_report_commit_lsn = false;

void
ca_commit_token_report(XLogRecPtr lsn)
{
	MemoryContext context = CurrentMemoryContext;
	uint32 interrupts = InterruptHoldoffCount;
	uint32 cancels = QueryCancelHoldoffCount;
	char message[sizeof(PARAMETER) + LSN_TEXT_SIZE];
	int len = sizeof(PARAMETER);

	if (whereToSendOutput != DestRemote)
		return;
	memcpy(message, PARAMETER, sizeof(PARAMETER));
	len += snprintf(message + len, sizeof(message) - len, CA_LSN_TEXT, LSN_FORMAT_ARGS(lsn)) + 1;
	PG_TRY();
	{
		PqCommMethods->putmessage_noblock('S', message, len);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		InterruptHoldoffCount = interrupts;
		QueryCancelHoldoffCount = cancels;
	}
	PG_END_TRY();
}
