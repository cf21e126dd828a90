/*
 * begins.c: a rule begins to cover a table, a name, or one more kind of writes.
 *
 *	reads row 5 of the old table, with a token		client
 *	changes row 5: no rule, no key					writer
 *	attach(): keys are deleted from now on			owner
 *	fills user:5 with the old row					client
 *
 * The guard knows of no change to user:5, and would let that in; nothing deletes it until the row is written
 * again. So whatever makes a rule cover what it did not cover deletes its pattern, at the commit that does:
 *
 *	CREATE TRIGGER in every form (attach, attach_query, attach_like, by hand, OR REPLACE, a restore), and the
 *	copies that partitions get												object access hook, POST_CREATE
 *	a trigger that fires for more than before (ENABLE TRIGGER, ALWAYS)		object access hook, POST_ALTER
 *	a rule of a materialized view											view_rule.c
 *	a table, view or schema that gets another name: whoever reads by that	renamed.c
 *	name reads the rows of another table from now on
 *	rows that come below a table with rules									ddl.c, altered.c
 *	another key_prefix														the worker, by the prefixes in the log
 *
 * Why that is enough. W is the last writer that the rule missed. CREATE TRIGGER and ENABLE TRIGGER take SHARE
 * ROW EXCLUSIVE, the others more: all wait until W's lock is gone, and W lets go only when its commit is
 * visible. So the commit A that carries the pattern is written to the log after every snapshot that misses W was
 * taken. The token of such a snapshot names a place that the worker had read before an older snapshot of its own:
 * before A. Delivering A raises the guard's floor to A and deletes what matches. A fill before that is deleted,
 * one after it is refused. Whoever writes after A has the triggers. If the transaction rolls back, there is neither
 * rule nor pattern.
 *
 * A pattern too many costs a scan and a cold cache: each transaction has it once, however many triggers, and
 * the worker scans once for all that wait. A table that never held a row brings nothing, and nobody can have
 * read one: a partition that is made ahead of time deletes nothing.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "transaction/transaction.h"
#include "rules/rules.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * Has the relation never held a row? No block, its first file (TRUNCATE makes another), and no VACUUM that could
 * have given blocks back. One that has no file holds the rows of those below it, from before as well, unless
 * this transaction made it.
 */
static bool
is_new(Oid relid)
{
	Relation relation = try_relation_open(relid, AccessShareLock);
	bool new = false;

	if (relation == NULL)
		return false;
	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		new = relation->rd_createSubid != InvalidSubTransactionId;
	else if (relation->rd_rel->relkind == RELKIND_RELATION)
		new = RelationGetNumberOfBlocks(relation) == 0 && relation->rd_rel->reltuples < 0 &&
			  relation->rd_rel->relfilenode == relid;
	relation_close(relation, AccessShareLock);
	return new;
}

/* False also of a relation that is not there. */
bool
ca_begins_is_new(Oid relid)
{
	List *tree = ca_relatives_tree(relid, NoLock);
	ListCell *cell;

	foreach (cell, tree)
		if (!is_new(lfirst_oid(cell)))
			return false;
	return tree != NIL;
}

/* Writes that a trigger fires for, by pg_trigger.tgenabled: those of clients, and replicated ones. */
static int
writes_of(char enabled)
{
	switch (enabled)
	{
		case TRIGGER_FIRES_ALWAYS:
			return 3;
		case TRIGGER_FIRES_ON_REPLICA:
			return 2;
		case TRIGGER_FIRES_ON_ORIGIN:
			return 1;
		default:
			return 0;
	}
}

static void
add_rule(const CaTriggerFacts *trigger)
{
	const char *pattern = ca_rule_name_pattern(trigger->nargs, trigger->args);

	if (pattern != NULL && !CA_DEBUG_SKIP("begins"))
		ca_entries_add_rule_pattern(pattern);
}

/* Inside the command that made or changed the trigger: the catalog has it as it was, SnapshotSelf as it is. */
void
ca_begins_note_trigger(ObjectAccessType access, Oid trigger)
{
	CaTriggerFacts before;
	CaTriggerFacts now;

	if (!ca_rule_trigger_find(trigger, SnapshotSelf, &now) || now.kind == CA_TRIGGER_NONE)
		return;
	if (access == OAT_POST_ALTER && ca_rule_trigger_find(trigger, NULL, &before) &&
		(writes_of(now.enabled) & ~writes_of(before.enabled)) == 0)
		return;
	if (!OidIsValid(now.parent) || !ca_begins_is_new(now.relid))
		add_rule(&now);
}

/* A partition's copies are its parent's, which is read by its own name. */
void
ca_begins_note_name(Oid relid)
{
	ListCell *cell;

	if (!ca_switches_ddl())
		return;
	foreach (cell, ca_rule_trigger_list(relid))
	{
		CaTriggerFacts *trigger = lfirst(cell);

		if (!OidIsValid(trigger->parent))
			add_rule(trigger);
	}
	ca_view_rule_add_patterns(relid);
}
