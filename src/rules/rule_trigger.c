/*
 * rule_trigger.c: triggers as pg_trigger has them: one by its oid, those of a table, query rules.
 *
 * Input: any oid, also one that a stranger made up. Output: a copy, in the current memory context, of
 * what is in the catalog; nothing keeps a pointer into it. No lock is taken but on the catalog.
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "rows/row_version.h"
#include "rules/rules.h"

#include "access/htup_details.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "utils/builtins.h"
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
	CaCatalogScan scan;
	HeapTuple tuple;

	ca_catalog_begin(&scan, TriggerRelationId, AccessShareLock, TriggerOidIndexId,
					 Anum_pg_trigger_oid, trigger, snapshot);
	tuple = ca_catalog_next(&scan);
	if (HeapTupleIsValid(tuple))
		copy_facts(facts, tuple, RelationGetDescr(scan.catalog));
	ca_catalog_end(&scan);
	if (!HeapTupleIsValid(tuple))
		return false;
	facts->kind = ca_rule_name_kind(facts->function);
	return true;
}

void
ca_rule_trigger_each(Oid relid, LOCKMODE mode, CaTriggerHandler handle, void *arg)
{
	CaCatalogScan scan;
	HeapTuple tuple;

	ca_catalog_begin(&scan, TriggerRelationId, mode, TriggerRelidNameIndexId,
					 Anum_pg_trigger_tgrelid, relid, NULL);
	while (HeapTupleIsValid(tuple = ca_catalog_next(&scan)))
	{
		Oid function = ((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid;
		CaTriggerKind kind = ca_rule_name_kind(function);
		CaTriggerFacts *facts;

		if (kind == CA_TRIGGER_NONE && !ca_version_settings_is(function))
			continue;
		facts = palloc(sizeof(*facts));
		copy_facts(facts, tuple, RelationGetDescr(scan.catalog));
		facts->kind = kind;
		handle(scan.catalog, tuple, facts, arg);
	}
	ca_catalog_end(&scan);
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
	List *queries = NIL;
	CaCatalogScan scan;
	HeapTuple tuple;

	ca_catalog_begin_dependents(&scan, ProcedureRelationId, find_function("invalidate_statement"));
	while (HeapTupleIsValid(tuple = ca_catalog_next(&scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);
		CaTriggerFacts *facts = palloc(sizeof(*facts));

		if (depend->classid == TriggerRelationId &&
			ca_rule_trigger_find(depend->objid, NULL, facts) &&
			facts->kind == CA_TRIGGER_STATEMENT && ca_rule_name_is_query(facts->nargs))
			queries = lappend(queries, facts);
	}
	ca_catalog_end(&scan);
	return queries;
}
