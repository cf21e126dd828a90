/*
 * rule_trigger.c: triggers as pg_trigger has them: one by its oid, those of a table, query rules.
 *
 * Input: any oid, also one that a stranger made up. Output: a copy, in the current memory context, of
 * what is in the catalog; nothing keeps a pointer into it. No lock is taken but on the catalog.
 */
#include "cache_aside.h"
#include "rows/row_version.h"
#include "rules/rules.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* pg_trigger.tgargs, each argument followed by a NUL, as an array of texts. */
static char **
unpack_arguments(HeapTuple tuple, TupleDesc columns, int count)
{
	char **arguments = palloc0((count + 1) * sizeof(char *));
	bool isnull;
	Datum packed = heap_getattr(tuple, Anum_pg_trigger_tgargs, columns, &isnull);
	bytea *bytes = isnull ? NULL : DatumGetByteaPP(packed);
	const char *at = isnull ? NULL : VARDATA_ANY(bytes);
	const char *end = isnull ? NULL : at + VARSIZE_ANY_EXHDR(bytes);

	for (int i = 0; i < count; i++)
	{
		Size len = at < end ? strnlen(at, end - at) : 0;

		arguments[i] = at < end ? pnstrdup(at, len) : pstrdup("");
		at = at < end ? at + len + 1 : end;
	}
	return arguments;
}

static void
copy_facts(CaTriggerFacts *facts, HeapTuple tuple, TupleDesc columns)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	Datum condition;
	bool isnull;

	facts->oid = form->oid;
	facts->relid = form->tgrelid;
	facts->function = form->tgfoid;
	facts->parent = form->tgparentid;
	facts->type = form->tgtype;
	facts->enabled = form->tgenabled;
	facts->name = pstrdup(NameStr(form->tgname));
	condition = heap_getattr(tuple, Anum_pg_trigger_tgqual, columns, &isnull);
	facts->condition = isnull ? NULL : TextDatumGetCString(condition);
	facts->update_of = NULL;
	for (int i = 0; i < form->tgattr.dim1; i++)
		facts->update_of = bms_add_member(facts->update_of, form->tgattr.values[i]);
	facts->nargs = form->tgnargs;
	facts->args = unpack_arguments(tuple, columns, form->tgnargs);
}

bool
ca_rule_trigger_find(Oid trigger, Snapshot snapshot, CaTriggerFacts *facts)
{
	Relation catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		copy_facts(facts, tuple, RelationGetDescr(catalog));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	if (!HeapTupleIsValid(tuple))
		return false;
	facts->kind = ca_rule_name_kind(facts->function);
	return true;
}

void
ca_rule_trigger_each(Oid relid, LOCKMODE mode, CaTriggerHandler handle, void *arg)
{
	Relation catalog = table_open(TriggerRelationId, mode);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid function = ((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid;
		CaTriggerKind kind = ca_rule_name_kind(function);
		CaTriggerFacts *facts;

		if (kind == CA_TRIGGER_NONE && !ca_version_settings_is(function))
			continue;
		facts = palloc(sizeof(*facts));
		copy_facts(facts, tuple, RelationGetDescr(catalog));
		facts->kind = kind;
		handle(catalog, tuple, facts, arg);
	}
	systable_endscan(scan);
	table_close(catalog, mode);
}

static void
list_rule(Relation catalog, HeapTuple tuple, CaTriggerFacts *facts, void *arg)
{
	List **triggers = arg;

	if (facts->kind != CA_TRIGGER_NONE)
		*triggers = lappend(*triggers, facts);
}

List *
ca_rule_trigger_list(Oid relid)
{
	List *triggers = NIL;

	ca_rule_trigger_each(relid, AccessShareLock, list_rule, &triggers);
	return triggers;
}

static void
note_version(Relation catalog, HeapTuple tuple, CaTriggerFacts *facts, void *arg)
{
	if (facts->kind == CA_TRIGGER_NONE && !OidIsValid(facts->parent))
		*(Oid *) arg = facts->oid;
}

Oid
ca_rule_trigger_version(Oid relid)
{
	Oid trigger = InvalidOid;

	ca_rule_trigger_each(relid, AccessShareLock, note_version, &trigger);
	return trigger;
}

/* Our function of that name without arguments, or InvalidOid. */
static Oid
find_function(const char *name)
{
	oidvector *none = buildoidvector(NULL, 0);

	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
						   PointerGetDatum(none),
						   ObjectIdGetDatum(get_namespace_oid("cache_aside", true)));
}

/* Statement triggers are few, and each depends on its function. */
List *
ca_rule_trigger_queries(void)
{
	Relation catalog = table_open(DependRelationId, AccessShareLock);
	List *queries = NIL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ProcedureRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(find_function("invalidate_statement")));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);
		CaTriggerFacts *facts = palloc(sizeof(*facts));

		if (depend->classid == TriggerRelationId &&
			ca_rule_trigger_find(depend->objid, NULL, facts) &&
			facts->kind == CA_TRIGGER_STATEMENT && ca_rule_name_is_query(facts->nargs))
			queries = lappend(queries, facts);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return queries;
}
