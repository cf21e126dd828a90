/*
 * rules.h: rules as attach, detach, keys and the utility hook see them: groups of triggers.
 */
#ifndef CA_RULES_H
#define CA_RULES_H

#include "cache_aside.h"
#include "keys/keys.h"

#include "access/htup.h"
#include "catalog/objectaccess.h"
#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/snapshot.h"

/* ---- init.c: settings and start ---- */
extern bool guc_enabled;         /* capture writes keys (superuser may switch it off) */
extern bool guc_ddl_invalidates; /* DDL deletes patterns (superuser may switch it off) */
extern void ca_rules_init(void);

/* ---- switches.c ---- */
extern bool ca_switches_capture(void);
extern bool ca_switches_ddl(void);

/* ---- ddl.c: utility hook; DROP, DETACH and rewrites that fire no trigger ---- */
extern void ca_ddl_init(void);

/* ---- begins.c: a rule begins to cover what it did not cover ---- */
/* Inside the command that made or changed the trigger, any. */
extern void ca_begins_note_trigger(ObjectAccessType access, Oid trigger);
/* A table or materialized view that gets another name. */
extern void ca_begins_note_name(Oid relid);
/* Did the table, and all below it, never hold a row? */
extern bool ca_begins_is_new(Oid relid);

/* ---- merge.c: what MERGE moves between partitions ---- */
extern void ca_merge_init(void);

/* ---- version_attach.c ---- */
/* Before a table becomes a partition or child: NOT NULL of its version column as the parent has it. */
extern void ca_version_attach_before(struct Node *statement);

typedef enum CaTriggerKind
{
	CA_TRIGGER_NONE, /* not ours */
	CA_TRIGGER_ROW,
	CA_TRIGGER_STATEMENT,
	CA_TRIGGER_TABLE
} CaTriggerKind;

/* ---- rule_name.c: what a trigger says about its rule ---- */
extern char *ca_rule_name_table(Oid relid); /* qualified and quoted */
extern CaTriggerKind ca_rule_name_kind(Oid function);

/* ---- rule_trigger.c: a trigger as the catalog has it ---- */
typedef struct CaTriggerFacts
{
	Oid oid;
	Oid relid;
	Oid function;
	Oid parent; /* the trigger of the partitioned table that it was cloned from, or 0 */
	CaTriggerKind kind;
	int16 type;   /* TRIGGER_TYPE_* */
	char enabled; /* TRIGGER_FIRES_* or TRIGGER_DISABLED */
	char *name;
	char *condition;      /* WHEN as the catalog has it, or NULL */
	Bitmapset *update_of; /* attribute numbers, or NULL */
	int nargs;
	char **args;
} CaTriggerFacts;

/* False when there is none. `snapshot`: NULL, or SnapshotSelf inside the command that made it. */
extern bool ca_rule_trigger_find(Oid trigger, Snapshot snapshot, CaTriggerFacts *facts);
/*
 * Calls back for each trigger of a relation that a rule or row versions have, by name; the facts are the
 * handler's to keep, `mode` is the lock on pg_trigger. No lock on the relation is needed.
 */
typedef void (*CaTriggerHandler)(Relation catalog, HeapTuple tuple, CaTriggerFacts *facts,
								 void *arg);
extern void ca_rule_trigger_each(Oid relid, LOCKMODE mode, CaTriggerHandler handle, void *arg);
/* CaTriggerFacts of those that rules have. */
extern List *ca_rule_trigger_list(Oid relid);
/* CaTriggerFacts of this database's query rules, each as often as it has triggers with a query. */
extern List *ca_rule_trigger_queries(void);

/* The row_version trigger of a table, not a copy of a parent's, or InvalidOid. */
extern Oid ca_rule_trigger_version(Oid relid);

/* ---- heir.c: tables that took over the name of one with rules or versions ---- */
typedef struct CaLostRule
{
	char *table; /* qualified and quoted */
	char *rule;
	char *statement; /* that makes it, without options and end */
} CaLostRule;

/* What goes with a trigger that is being dropped: CaLostRule, one for each name of the table. */
extern List *ca_heir_describe(const CaTriggerFacts *facts, Oid trigger);
/* Options of attach that the trigger stands for, "" for none; NULL when it fires for no UPDATE. */
extern char *ca_heir_options(const CaTriggerFacts *facts);
extern void ca_heir_keep(const CaLostRule *lost, const char *options);
extern void ca_heir_forget(Oid relid, const char *rule);

/* A table of the extension by its name, or NULL. */
extern Relation ca_heir_open(const char *name, LOCKMODE mode);

/* ---- renamed.c: tables, views and schemas that get another name; NULL: they do not ---- */
extern void ca_renamed_note(Oid relid, char *new_name);
extern void ca_renamed_schema(Oid schema, const char *now);

/* ---- former.c: names that a table with rules had before ---- */
/* Inside the command that renames a table, before the caches know. */
extern void ca_former_note(Oid relid, char *before, char *now);
extern List *ca_former_change(List *names, const char *before, const char *now);
extern List *ca_former_names(Oid trigger); /* qualified and quoted, oldest first */

/* ---- view_rule.c: rules of materialized views ---- */
extern List *ca_view_rule_list(Oid relid); /* their templates; none for any other relation */
extern void ca_view_rule_add_patterns(Oid relid);
extern void ca_view_rule_attach(Relation view, const char *template, bool has_options);
extern int ca_view_rule_detach(Oid relid, const char *name); /* NULL: all; how many */
extern void ca_view_rule_note_dropped(Oid relid);
extern void ca_view_rule_note_renamed(Oid relid, const char *before, const char *now);

