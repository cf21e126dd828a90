/*
 * open.c: transactions that logged messages and have not ended, each with what it logged so far.
 *
 * Messages carry the id of the subtransaction that logged them, so each of those has an entry of its
 * own. Which of them belong together is known when the top level transaction ends: the record of its
 * commit or PREPARE lists those that committed, at whatever depth, and they are merged into it. The
 * abort of a subtransaction has a record too. Until then parent and child know nothing of each other:
 * a child may have much and its parent nothing, or no entry at all.
 *
 * An entry is in one of these states, and every function here takes it in any:
 *
 *	empty   no bytes: it was only just made for its children, or nothing of it can be read
 *	small   its entries, in memory
 *	large   no bytes, only where its first and last message lie: they are read again when it has
 *	        committed (reread.c). It becomes so past OPEN_LIMIT bytes, when all together are past
 *	        ALL_OPEN_LIMIT, or when one that is merged into it is.
 *
 * DDL that replaces what keys are worked out with meets all that are open when its commit is read
 * (transaction/computed.c says why): what it has, all of it, is theirs too, and its range. Nearly always
 * they are those few that stand between their messages and their commit record, and prepared ones. Each
 * remembers whom it met, four bytes for each, as it does its children; past MOST_CHILDREN it asks for a
 * resync when it commits.
 *
 * Memory: the table in the context given, commits in the caller's, for they are handed over. All bytes
 * together stay below ALL_OPEN_LIMIT and one message; the number of entries is the caller's to bound,
 * with ca_open_forget_all. Out of memory raises, and the caller may give the same record again: at
 * worst something is in it twice.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "log/log.h"
#include "log/open.h"

#include "access/transam.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define OPEN_LIMIT (256 * 1024)
#define ALL_OPEN_LIMIT (32 * 1024 * 1024)
#define MOST_CHILDREN 65536

typedef struct OpenTransaction
{
	TransactionId xid; /* hash key */
	bool prepared;
	CaCommit *commit; /* what is known of it so far */
} OpenTransaction;

struct CaOpenSet
{
	MemoryContext commit_cxt;
	HTAB *table;
	Size bytes;        /* of entries, in all commits */
	XLogRecPtr oldest; /* first message of any; invalid: not known */
};

