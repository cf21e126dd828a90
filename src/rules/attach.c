/*
 * attach.c: attach and detach rules. A rule is a group of ordinary triggers.
 *
 *	row level            <n>_row        AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW
 *	  with columns       <n>_row        AFTER INSERT OR DELETE, and
 *	                     <n>_update     AFTER UPDATE WHEN (record_image_ne(...))
 *	statement level      <n>_insert, <n>_update, <n>_delete, with transition tables
 *	all                  <n>_truncate   AFTER TRUNCATE FOR EACH STATEMENT
 *
 * <n> is cache_aside_ and a hash of table and rule name, so that the copies of a parent's triggers
 * never collide with a partition's own. All triggers of a rule have the same arguments, all are
 * ENABLE ALWAYS: logical replication and session_replication_role = replica must invalidate too.
 *
 * Input: SQL calls by the table's owner. Output: CREATE TRIGGER and DROP TRIGGER through SPI, with
 * the caller's rights, so that event triggers and dependencies work as for anybody. SHARE ROW
 * EXCLUSIVE, the lock of CREATE TRIGGER, is taken before looking: two sessions cannot attach the
 * same rule twice. Errors leave nothing behind, the transaction rolls back. What is cached under the
 * rule's pattern is deleted at the commit (begins.c).
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "keys/keys.h"
#include "transaction/transaction.h"
#include "rules/rule.h"
#include "rules/rules.h"
#include "shared/long_work.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(cache_aside_attach);
PG_FUNCTION_INFO_V1(cache_aside_attach_query);
PG_FUNCTION_INFO_V1(cache_aside_detach);

/*
 * A copy: the relation's own may be rebuilt, and the old one freed, at any catalog access that hears
 * of a change to the relation; a lock on it excludes only some of them.
 */
static TriggerDesc *
triggers_of(Relation relation)
{
	return CopyTriggerDesc(relation->trigdesc);
}

void
ca_attach_add_patterns(Relation relation)
{
	TriggerDesc *triggers = triggers_of(relation);

	ca_view_rule_add_patterns(RelationGetRelid(relation));
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];
		const char *pattern;

		if (ca_rule_name_kind(trigger->tgfoid) == CA_TRIGGER_NONE)
			continue;
		pattern = ca_rule_name_pattern(trigger->tgnargs, trigger->tgargs);
		if (pattern != NULL)
			ca_entries_add_rule_pattern(pattern);
	}
}

bool
ca_attach_member(const Trigger *trigger, const char *name)
{
	return ca_rule_name_kind(trigger->tgfoid) != CA_TRIGGER_NONE &&
		   (name == NULL || strcmp(ca_rule_name_of(trigger->tgnargs, trigger->tgargs), name) == 0);
}

/* ---- attaching ---- */

typedef struct NewRule
{
	Relation relation;
	const char *name;
	const char *table;     /* qualified and quoted */
	const char *prefix;    /* of trigger names */
	const char *arguments; /* quoted, for EXECUTE FUNCTION */
	bool statement;
	Bitmapset *columns; /* compared by UPDATE; NULL: any change counts */
} NewRule;

static void
refuse_twice(Relation relation, const char *name)
{
	TriggerDesc *triggers = triggers_of(relation);

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (ca_attach_member(&triggers->triggers[i], name))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("cache rule \"%s\" of table \"%s\" exists already", name,
							RelationGetRelationName(relation)),
					 errdetail("Trigger \"%s\" belongs to it.", triggers->triggers[i].tgname),
					 errhint("Detach it first, or give a query rule a name of its own.")));
	}
}

static void
init_rule(NewRule *rule, Relation relation, const char *name, bool statement)
{
	const char *namespace = get_namespace_name(RelationGetNamespace(relation));

	memset(rule, 0, sizeof(*rule));
	rule->relation = relation;
	rule->name = name;
	rule->statement = statement;
	rule->table = quote_qualified_identifier(namespace, RelationGetRelationName(relation));
	rule->prefix = ca_rule_name_prefix(rule->table, name);
}

