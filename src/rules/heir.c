/*
 * heir.c: tables that took over the name of a table with rules or versions, but not these.
 *
 * "CREATE TABLE u_new (LIKE u INCLUDING ALL)", copy, rename u away and u_new in, drop the old one: what
 * online schema changes do. Triggers stay with the old table and go with it; the writes to the new one
 * then delete nothing. The view gaps shows such a table:
 *
 *	old table still there	its rules know the name they were attached under: it is in the names of their
 *							triggers, as a hash (attach.c), and the names it had since (former.c).
 *	old table dropped		its rules and versions are put down in cache_aside.lost_rule, with each name and
 *							the statement that makes them. Nothing is shown unless a table has that name.
 *
 * lost_rule is written in the middle of somebody's DROP, who has no right on it: rows are only ever
 * inserted then, without a wait for anybody; twice the same does no harm. It stops growing at MOST rows.
 * detach(relation) takes out what is put down for the name. It is dumped with the extension.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "rows/row_version.h"
#include "rules/rules.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define MOST 1000

PG_FUNCTION_INFO_V1(cache_aside_rule_heir);

/* ---- former names ---- */

static bool
is_among(List *names, const char *table)
{
	ListCell *cell;

	foreach (cell, names)
		if (strcmp(lfirst(cell), table) == 0)
			return true;
	return false;
}

/* Was the rule attached under this name? Its triggers' names tell; by hand, a name is any. */
static bool
was_attached_to(const CaTriggerFacts *facts, const char *table)
{
	char *prefix;

	if (facts->kind == CA_TRIGGER_NONE || facts->nargs == 0)
		return false;
	prefix = ca_rule_name_prefix(table, ca_rule_name_of(facts->nargs, facts->args));
	return strncmp(facts->name, prefix, strlen(prefix)) == 0 && facts->name[strlen(prefix)] == '_';
}

static bool
is_heir_kind(Form_pg_class form)
{
	return (form->relkind == RELKIND_RELATION || form->relkind == RELKIND_PARTITIONED_TABLE ||
			form->relkind == RELKIND_FOREIGN_TABLE) &&
		   form->relpersistence != RELPERSISTENCE_TEMP;
}

