/*
 * preview.c: keys(relation, row): which keys would a write of this row delete?
 *
 * Input: a row as jsonb; columns it does not name are NULL. Output: the keys of every rule on the
 * relation, under each prefix; of a rule that lost a column, or whose query is not approved, its
 * pattern. Nothing is added to the pending set.
 *
 * Whose rights: only members of the owner may ask, and everything that the table brings along (query
 * rules, domains of its row type, output functions) runs as the owner, restricted (owner.c), also
 * when a superuser asks. The transaction is read-only meanwhile: what a query calls can write nothing.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "rules/owner.h"
#include "rules/rule.h"
#include "rules/rules.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cache_aside_keys);

static void
put_key(void *arg, const char *key, Size len)
{
	ReturnSetInfo *result = arg;
	char *shown = pnstrdup(key, len);
	Datum value = CStringGetTextDatum(ca_prefix_from_utf8(shown));
	bool isnull = false;

	tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
}

static void
put_prefixed(void *arg, const char *key, Size len)
{
	ca_prefix_each(CA_ENTRY_KEY, key, len, "The row", put_key, arg);
}

/* The row that jsonb stands for, in a slot with the relation's columns by name. */
static TupleTableSlot *
populate_row(Relation relation, Datum row)
{
	Oid types[1] = {JSONBOID};
	char *sql =
		psprintf("SELECT (pg_catalog.jsonb_populate_record(NULL::%s, $1)).*",
				 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
											RelationGetRelationName(relation)));
	TupleTableSlot *slot;

	if (SPI_execute_with_args(sql, 1, types, &row, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args failed");
	slot = MakeSingleTupleTableSlot(SPI_tuptable->tupdesc, &TTSOpsHeapTuple);
	ExecStoreHeapTuple(SPI_tuptable->vals[0], slot, false);
	return slot;
}

/* A query that the owner has not approved does not run here either. */
static void
preview_query(Relation relation, const Trigger *trigger, Datum row, const char *what,
			  ReturnSetInfo *result)
{
	if (!ca_approval_given(relation, trigger->tgoid))
		put_prefixed(result, trigger->tgargs[0], strlen(trigger->tgargs[0]));
	else
		ca_query_preview(relation, trigger->tgargs[1], &row, 1, what, put_prefixed, result);
}

static void
preview_template(Relation relation, const char *text_of_rule, Datum row, ReturnSetInfo *result)
{
	TupleTableSlot *slot = populate_row(relation, row);
	const char *missing = NULL;
	CaTemplate *template = ca_template_parse(text_of_rule, slot->tts_tupleDescriptor,
											 RelationGetRelationName(relation), &missing);

	if (missing == NULL)
		ca_key_build(template, slot, put_prefixed, result);
	else
		put_prefixed(result, ca_template_pattern(template), strlen(ca_template_pattern(template)));
}

static void
preview_rule(Relation relation, const Trigger *trigger, Datum row, ReturnSetInfo *result)
{
	char *what = psprintf("Rule \"%s\"", ca_rule_name_of(trigger->tgnargs, trigger->tgargs));

	ca_text_require_all(trigger->tgnargs, trigger->tgargs, "argument of a cache rule's trigger");
	if (ca_rule_name_is_query(trigger->tgnargs))
		preview_query(relation, trigger, row, what, result);
	else
		preview_template(relation, trigger->tgargs[0], row, result);
}

/* Which keys would a change of this row invalidate? The owner only: query rules run as owner. */
Datum
cache_aside_keys(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation relation;
	CaIdentity caller;
	TriggerDesc *triggers;
	List *seen = NIL;
	ListCell *cell;

	ca_attach_check_null(PG_ARGISNULL(0), "keys", "relation");
	ca_attach_check_null(PG_ARGISNULL(1), "keys", "row");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
	ca_attach_check_owner(relation);
	triggers = CopyTriggerDesc(relation->trigdesc); /* what runs below may change the relation's */
	SPI_connect();
	ca_owner_become(&caller, relation->rd_rel->relowner);
	ca_owner_write_nothing();
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];
		String *name;

		if (!ca_attach_member(trigger, NULL) || trigger->tgnargs == 0)
			continue;
		name = makeString(pstrdup(ca_rule_name_of(trigger->tgnargs, trigger->tgargs)));
		if (list_member(seen, name))
			continue;
		seen = lappend(seen, name);
		preview_rule(relation, trigger, PG_GETARG_DATUM(1), result);
	}
	foreach (cell, ca_view_rule_list(RelationGetRelid(relation)))
		preview_template(relation, lfirst(cell), PG_GETARG_DATUM(1), result);
	ca_owner_leave(&caller);
	SPI_finish();
	relation_close(relation, NoLock);
	return (Datum) 0;
}
