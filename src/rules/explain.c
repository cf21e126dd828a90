/*
 * explain.c: explain_rules(relation, new, old): which keys would this write delete, by which rule, and why not more?
 *
 * Input: one write, its rows as jsonb: a new row alone is an INSERT, an old one alone a DELETE, both an UPDATE, whose new
 * row has the old one's values where it names no column. Output: for each rule of the relation its keys or its pattern,
 * each with the reason; or why there is none. Nothing is added to the pending set.
 *
 * Whose rights: as for keys() (preview.c) only members of the table's owner may ask, and what the table brings along runs
 * as the owner, restricted. The transaction is read-only meanwhile, so that a query's functions write nothing, and each rule
 * is looked at in a subtransaction that is rolled back: a rule that fails is told, and the next one looked at.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "rules/owner.h"
#include "rules/rule.h"
#include "rules/rules.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/value.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cache_aside_explain_rules);

typedef struct Told
{
	const char *kind; /* NULL: no key, and the reason says why */
	char *key;
	char *reason;
} Told;

typedef struct Explanation
{
	Relation relation;
	TriggerDesc *triggers;
	CaWrite write;
	Datum rows[2]; /* as jsonb: the new and the old one, whichever there are */
	int row_count;
	MemoryContext context; /* where what is told stays */
	ReturnSetInfo *result;
	const char *rule;    /* that is being looked at, */
	const char *pattern; /* its pattern, if it has a query, */
	const char *reason;  /* why the next keys go, */
	List *told;          /* and what is told of it: Told */
} Explanation;

/* ---- telling ---- */

static void
tell(Explanation *explanation, const char *kind, const char *key, const char *reason)
{
	MemoryContext previous = MemoryContextSwitchTo(explanation->context);
	Told *told = palloc(sizeof(Told));

	told->kind = kind;
	told->key = key == NULL ? NULL : pstrdup(key);
	told->reason = pstrdup(reason);
	explanation->told = lappend(explanation->told, told);
	MemoryContextSwitchTo(previous);
}

static Datum
text_or_null(const char *str, bool *isnull)
{
	*isnull = str == NULL;
	return *isnull ? (Datum) 0 : CStringGetTextDatum(str);
}

/* What is told of a rule, once all of it is known. */
static void
put_told(Explanation *explanation)
{
	ListCell *cell;

	foreach (cell, explanation->told)
	{
		Told *told = lfirst(cell);
		Datum values[4];
		bool nulls[4];

		values[0] = text_or_null(explanation->rule, &nulls[0]);
		values[1] = text_or_null(told->kind, &nulls[1]);
		values[2] = text_or_null(told->key, &nulls[2]);
		values[3] = text_or_null(told->reason, &nulls[3]);
		tuplestore_putvalues(explanation->result->setResult, explanation->result->setDesc, values,
							 nulls);
	}
	explanation->told = NIL;
}

static void
tell_key(void *arg, const char *key, Size len)
{
	Explanation *explanation = arg;

	tell(explanation, "key", ca_prefix_from_utf8(pnstrdup(key, len)), explanation->reason);
}

static void
tell_prefixed(void *arg, const char *key, Size len)
{
	Explanation *explanation = arg;

	ca_prefix_each(CA_ENTRY_KEY, key, len, psprintf("Rule \"%s\"", explanation->rule), tell_key,
				   explanation);
}

static void
tell_one_pattern(void *arg, const char *pattern, Size len)
{
	Explanation *explanation = arg;

	tell(explanation, "pattern", ca_prefix_from_utf8(pnstrdup(pattern, len)), explanation->reason);
}

static void
tell_pattern(Explanation *explanation, const char *pattern, const char *reason)
{
	explanation->reason = reason;
	ca_prefix_each(CA_ENTRY_PATTERN, pattern, strlen(pattern), NULL, tell_one_pattern, explanation);
}

/* ---- by template ---- */

static void
explain_row(Explanation *explanation, CaTemplate *template, TupleTableSlot *row, const char *what)
{
	Bitmapset *columns = ca_template_columns(template);
	int attnum = 0;

	while ((attnum = bms_next_member(columns, attnum)) >= 0)
	{
		if (slot_attisnull(row, attnum))
		{
			tell(explanation, NULL, NULL,
				 psprintf("column \"%s\" of %s is NULL",
						  get_attname(RelationGetRelid(explanation->relation), (AttrNumber) attnum,
									  false),
						  what));
			return;
		}
	}
	explanation->reason = psprintf("from %s", what);
	ca_key_build(template, row, tell_prefixed, explanation);
}

