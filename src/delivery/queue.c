/*
 * queue.c: commits that are read and not completely sent, in log order; which of them are visible.
 *
 * A commit record can be read before its transaction is visible to others (flushed, but waiting for
 * a synchronous standby). Deleting then would let a reader put the old row back, so a commit waits
 * until a snapshot taken after reading says that it no longer runs. It holds back the confirmed LSN
 * and the visible LSN, but not the delivery of others.
 *
 * Nobody here stops the tap but a Redis that is slow, and then there is nothing to gain by reading on:
 *
 *	visible, not sent	at most QUEUE_LIMIT commits and QUEUE_BYTES; then the tap waits
 *	blocked				scan.c has no room for their next pattern, for minutes maybe. Past BLOCKED_LIMIT they
 *						are put into the backlog: one large commit that is the range of all of them and has
 *						the ids of their transactions, four bytes each. It is read again from the log when
 *						there is room, from its beginning: what was sent of them is sent twice. One that is
 *						being read again gets no more; the next is put into a new one. At MOST_BEHIND the
 *						tap waits after all
 *	not visible			each belongs to a process or a prepared transaction that has not ended, so their
 *						number is bounded; past INVISIBLE_BYTES their entries are dropped and will be read
 *						again from the log. DDL that replaces what keys are worked out with, and whose
 *						commit is read meanwhile, is theirs too: they become large, with its range
 *	sent				they wait for a scan or a resync, for minutes maybe, and need nothing but their
 *						place. Past WAITING_LIMIT those that wait for the same are merged into one, which
 *						is the range from the first's beginning to the last's end. A range says less:
 *						synchronous committers in it are told when the confirmed LSN passes them
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "shared/shared.h"
#include "shared/sync.h"
#include "log/log.h"
#include "delivery/delivery.h"

#include "access/xact.h"
#include "lib/ilist.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"

#define QUEUE_LIMIT 8192
#define QUEUE_BYTES (16 * 1024 * 1024)
#define INVISIBLE_BYTES (8 * 1024 * 1024)
#define WAITING_LIMIT 1024
#define BLOCKED_LIMIT 1024
#define BLOCKED_BYTES (4 * 1024 * 1024)
#define MOST_BEHIND 4194304 /* ids in the backlog, 16 MB; a gigabyte of log has as many */
#define COLLECTORS 16

/* Of the log: commits that have not been taken by any sink's batch. */
static dlist_head queue = DLIST_STATIC_INIT(queue);
static int queued;
static Size queued_bytes;
static int invisible;                    /* of those queued */
static int waiting;                      /* of those queued, for a scan or a resync */
static int blocked;                      /* of those queued, and not in the backlog */
static Size blocked_bytes;               /* of their entries */
static CaCommit *backlog;                /* of those queued; it may get more */
static bool backlog_prefixes;            /* its transactions say under which prefixes */
static Size invisible_bytes;             /* of those queued, as of the last look */
static CaCommit *collectors[COLLECTORS]; /* of those waiting: others are merged into them */
static int ncollectors;
static bool async_seen; /* an asynchronous commit carried keys, ever */
static uint64 added;    /* commits, ever */

void
ca_queue_reset(void)
{
	while (!dlist_is_empty(&queue))
		ca_committed_free(dlist_container(CaCommit, node, dlist_pop_head_node(&queue)));
	queued = invisible = waiting = blocked = ncollectors = 0;
	queued_bytes = blocked_bytes = 0;
	backlog = NULL;
}

dlist_head *
ca_queue_list(void)
{
	return &queue;
}

bool
ca_queue_async(void)
{
	return async_seen;
}

/* Start of the first message of any of them; invalid: the queue is empty. */
XLogRecPtr
ca_queue_first_message(void)
{
	XLogRecPtr first = InvalidXLogRecPtr;
	dlist_iter iter;

	dlist_foreach (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (XLogRecPtrIsInvalid(first) || commit->first < first)
			first = commit->first;
	}
	return first;
}

static void
drop_entries(CaCommit *commit)
{
	queued_bytes -= commit->entries.len;
	if (commit->entries.data)
		pfree(commit->entries.data);
	memset(&commit->entries, 0, sizeof(commit->entries));
}

