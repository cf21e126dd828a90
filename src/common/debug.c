/*
 * debug.c: the process that reaches a named point stops, dies, or skips a remedy; see debug.h.
 *
 * Points, in the order in which the worker comes by:
 *	claimed          the position was read from Redis, nothing decided yet
 *	caught-up        everything was read that was in the log when it connected
 *	log-read         a round has read log, and not yet looked at what is visible
 *	resync-begins    the databases' rules are about to be read
 *	visit-begins     the list of databases is made, one is about to be visited
 *	scan-begins      the first SCAN of a pass is about to be sent
 *	batch-begins     keys are chosen, nothing is sent
 *	batch-sent       a batch is queued for the socket
 *	batch-answered   Redis has applied a batch
 *	page-read        a page of log is about to be read, in the middle of a record maybe
 *	reread-later     a large transaction's log is read on in another round
 *	signals          the worker answers signals
 *	wants-commits    commits shall wake it from now on, as nobody knows yet
 *	publish-begins   the worker is about to publish replicas, whether there are any or not
 *	crash-noted      the server crashed, and the log is about to say so; in a transaction
 *	stops            the server stops, what is in the log is about to be delivered
 *	slot-moves       the slot is held, its restart LSN about to move
 *	poison-read      a message was read that has the word "poison" in it
 *	poison-key       a key with that word is put into a batch
 * In a backend that commits:
 *	chunk-logged     one message of the transaction is in the log
 *	computed-looked  it has looked a second time whether DDL replaced what its keys were worked out with
 * Remedies that can be skipped:
 *	commit           deliver at PREPARE, without asking whether the transaction is visible or ever
 *	                 will be
 *	position         read on from the end of the log when connecting, not from the position
 *	promotion        after a promotion neither resync nor raise the guard's floor
 *	read             this round reads no log
 *	prepared         COMMIT PREPARED delivers nothing
 *	rollback-to      what a rolled-back savepoint added stays
 *	old-key          an UPDATE gives the new key alone
 *	merge, watch, named, truncate-clone	merge.c, watch.c's look at renamed columns, reach.c's at query
 *	                 rules, the TRUNCATE triggers of partitions
 *	begins           a rule that begins to cover a table deletes nothing
 *	newest           a query rule sees no more than its transaction's snapshot
 *	computed-look    a transaction does not look at such DDL
 *	start            a read token may be younger than the start of its transaction
 *	reserved         backends log keys whose names are reserved
 *	short-rest       not a remedy: a step that raised rests for as long as it ever does
 *	patience         not a remedy: log that cannot be read is given up at once
 *	clock            not a remedy: the wall clock, as samples for tokens see it, was set back by an hour
 *
 * No lock, no allocation (but for an error); a signal to oneself is delivered before kill() returns.
 */
#include "cache_aside.h"
#include "common/debug.h"

#ifdef CA_DEBUG_POINTS

#include <signal.h>

#include "miscadmin.h"

static char *guc_debug_point;

void
ca_debug_init(void)
{
	DefineCustomStringVariable(
		"cache_aside.debug_point", "What happens at named points, for crash tests.",
		"name=stop, name=kill or name=skip, separated by commas.", &guc_debug_point, "", PGC_SIGHUP,
		GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

/* The action given for a point, NULL for none. */
static const char *
action_of(const char *name)
{
	Size len = strlen(name);

	for (const char *at = guc_debug_point; at && *at; at++)
	{
		if (strncmp(at, name, len) == 0 && at[len] == '=')
			return at + len + 1;
		at = strchr(at, ',');
		if (at == NULL)
			break;
	}
	return NULL;
}

bool
ca_debug_reach(const char *name)
{
	const char *action = action_of(name);

	if (action == NULL)
		return false;
	if (strncmp(action, "stop", 4) == 0)
		kill(MyProcPid, SIGSTOP);
	else if (strncmp(action, "kill", 4) == 0)
		kill(MyProcPid, SIGKILL);
	else if (strncmp(action, "segv", 4) == 0)
		kill(MyProcPid, SIGSEGV);
	else if (strncmp(action, "error", 5) == 0)
		elog(ERROR, "debug point \"%s\"", name);
	return strncmp(action, "skip", 4) == 0;
}

void
ca_debug_poison(const char *name, const char *data, size_t len)
{
	static const char word[] = "poison";

	for (size_t i = 0; i + sizeof(word) - 1 <= len; i++)
		if (memcmp(data + i, word, sizeof(word) - 1) == 0)
		{
			ca_debug_reach(name);
			return;
		}
}

#endif