/* ---- relatives.c: tables below a table ---- */
extern List *ca_relatives_tree(Oid relid,
							   LOCKMODE lock); /* itself and all below; NIL: there is none */
extern Oid
ca_relatives_foreign_below(Oid relid); /* the table itself or one below it, or InvalidOid */

/* ---- reach.c: rules that a changed object concerns ---- */
/* Adds the patterns of all rules that see rows, types or functions of the object. */
extern void ca_reach_add(Oid class, Oid oid);
/* Of query rules alone: the object's name changed, not what it holds. */
extern void ca_reach_add_queries(Oid class, Oid oid);

/* Begins the names of a rule's triggers: `table` is qualified and quoted. */
extern char *ca_rule_name_prefix(const char *table, const char *name);
/* The name of a rule is its template; a query rule's is its third argument, else its pattern. */
extern const char *ca_rule_name_of(int nargs, char **args);
extern bool ca_rule_name_is_query(int nargs);
#define CA_QUERY_ARGS 4 /* at most: pattern, query, name, type of the keys */
/* Is the trigger part of rule `name` (of any rule, if NULL)? */
extern bool ca_attach_member(const Trigger *trigger, const char *name);
/* Pattern of a rule, UTF-8, without prefix; NULL for a template that is malformed. */
extern const char *ca_rule_name_pattern(int nargs, char **args);
/* Adds the patterns of all rules on the relation to the pending set. */
extern void ca_attach_add_patterns(Relation relation);

/* ---- altered.c: DDL that changes what rows show without writing one ---- */
extern void ca_altered_note(ObjectAccessType access, Oid class, Oid object, int part, void *arg);
extern void ca_altered_note_statement(Node *node); /* after it ran */
/* Inside a command that altered the column: has it another name, type, collation, expression? */
extern bool ca_altered_column(Oid relid, int attnum);
extern bool ca_altered_name(Oid relid);          /* has the relation another name or schema? */
extern char *ca_altered_new_name(Oid relid);     /* qualified and quoted, or NULL */
extern char *ca_altered_schema_name(Oid schema); /* that it gets; NULL: none */

/* ---- watched.c: columns that a row trigger watches ---- */
/* Attribute numbers in pg_trigger.tgqual; 0 stands for the whole row. */
extern Bitmapset *ca_watched_columns(const char *condition);
/*
 * The columns that an UPDATE must change for the trigger to fire, NULL when any change counts; or when nobody
 * can tell, as of a WHEN that attach did not write.
 */
extern Bitmapset *ca_watched_by(const CaTriggerFacts *facts);
extern Bitmapset *ca_watched_compared(const CaTriggerFacts *facts);
/* Of all triggers of the rule that this one belongs to. */
extern Bitmapset *ca_watched_rule(const CaTriggerFacts *facts);

/* ---- watch.c: columns that a row trigger watches ---- */
/* A column was altered: triggers that watched it by another name or type watch everything. */
extern void ca_watch_after_alter(Oid relid, int attnum);
extern void ca_watch_before_alter(Oid relid, AlterTableStmt *statement);

/* ---- approval.c: may this query run as the table's owner? ---- */
extern bool ca_approval_is(char enabled); /* pg_trigger.tgenabled */
/* The same for a trigger of an open, locked relation, as it is now. */
extern bool ca_approval_given(Relation relation, Oid trigger);
/* The statement by which the owner approves. */
extern char *ca_approval_statement(Oid relid, const char *trigger);
/* After CREATE TRIGGER, inside it: ERROR 42501 unless the creator has the owner's rights. */
extern void ca_approval_check_created(Oid trigger);
/* After ALTER TABLE, inside it: a change of owner takes the approvals back. */
extern void ca_approval_after_alter(Oid relid);

/* ---- partition_trigger.c: the triggers of a partition beside those of its parent ---- */
/* CaTriggerFacts of rules and of row versions. */
extern List *ca_partition_trigger_list(Oid relid);
extern bool ca_partition_trigger_has_name(List *triggers, const char *name);
/* Those that partitions get: row triggers from PostgreSQL, TRUNCATE's from here. */
extern bool ca_partition_trigger_is_cloned(const CaTriggerFacts *trigger);
/* Gives a trigger by this name, if the table has one of ours, another one that sorts behind it. */
extern void ca_partition_trigger_free_name(Oid relid, const char *name);
/* Makes the partition's clone of a TRUNCATE trigger what the parent's trigger is now. */
extern void ca_partition_trigger_cover_truncate(Oid relid, const CaTriggerFacts *parent);
/* What both have is kept once; ERROR when both keep row versions, and not in the same way. */
extern void ca_partition_trigger_drop_replaced(Oid relid);

/* ---- partition.c: partitions of a table with rules; before and after any statement ---- */
extern void ca_partition_before(Node *statement);
extern void ca_partition_after(Node *statement);

/* ---- foreign.c: foreign tables below one with a rule by statement ---- */
extern void ca_foreign_after(Node *statement);

/* ---- attach_check.c: what attach refuses ---- */
extern void ca_attach_check_null(bool isnull, const char *function, const char *argument);
extern void ca_attach_check_owner(Relation relation);
extern void ca_attach_check_relation(Relation relation, bool statement);
extern void ca_attach_check_pattern(const char *pattern);
extern void
ca_attach_check_template(const CaTemplate *template); /* its keys are not all reserved */
/* Before CREATE TRIGGER, by hand or by a restore: can a trigger with our function work? */
extern void ca_attach_check_trigger(CreateTrigStmt *statement);

#endif
