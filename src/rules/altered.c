/*
 * altered.c: DDL that changes what cached rows show, or which there are, without writing a row.
 *
 *	object access hook (ddl.c), whatever statement it comes from:
 *	a column is added, dropped, renamed, gets another type, collation, expression		its relation
 *	a function is replaced, altered, dropped; a view is replaced, dropped				its users
 *	an operator is altered, dropped														its users
 *	a table, view or schema is renamed or moved											query rules
 *	a foreign server or wrapper is altered												its tables
 *
 *	utility hook, where core tells no hook:
 *	ALTER TYPE ... RENAME VALUE, ALTER DOMAIN, REFRESH MATERIALIZED VIEW, CREATE FOREIGN TABLE as a
 *	partition or child, OPTIONS of a foreign table
 *
 * Input: the object. Output: patterns, by reach.c. The hook runs before the command counter moves on:
 * the caches have the object as it was, SnapshotSelf as it is. So what leaves rows as they are (SET
 * STATISTICS, NOT NULL, storage, owner, a longer varchar) is told from what does not by comparing the
 * two, not by the names of statements.
 */
#include "cache_aside.h"
#include "rules/rules.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* One row of a catalog by its key, as it is now, inside the command; a copy, or NULL. */
static HeapTuple
fetch_now(Oid catalog_id, Oid index, int count, ScanKeyData *keys, Snapshot snapshot)
{
	Relation catalog = table_open(catalog_id, AccessShareLock);
	SysScanDesc scan = systable_beginscan(catalog, index, true, snapshot, count, keys);
	HeapTuple tuple = heap_copytuple(systable_getnext(scan));

	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return tuple;
}

static HeapTuple
fetch_by_oid(Oid catalog_id, Oid index, Oid oid, Snapshot snapshot)
{
	ScanKeyData key;

	/* Each of these catalogs begins with its oid. */
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	return fetch_now(catalog_id, index, 1, &key, snapshot);
}

static HeapTuple
fetch_column(Oid relid, int attnum)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], Anum_pg_attribute_attrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[1], Anum_pg_attribute_attnum, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum((int16) attnum));
	return fetch_now(AttributeRelationId, AttributeRelidNumIndexId, 2, keys, SnapshotSelf);
}

/* ---- what changed ---- */

/*
 * A type modifier alone counts where the table is rewritten for it, which ddl.c sees; a foreign table has
 * no rows to rewrite, and shows its own by the modifier of today. A virtual column's expression is not in
 * this row, so whatever is done to such a column counts.
 */
static bool
shows_other(Form_pg_attribute before, Form_pg_attribute after)
{
	if (before->atttypmod != after->atttypmod &&
		get_rel_relkind(before->attrelid) == RELKIND_FOREIGN_TABLE)
		return true;
	return strcmp(NameStr(before->attname), NameStr(after->attname)) != 0 ||
		   before->atttypid != after->atttypid || before->attcollation != after->attcollation ||
		   before->attgenerated != after->attgenerated || after->attgenerated == 'v';
}

bool
ca_altered_column(Oid relid, int attnum)
{
	HeapTuple before =
		SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum((int16) attnum));
	HeapTuple after;
	bool altered;

	if (!HeapTupleIsValid(before))
		return true;
	after = fetch_column(relid, attnum);
	altered = after == NULL || shows_other((Form_pg_attribute) GETSTRUCT(before),
										   (Form_pg_attribute) GETSTRUCT(after));
	ReleaseSysCache(before);
	return altered;
}

bool
ca_altered_name(Oid relid)
{
	HeapTuple before = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	HeapTuple after;
	bool renamed = false;

	if (!HeapTupleIsValid(before))
		return false;
	after = fetch_by_oid(RelationRelationId, ClassOidIndexId, relid, SnapshotSelf);
	if (after != NULL)
	{
		Form_pg_class old_form = (Form_pg_class) GETSTRUCT(before);
		Form_pg_class new_form = (Form_pg_class) GETSTRUCT(after);

		renamed = strcmp(NameStr(old_form->relname), NameStr(new_form->relname)) != 0 ||
				  old_form->relnamespace != new_form->relnamespace;
	}
	ReleaseSysCache(before);
	return renamed;
}

char *
ca_altered_new_name(Oid relid)
{
	HeapTuple after = fetch_by_oid(RelationRelationId, ClassOidIndexId, relid, SnapshotSelf);
	Form_pg_class form;
	char *schema;

	if (after == NULL)
		return NULL;
	form = (Form_pg_class) GETSTRUCT(after);
	schema = get_namespace_name(form->relnamespace);
	return schema == NULL ? NULL : quote_qualified_identifier(schema, NameStr(form->relname));
}