/* Another table that has a former name now. */
static Oid
search_heir(const CaTriggerFacts *facts, List *former)
{
	Relation catalog = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	Oid heir = InvalidOid;
	HeapTuple tuple;

	while (!OidIsValid(heir) && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
		char *schema = is_heir_kind(form) ? get_namespace_name(form->relnamespace) : NULL;
		char *name;

		if (schema == NULL || form->oid == facts->relid)
			continue;
		name = quote_qualified_identifier(schema, NameStr(form->relname));
		if (is_among(former, name) || was_attached_to(facts, name))
			heir = form->oid;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return heir;
}

static Oid
find_heir(const CaTriggerFacts *facts, List *former)
{
	if (OidIsValid(facts->parent))
		return InvalidOid;
	if (former == NIL && (strncmp(facts->name, "cache_aside_", 12) != 0 ||
						  was_attached_to(facts, ca_rule_name_table(facts->relid))))
		return InvalidOid;
	return search_heir(facts, former);
}

static bool
is_ours(const CaTriggerFacts *facts)
{
	return facts->kind != CA_TRIGGER_NONE || ca_version_settings_is(facts->function);
}

Datum
cache_aside_rule_heir(PG_FUNCTION_ARGS)
{
	CaTriggerFacts facts;
	Oid heir;

	if (!ca_rule_trigger_find(PG_GETARG_OID(0), NULL, &facts) || !is_ours(&facts))
		PG_RETURN_NULL();
	heir = find_heir(&facts, ca_former_names(PG_GETARG_OID(0)));
	if (!OidIsValid(heir))
		PG_RETURN_NULL();
	PG_RETURN_OID(heir);
}

/* ---- what is lost with a table ---- */

static char *
array_literal(int count, char **elements)
{
	Datum *datums = palloc((count + 1) * sizeof(Datum));
	Oid function;
	bool is_varlena;

	for (int i = 0; i < count; i++)
		datums[i] = CStringGetTextDatum(elements[i]);
	getTypeOutputInfo(TEXTARRAYOID, &function, &is_varlena);
	return OidOutputFunctionCall(function, PointerGetDatum(construct_array(
											   datums, count, TEXTOID, -1, false, TYPALIGN_INT)));
}

/* row_version(column, 'presents[, start]' [, counted columns ...]) */
static char *
version_statement(const CaTriggerFacts *facts, const char *table)
{
	char *presents = pstrdup(facts->nargs > 1 ? facts->args[1] : "next");
	char *start = strstr(presents, ", ");
	StringInfoData sql;

	if (start != NULL)
	{
		*start = '\0';
		start += 2;
	}
	initStringInfo(&sql);
	appendStringInfo(
		&sql, "SELECT cache_aside.enable_versioning(%s, version => %s, start => %s, presents => %s",
		quote_literal_cstr(table), quote_literal_cstr(facts->args[0]),
		quote_literal_cstr(start ? start : "one"), quote_literal_cstr(presents));
	if (facts->nargs > 2)
		appendStringInfo(&sql, ", columns => %s",
						 quote_literal_cstr(array_literal(facts->nargs - 2, facts->args + 2)));
	return sql.data;
}

static char *
statement_of(const CaTriggerFacts *facts, const char *table)
{
	if (facts->kind == CA_TRIGGER_NONE)
		return version_statement(facts, table);
	if (ca_rule_name_is_query(facts->nargs))
		return psprintf("SELECT cache_aside.attach_query(%s, %s, %s, %s", quote_literal_cstr(table),
						quote_literal_cstr(facts->args[1]), quote_literal_cstr(facts->args[0]),
						quote_literal_cstr(ca_rule_name_of(facts->nargs, facts->args)));
	return psprintf("SELECT cache_aside.attach(%s, %s", quote_literal_cstr(table),
					quote_literal_cstr(facts->args[0]));
}

static CaLostRule *
describe_lost(const CaTriggerFacts *facts, const char *table)
{
	CaLostRule *lost = palloc(sizeof(*lost));

	lost->table = pstrdup(table);
	lost->rule = facts->kind == CA_TRIGGER_NONE
					 ? psprintf("row_version(%s)", facts->args[0])
					 : pstrdup(ca_rule_name_of(facts->nargs, facts->args));
	lost->statement = statement_of(facts, table);
	return lost;
}

/*
 * What the trigger tells of its rule; each tells the same. A table that has none of the names yet may come to have
 * one: "rename away, drop, rename the copy in".
 */
List *
ca_heir_describe(const CaTriggerFacts *facts, Oid trigger)
{
	List *former = ca_former_names(trigger);
	List *lost;
	ListCell *cell;
	char *first;
	Oid heir;

	if (!is_ours(facts) || OidIsValid(facts->parent) || facts->nargs == 0)
		return NIL;
	for (int i = 0; i < facts->nargs; i++)
		if (!ca_text_is_valid(facts->args[i]))
			return NIL;
	heir = find_heir(facts, former);
	first = ca_rule_name_table(OidIsValid(heir) ? heir : facts->relid);
	lost = list_make1(describe_lost(facts, first));
	foreach (cell, former)
		if (strcmp(lfirst(cell), first) != 0)
			lost = lappend(lost, describe_lost(facts, lfirst(cell)));
	return lost;
}

/* Columns that are compared, as an argument of attach. */
static char *
columns_option(const CaTriggerFacts *facts, const Bitmapset *columns)
{
	char **names = palloc((bms_num_members(columns) + 1) * sizeof(char *));
	int count = 0;
	int attnum = 0;

	while ((attnum = bms_next_member(columns, attnum)) >= 0)
	{
		names[count] = get_attname(facts->relid, (AttrNumber) attnum, true);
		if (names[count] != NULL)
			count++;
	}
	return psprintf(", columns => %s", quote_literal_cstr(array_literal(count, names)));
}

char *
ca_heir_options(const CaTriggerFacts *facts)
{
	Bitmapset *columns;

	if (!TRIGGER_FOR_UPDATE(facts->type) || facts->kind == CA_TRIGGER_NONE)
		return NULL;
	if (facts->kind == CA_TRIGGER_STATEMENT)
		return ca_rule_name_is_query(facts->nargs) ? pstrdup("")
												   : pstrdup(", level => 'statement'");
	columns = ca_watched_compared(facts);
	return columns == NULL || bms_is_member(0, columns) ? pstrdup("")
														: columns_option(facts, columns);
}

Relation
ca_heir_open(const char *name, LOCKMODE mode)
{
	Oid schema = get_namespace_oid("cache_aside", true);
	Oid relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_RELATION ? table_open(relid, mode)
																		   : NULL;
}

static bool
column_is(TupleTableSlot *slot, int column, const char *value)
{
	bool isnull;
	Datum datum = slot_getattr(slot, column, &isnull);

	return !isnull && (value == NULL || strcmp(TextDatumGetCString(datum), value) == 0);
}

/* Calls back for each row put down for the name and rule (NULL: any); returns how many there are in all. */
static int
scan_lost(Relation relation, const char *table, const char *rule,
		  void (*handle)(Relation, TupleTableSlot *), bool *found)
{
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = ca_table_beginscan(relation, snapshot);
	int count = 0;

	*found = false;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		count++;
		if (!column_is(slot, 1, table) || !column_is(slot, 2, rule))
			continue;
		*found = true;
		if (handle != NULL)
			handle(relation, slot);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	return count;
}

void
ca_heir_keep(const CaLostRule *lost, const char *options)
{
	Relation relation = ca_heir_open("lost_rule", RowExclusiveLock);
	Datum values[3];
	bool nulls[3] = {false};
	bool found;

	if (relation == NULL)
		return;
	if (scan_lost(relation, lost->table, lost->rule, NULL, &found) < MOST && !found)
	{
		values[0] = CStringGetTextDatum(lost->table);
		values[1] = CStringGetTextDatum(lost->rule);
		values[2] = CStringGetTextDatum(psprintf("%s%s);", lost->statement, options));
		simple_heap_insert(relation, heap_form_tuple(RelationGetDescr(relation), values, nulls));
	}
	table_close(relation, NoLock);
}

static void
delete_row(Relation relation, TupleTableSlot *slot)
{
	simple_heap_delete(relation, &slot->tts_tid);
}

void
ca_heir_forget(Oid relid, const char *rule)
{
	Relation relation = ca_heir_open("lost_rule", RowExclusiveLock);
	bool found;

	if (relation == NULL)
		return;
	(void) scan_lost(relation, ca_rule_name_table(relid), rule, delete_row, &found);
	table_close(relation, NoLock);
}