static void
explain_template(Explanation *explanation, const char *rule)
{
	Relation relation = explanation->relation;
	CaWrite *write = &explanation->write;
	const char *missing = NULL;
	CaTemplate *template = ca_template_parse(rule, RelationGetDescr(relation),
											 RelationGetRelationName(relation), &missing);
	bool both = write->old_row != NULL && write->new_row != NULL;

	if (missing != NULL)
		tell_pattern(explanation, ca_template_pattern(template),
					 psprintf("column \"%s\" %s: every write deletes the rule's whole pattern",
							  missing, ca_template_missing(RelationGetDescr(relation), missing)));
	else if (both && ca_key_same(template, write->old_row, write->new_row))
		explain_row(explanation, template, write->new_row, "the row");
	else
	{
		if (write->old_row != NULL)
			explain_row(explanation, template, write->old_row, both ? "the old row" : "the row");
		if (write->new_row != NULL)
			explain_row(explanation, template, write->new_row, both ? "the new row" : "the row");
	}
}

/* ---- by query ---- */

static void
tell_query_key(void *arg, const char *key, Size len)
{
	Explanation *explanation = arg;

	explanation->reason =
		ca_glob_match(explanation->pattern, strlen(explanation->pattern), key, len)
			? "from the query"
			: "from the query; it is outside the rule's pattern, so TRUNCATE leaves it";
	tell_prefixed(explanation, key, len);
}

static void
explain_query(Explanation *explanation, const Trigger *trigger)
{
	Size len;

	explanation->pattern = ca_prefix_pattern_utf8(trigger->tgargs[0], &len);
	if (!ca_approval_given(explanation->relation, trigger->tgoid))
	{
		tell_pattern(explanation, explanation->pattern,
					 "the query is not approved by the owner: every write deletes the rule's whole "
					 "pattern");
		return;
	}
	ca_query_preview(explanation->relation, trigger->tgargs[1], explanation->rows,
					 explanation->row_count, psprintf("Rule \"%s\"", explanation->rule),
					 tell_query_key, explanation);
	if (explanation->told == NIL)
		tell(explanation, NULL, NULL, "the query gives no key for this write");
}

/* ---- one rule ---- */

static bool
is_of_rule(const Explanation *explanation, const Trigger *trigger)
{
	return ca_attach_member(trigger, explanation->rule) &&
		   ca_rule_name_kind(trigger->tgfoid) != CA_TRIGGER_TABLE &&
		   (trigger->tgtype & explanation->write.event) != 0;
}

/* The first trigger of the rule that fires; else why each does not is told. */
static const Trigger *
find_firing(Explanation *explanation)
{
	for (int i = 0; i < explanation->triggers->numtriggers; i++)
	{
		const Trigger *trigger = &explanation->triggers->triggers[i];
		const char *problem;

		if (!is_of_rule(explanation, trigger))
			continue;
		problem = ca_fires_problem(explanation->relation, trigger, &explanation->write);
		if (problem == NULL)
		{
			explanation->told = NIL;
			return trigger;
		}
		tell(explanation, NULL, NULL, problem);
	}
	return NULL;
}

static void
explain_triggers(Explanation *explanation)
{
	const Trigger *trigger = find_firing(explanation);

	if (trigger == NULL && explanation->told == NIL)
		tell(explanation, NULL, NULL,
			 psprintf("no trigger of the rule fires on %s",
					  TRIGGER_FOR_INSERT(explanation->write.event)   ? "INSERT"
					  : TRIGGER_FOR_DELETE(explanation->write.event) ? "DELETE"
																	 : "UPDATE"));
	if (trigger == NULL)
		return;
	if (!guc_enabled)
		tell(explanation, NULL, NULL, "cache_aside.enabled is off in this session");
	else
	{
		ca_text_require_all(trigger->tgnargs, trigger->tgargs,
							"argument of a cache rule's trigger");
		if (trigger->tgnargs == 0)
			tell(explanation, NULL, NULL,
				 "the trigger has no template as its argument: the write fails");
		else if (ca_rule_name_is_query(trigger->tgnargs))
			explain_query(explanation, trigger);
		else
			explain_template(explanation, trigger->tgargs[0]);
	}
}

/* What the write would do with such an error of the rule. */
static void
tell_error(Explanation *explanation, const ErrorData *error)
{
	explanation->told = NIL;
	if (explanation->pattern != NULL && ca_query_is_schema_error(error->sqlerrcode))
		tell_pattern(explanation, explanation->pattern,
					 psprintf("the query fails, every write deletes the rule's whole pattern: %s",
							  error->message));
	else if (error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION ||
			 error->sqlerrcode == ERRCODE_ACTIVE_SQL_TRANSACTION) /* would make it another */
		tell(explanation, NULL, NULL,
			 psprintf("not known, because the rule writes something: %s", error->message));
	else
		tell(explanation, NULL, NULL, psprintf("the write fails: %s", error->message));
}

/* In a subtransaction that leaves nothing; a cancel of the statement is raised. */
static void
explain_rule(Explanation *explanation, const char *rule)
{
	ResourceOwner owner = CurrentResourceOwner;

	explanation->rule = rule;
	explanation->pattern = NULL;
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(explanation->context);
		explain_triggers(explanation);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error = ca_query_leave_subtransaction(explanation->context);

		if (!ca_query_is_any_error(error))
			ReThrowError(error);
		tell_error(explanation, error);
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(explanation->context);
	put_told(explanation);
}

