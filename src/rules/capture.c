/*
 * capture.c: trigger functions and SQL functions that put keys into the pending set.
 *
 *	invalidate_row        AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW
 *	invalidate_statement  AFTER one event FOR EACH STATEMENT, with transition tables
 *	invalidate_table      AFTER TRUNCATE FOR EACH STATEMENT
 *
 * Input: the rows of a write and the rule in the trigger's arguments. Output: entries in the pending
 * set; an UPDATE gives the old and the new key, a TRUNCATE the rule's pattern.
 *
 * A rule that lost a column gives its pattern instead of failing the write. Errors that remain: a
 * key longer than CA_MAX_KEY, a trigger written by hand in a way that cannot work, a query rule
 * whose query fails. Runs in the per-tuple context of the trigger machinery, which frees what output
 * functions return.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "transaction/transaction.h"
#include "rules/rule.h"
#include "rules/rules.h"

#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cache_aside_invalidate_row);
PG_FUNCTION_INFO_V1(cache_aside_invalidate_statement);
PG_FUNCTION_INFO_V1(cache_aside_invalidate_table);
PG_FUNCTION_INFO_V1(cache_aside_invalidate);
PG_FUNCTION_INFO_V1(cache_aside_invalidate_pattern);

/* ---- prechecks ---- */

static void
refuse_call(const char *function, const char *detail, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
					errmsg("cache_aside.%s() cannot run this way", function),
					errdetail("%s", detail), errhint("%s", hint)));
}

/* What every trigger function of ours demands; `max_args` tells templates from query rules. */
static TriggerData *
check_call(FunctionCallInfo fcinfo, const char *function, bool for_row, int max_args)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		refuse_call(function, "It was not called as a trigger.",
					"Use cache_aside.attach(), or CREATE TRIGGER.");
	if (!TRIGGER_FIRED_AFTER(data->tg_event))
		refuse_call(function, "The trigger fires before the write.", "Create it with AFTER.");
	if (for_row && !TRIGGER_FIRED_FOR_ROW(data->tg_event))
		refuse_call(function, "The trigger fires once per statement.",
					"Create it with FOR EACH ROW.");
	if (!for_row && !TRIGGER_FIRED_FOR_STATEMENT(data->tg_event))
		refuse_call(function, "The trigger fires once per row.",
					"Create it with FOR EACH STATEMENT.");
	if (data->tg_trigger->tgnargs < 1 || data->tg_trigger->tgnargs > max_args)
		refuse_call(function, psprintf("The trigger has %d arguments.", data->tg_trigger->tgnargs),
					"Give the key template as its argument.");
	return data;
}

/* ---- row level ---- */

static void
add_key(void *arg, const char *key, Size len)
{
	CaRule *rule = arg;

	rule->count.keys++;
	ca_entries_add_key(key, len, rule->what);
}

static void
add_pattern(CaRule *rule)
{
	rule->count.patterns++;
	ca_entries_add_rule_pattern(rule->pattern);
}

/* The pattern instead of keys that cannot be made. */
static void
add_pattern_instead(CaRule *rule)
{
	rule->count.failures++;
	add_pattern(rule);
}

static void
add_row(CaRule *rule, TupleTableSlot *row)
{
	ca_key_build(rule->template, row, add_key, rule);
}

static void
fire_row(CaRule *rule, TriggerData *data)
{
	if (rule->missing != NULL)
	{
		add_pattern_instead(rule);
		return;
	}
	if (rule->computed)
		ca_computed_note(rule->pattern, &rule->noted);
	if (!TRIGGER_FIRED_BY_UPDATE(data->tg_event) || !CA_DEBUG_SKIP("old-key"))
		add_row(rule, data->tg_trigslot);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event) &&
		!ca_key_same(rule->template, data->tg_trigslot, data->tg_newslot))
		add_row(rule, data->tg_newslot);
}

Datum
cache_aside_invalidate_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = check_call(fcinfo, "invalidate_row", true, 1);

	if (guc_enabled)
		ca_rule_with(data, fire_row);
	return PointerGetDatum(NULL);
}

/* ---- statement level ---- */

typedef struct RowScan
{
	Tuplestorestate *rows; /* NULL: the event has no such table */
	int pointer;
	TupleTableSlot *slot;
} RowScan;

