/*
 * ddl.c: changes of rows that fire no trigger, because a statement changes the table instead.
 *
 *	DROP TABLE, of a partition, through SCHEMA, OWNED, EXTENSION ...   object access hook
 *	ALTER TABLE that rewrites                                          utility hook, file changed
 *	ATTACH, DETACH PARTITION, INHERIT, NO INHERIT                      utility hook
 *	DDL that writes no row but changes what rows show                  both (altered.c)
 *	a rule comes, or covers more than before                           object access hook (begins.c)
 *	DROP EXTENSION, DROP DATABASE                                      object access hook: a census
 *	COMMIT PREPARED                                                    utility hook, wakes the worker
 *	rules of a partitioned table and its partitions                    utility hook (partition.c)
 *	a version column that must be NOT NULL under a parent              utility hook (version_attach.c)
 *	foreign tables below a rule that works by statement                utility hook (foreign.c)
 *	CREATE TRIGGER by hand                                             utility hook, checked; object
 *	                                                                   access hook: by whom (approval.c)
 *	a table with rules, or its schema, gets another name, or is        object access hook (renamed.c, heir.c)
 *	dropped
 *	a watched column changes                                           both (watch.c)
 *	a new owner                                                        object access hook (approval.c)
 *
 * Input: the statement or the object. Output: the pattern of every rule concerned (reach.c), in the
 * pending set of the same transaction: rolled back with it. cache_aside.ddl_invalidates switches all
 * of that off, but for REFRESH: what that brings are rows.
 *
 * A dropped table's triggers are dropped before it, one by one; the hook remembers what they were
 * and uses it when the table itself goes. Dropping a trigger alone invalidates nothing. The memory
 * belongs to the transaction.
 *
 * DETACH CONCURRENTLY commits in the middle, hence its patterns are added before and after.
 * Relations are looked up by name without a lock before the statement runs; if another session
 * renames them meanwhile, the statement waits or fails on its own lookup, and at worst a pattern too
 * many is deleted.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "transaction/transaction.h"
#include "rows/row_version.h"
#include "rules/rules.h"
#include "shared/long_work.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

typedef struct DroppedTrigger
{
	Oid relid;
	uint64 statement; /* that dropped it */
	char *pattern;    /* NULL: not of a rule */
	char *rule;       /* its name */
	bool truncates;
	char *options; /* of attach; NULL: the trigger tells none */
	List *lost;    /* CaLostRule */
} DroppedTrigger;

typedef struct TableFile
{
	Oid relid;
	Oid file;
} TableFile;

static ProcessUtility_hook_type previous_utility;
static object_access_hook_type previous_access;
static MemoryContext dropped_context; /* child of TopTransactionContext, or NULL */
static List *dropped;                 /* DroppedTrigger, in dropped_context */
static uint64 statements;             /* utility statements that began in this session */

static bool
is_table(Oid relid)
{
	char kind = get_rel_relkind(relid);

	return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE ||
		   kind == RELKIND_FOREIGN_TABLE;
}

/* ---- DROP ---- */

static void
forget_dropped(void *arg)
{
	dropped_context = NULL;
	dropped = NIL;
}

static MemoryContext
dropped_memory(void)
{
	MemoryContextCallback *callback;

	if (dropped_context != NULL)
		return dropped_context;
	dropped_context =
		AllocSetContextCreate(TopTransactionContext, "cache_aside dropped", ALLOCSET_SMALL_SIZES);
	callback = MemoryContextAllocZero(dropped_context, sizeof(*callback));
	callback->func = forget_dropped;
	MemoryContextRegisterResetCallback(dropped_context, callback);
	return dropped_context;
}

static void
note_dropped_trigger(Oid oid)
{
	CaTriggerFacts facts;
	const char *pattern;
	DroppedTrigger *trigger;
	MemoryContext previous;

	if (!ca_rule_trigger_find(oid, NULL, &facts) ||
		(facts.kind == CA_TRIGGER_NONE && !ca_version_settings_is(facts.function)))
		return;
	pattern = facts.kind == CA_TRIGGER_NONE ? NULL : ca_rule_name_pattern(facts.nargs, facts.args);
	previous = MemoryContextSwitchTo(dropped_memory());
	trigger = palloc0(sizeof(*trigger));
	trigger->relid = facts.relid;
	trigger->statement = statements;
	trigger->pattern = pattern ? pstrdup(pattern) : NULL;
	trigger->rule = pstrdup(ca_rule_name_of(facts.nargs, facts.args));
	trigger->truncates = facts.kind == CA_TRIGGER_TABLE;
	trigger->options = ca_heir_options(&facts);
	trigger->lost = ca_heir_describe(&facts, oid);
	dropped = lappend(dropped, trigger);
	MemoryContextSwitchTo(previous);
}

