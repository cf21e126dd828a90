/*
 * open.h: transactions that logged messages and have not ended; see open.c.
 */
#ifndef CA_OPEN_H
#define CA_OPEN_H

#include "cache_aside.h"
#include "common/common.h"
#include "log/log.h"

typedef struct CaOpenSet CaOpenSet;

extern CaOpenSet *ca_open_create(MemoryContext cxt, MemoryContext commit_cxt);
extern void ca_open_close(CaOpenSet *set);
extern long ca_open_count(const CaOpenSet *set);
extern XLogRecPtr ca_open_oldest(CaOpenSet *set); /* first message of any; invalid: there is none */

/* What the log says, record by record. `lsn` is the start of the record. */
extern void ca_open_add(CaOpenSet *set, TransactionId xid, XLogRecPtr lsn,
						const CaMessage *message);
/* It has something to deliver that cannot be read: its commit asks for a resync. */
extern void ca_open_add_unread(CaOpenSet *set, TransactionId xid, XLogRecPtr lsn, const char *why);
extern void ca_open_prepare(CaOpenSet *set, TransactionId xid, int nsubxacts,
							const TransactionId *subxacts);
/* It committed: all it has is the caller's now. NULL: nothing. */
extern CaCommit *ca_open_take(CaOpenSet *set, TransactionId xid, int nsubxacts,
							  const TransactionId *subxacts);
/* DDL with patterns has committed, and these were open. */
extern void ca_open_meet(CaOpenSet *set, const CaCommit *ddl);
extern void ca_open_abort(CaOpenSet *set, TransactionId xid, int nsubxacts,
						  const TransactionId *subxacts);
/* Forgets those that ended without a record: older than `oldest`, or invalid: all; not prepared ones. */
extern void ca_open_prune(CaOpenSet *set, TransactionId oldest);
extern TransactionId ca_open_newest(CaOpenSet *set); /* invalid: there is none */
extern void ca_open_forget_all(CaOpenSet *set);

#endif