static void
create_trigger(StringInfo sql, const NewRule *rule, const char *suffix, const char *event,
			   const char *body)
{
	appendStringInfo(sql,
					 "CREATE TRIGGER %s_%s AFTER %s ON %s %s(%s);"
					 "ALTER TABLE %s ENABLE ALWAYS TRIGGER %s_%s;",
					 rule->prefix, suffix, event, rule->table, body, rule->arguments, rule->table,
					 rule->prefix, suffix);
}

/* `IS DISTINCT FROM` is wrong: 1.0 and 1.00 are equal, json has no equality. Compare images. */
static char *
changed_condition(const NewRule *rule)
{
	StringInfoData old_row;
	StringInfoData new_row;
	int attnum = -1;

	initStringInfo(&old_row);
	initStringInfo(&new_row);
	while ((attnum = bms_next_member(rule->columns, attnum)) >= 0)
	{
		Form_pg_attribute column = TupleDescAttr(RelationGetDescr(rule->relation), attnum - 1);
		const char *name = quote_identifier(NameStr(column->attname));
		const char *comma = old_row.len > 0 ? ", " : "";

		appendStringInfo(&old_row, "%sOLD.%s", comma, name);
		appendStringInfo(&new_row, "%sNEW.%s", comma, name);
	}
	return psprintf("WHEN (pg_catalog.record_image_ne(ROW(%s), ROW(%s)))", old_row.data,
					new_row.data);
}

#define ROW_BODY "FOR EACH ROW EXECUTE FUNCTION cache_aside.invalidate_row"
#define STATEMENT_BODY "FOR EACH STATEMENT EXECUTE FUNCTION cache_aside.invalidate_statement"
#define TABLE_BODY "FOR EACH STATEMENT EXECUTE FUNCTION cache_aside.invalidate_table"
#define OLD_TABLE "OLD TABLE AS cache_aside_old "
#define NEW_TABLE "NEW TABLE AS cache_aside_new "

/* Triggers to be made, and to be enabled. Partitions have those of rows and of TRUNCATE, too. */
static uint64
steps(const NewRule *rule)
{
	Oid relid = RelationGetRelid(rule->relation);
	int tables = rule->relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE
					 ? list_length(ca_relatives_tree(relid, NoLock))
					 : 1;
	int of_rows = rule->columns == NULL ? 1 : 2;

	return 2 * (uint64) (rule->statement ? 3 + tables : (of_rows + 1) * tables);
}

static void
create_triggers(const NewRule *rule)
{
	struct CaLongWork *work;
	StringInfoData sql;
	int result;

	initStringInfo(&sql);
	if (rule->statement)
	{
		create_trigger(&sql, rule, "insert", "INSERT", "REFERENCING " NEW_TABLE STATEMENT_BODY);
		create_trigger(&sql, rule, "update", "UPDATE",
					   "REFERENCING " OLD_TABLE NEW_TABLE STATEMENT_BODY);
		create_trigger(&sql, rule, "delete", "DELETE", "REFERENCING " OLD_TABLE STATEMENT_BODY);
	}
	else if (rule->columns == NULL)
		create_trigger(&sql, rule, "row", "INSERT OR UPDATE OR DELETE", ROW_BODY);
	else
	{
		create_trigger(&sql, rule, "row", "INSERT OR DELETE", ROW_BODY);
		create_trigger(&sql, rule, "update", "UPDATE",
					   psprintf("FOR EACH ROW %s EXECUTE FUNCTION cache_aside.invalidate_row",
								changed_condition(rule)));
	}
	if (CA_FOREIGN_TRUNCATE_TRIGGERS || rule->relation->rd_rel->relkind != RELKIND_FOREIGN_TABLE)
		create_trigger(&sql, rule, "truncate", "TRUNCATE", TABLE_BODY);
	work = ca_long_work_begin(CA_LONG_WORK_ATTACH, RelationGetRelid(rule->relation), steps(rule));
	ca_long_work_phase(work, "making triggers");
	relation_close(rule->relation, NoLock); /* ALTER TABLE wants it unused */
	if ((result = SPI_execute(sql.data, false, 0)) < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
	ca_long_work_end(work);
}

/* ---- attach ---- */

static bool
parse_level(FunctionCallInfo fcinfo)
{
	char *level;

	ca_attach_check_null(PG_ARGISNULL(3), "attach", "level");
	level = text_to_cstring(PG_GETARG_TEXT_PP(3));
	if (strcmp(level, "row") != 0 && strcmp(level, "statement") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid level of a cache rule: \"%s\"", level),
						errdetail("The levels are \"row\" and \"statement\"."),
						errhint("Use level => 'row' unless statements change very many rows.")));
	return level[0] == 's';
}