/* A read pointer of our own: other triggers read the same transition table. */
static void
begin_scan(RowScan *scan, Tuplestorestate *rows, TupleDesc columns)
{
	memset(scan, 0, sizeof(*scan));
	scan->rows = rows;
	if (rows == NULL)
		return;
	scan->pointer = tuplestore_alloc_read_pointer(rows, EXEC_FLAG_REWIND);
	tuplestore_select_read_pointer(rows, scan->pointer);
	tuplestore_rescan(rows);
	scan->slot = MakeSingleTupleTableSlot(columns, &TTSOpsMinimalTuple);
}

static bool
next_row(RowScan *scan)
{
	if (scan->rows == NULL)
		return false;
	tuplestore_select_read_pointer(scan->rows, scan->pointer);
	return tuplestore_gettupleslot(scan->rows, true, false, scan->slot);
}

static void
end_scan(RowScan *scan)
{
	if (scan->rows != NULL)
		ExecDropSingleTupleTableSlot(scan->slot);
}

/*
 * Old and new rows side by side: an UPDATE that leaves the template's columns alone gives each key
 * once, which the pending set could not see after a spill. Should the two tables not be in step, a
 * key is skipped only when its twin was added, so that nothing is lost.
 */
static void
add_rows(CaRule *rule, TriggerData *data)
{
	TupleDesc columns = RelationGetDescr(data->tg_relation);
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "cache_aside row", ALLOCSET_SMALL_SIZES);
	MemoryContext previous = CurrentMemoryContext;
	RowScan old_rows;
	RowScan new_rows;
	bool has_old;
	bool has_new;

	begin_scan(&old_rows, data->tg_oldtable, columns);
	begin_scan(&new_rows, data->tg_newtable, columns);
	for (;;)
	{
		has_old = next_row(&old_rows);
		has_new = next_row(&new_rows);
		if (!has_old && !has_new)
			break;
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(scratch);
		if (has_old)
			add_row(rule, old_rows.slot);
		if (has_new && !(has_old && ca_key_same(rule->template, old_rows.slot, new_rows.slot)))
			add_row(rule, new_rows.slot);
		MemoryContextSwitchTo(previous);
		MemoryContextReset(scratch);
	}
	end_scan(&old_rows);
	end_scan(&new_rows);
	MemoryContextDelete(scratch);
}

static void
check_tables(TriggerData *data)
{
	bool need_old = !TRIGGER_FIRED_BY_INSERT(data->tg_event);
	bool need_new = !TRIGGER_FIRED_BY_DELETE(data->tg_event);

	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		refuse_call("invalidate_statement", "The trigger fires on TRUNCATE.",
					"Use cache_aside.invalidate_table() for TRUNCATE.");
	if ((need_old && data->tg_oldtable == NULL) || (need_new && data->tg_newtable == NULL))
		refuse_call("invalidate_statement", "The trigger lacks a transition table.",
					"Create it with REFERENCING OLD TABLE (UPDATE, DELETE) and NEW TABLE (INSERT, "
					"UPDATE).");
}

static bool
has_rows(TriggerData *data)
{
	return (data->tg_oldtable != NULL && tuplestore_tuple_count(data->tg_oldtable) > 0) ||
		   (data->tg_newtable != NULL && tuplestore_tuple_count(data->tg_newtable) > 0);
}

static void
warn_unapproved(CaRule *rule, TriggerData *data)
{
	Relation relation = data->tg_relation;

	if (rule->warned)
		return;
	rule->warned = true;
	ereport(
		WARNING,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("query of cache rule \"%s\" of table \"%s\" is not approved by the owner",
				rule->name, RelationGetRelationName(relation)),
		 errdetail(
			 "Trigger \"%s\" is not ENABLE ALWAYS, which only the owner can make it, and the query "
			 "would run with the owner's rights. Every write deletes all keys that match \"%s\" "
			 "instead.",
			 data->tg_trigger->tgname, rule->pattern),
		 errhint("Read the query in cache_aside.rules, then: %s",
				 ca_approval_statement(RelationGetRelid(relation), data->tg_trigger->tgname))));
}

typedef struct QueryKeys
{
	CaRule *rule;
	MemoryContext context; /* lives as long as the firing */
	char *stray;           /* pattern of the last key outside the rule's */
} QueryKeys;

