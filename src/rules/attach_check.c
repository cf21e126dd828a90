/*
 * attach_check.c: what attach refuses, and why.
 *
 * Input: a relation, locked, and the level of the rule. Output: nothing, or an error that says what
 * was seen and what to do. The checks read catalogs only; nothing is changed here.
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "common/compat.h"
#include "keys/keys.h"
#include "rules/rules.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_subscription_rel.h"
#include "catalog/pg_trigger.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(cache_aside_check_pattern);
PG_FUNCTION_INFO_V1(cache_aside_template_problem);

void
ca_attach_check_null(bool isnull, const char *function, const char *argument)
{
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" of cache_aside.%s() must not be NULL", argument, function),
				 errdetail("A NULL was given."), errhint("Give a value for it.")));
}

static const char *
describe_kind(char kind)
{
	switch (kind)
	{
		case RELKIND_VIEW:
			return "a view";
		case RELKIND_MATVIEW:
			return "a materialized view";
		case RELKIND_SEQUENCE:
			return "a sequence";
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return "an index";
		case RELKIND_COMPOSITE_TYPE:
			return "a composite type";
		default:
			return "not a table";
	}
}

static void
check_kind(Relation relation)
{
	char kind = relation->rd_rel->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE &&
		kind != RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot attach a cache rule to \"%s\"", RelationGetRelationName(relation)),
				 errdetail("It is %s.", describe_kind(kind)),
				 errhint("Attach the rule to the tables it is made of; a query rule can follow the "
						 "joins.")));
	if (IsSystemRelation(relation))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot attach a cache rule to \"%s\"", RelationGetRelationName(relation)),
				 errdetail("It is a system table; changes to those fire no trigger."),
				 errhint("Attach rules to your own tables.")));
	if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("cannot attach a cache rule to \"%s\"", RelationGetRelationName(relation)),
				 errdetail("It is a temporary table; nobody else can read what it holds."),
				 errhint("Call cache_aside.invalidate() where the data reaches the cache.")));
}

void
ca_attach_check_owner(Relation relation)
{
	if (!ca_owns_relation(RelationGetRelid(relation), GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of table \"%s\"", RelationGetRelationName(relation)),
						errdetail("It belongs to \"%s\".",
								  GetUserNameFromId(relation->rd_rel->relowner, false)),
						errhint("%s", ca_catalog_owner_hint(relation->rd_rel->relowner))));
}

static bool
is_subscribed(Oid relid)
{
	CaCatalogScan scan;
	bool found;

	ca_catalog_begin(&scan, SubscriptionRelRelationId, AccessShareLock, InvalidOid,
					 Anum_pg_subscription_rel_srrelid, relid, NULL);
	found = HeapTupleIsValid(ca_catalog_next(&scan));
	ca_catalog_end(&scan);
	return found;
}

static void
refuse_statement(Relation relation, const char *detail, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot attach a statement-level cache rule to \"%s\"",
						   RelationGetRelationName(relation)),
					errdetail("%s", detail), errhint("%s", hint)));
}

static void
check_statement_level(Relation relation)
{
	Oid foreign;

	if (relation->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		refuse_statement(relation, "It is a foreign table; those have no transition tables.",
						 "Use level => 'row'.");
	if (relation->rd_rel->relispartition)
		refuse_statement(relation,
						 "It is a partition; writes through its parent fire no statement trigger "
						 "of it.",
						 "Attach the rule to the partitioned table, or use level => 'row'.");
	foreign = ca_relatives_foreign_below(RelationGetRelid(relation));
	if (OidIsValid(foreign))
		refuse_statement(relation,
						 psprintf("Foreign table \"%s\" is below it and has no transition tables: "
								  "writes that reach it would fail.",
								  get_rel_name(foreign)),
						 "Use level => 'row'.");
	if (is_subscribed(RelationGetRelid(relation)))
		refuse_statement(relation,
						 "A subscription feeds it; logical replication fires no statement "
						 "trigger.",
						 "Use level => 'row'.");
}

void
ca_attach_check_relation(Relation relation, bool statement)
{
	check_kind(relation);
	ca_attach_check_owner(relation);
	if (statement)
		check_statement_level(relation);
}

void
ca_attach_check_pattern(const char *pattern)
{
	if (pattern[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("pattern of cache keys must not be empty"),
						errdetail("It must cover every key that is meant."),
						errhint("Write one such as \"feed:*\".")));
	if (strlen(pattern) > CA_MAX_KEY)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("pattern of cache keys is too long"),
						errdetail("It has %zu bytes; %d are allowed.", strlen(pattern), CA_MAX_KEY),
						errhint("Shorten the pattern.")));
	ca_prefix_check_pattern(pattern, strlen(pattern), "The pattern");
}

/* What attach would refuse about a template, in words; NULL when it would not. Column names are no secret. */
Datum
cache_aside_template_problem(PG_FUNCTION_ARGS)
{
	Relation relation = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	const char *template = text_to_cstring(PG_GETARG_TEXT_PP(1));
	const char *pattern = ca_template_text_pattern(template);
	const char *missing = NULL;
	const char *problem = NULL;

	if (relation == NULL)
		PG_RETURN_TEXT_P(cstring_to_text("the table is gone"));
	if (pattern == NULL)
		problem = "the template is malformed";
	else if (ca_prefix_reserves(pattern, strlen(pattern)))
		problem = "its keys are reserved; see cache_aside.key_prefix";
	else
		ca_template_parse(template, RelationGetDescr(relation), RelationGetRelationName(relation),
						  &missing);
	if (missing != NULL && get_attnum(RelationGetRelid(relation), missing) == InvalidAttrNumber)
		problem = psprintf("it has no column \"%s\"", missing);
	else if (missing != NULL)
		problem = psprintf("column \"%s\" is a virtual generated column", missing);
	relation_close(relation, AccessShareLock);
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}

