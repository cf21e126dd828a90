/*
 * queue.c: commits that are read and not completely sent, in log order; which of them are visible.
 *
 * A commit record can be read before its transaction is visible to others (flushed, but waiting for
 * a synchronous standby). Deleting then would let a reader put the old row back, so a commit waits
 * until a snapshot taken after reading says that it no longer runs. It holds back the confirmed LSN
 * and the visible LSN, but not the delivery of others.
 *
 * Memory is bounded: the tap is stopped while more than QUEUE_LIMIT commits or QUEUE_BYTES are here.
 */
#include "worker.h"
#include "debug.h"

#include "access/xact.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"

#define QUEUE_LIMIT 8192
#define QUEUE_BYTES (16 * 1024 * 1024)

static dlist_head queue = DLIST_STATIC_INIT(queue);
static int queued;
static Size queued_bytes;
static int invisible;   /* of those queued */
static bool async_seen; /* an asynchronous commit carried keys, ever */

void
ca_commit_free(CaCommit *commit)
{
	if (commit->entries.data)
		pfree(commit->entries.data);
	if (commit->children)
		pfree(commit->children);
	pfree(commit);
}

void
ca_queue_reset(void)
{
	while (!dlist_is_empty(&queue))
		ca_commit_free(dlist_container(CaCommit, node, dlist_pop_head_node(&queue)));
	queued = invisible = 0;
	queued_bytes = 0;
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

void
ca_queue_add(void *unused, CaCommit *commit)
{
	dlist_push_tail(&queue, &commit->node);
	queued++;
	invisible++;
	async_seen |= commit->async;
	queued_bytes += commit->entries.len;
}

bool
ca_queue_full(void)
{
	return queued >= QUEUE_LIMIT || queued_bytes >= QUEUE_BYTES;
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
	dlist_delete(&commit->node);
	queued--;
	queued_bytes -= commit->entries.len;
}

/* ---- visibility ---- */

static XLogRecPtr
mark_visible(Snapshot snapshot, XLogRecPtr read_end)
{
	XLogRecPtr visible = read_end;
	dlist_iter iter;

	dlist_foreach (iter, &queue)
	{
		CaCommit *commit = dlist_container(CaCommit, node, iter.cur);

		if (commit->visible)
			continue;
		if (XidInMVCCSnapshot(commit->xid, snapshot) && !CA_DEBUG_SKIP("commit"))
			visible = Min(visible, commit->start);
		else
		{
			commit->visible = true;
			invisible--;
		}
	}
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
		ca_token_sample(snapshot, visible, timeline);
	*oldest_running = snapshot->xmin;
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
		ca_commit_free(commit);
	}
}