static AttrNumber
find_column(Relation relation, const char *name)
{
	AttrNumber attnum = get_attnum(RelationGetRelid(relation), name);

	if (attnum == InvalidAttrNumber)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of relation \"%s\" does not exist", name,
							   RelationGetRelationName(relation)),
						errdetail("\"columns\" names it."), errhint("Name columns of the table.")));
	if (attnum < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
						errmsg("column \"%s\" is a system column", name),
						errdetail("\"columns\" names it."), errhint("Name columns of the table.")));
	return attnum;
}

/* The columns asked for; NULL when every change counts. */
static Bitmapset *
parse_columns(FunctionCallInfo fcinfo, Relation relation, bool statement)
{
	Bitmapset *columns = NULL;
	Datum *elements;
	bool *nulls;
	int count;

	if (PG_ARGISNULL(2))
		return NULL;
	if (statement)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"columns\" does not go with level => 'statement'"),
				 errdetail("A statement trigger sees all changed rows, it has no WHEN per row."),
				 errhint("Leave \"columns\" out, or use level => 'row'.")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR,
					  &elements, &nulls, &count);
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"columns\" must not be empty"),
				 errdetail("A rule without columns would follow no UPDATE."),
				 errhint("Leave it out to follow every change.")));
	for (int i = 0; i < count; i++)
	{
		ca_attach_check_null(nulls[i], "attach", "columns");
		columns =
			bms_add_member(columns, find_column(relation, NameStr(*DatumGetName(elements[i]))));
	}
	return columns;
}

static void
warn_constant(const char *template, Relation relation)
{
	ereport(
		WARNING,
		(errcode(ERRCODE_WARNING), errmsg("cache key template \"%s\" has no placeholder", template),
		 errdetail("Every row of \"%s\" gives the same key.", RelationGetRelationName(relation)),
		 errhint("Write {column} for the row's values if one key per row is meant.")));
}

Datum
cache_aside_attach(PG_FUNCTION_ARGS)
{
	NewRule rule;
	Relation relation;
	CaTemplate *template;
	char *text_of_rule;
	bool statement;
	Bitmapset *columns;

	ca_attach_check_null(PG_ARGISNULL(0), "attach", "relation");
	ca_attach_check_null(PG_ARGISNULL(1), "attach", "template");
	text_of_rule = text_to_cstring(PG_GETARG_TEXT_PP(1));
	statement = parse_level(fcinfo);
	relation = relation_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	if (relation->rd_rel->relkind == RELKIND_MATVIEW)
	{
		ca_view_rule_attach(relation, text_of_rule, statement || !PG_ARGISNULL(2));
		relation_close(relation, NoLock);
		PG_RETURN_TEXT_P(cstring_to_text(text_of_rule));
	}
	ca_attach_check_relation(relation, statement);
	template = ca_template_parse(text_of_rule, RelationGetDescr(relation),
								 RelationGetRelationName(relation), NULL);
	ca_attach_check_template(template);
	columns = parse_columns(fcinfo, relation, statement);
	refuse_twice(relation, text_of_rule);
	if (!statement && bms_is_empty(ca_template_columns(template)))
		warn_constant(text_of_rule, relation);
	init_rule(&rule, relation, text_of_rule, statement);
	rule.arguments = quote_literal_cstr(text_of_rule);
	if (columns != NULL)
		rule.columns = bms_union(columns, ca_template_columns(template));
	SPI_connect();
	create_triggers(&rule);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(text_of_rule));
}

