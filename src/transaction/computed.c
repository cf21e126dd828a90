/*
 * computed.c: keys that were worked out with what DDL may replace: a function, a label of an enum, a row type.
 *
 * T works out a key with a function; D replaces it and commits, and the rule's pattern is deleted; a reader caches the row
 * under its new key; T commits and names the old one. The new one would be stale for ever. So T deletes the rule's pattern
 * in addition, or D's patterns are deleted again with T's keys. Who sees which:
 *
 *	D counts itself as begun before its commit record is written, and as ended when it is visible and its invalidation
 *	messages are sent (replacing.c). T, before its first such key: reads the count, then takes in invalidation messages.
 *	When none is under way, it computes with all that had ended. At pre-commit T logs its keys, then looks at the count
 *	again.
 *
 *	D begins before T's second look, and had not ended at the first
 *			T sees it, and adds its rules' patterns
 *	D begins after T's second look
 *			its commit record is behind T's first message: the worker meets it while T is open, or not yet visible, and
 *			gives D's patterns to T (open.c, queue.c)
 *
 * There is no third. A transaction whose query yielded no key logs an empty message, so that the worker knows it. Keys that
 * come after the second look (another library's pre-commit callback writes rows) bring their rule's pattern with them, once
 * for each rule; in a subtransaction each time, for what it logged goes if it is rolled back.
 *
 * The patterns noted live as long as the transaction; a savepoint that is rolled back leaves them, which deletes too much.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "shared/shared.h"
#include "transaction/transaction.h"

#include "access/xact.h"
#include "utils/inval.h"
#include "utils/memutils.h"

static List *patterns; /* of rules, in TopTransactionContext */
static uint64 turn;    /* in which they were noted; another: there are none */
static uint64 begun;   /* DDL, when the first was noted */
static bool quiet;     /* ... and had ended */

static bool
is_noted(const char *pattern)
{
	ListCell *cell;

	foreach (cell, patterns)
		if (strcmp(lfirst(cell), pattern) == 0)
			return true;
	return false;
}

/* When the transaction's keys are logged. */
static void
look_again(void)
{
	bool now_quiet;
	ListCell *cell;

	ca_pending_show_itself();
	if (CA_DEBUG_SKIP("computed-look"))
		return;
	if (!quiet || ca_key_ddl_count(&now_quiet) != begun)
		foreach (cell, patterns)
			ca_entries_add_rule_pattern(lfirst(cell));
	CA_DEBUG_POINT("computed-looked");
}

static void
begin(void)
{
	patterns = NIL; /* those of the last transaction went with its memory */
	begun = ca_key_ddl_count(&quiet);
	AcceptInvalidationMessages();
	turn = ca_pending_turn;
	ca_pending_when_logged = look_again;
}

static void
note_early(const char *pattern)
{
	MemoryContext previous;

	if (turn != ca_pending_turn)
		begin();
	if (is_noted(pattern))
		return;
	previous = MemoryContextSwitchTo(TopTransactionContext);
	patterns = lappend(patterns, pstrdup(pattern));
	MemoryContextSwitchTo(previous);
}

/* What is noted stays so for as long as the turn. */
void
ca_computed_note_first(const char *pattern, uint64 *noted)
{
	bool late = ca_pending_is_logged();

	if (late)
		ca_entries_add_rule_pattern(pattern);
	else
		note_early(pattern);
	if (!late || GetCurrentTransactionNestLevel() == 1)
		*noted = ca_pending_turn;
}