static void
add_query_key(void *arg, const char *key, Size len)
{
	QueryKeys *keys = arg;
	CaRule *rule = keys->rule;

	add_key(rule, key, len);
	if (!ca_glob_match(rule->pattern, strlen(rule->pattern), key, len))
	{
		MemoryContext previous = CurrentMemoryContext;
		char *stray = ca_stray_note(rule, key, len, keys->stray);

		if (keys->stray == NULL || strcmp(stray, keys->stray) != 0)
		{
			MemoryContextSwitchTo(keys->context);
			if (keys->stray != NULL)
				pfree(keys->stray);
			keys->stray = pstrdup(stray);
			MemoryContextSwitchTo(previous);
		}
	}
}

static void
fire_query(CaRule *rule, TriggerData *data)
{
	QueryKeys keys = {rule, CurrentMemoryContext, NULL};
	bool done = false;

	if (ca_approval_given(data->tg_relation, data->tg_trigger->tgoid))
		done = ca_query_run(rule, data, add_query_key, &keys);
	else
		warn_unapproved(rule, data);
	if (!done)
		add_pattern_instead(rule);
}

static void
fire_statement(CaRule *rule, TriggerData *data)
{
	if (rule->computed)
		ca_computed_note(rule->pattern, &rule->noted);
	if (rule->missing != NULL)
		add_pattern_instead(rule);
	else if (rule->query != NULL)
		fire_query(rule, data);
	else
		add_rows(rule, data);
}

Datum
cache_aside_invalidate_statement(PG_FUNCTION_ARGS)
{
	TriggerData *data = check_call(fcinfo, "invalidate_statement", false, CA_QUERY_ARGS);

	check_tables(data);
	if (guc_enabled && has_rows(data))
		ca_rule_with(data, fire_statement);
	return PointerGetDatum(NULL);
}

/* ---- TRUNCATE ---- */

static void
fire_truncate(CaRule *rule, TriggerData *data)
{
	add_pattern(rule);
}

Datum
cache_aside_invalidate_table(PG_FUNCTION_ARGS)
{
	TriggerData *data = check_call(fcinfo, "invalidate_table", false, CA_QUERY_ARGS);

	if (guc_enabled)
		ca_rule_with(data, fire_truncate);
	return PointerGetDatum(NULL);
}

/* ---- by hand ---- */

/* Keys and patterns given by the caller: UTF-8, not empty, not NULL. */
static char *
check_argument(text *argument, const char *function, Size *len)
{
	char *given = text_to_cstring(argument);
	char *utf8 = ca_prefix_utf8(given, strlen(given), len);

	if (*len == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("cache_aside.%s() was given an empty text", function),
						errdetail("No cache entry has an empty name."),
						errhint("Name the keys to delete.")));
	return utf8;
}

static void
refuse_null(const char *function)
{
	ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("cache_aside.%s() was given a NULL", function),
					errdetail("A NULL names no cache entry."),
					errhint("Leave NULLs out, for instance with array_remove(keys, NULL).")));
}

static void
refuse_pattern(const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("cache_aside.invalidate() was given a pattern"),
			 errdetail("\"%s\" has a \"*\"; a key names exactly one entry.", key),
			 errhint("Use cache_aside.invalidate_pattern(); it takes \\* for a literal star.")));
}

Datum
cache_aside_invalidate(PG_FUNCTION_ARGS)
{
	Datum *elements;
	bool *nulls;
	int count;

	if (PG_ARGISNULL(0))
		refuse_null("invalidate");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls,
					  &count);
	for (int i = 0; i < count; i++)
	{
		Size len;
		char *key;

		if (nulls[i])
			refuse_null("invalidate");
		key = check_argument(DatumGetTextPP(elements[i]), "invalidate", &len);
		if (strchr(key, '*') != NULL)
			refuse_pattern(key);
		if (guc_enabled)
			ca_entries_add_key(key, len, "The argument of cache_aside.invalidate()");
	}
	PG_RETURN_VOID();
}

Datum
cache_aside_invalidate_pattern(PG_FUNCTION_ARGS)
{
	Size len;
	char *pattern;

	if (PG_ARGISNULL(0))
		refuse_null("invalidate_pattern");
	pattern = check_argument(PG_GETARG_TEXT_PP(0), "invalidate_pattern", &len);
	ca_prefix_check_pattern(pattern, len, "The argument of cache_aside.invalidate_pattern()");
	if (guc_enabled)
		ca_entries_add_pattern(pattern, len, "The argument of cache_aside.invalidate_pattern()");
	PG_RETURN_VOID();
}