/* ---- triggers written by hand ---- */

static void
refuse_trigger(const char *name, char *detail, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
					errmsg("trigger \"%s\" cannot invalidate cache keys", name),
					errdetail("%s", detail), errhint("%s", hint)));
}

static void
check_events(CreateTrigStmt *statement, CaTriggerKind kind)
{
	bool truncate = TRIGGER_FOR_TRUNCATE(statement->events);

	if (statement->timing != TRIGGER_TYPE_AFTER)
		refuse_trigger(statement->trigname, "It does not fire after the write.",
					   "Create it with AFTER.");
	if (statement->row != (kind == CA_TRIGGER_ROW))
		refuse_trigger(statement->trigname,
					   statement->row ? "It fires for each row." : "It fires for each statement.",
					   "Only invalidate_row() goes with FOR EACH ROW.");
	if (truncate != (kind == CA_TRIGGER_TABLE) ||
		(truncate && statement->events != TRIGGER_TYPE_TRUNCATE))
		refuse_trigger(statement->trigname, "Its function does not go with its events.",
					   "Use invalidate_table() for TRUNCATE, and only there.");
	if (kind == CA_TRIGGER_STATEMENT && statement->transitionRels == NIL)
		refuse_trigger(statement->trigname, "It has no transition table.",
					   "Add REFERENCING OLD TABLE and NEW TABLE.");
}

/*
 * A column that is not there is only a warning: a rule that lost its column works on by its pattern,
 * and a dump of it must load.
 */
Datum
cache_aside_check_pattern(PG_FUNCTION_ARGS)
{
	ca_attach_check_pattern(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

void
ca_attach_check_template(const CaTemplate *template)
{
	const char *pattern = ca_template_pattern(template);

	ca_prefix_check_pattern(pattern, strlen(pattern), "The template");
}

static void
check_template(CreateTrigStmt *statement, const char *template)
{
	Oid relid = RangeVarGetRelid(statement->relation, NoLock, true);
	Relation relation = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	const char *missing = NULL;

	if (relation == NULL)
		return;
	ca_template_refuse_shell(template);
	ca_attach_check_template(ca_template_parse(template, RelationGetDescr(relation),
											   RelationGetRelationName(relation), &missing));
	if (missing != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", missing,
						RelationGetRelationName(relation)),
				 errdetail("Cache rule \"%s\" names it: every write will delete its whole pattern.",
						   template),
				 errhint("Drop the trigger and create it with today's columns.")));
	relation_close(relation, NoLock);
}

void
ca_attach_check_trigger(CreateTrigStmt *statement)
{
	Oid function = LookupFuncName(statement->funcname, 0, NULL, true);
	CaTriggerKind kind = OidIsValid(function) ? ca_rule_name_kind(function) : CA_TRIGGER_NONE;
	int count = list_length(statement->args);

	if (kind == CA_TRIGGER_NONE)
		return;
	check_events(statement, kind);
	if (count < 1 || count > (kind == CA_TRIGGER_ROW ? 1 : CA_QUERY_ARGS))
		refuse_trigger(statement->trigname, psprintf("Its function has %d arguments.", count),
					   "Give the key template as the argument.");
	if (count == 1)
		check_template(statement, strVal(linitial(statement->args)));
	else
		ca_attach_check_pattern(strVal(linitial(statement->args)));
}
