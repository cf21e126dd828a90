/*
 * rule_trigger.c: one trigger as pg_trigger has it, by its oid.
 *
 * Input: any oid, also one that a stranger made up. Output: a copy, in the current memory context, of
 * what is in the catalog; nothing keeps a pointer into it.
 */
#include "cache_aside.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_trigger.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "rules.h"

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

	facts->oid = form->oid;
	facts->relid = form->tgrelid;
	facts->function = form->tgfoid;
	facts->parent = form->tgparentid;
	facts->type = form->tgtype;
	facts->enabled = form->tgenabled;
	facts->name = pstrdup(NameStr(form->tgname));
	facts->nargs = form->tgnargs;
	facts->args = unpack_arguments(tuple, columns, form->tgnargs);
}

bool
ca_trigger_find(Oid trigger, Snapshot snapshot, CaTriggerFacts *facts)
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
	facts->kind = ca_rules_kind(facts->function);
	return true;
}