Datum
cache_aside_attach_query(PG_FUNCTION_ARGS)
{
	NewRule rule;
	Relation relation;
	char *query;
	char *pattern;
	char *name;
	char *type;

	ca_attach_check_null(PG_ARGISNULL(0), "attach_query", "relation");
	ca_attach_check_null(PG_ARGISNULL(1), "attach_query", "query");
	ca_attach_check_null(PG_ARGISNULL(2), "attach_query", "pattern");
	query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	pattern = text_to_cstring(PG_GETARG_TEXT_PP(2));
	name = PG_ARGISNULL(3) ? pattern : text_to_cstring(PG_GETARG_TEXT_PP(3));
	relation = relation_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	ca_attach_check_relation(relation, true);
	ca_attach_check_pattern(pattern);
	refuse_twice(relation, name);
	SPI_connect();
	type = ca_query_check(relation, query, pattern);
	init_rule(&rule, relation, name, true); /* after the analysis, which can run the owner's code */
	rule.arguments =
		psprintf("%s, %s, %s, %s", quote_literal_cstr(pattern), quote_literal_cstr(query),
				 quote_literal_cstr(name), quote_literal_cstr(type));
	create_triggers(&rule);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* ---- detach ---- */

static void
refuse_inherited(Relation relation, const Trigger *trigger)
{
	ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					errmsg("cannot detach cache rule \"%s\" from partition \"%s\"",
						   ca_text_show(ca_rule_name_of(trigger->tgnargs, trigger->tgargs)),
						   RelationGetRelationName(relation)),
					errdetail("It comes from the partitioned table."),
					errhint("Detach it from the partitioned table.")));
}

/* DROP TRIGGER statements for a rule, or for all; counts rules, not triggers. */
static int
collect_drops(Relation relation, const char *name, StringInfo sql)
{
	TriggerDesc *triggers = triggers_of(relation);
	const char *table = quote_qualified_identifier(
		get_namespace_name(RelationGetNamespace(relation)), RelationGetRelationName(relation));
	List *names = NIL;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		if (!ca_attach_member(trigger, name))
			continue;
		if (trigger->tgisclone)
		{
			if (name != NULL)
				refuse_inherited(relation, trigger);
			continue;
		}
		names = list_append_unique(
			names, makeString(pstrdup(ca_rule_name_of(trigger->tgnargs, trigger->tgargs))));
		appendStringInfo(sql, "DROP TRIGGER %s ON %s;", quote_identifier(trigger->tgname), table);
	}
	return list_length(names);
}

Datum
cache_aside_detach(PG_FUNCTION_ARGS)
{
	Relation relation;
	StringInfoData sql;
	int count;
	int result;

	ca_attach_check_null(PG_ARGISNULL(0), "detach", "relation");
	initStringInfo(&sql);
	relation = relation_open(PG_GETARG_OID(0), AccessExclusiveLock);
	ca_attach_check_owner(relation);
	count = collect_drops(relation, PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)),
						  &sql);
	relation_close(relation, NoLock);
	ca_heir_forget(PG_GETARG_OID(0),
				   PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (count > 0)
	{
		SPI_connect();
		if ((result = SPI_execute(sql.data, false, 0)) < 0)
			elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
		SPI_finish();
	}
	count += ca_view_rule_detach(PG_GETARG_OID(0),
								 PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_INT32(count);
}