/* What the rule's triggers agree on; a column too few in `columns` would lose keys. */
static const char *
options_of(const DroppedTrigger *trigger, List *of_table)
{
	const char *options = NULL;
	ListCell *cell;

	foreach (cell, of_table)
	{
		DroppedTrigger *other = lfirst(cell);

		if (other->options == NULL || strcmp(other->rule, trigger->rule) != 0)
			continue;
		if (options != NULL && strcmp(options, other->options) != 0)
			return "";
		options = other->options;
	}
	return options == NULL ? "" : options;
}

/*
 * All triggers of a rule say the same of it. The one for TRUNCATE is heard, or the first where there is none: it was dropped
 * by hand, or the table is a foreign one (before PostgreSQL 16).
 */
static bool
speaks_for_rule(const DroppedTrigger *trigger, List *of_table)
{
	const DroppedTrigger *speaker = NULL;
	ListCell *cell;

	foreach (cell, of_table)
	{
		const DroppedTrigger *other = lfirst(cell);

		if (other->pattern != NULL && strcmp(other->rule, trigger->rule) == 0 &&
			(speaker == NULL || other->truncates))
			speaker = other;
	}
	return trigger->pattern == NULL || speaker == trigger;
}

static void
keep_lost(const DroppedTrigger *trigger, List *of_table)
{
	ListCell *cell;

	if (speaks_for_rule(trigger, of_table))
		foreach (cell, trigger->lost)
			ca_heir_keep(lfirst(cell),
						 trigger->pattern == NULL ? "" : options_of(trigger, of_table));
}

/* What went with the table is lost with it. What a statement before took away (detach(), DROP TRIGGER) is not. */
static void
add_dropped_table(Oid relid, bool patterns)
{
	List *with_table = NIL;
	ListCell *cell;

	foreach (cell, dropped)
	{
		DroppedTrigger *trigger = lfirst(cell);

		if (trigger->relid != relid)
			continue;
		if (patterns && trigger->pattern != NULL)
			ca_entries_add_rule_pattern(trigger->pattern);
		if (trigger->statement == statements)
			with_table = lappend(with_table, trigger);
	}
	foreach (cell, with_table)
		keep_lost(lfirst(cell), with_table);
	list_free(with_table);
}

static void
at_object_access(ObjectAccessType access, Oid class, Oid object, int part, void *arg)
{
	if (previous_access)
		previous_access(access, class, object, part, arg);
	if (access == OAT_FUNCTION_EXECUTE || access == OAT_NAMESPACE_SEARCH)
		return; /* in every statement of everybody */
	if (access == OAT_POST_CREATE && class == TriggerRelationId)
		ca_approval_check_created(object);
	if ((access == OAT_POST_CREATE || access == OAT_POST_ALTER) && class == TriggerRelationId &&
		ca_switches_ddl())
		ca_begins_note_trigger(access, object);
	if (access != OAT_DROP && class == TriggerRelationId)
		ca_long_work_step(CA_LONG_WORK_ATTACH);
	if (access == OAT_POST_ALTER && class == RelationRelationId && part == 0)
	{
		ca_approval_after_alter(object);
		if (ca_altered_name(object))
			ca_renamed_note(object, ca_altered_new_name(object));
	}
	if (access == OAT_POST_ALTER && class == NamespaceRelationId)
		ca_renamed_schema(object, ca_altered_schema_name(object));
	if (access == OAT_POST_ALTER && class == RelationRelationId && part > 0)
		ca_watch_after_alter(object, part);
	if ((access == OAT_POST_CREATE || access == OAT_POST_ALTER || access == OAT_DROP) &&
		ca_switches_ddl())
		ca_altered_note(access, class, object, part, arg);
	if (access != OAT_DROP)
		return;
	if (class == DatabaseRelationId ||
		(class == ExtensionRelationId && object == get_extension_oid("cache_aside", true)))
		ca_pending_add(CA_ENTRY_CENSUS, "", 0);
	if (class == TriggerRelationId)
		note_dropped_trigger(object);
	else if (class == RelationRelationId && part == 0)
	{
		add_dropped_table(object, ca_switches_ddl());
		ca_view_rule_note_dropped(object);
	}
}

/* ---- ALTER TABLE ---- */

/* Does this kind of change leave all values as they are, even if it copies the table? */
static bool
keeps_values(AlterTableType kind)
{
	return kind == AT_SetTableSpace || kind == AT_SetLogged || kind == AT_SetUnLogged ||
		   kind == AT_SetAccessMethod;
}

static bool
may_rewrite(AlterTableStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		if (!keeps_values(((AlterTableCmd *) lfirst(cell))->subtype))
			return true;
	}
	return false;
}