/* As ca_open_meet(), for those that have committed and that nobody sees yet. */
static void
meet_invisible(const CaCommit *ddl)
{
	dlist_iter iter;

	dlist_foreach (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->visible)
			continue;
		drop_entries(commit); /* of both, they are read again from the log */
		commit->large = true;
		commit->first = Min(commit->first, ddl->first);
		commit->last = Max(commit->last, ddl->last);
		ca_committed_add_child(commit, ddl->xid);
		for (int i = 0; i < ddl->nchildren; i++)
			ca_committed_add_child(commit, ddl->children[i]);
		if (ddl->unread)
			commit->unread = ddl->unread;
	}
}

void
ca_queue_add(void *unused, CaCommit *commit)
{
	if (commit->key_ddl && invisible > 0)
		meet_invisible(commit);
	dlist_push_tail(&queue, &commit->node);
	queued++;
	added++;
	invisible++;
	async_seen |= commit->async;
	queued_bytes += commit->entries.len;
}

uint64
ca_queue_commits(void)
{
	return added;
}

bool
ca_queue_full(void)
{
	return queued - invisible - waiting >= QUEUE_LIMIT || queued_bytes >= QUEUE_BYTES;
}

bool
ca_queue_waits(void)
{
	return invisible > 0;
}

static bool
is_awaited(const CaCommit *commit, const CaAwaited *awaited)
{
	if (commit->start >= awaited->lsn)
		return false;
	if (awaited->kind == CA_AWAITED_COMMIT)
		return awaited->lsn <= commit->end;
	if (awaited->kind == CA_AWAITED_PREPARED &&
		(!commit->prepared || commit->end <= awaited->since))
		return false;
	return commit->visible; /* the waiter's own is */
}

bool
ca_queue_owes(dlist_head *list, const CaAwaited *awaited)
{
	dlist_iter iter;

	dlist_foreach (iter, list)
		if (is_awaited(dlist_container(CaCommit, node, iter.cur), awaited))
			return true;
	return false;
}

CaCommit *
ca_queue_oldest(void)
{
	return dlist_is_empty(&queue) ? NULL : dlist_head_element(CaCommit, node, &queue);
}

void
ca_queue_take(CaCommit *commit)
{
	ca_queue_unblock(commit);
	dlist_delete(&commit->node);
	queued--;
	waiting -= commit->waits;
	queued_bytes -= commit->entries.len;
	if (backlog == commit)
		backlog = NULL;
	for (int i = 0; i < ncollectors; i++)
		if (collectors[i] == commit)
			collectors[i--] = collectors[--ncollectors];
}

/* ---- several in one ---- */

/* The queue is in the order of `start`, and merging keeps the lower one. */
static void
merge(CaCommit *into, CaCommit *commit)
{
	if (commit->start < into->start)
	{
		dlist_delete(&into->node);
		dlist_insert_before(&commit->node, &into->node);
	}
	into->start = Min(into->start, commit->start);
	into->end = Max(into->end, commit->end);
	into->first = Min(into->first, commit->first);
	into->time = Min(into->time, commit->time);
	into->scan = Max(into->scan, commit->scan);
	into->resync = Max(into->resync, commit->resync);
	into->prepared |= commit->prepared;
	into->others += 1 + commit->others;
	ca_queue_take(commit);
	ca_committed_free(commit);
}

/* ---- those that wait for a scan or a resync ---- */

/*
 * Tickets are few, so nearly always there is a collector for the same; if not, the newest waits for
 * both, and gets no more once others are gone.
 */
static void
collect(CaCommit *commit)
{
	for (int i = 0; i < ncollectors; i++)
		if (collectors[i]->scan == commit->scan && collectors[i]->resync == commit->resync)
		{
			merge(collectors[i], commit);
			return;
		}
	if (ncollectors < COLLECTORS)
		collectors[ncollectors++] = commit;
	else
		merge(collectors[COLLECTORS - 1], commit);
}

/* All its keys are sent; it has tickets. It may be gone after this. */
void
ca_queue_wait(CaCommit *commit)
{
	drop_entries(commit);
	commit->waits = true;
	waiting++;
	if (waiting > WAITING_LIMIT)
		collect(commit);
}

/* ---- those whose next pattern has no room ---- */