CaOpenSet *
ca_open_create(MemoryContext cxt, MemoryContext commit_cxt)
{
	CaOpenSet *set = MemoryContextAllocZero(cxt, sizeof(CaOpenSet));
	HASHCTL ctl = {0};

	ctl.keysize = sizeof(TransactionId);
	ctl.entrysize = sizeof(OpenTransaction);
	ctl.hcxt = cxt;
	set->commit_cxt = commit_cxt;
	set->table = hash_create("cache_aside open transactions", 64, &ctl,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return set;
}

void
ca_open_close(CaOpenSet *set)
{
	ca_open_forget_all(set);
	hash_destroy(set->table);
	pfree(set);
}

long
ca_open_count(const CaOpenSet *set)
{
	return hash_get_num_entries(set->table);
}

static OpenTransaction *
find(CaOpenSet *set, TransactionId xid)
{
	return hash_search(set->table, &xid, HASH_FIND, NULL);
}

/* Takes it out of the table; what it has is the caller's. */
static CaCommit *
take_out(CaOpenSet *set, OpenTransaction *open)
{
	CaCommit *commit = open->commit;

	set->bytes -= commit->entries.len;
	if (commit->first == set->oldest)
		set->oldest = InvalidXLogRecPtr;
	hash_search(set->table, &open->xid, HASH_REMOVE, NULL);
	return commit;
}

static void
forget(CaOpenSet *set, OpenTransaction *open)
{
	ca_committed_free(take_out(set, open));
}

/* Its entry, made if there is none. */
static CaCommit *
note_open(CaOpenSet *set, TransactionId xid)
{
	OpenTransaction *open = find(set, xid);

	if (open == NULL)
	{
		CaCommit *commit = MemoryContextAllocZero(set->commit_cxt, sizeof(CaCommit));

		open = hash_search(set->table, &xid, HASH_ENTER, NULL);
		open->prepared = false;
		open->commit = commit;
		commit->xid = xid;
	}
	return open->commit;
}

/* It has something at `lsn`. Records come in log order, so only merging makes `first` earlier. */
static void
note_place(CaCommit *commit, XLogRecPtr lsn)
{
	if (XLogRecPtrIsInvalid(commit->first) || lsn < commit->first)
		commit->first = lsn;
	commit->last = Max(commit->last, lsn);
}

/* Keep only the range. */
static void
make_large(CaOpenSet *set, CaCommit *commit)
{
	commit->large = true;
	if (commit->entries.data == NULL)
		return;
	set->bytes -= commit->entries.len;
	pfree(commit->entries.data);
	memset(&commit->entries, 0, sizeof(commit->entries));
}

/* Not initStringInfo: a kilobyte for each of many would be much. */
static void
begin_entries(CaOpenSet *set, CaCommit *commit, Size len)
{
	commit->entries.maxlen = (int) len + 1;
	commit->entries.data = MemoryContextAlloc(set->commit_cxt, commit->entries.maxlen);
	commit->entries.data[0] = '\0';
}

static void
append(CaOpenSet *set, CaCommit *commit, const char *entries, Size len)
{
	if (commit->large || len == 0)
		return;
	if (commit->entries.len + len > OPEN_LIMIT || set->bytes + len > ALL_OPEN_LIMIT)
	{
		make_large(set, commit);
		return;
	}
	if (commit->entries.data == NULL)
		begin_entries(set, commit, len);
	appendBinaryStringInfo(&commit->entries, entries, (int) len);
	set->bytes += len;
}

void
ca_open_add(CaOpenSet *set, TransactionId xid, XLogRecPtr lsn, const CaMessage *message)
{
	CaCommit *commit = note_open(set, xid);

	note_place(commit, lsn);
	commit->async |= message->async_commit;
	commit->key_ddl |= message->key_ddl;
	append(set, commit, message->next, message->end - message->next);
}

void
ca_open_add_unread(CaOpenSet *set, TransactionId xid, XLogRecPtr lsn, const char *why)
{
	CaCommit *commit = note_open(set, xid);

	note_place(commit, lsn);
	commit->unread = why;
}

/* ---- the end of a transaction ---- */

static void
merge(CaOpenSet *set, CaCommit *parent, const CaCommit *child)
{
	note_place(parent, child->first);
	note_place(parent, child->last);
	parent->async |= child->async;
	parent->key_ddl |= child->key_ddl;
	if (child->unread)
		parent->unread = child->unread;
	if (child->large)
		make_large(set, parent);
	append(set, parent, child->entries.data, child->entries.len);
	ca_committed_add_child(parent, child->xid);
}

/* Merges what its subtransactions have; they are no entries of their own from here on. */
static void
adopt(CaOpenSet *set, TransactionId xid, int nsubxacts, const TransactionId *subxacts)
{
	for (int i = 0; i < nsubxacts && ca_open_count(set) > 0; i++)
	{
		OpenTransaction *child = find(set, subxacts[i]);

		if (child == NULL || subxacts[i] == xid)
			continue;
		merge(set, note_open(set, xid), child->commit);
		forget(set, child);
	}
}

void
ca_open_prepare(CaOpenSet *set, TransactionId xid, int nsubxacts, const TransactionId *subxacts)
{
	OpenTransaction *open;

	adopt(set, xid, nsubxacts, subxacts);
	open = find(set, xid);
	if (open)
		open->prepared = true;
}

CaCommit *
ca_open_take(CaOpenSet *set, TransactionId xid, int nsubxacts, const TransactionId *subxacts)
{
	OpenTransaction *open;

	adopt(set, xid, nsubxacts, subxacts);
	open = find(set, xid);
	return open ? take_out(set, open) : NULL;
}

/*
 * DDL that may change what keys are called has committed. Whoever is open may have worked out keys with what it
 * replaced, and cannot have seen it (transaction/computed.c): it deletes the DDL's patterns, too. Its `first` moves to
 * the DDL's, so that reading never resumes between the two.
 */
void
ca_open_meet(CaOpenSet *set, const CaCommit *ddl)
{
	HASH_SEQ_STATUS scan;
	OpenTransaction *open;

	if (ca_open_count(set) == 0)
		return;
	hash_seq_init(&scan, set->table);
	while ((open = hash_seq_search(&scan)) != NULL)
	{
		CaCommit *commit = open->commit;
		bool key_ddl = commit->key_ddl;

		merge(set, commit, ddl);
		for (int i = 0; i < ddl->nchildren; i++)
			ca_committed_add_child(commit, ddl->children[i]);
		commit->key_ddl = key_ddl;
		if (commit->nchildren > MOST_CHILDREN)
			commit->unread = "a transaction was open while more DDL committed than is remembered";
	}
	set->oldest = InvalidXLogRecPtr;
}

void
ca_open_abort(CaOpenSet *set, TransactionId xid, int nsubxacts, const TransactionId *subxacts)
{
	for (int i = -1; i < nsubxacts && ca_open_count(set) > 0; i++)
	{
		OpenTransaction *open = find(set, i < 0 ? xid : subxacts[i]);

		if (open)
			forget(set, open);
	}
}

void
ca_open_prune(CaOpenSet *set, TransactionId oldest)
{
	HASH_SEQ_STATUS scan;
	OpenTransaction *open;

	if (ca_open_count(set) == 0)
		return;
	hash_seq_init(&scan, set->table);
	while ((open = hash_seq_search(&scan)) != NULL)
		if (!open->prepared &&
			(!TransactionIdIsValid(oldest) || TransactionIdPrecedes(open->xid, oldest)))
			forget(set, open);
}

TransactionId
ca_open_newest(CaOpenSet *set)
{
	TransactionId newest = InvalidTransactionId;
	HASH_SEQ_STATUS scan;
	OpenTransaction *open;

	hash_seq_init(&scan, set->table);
	while ((open = hash_seq_search(&scan)) != NULL)
		if (!TransactionIdIsValid(newest) || TransactionIdFollows(open->xid, newest))
			newest = open->xid;
	return newest;
}

void
ca_open_forget_all(CaOpenSet *set)
{
	HASH_SEQ_STATUS scan;
	OpenTransaction *open;

	hash_seq_init(&scan, set->table);
	while ((open = hash_seq_search(&scan)) != NULL)
		forget(set, open);
}

/* Asked with each batch, so it is kept until the entry that it is of goes. */
XLogRecPtr
ca_open_oldest(CaOpenSet *set)
{
	HASH_SEQ_STATUS scan;
	OpenTransaction *open;

	if (ca_open_count(set) == 0 || !XLogRecPtrIsInvalid(set->oldest))
		return ca_open_count(set) == 0 ? InvalidXLogRecPtr : set->oldest;
	hash_seq_init(&scan, set->table);
	while ((open = hash_seq_search(&scan)) != NULL)
		if (XLogRecPtrIsInvalid(set->oldest) || open->commit->first < set->oldest)
			set->oldest = open->commit->first;
	return set->oldest;
}