char *
ca_altered_schema_name(Oid schema)
{
	char *before = get_namespace_name(schema);
	HeapTuple after = fetch_by_oid(NamespaceRelationId, NamespaceOidIndexId, schema, SnapshotSelf);
	const char *now;

	if (before == NULL || after == NULL)
		return NULL;
	now = NameStr(((Form_pg_namespace) GETSTRUCT(after))->nspname);
	return strcmp(before, now) == 0 ? NULL : pstrdup(now);
}

/* ---- the hook ---- */

static void
note_relation(ObjectAccessType access, Oid relid, int part, bool internal)
{
	char kind = get_rel_relkind(relid);

	if (kind == RELKIND_INDEX || kind == RELKIND_PARTITIONED_INDEX || kind == RELKIND_SEQUENCE ||
		kind == RELKIND_TOASTVALUE || internal)
		return;
	if (part > 0 && (access != OAT_POST_ALTER || ca_altered_column(relid, part)))
		ca_reach_add(RelationRelationId, relid);
	else if (part == 0 && access == OAT_DROP)
		ca_reach_add(RelationRelationId, relid);
	else if (part == 0 && access == OAT_POST_ALTER && ca_altered_name(relid))
		ca_reach_add_queries(RelationRelationId, relid);
}

/* Nothing can depend on one that is new; one that is replaced was visible before. */
static void
note_function(ObjectAccessType access, Oid function)
{
	if (access != OAT_POST_CREATE || SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		ca_reach_add(ProcedureRelationId, function);
}

static void
note_view(ObjectAccessType access, Oid rewrite)
{
	HeapTuple before;

	if (access != OAT_POST_CREATE)
		return;
	before = fetch_by_oid(RewriteRelationId, RewriteOidIndexId, rewrite, NULL);
	if (before != NULL)
		ca_reach_add(RelationRelationId, ((Form_pg_rewrite) GETSTRUCT(before))->ev_class);
}

void
ca_altered_note(ObjectAccessType access, Oid class, Oid object, int part, void *arg)
{
	bool internal = access == OAT_DROP && arg != NULL &&
					(((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL) != 0;

	switch (class)
	{
		case RelationRelationId:
			note_relation(access, object, part, internal);
			break;
		case ProcedureRelationId:
			note_function(access, object);
			break;
		case RewriteRelationId:
			note_view(access, object);
			break;
		case OperatorRelationId:
			if (access != OAT_POST_CREATE)
				ca_reach_add(class, object);
			break;
		case NamespaceRelationId:
		case ForeignServerRelationId:
		case ForeignDataWrapperRelationId:
			if (access == OAT_POST_ALTER)
				ca_reach_add(class, object);
			break;
		default:
			break;
	}
}

/* ---- statements ---- */

static void
add_relation(RangeVar *name)
{
	Oid relid = RangeVarGetRelid(name, NoLock, true);

	if (OidIsValid(relid))
		ca_reach_add(RelationRelationId, relid);
}

static void
add_type(List *name)
{
	ca_reach_add(TypeRelationId, LookupTypeNameOid(NULL, makeTypeNameFromNameList(name), true));
}

static void
add_foreign_options(AlterTableStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		AlterTableType kind = ((AlterTableCmd *) lfirst(cell))->subtype;

		if (kind == AT_GenericOptions || kind == AT_AlterColumnGenericOptions)
		{
			add_relation(statement->relation);
			return;
		}
	}
}

/* After the statement ran. */
void
ca_altered_note_statement(Node *node)
{
	switch (nodeTag(node))
	{
		case T_AlterEnumStmt:
			if (((AlterEnumStmt *) node)->oldVal != NULL)
				add_type(((AlterEnumStmt *) node)->typeName);
			break;
		case T_AlterDomainStmt:
			if (((AlterDomainStmt *) node)->subtype != 'V') /* VALIDATE CONSTRAINT */
				add_type(((AlterDomainStmt *) node)->typeName);
			break;
		case T_RefreshMatViewStmt:
			add_relation(((RefreshMatViewStmt *) node)->relation);
			break;
		case T_CreateForeignTableStmt:
			if (((CreateForeignTableStmt *) node)->base.inhRelations != NIL)
				add_relation(((CreateForeignTableStmt *) node)->base.relation);
			break;
		case T_AlterTableStmt:
			add_foreign_options((AlterTableStmt *) node);
			break;
		default:
			break;
	}
}