void
ca_queue_unblock(CaCommit *commit)
{
	if (!commit->blocked)
		return;
	commit->blocked = false;
	blocked--;
	blocked_bytes -= commit->entries.len;
}

/* It has begun by now, and may have got beyond the entry that says so. */
static bool
names_prefixes(const CaCommit *commit)
{
	CaMessage all = {.next = commit->entries.data,
					 .end = commit->entries.data + commit->entries.len};
	CaEntry entry;

	while (ca_record_next(&all, &entry))
		if (entry.kind == CA_ENTRY_PREFIXES)
			return true;
	return false;
}

/* What was sent of it, or asked for, stays so. */
static void
begin_backlog(CaCommit *commit)
{
	backlog = commit;
	backlog_prefixes = names_prefixes(commit);
	ca_queue_unblock(commit);
	drop_entries(commit);
	memset(&commit->cursor, 0, sizeof(commit->cursor));
	commit->large = true;
	commit->begun = false;
}

static void
put_into_backlog(CaCommit *commit)
{
	ca_committed_add_child(backlog, commit->xid);
	for (int i = 0; i < commit->nchildren; i++)
		ca_committed_add_child(backlog, commit->children[i]);
	backlog->last = Max(backlog->last, commit->last);
	if (commit->unread)
		backlog->unread = commit->unread;
	merge(backlog, commit);
}

/*
 * Called in each round in which it is still so. The commit may be gone after this. A large one needs no
 * memory, and is seldom enough: each is many kilobytes of log.
 */
void
ca_queue_block(CaCommit *commit)
{
	if (commit->large)
		return;
	if (!commit->blocked)
	{
		commit->blocked = true;
		blocked++;
		blocked_bytes += commit->entries.len;
	}
	if (blocked <= BLOCKED_LIMIT && blocked_bytes <= BLOCKED_BYTES)
		return;
	if (backlog == NULL || backlog->begun || backlog_prefixes != names_prefixes(commit))
		begin_backlog(commit);
	else if (backlog->nchildren < MOST_BEHIND)
		put_into_backlog(commit);
}

/* ---- visibility ---- */

/* They are read again from the log, once they are visible. */
static void
forget_invisible(void)
{
	dlist_iter iter;

	dlist_foreach (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (invisible_bytes <= INVISIBLE_BYTES / 2)
			return;
		if (commit->visible || commit->entries.len == 0)
			continue;
		invisible_bytes -= commit->entries.len;
		drop_entries(commit);
		commit->large = true;
	}
}

static XLogRecPtr
mark_visible(Snapshot snapshot, XLogRecPtr read_end)
{
	XLogRecPtr visible = read_end;
	dlist_iter iter;

	invisible_bytes = 0;
	dlist_foreach (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->visible)
			continue;
		if (XidInMVCCSnapshot(commit->xid, snapshot) && !CA_DEBUG_SKIP("commit"))
		{
			visible = Min(visible, commit->start);
			invisible_bytes += commit->entries.len;
		}
		else
		{
			commit->visible = true;
			invisible--;
		}
	}
	if (invisible_bytes > INVISIBLE_BYTES)
		forget_invisible();
	return visible;
}

/*
 * Takes one snapshot after everything queued was read, and lets go of it before any I/O. (Asking
 * TransactionIdIsInProgress instead is wrong in a process without transactions of its own.) Returns
 * the visible LSN, given the end of what was read. Unless `timeline` is 0 it is noted for tokens.
 */
XLogRecPtr
ca_queue_look(XLogRecPtr read_end, TimeLineID timeline, TransactionId *oldest_running)
{
	MemoryContext caller = CurrentMemoryContext;
	XLogRecPtr visible;
	Snapshot snapshot;

	StartTransactionCommand();
	snapshot = GetTransactionSnapshot();
	visible = mark_visible(snapshot, read_end);
	if (timeline != 0)
		ca_read_token_sample(snapshot, visible, timeline);
	*oldest_running = ca_prepared_oldest(snapshot);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return visible;
}

/* A standby that does not deliver keeps the queue for the visible LSN alone. */
void
ca_queue_discard_visible(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (!commit->visible)
			continue;
		ca_queue_take(commit);
		ca_committed_free(commit);
	}
}