static Oid
file_of(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid file;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	file = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
	ReleaseSysCache(tuple);
	return file;
}

/* The table and everything below it, with the file each has now. */
static List *
note_files(Oid relid)
{
	List *files = NIL;
	ListCell *cell;

	foreach (cell, ca_relatives_tree(relid, NoLock))
	{
		TableFile *file = palloc(sizeof(*file));

		file->relid = lfirst_oid(cell);
		file->file = file_of(file->relid);
		files = lappend(files, file);
	}
	return files;
}

static void
add_rewritten(List *files)
{
	ListCell *cell;

	foreach (cell, files)
	{
		TableFile *file = lfirst(cell);
		Oid now = file_of(file->relid);

		if (OidIsValid(now) && now != file->file)
			ca_reach_add(RelationRelationId, file->relid);
	}
}

/* Does the statement make rows appear below this table, or disappear? */
static bool
moves_rows(AlterTableCmd *command)
{
	switch (command->subtype)
	{
		case AT_AttachPartition:
			return !ca_begins_is_new(
				RangeVarGetRelid(((PartitionCmd *) command->def)->name, NoLock, true));
		case AT_DetachPartition:
		case AT_DetachPartitionFinalize:
			return true;
		default:
			return false;
	}
}

/* Rules above the tables that the statement connects or disconnects. */
static void
add_moved(Oid relid, AlterTableStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst(cell);

		if (moves_rows(command))
			ca_reach_add(RelationRelationId, relid);
		else if (command->subtype == AT_AddInherit || command->subtype == AT_DropInherit)
		{
			Oid parent = RangeVarGetRelid((RangeVar *) command->def, NoLock, true);

			if (OidIsValid(parent))
				ca_reach_add(RelationRelationId, parent);
		}
	}
}

/* ---- the hook ---- */

static void
run_next(PlannedStmt *statement, const char *query, bool read_only_tree,
		 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
		 DestReceiver *target, QueryCompletion *completion)
{
	if (previous_utility)
		previous_utility(statement, query, read_only_tree, context, params, environment, target,
						 completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context, params, environment,
								target, completion);
}

static Oid
altered_table(Node *node)
{
	AlterTableStmt *statement = (AlterTableStmt *) node;
	Oid relid;

	if (!IsA(node, AlterTableStmt) || !ca_switches_ddl())
		return InvalidOid;
	relid = RangeVarGetRelid(statement->relation, NoLock, true);
	return OidIsValid(relid) && is_table(relid) ? relid : InvalidOid;
}

static void
before_alter(Node *node)
{
	AlterTableStmt *statement = (AlterTableStmt *) node;
	Oid relid;

	if (!IsA(node, AlterTableStmt) || RecoveryInProgress())
		return;
	relid = RangeVarGetRelid(statement->relation, NoLock, true);
	if (OidIsValid(relid) && is_table(relid))
		ca_watch_before_alter(relid, statement);
}

static void
run_utility(PlannedStmt *statement, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			DestReceiver *target, QueryCompletion *completion)
{
	Node *node = statement->utilityStmt;
	bool commits_prepared = IsA(node, TransactionStmt) &&
							((TransactionStmt *) node)->kind == TRANS_STMT_COMMIT_PREPARED;
	XLogRecPtr since = commits_prepared ? GetXLogInsertRecPtr() : InvalidXLogRecPtr;
	Oid relid = altered_table(node);
	List *files = NIL;

	statements++;
	if (commits_prepared)
		ca_replacing_before_commit_prepared();
	if (IsA(node, CreateTrigStmt))
		ca_attach_check_trigger((CreateTrigStmt *) node);
	before_alter(node);
	if (OidIsValid(relid))
	{
		add_moved(relid, (AlterTableStmt *) node);
		if (may_rewrite((AlterTableStmt *) node))
			files = note_files(relid);
	}
	ca_version_attach_before(node);
	ca_partition_before(node);
	run_next(statement, query, read_only_tree, context, params, environment, target, completion);
	ca_partition_after(node);
	ca_foreign_after(node);
	if (commits_prepared)
		ca_commit_note_prepared(since);
	if (IsA(node, CreateExtensionStmt)) /* ours, or one that brings it with CASCADE */
		ca_commit_note_created();
	if (ca_switches_ddl() || (ca_switches_capture() && IsA(node, RefreshMatViewStmt)))
		ca_altered_note_statement(node);
	if (OidIsValid(relid))
	{
		add_moved(relid, (AlterTableStmt *) node);
		add_rewritten(files);
	}
}

void
ca_ddl_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
	previous_access = object_access_hook;
	object_access_hook = at_object_access;
}
