/*
 * rule_check.c: what attach refuses, and why.
 *
 * Input: a relation, locked, and the level of the rule. Output: nothing, or an error that says what
 * was seen and what to do. The checks read catalogs only; nothing is changed here.
 */
#include "cache_aside.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_subscription_rel.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "rules.h"

void
ca_rule_check_null(bool isnull, const char *function, const char *argument)
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
ca_rule_check_owner(Relation relation)
{
	if (!ca_owns_relation(RelationGetRelid(relation), GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of table \"%s\"", RelationGetRelationName(relation)),
						errdetail("It belongs to \"%s\".",
								  GetUserNameFromId(relation->rd_rel->relowner, false)),
						errhint("Let the owner do it, or a role that is a member of the owner.")));
}

static bool
is_subscribed(Oid relid)
{
	Relation catalog = table_open(SubscriptionRelRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool found;

	ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
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
	if (relation->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		refuse_statement(relation, "It is a foreign table; those have no transition tables.",
						 "Use level => 'row'.");
	if (relation->rd_rel->relispartition)
		refuse_statement(relation,
						 "It is a partition; writes through its parent fire no statement trigger "
						 "of it.",
						 "Attach the rule to the partitioned table, or use level => 'row'.");
	if (is_subscribed(RelationGetRelid(relation)))
		refuse_statement(relation,
						 "A subscription feeds it; logical replication fires no statement "
						 "trigger.",
						 "Use level => 'row'.");
}

void
ca_rule_check_relation(Relation relation, bool statement)
{
	check_kind(relation);
	ca_rule_check_owner(relation);
	if (statement)
		check_statement_level(relation);
}

void
ca_rule_check_pattern(const char *pattern)
{
	if (pattern[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("pattern of a cache rule must not be empty"),
						errdetail("It must cover every key the query can return."),
						errhint("Write one such as \"feed:*\".")));
	if (strlen(pattern) > CA_MAX_KEY)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("pattern of a cache rule is too long"),
						errdetail("It has %zu bytes; %d are allowed.", strlen(pattern), CA_MAX_KEY),
						errhint("Shorten the pattern.")));
}
