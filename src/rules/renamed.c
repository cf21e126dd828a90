/*
 * renamed.c: what gets another name or schema: a table, a materialized view, or the schema they are in.
 *
 * Input: the object access hook, which comes before the caches have the new name. Output: the former names of
 * each (former.c, of a materialized view view_rule.c), and the patterns of their rules (begins.c).
 */
#include "cache_aside.h"
#include "rules/rules.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* In the object access hook: the caches still have the old name. */
void
ca_renamed_note(Oid relid, char *new_name)
{
	char *before = ca_rule_name_table(relid);

	if (new_name == NULL)
		return;
	ca_begins_note_name(relid);
	if (get_rel_relkind(relid) == RELKIND_MATVIEW)
		ca_view_rule_note_renamed(relid, before, new_name);
	else
		ca_former_note(relid, before, new_name);
}

/* Likewise: of every table in it. */
void
ca_renamed_schema(Oid schema, const char *now)
{
	Relation catalog;
	SysScanDesc scan;
	HeapTuple tuple;

	if (now == NULL)
		return;
	catalog = table_open(RelationRelationId, AccessShareLock);
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relnamespace == schema)
			ca_renamed_note(form->oid, quote_qualified_identifier(now, NameStr(form->relname)));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}