static void
explain_relation(Explanation *explanation)
{
	List *seen = NIL;
	ListCell *cell;

	for (int i = 0; explanation->triggers != NULL && i < explanation->triggers->numtriggers; i++)
	{
		Trigger *trigger = &explanation->triggers->triggers[i];
		String *name;

		if (!ca_attach_member(trigger, NULL))
			continue;
		name = makeString(pstrdup(ca_rule_name_of(trigger->tgnargs, trigger->tgargs)));
		if (list_member(seen, name))
			continue;
		seen = lappend(seen, name);
		explain_rule(explanation, strVal(name));
	}
	foreach (cell, ca_view_rule_list(RelationGetRelid(explanation->relation)))
	{
		explanation->rule = lfirst(cell);
		tell_pattern(
			explanation, ca_template_text_pattern(explanation->rule),
			"only REFRESH MATERIALIZED VIEW writes it, and deletes the rule's whole pattern");
		put_told(explanation);
		seen = lappend(seen, makeString(lfirst(cell)));
	}
	explanation->rule = NULL;
	if (seen == NIL)
		tell(explanation, NULL, NULL, "the table has no rule");
	put_told(explanation);
}

/* ---- the write ---- */

/* The row that jsonb stands for, in a slot of the relation's own form, dropped columns and all. */
static TupleTableSlot *
populate(Relation relation, Datum row)
{
	Oid types[1] = {JSONBOID};
	char *sql = psprintf("SELECT pg_catalog.jsonb_populate_record(NULL::%s, $1)",
						 ca_rule_name_table(RelationGetRelid(relation)));
	TupleTableSlot *slot =
		MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(relation)), &TTSOpsVirtual);
	bool isnull;
	Datum record;

	if (SPI_execute_with_args(sql, 1, types, &row, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args failed");
	record = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	ExecStoreHeapTupleDatum(record, slot);
	ExecMaterializeSlot(slot);
	slot->tts_tableOid = RelationGetRelid(relation);
	return slot;
}

static void
set_write(Explanation *explanation, FunctionCallInfo fcinfo)
{
	CaWrite *write = &explanation->write;
	Datum *rows = explanation->rows;
	bool has_new = !PG_ARGISNULL(1);
	bool has_old = !PG_ARGISNULL(2);

	if (has_new && has_old) /* what the UPDATE does not name stays */
		rows[0] = DirectFunctionCall2(jsonb_concat, PG_GETARG_DATUM(2), PG_GETARG_DATUM(1));
	else if (has_new)
		rows[0] = PG_GETARG_DATUM(1);
	if (has_new)
		write->new_row = populate(explanation->relation, rows[explanation->row_count++]);
	if (has_old)
	{
		rows[explanation->row_count] = PG_GETARG_DATUM(2);
		write->old_row = populate(explanation->relation, rows[explanation->row_count++]);
	}
	write->event = has_new && has_old ? TRIGGER_TYPE_UPDATE
				   : has_new          ? TRIGGER_TYPE_INSERT
									  : TRIGGER_TYPE_DELETE;
}

/* ---- one in another: the query of a rule may call us ---- */

#define MOST_NESTED 8

static Oid explained[MOST_NESTED]; /* by the calls under way */
static int nested;

pg_noinline static void
refuse_endless(Oid relid)
{
	bool endless = nested >= MOST_NESTED;

	for (int i = 0; i < nested; i++)
		endless |= explained[i] == relid;
	if (endless)
		ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
						errmsg("explain() of table \"%s\" calls itself", get_rel_name(relid)),
						errdetail("The query of one of its rules calls it."),
						errhint("Detach that rule, and attach a query that returns keys alone.")));
}

static void
explain_write(FunctionCallInfo fcinfo)
{
	Explanation explanation = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	CaIdentity caller;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	explanation.relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
	ca_attach_check_owner(explanation.relation);
	explanation.triggers = CopyTriggerDesc(explanation.relation->trigdesc);
	SPI_connect();
	explanation.context = CurrentMemoryContext;
	ca_owner_become(&caller, explanation.relation->rd_rel->relowner);
	ca_owner_write_nothing();
	set_write(&explanation, fcinfo);
	explain_relation(&explanation);
	ca_owner_leave(&caller);
	SPI_finish();
	relation_close(explanation.relation, NoLock);
}

Datum
cache_aside_explain_rules(PG_FUNCTION_ARGS)
{
	ca_attach_check_null(PG_ARGISNULL(0), "explain", "relation");
	ca_attach_check_null(PG_ARGISNULL(1) && PG_ARGISNULL(2), "explain", "new");
	refuse_endless(PG_GETARG_OID(0));
	explained[nested++] = PG_GETARG_OID(0);
	PG_TRY();
	{
		explain_write(fcinfo);
	}
	PG_FINALLY();
	{
		nested--;
	}
	PG_END_TRY();
	return (Datum) 0;
}
