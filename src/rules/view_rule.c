/*
 * view_rule.c: rules of materialized views, which can have no trigger.
 *
 * Nothing writes to a materialized view but REFRESH, which may change any row: its rule is a template, and a
 * refresh, or DDL that changes what its rows show (reach.c), deletes the template's pattern. Such a rule is a
 * row of cache_aside.view_rule, by the view's oid; the table is dumped with the extension. attach(),
 * detach(), attach_like(), flush(), keys() and the view rules treat it like any other.
 *
 * Rows are written here and nowhere else, for an owner who has no rights on the table: under the lock on the
 * view that attach and detach hold, or while the view is renamed or dropped. Renamed, its rows have the names it
 * had (former.c); dropped, it leaves its rules in lost_rule (heir.c), for a view that comes to have one of them. A row whose view is gone (dropped
 * while the library was not loaded) counts for nothing: whoever reads asks for the view first.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "keys/keys.h"
#include "transaction/transaction.h"
#include "rules/rules.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(cache_aside_template_pattern);

typedef struct ViewScan
{
	Oid relid;
	const char *name; /* NULL: any */
	bool remove;
	List *templates; /* that were found */
	List *former;    /* names of the view; each of its rows has them all */
} ViewScan;

static List *
names_in(Datum array)
{
	List *names = NIL;
	Datum *elements;
	int count;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &count);
	for (int i = 0; i < count; i++)
		names = lappend(names, TextDatumGetCString(elements[i]));
	return names;
}

static Datum
array_of(List *names)
{
	Datum *elements = palloc((list_length(names) + 1) * sizeof(Datum));
	ListCell *cell;

	foreach (cell, names)
		elements[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(
		construct_array(elements, list_length(names), TEXTOID, -1, false, TYPALIGN_INT));
}

static void
scan_row(Relation table, TupleTableSlot *slot, ViewScan *scan)
{
	bool isnull;
	Datum relid = slot_getattr(slot, 1, &isnull);
	char *template;

	if (isnull || DatumGetObjectId(relid) != scan->relid)
		return;
	template = TextDatumGetCString(slot_getattr(slot, 2, &isnull));
	if (scan->name != NULL && strcmp(scan->name, template) != 0)
		return;
	scan->templates = lappend(scan->templates, template);
	scan->former = names_in(slot_getattr(slot, 3, &isnull));
	if (scan->remove)
		simple_heap_delete(table, &slot->tts_tid);
}

static void
scan_rules(ViewScan *scan)
{
	Relation table = ca_heir_open("view_rule", scan->remove ? RowExclusiveLock : AccessShareLock);
	TupleTableSlot *slot;
	Snapshot snapshot;
	TableScanDesc rows;

	if (table == NULL)
		return;
	slot = table_slot_create(table, NULL);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	rows = ca_table_beginscan(table, snapshot);
	while (table_scan_getnextslot(rows, ForwardScanDirection, slot))
		scan_row(table, slot, scan);
	table_endscan(rows);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(table, scan->remove ? NoLock : AccessShareLock);
}

List *
ca_view_rule_list(Oid relid)
{
	ViewScan scan = {.relid = relid};

	if (get_rel_relkind(relid) == RELKIND_MATVIEW)
		scan_rules(&scan);
	return scan.templates;
}

int
ca_view_rule_detach(Oid relid, const char *name)
{
	ViewScan scan = {.relid = relid, .name = name, .remove = true};

	if (get_rel_relkind(relid) != RELKIND_MATVIEW)
		return 0;
	PreventCommandIfReadOnly("cache_aside.detach()");
	scan_rules(&scan);
	CommandCounterIncrement();
	return list_length(scan.templates);
}

/* Adds the patterns of all rules of the view to the pending set. */
void
ca_view_rule_add_patterns(Oid relid)
{
	ListCell *cell;

	foreach (cell, ca_view_rule_list(relid))
	{
		const char *pattern = ca_template_text_pattern(lfirst(cell));

		if (pattern != NULL)
			ca_entries_add_rule_pattern(pattern);
	}
}

static void
check_rule(Relation view, const char *template, bool has_options)
{
	ListCell *cell;

	ca_attach_check_owner(view);
	if (has_options)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("a rule of materialized view \"%s\" has neither columns nor level",
							   RelationGetRelationName(view)),
						errdetail("It has no rows that are written one by one: a REFRESH deletes "
								  "everything that the template covers."),
						errhint("Leave both out.")));
	ca_attach_check_template(
		ca_template_parse(template, RelationGetDescr(view), RelationGetRelationName(view), NULL));
	foreach (cell, ca_view_rule_list(RelationGetRelid(view)))
		if (strcmp(lfirst(cell), template) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("cache rule \"%s\" of materialized view \"%s\" exists already",
							template, RelationGetRelationName(view)),
					 errdetail("A view has each template once."), errhint("Detach it first.")));
}

static void
insert_rule(Oid relid, const char *template, List *former)
{
	Relation table = ca_heir_open("view_rule", RowExclusiveLock);
	Datum values[3];
	bool nulls[3] = {false};

	if (table == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("rules of materialized views need newer SQL objects of cache_aside"),
						errdetail("There is no table cache_aside.view_rule, where they are kept."),
						errhint("Run ALTER EXTENSION cache_aside UPDATE.")));
	values[0] = ObjectIdGetDatum(relid);
	values[1] = CStringGetTextDatum(template);
	values[2] = array_of(former);
	simple_heap_insert(table, heap_form_tuple(RelationGetDescr(table), values, nulls));
	table_close(table, NoLock);
}

void
ca_view_rule_attach(Relation view, const char *template, bool has_options)
{
	ViewScan others = {.relid = RelationGetRelid(view)};

	PreventCommandIfReadOnly("cache_aside.attach()");
	check_rule(view, template, has_options);
	scan_rules(&others);
	insert_rule(others.relid, template, others.former);
	CommandCounterIncrement();
	if (ca_switches_ddl())
		ca_entries_add_rule_pattern(ca_template_text_pattern(template));
}

/* In the object access hook, where others have yet to see the old name: no command counter moves here. */
void
ca_view_rule_note_renamed(Oid relid, const char *before, const char *now)
{
	ViewScan scan = {.relid = relid, .remove = true};
	ListCell *cell;

	scan_rules(&scan);
	foreach (cell, scan.templates)
		insert_rule(relid, lfirst(cell), ca_former_change(list_copy(scan.former), before, now));
}

static void
keep_lost(char *view, char *template)
{
	CaLostRule lost = {.table = view, .rule = template};

	lost.statement = psprintf("SELECT cache_aside.attach(%s, %s", quote_literal_cstr(view),
							  quote_literal_cstr(template));
	ca_heir_keep(&lost, "");
}

/* In the object access hook, before the view goes. */
void
ca_view_rule_note_dropped(Oid relid)
{
	ViewScan scan = {.relid = relid, .remove = true};
	ListCell *cell;
	ListCell *name;

	if (get_rel_relkind(relid) != RELKIND_MATVIEW)
		return;
	scan_rules(&scan);
	if (scan.templates != NIL)
		CommandCounterIncrement();
	foreach (name, lappend(scan.former, ca_rule_name_table(relid)))
		foreach (cell, scan.templates)
			keep_lost(lfirst(name), lfirst(cell));
}

/* NULL for a malformed one. */
Datum
cache_aside_template_pattern(PG_FUNCTION_ARGS)
{
	const char *pattern = ca_template_text_pattern(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	if (pattern == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(ca_prefix_from_utf8(pstrdup(pattern))));
}
