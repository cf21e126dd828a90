/*
 * reach.c: whose keys does a changed object concern, although no row was written?
 *
 * Input: an object of the catalog that changes what rows look like, or which rows there are: a table
 * or view whose columns or rows changed, a type, a function, a foreign server. Output: the patterns
 * of every rule that can be concerned, in the pending set:
 *
 *	rules of tables		of the object itself, of every table that has a column of the type (through
 *						arrays, domains, ranges, composites, row types), of the tables above those;
 *						those of a materialized view likewise (view_rule.c)
 *	query rules			whose query names something of that set, or a view on it, in between or not;
 *						all of them if a schema got another name
 *
 * The way goes along pg_depend. What a query rule's query names is read from its parse tree, not from
 * an analysis: that would run the owner's code and lock tables in the middle of somebody's DDL, and
 * at that moment half of the catalog is old. search_path is pinned, so a name without schema is none
 * of a user's object. What cannot be read (a query with a syntax error, a function whose body is a
 * text) may name anything, and then counts as naming it: a pattern too many is deleted.
 *
 * Whoever has a transaction open may have worked out keys with the object as it was. That is no question where he locked it,
 * as whoever uses a table or view does. Functions, types (also the row type of a table) and whatever else are used without a
 * lock: such DDL is noted (transaction/replacing.c), before its patterns are added.
 *
 * No lock is taken on any of the tables found; their triggers are read from the catalog. A rule that
 * is attached at the same moment begins with nothing cached under it (begins.c).
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "common/common.h"
#include "common/debug.h"
#include "transaction/transaction.h"
#include "rules/rules.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/catcache.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

typedef struct Object
{
	Oid class;
	Oid oid;
} Object;

/* What was reached so far, in the order in which it was. */
typedef struct Reach
{
	HTAB *seen;
	List *objects; /* Object, each its own allocation */
	bool
		unlocked; /* keys may be worked out with it by whoever holds no lock that the DDL waits for */
} Reach;

/* ---- the set ---- */

static void
add_object(Reach *reach, Oid class, Oid oid)
{
	Object key = {class, oid};
	Object *object;
	bool found;

	if (!OidIsValid(oid))
		return;
	hash_search(reach->seen, &key, HASH_ENTER, &found);
	if (found)
		return;
	object = palloc(sizeof(*object));
	*object = key;
	reach->objects = lappend(reach->objects, object);
}

/* The view that a rewrite rule makes; a materialized one keeps its rows until it is refreshed. */
static Oid
view_of(Oid rewrite)
{
	Oid relid = InvalidOid;
	CaCatalogScan scan;
	HeapTuple tuple;

	ca_catalog_begin(&scan, RewriteRelationId, AccessShareLock, RewriteOidIndexId,
					 Anum_pg_rewrite_oid, rewrite, NULL);
	if (HeapTupleIsValid(tuple = ca_catalog_next(&scan)))
		relid = ((Form_pg_rewrite) GETSTRUCT(tuple))->ev_class;
	ca_catalog_end(&scan);
	return OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_VIEW ? relid : InvalidOid;
}

/* The table of a virtual generated column, which shows what its expression gives today. */
static Oid
table_of_virtual(Oid expression)
{
	ObjectAddress column = GetAttrDefaultColumnAddress(expression);
	HeapTuple tuple;
	bool is_virtual;

	if (!OidIsValid(column.objectId))
		return InvalidOid;
	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(column.objectId),
							Int16GetDatum((int16) column.objectSubId));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	is_virtual = ((Form_pg_attribute) GETSTRUCT(tuple))->attgenerated == 'v';
	ReleaseSysCache(tuple);
	return is_virtual ? column.objectId : InvalidOid;
}

static void
follow(Reach *reach, const Object *from, Form_pg_depend depend)
{
	switch (depend->classid)
	{
		case RewriteRelationId:
			add_object(reach, RelationRelationId, view_of(depend->objid));
			break;
		case AttrDefaultRelationId:
			if (from->class != RelationRelationId)
				add_object(reach, RelationRelationId, table_of_virtual(depend->objid));
			break;
		case RelationRelationId:
			if ((from->class == TypeRelationId && depend->objsubid > 0) ||
				from->class == ForeignServerRelationId)
				add_object(reach, RelationRelationId, depend->objid);
			reach->unlocked |= from->class == TypeRelationId && depend->objsubid > 0;
			break;
		case ProcedureRelationId:
			reach->unlocked |= from->class == TypeRelationId;
			add_object(reach, ProcedureRelationId, depend->objid);
			break;
		case TypeRelationId:
		case OperatorRelationId:
		case ForeignServerRelationId:
			add_object(reach, depend->classid, depend->objid);
			break;
		default:
			break;
	}
}

static void
follow_dependents(Reach *reach, const Object *from)
{
	CaCatalogScan scan;
	HeapTuple tuple;

	ca_catalog_begin_dependents(&scan, from->class, from->oid);
	while (HeapTupleIsValid(tuple = ca_catalog_next(&scan)))
		follow(reach, from, (Form_pg_depend) GETSTRUCT(tuple));
	ca_catalog_end(&scan);
}

/* Rows of a table are rows of its parents. */
static void
follow_parents(Reach *reach, Oid relid)
{
	ListCell *cell;

	foreach (cell, ca_catalog_parents(relid))
		add_object(reach, RelationRelationId, lfirst_oid(cell));
}

static void
find_reached(Reach *reach, Oid class, Oid oid)
{
	HASHCTL control = {.keysize = sizeof(Object), .entrysize = sizeof(Object)};

	control.hcxt = CurrentMemoryContext;
	reach->seen =
		hash_create("cache_aside reach", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	reach->objects = NIL;
	reach->unlocked = class != RelationRelationId;
	add_object(reach, class, oid);
	for (int i = 0; i < list_length(reach->objects); i++)
	{
		Object *object = list_nth(reach->objects, i);

		CHECK_FOR_INTERRUPTS();
		follow_dependents(reach, object);
		if (object->class != RelationRelationId)
			continue;
		follow_parents(reach, object->oid);
		add_object(reach, TypeRelationId, get_rel_type_id(object->oid));
	}
}

/* ---- what a query names ---- */

typedef struct NamedObject
{
	const char *schema;
	const char *name;
} NamedObject;

static NamedObject *
name_of(const Object *object)
{
	NamedObject *name = palloc0(sizeof(*name));
	int cache = object->class == RelationRelationId    ? RELOID
				: object->class == TypeRelationId      ? TYPEOID
				: object->class == ProcedureRelationId ? PROCOID
				: object->class == OperatorRelationId  ? OPEROID
													   : -1;
	HeapTuple tuple = cache < 0 ? NULL : SearchSysCache1(cache, ObjectIdGetDatum(object->oid));
	Oid namespace;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	/* Each of these begins with oid, name, schema. */
	name->name = pstrdup(NameStr(((Form_pg_class) GETSTRUCT(tuple))->relname));
	namespace = ((Form_pg_class) GETSTRUCT(tuple))->relnamespace;
	ReleaseSysCache(tuple);
	name->schema = get_namespace_name(namespace);
	return name->schema == NULL ? NULL : name;
}

StaticAssertDecl(offsetof(FormData_pg_class, relnamespace) ==
					 offsetof(FormData_pg_proc, pronamespace),
				 "name_of reads both");
StaticAssertDecl(offsetof(FormData_pg_class, relnamespace) ==
					 offsetof(FormData_pg_type, typnamespace),
				 "name_of reads both");
StaticAssertDecl(offsetof(FormData_pg_class, relnamespace) ==
					 offsetof(FormData_pg_operator, oprnamespace),
				 "name_of reads both");

typedef struct Names
{
	List *reached; /* NamedObject */
	bool as_type;  /* one is named as a type */
} Names;

static bool
is_named(const char *schema, const char *name, const Names *names)
{
	ListCell *cell;

	foreach (cell, names->reached)
	{
		NamedObject *reached = lfirst(cell);

		if (strcmp(reached->name, name) == 0 && strcmp(reached->schema, schema) == 0)
			return true;
	}
	return false;
}

/* Of a list of String: the last two are schema and name. */
static bool
list_is_named(List *parts, const Names *names)
{
	int count = list_length(parts);

	return count >= 2 &&
		   is_named(strVal(list_nth(parts, count - 2)), strVal(list_nth(parts, count - 1)), names);
}

/* A function with a text for a body depends on what nobody but its language knows. */
static bool
is_opaque(HeapTuple tuple)
{
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

	return form->prolang != ClanguageId && form->prolang != INTERNALlanguageId &&
		   heap_attisnull(tuple, Anum_pg_proc_prosqlbody, NULL);
}

static bool
calls_opaque(FuncCall *call)
{
	int count = list_length(call->funcname);
	Oid namespace = count < 2
						? InvalidOid
						: get_namespace_oid(strVal(list_nth(call->funcname, count - 2)), true);
	CatCList *candidates;
	bool opaque = false;

	if (!OidIsValid(namespace) || namespace == PG_CATALOG_NAMESPACE)
		return false;
	candidates =
		SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(strVal(llast(call->funcname))));
	for (int i = 0; i < candidates->n_members && !opaque; i++)
	{
		HeapTuple tuple = &candidates->members[i]->tuple;

		opaque = ((Form_pg_proc) GETSTRUCT(tuple))->pronamespace == namespace && is_opaque(tuple);
	}
	ReleaseSysCacheList(candidates);
	return opaque;
}

/* Walks a raw parse tree; true ends it. */
static bool
names_one(Node *node, void *arg)
{
	Names *names = arg;

	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_RangeVar:
			if (((RangeVar *) node)->schemaname != NULL &&
				is_named(((RangeVar *) node)->schemaname, ((RangeVar *) node)->relname, names))
				return true;
			break;
		case T_FuncCall:
			if (list_is_named(((FuncCall *) node)->funcname, names) ||
				calls_opaque((FuncCall *) node))
				return true;
			break;
		case T_TypeName:
			if (list_is_named(((TypeName *) node)->names, names))
				return names->as_type = true;
			break;
		case T_A_Expr:
			if (list_is_named(((A_Expr *) node)->name, names))
				return true;
			break;
		default:
			break;
	}
	return raw_expression_tree_walker(node, names_one, arg);
}

/* A syntax error allocates and raises, no more, and so can be caught without a subtransaction. */
static List *
parse(const char *query)
{
	MemoryContext context = CurrentMemoryContext;
	List *volatile parsed = NIL;

	PG_TRY();
	{
		parsed = raw_parser(query, RAW_PARSE_DEFAULT);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return parsed;
}

static bool
query_names(const char *query, Names *names)
{
	List *parsed = ca_text_is_valid(query) ? parse(query) : NIL;
	ListCell *cell;

	foreach (cell, parsed)
	{
		if (names_one(lfirst_node(RawStmt, cell)->stmt, names))
			return true;
	}
	return parsed == NIL;
}

/* ---- rules ---- */

static void
add_rule(const CaTriggerFacts *rule)
{
	const char *pattern = ca_rule_name_pattern(rule->nargs, rule->args);

	if (pattern != NULL)
		ca_entries_add_rule_pattern(pattern);
}

static void
add_tables(Reach *reach)
{
	ListCell *cell;

	foreach (cell, reach->objects)
	{
		Object *object = lfirst(cell);
		ListCell *rule;

		if (object->class != RelationRelationId)
			continue;
		foreach (rule, ca_rule_trigger_list(object->oid))
			add_rule(lfirst(rule));
		ca_view_rule_add_patterns(object->oid);
	}
}

/* Query rules that name something of it. */
static List *
find_queries(Reach *reach)
{
	List *rules = ca_rule_trigger_queries();
	List *found = NIL;
	Names names = {NIL, false};
	bool all = ((Object *) linitial(reach->objects))->class == NamespaceRelationId;
	ListCell *cell;

	if (rules == NIL || CA_DEBUG_SKIP("named"))
		return NIL;
	foreach (cell, reach->objects)
	{
		NamedObject *name = name_of(lfirst(cell));

		if (name != NULL)
			names.reached = lappend(names.reached, name);
	}
	foreach (cell, rules)
	{
		CaTriggerFacts *rule = lfirst(cell);

		if (all || query_names(rule->args[1], &names))
			found = lappend(found, rule);
	}
	reach->unlocked |= names.as_type;
	return found;
}

static void
add_reached(Oid class, Oid oid, bool rows)
{
	MemoryContext context;
	MemoryContext previous;
	List *queries;
	ListCell *cell;
	Reach reach;

	if (!OidIsValid(oid) || !OidIsValid(get_namespace_oid("cache_aside", true)))
		return;
	if (class == RelationRelationId && get_rel_persistence(oid) == RELPERSISTENCE_TEMP)
		return;
	context =
		AllocSetContextCreate(CurrentMemoryContext, "cache_aside reach", ALLOCSET_SMALL_SIZES);
	previous = MemoryContextSwitchTo(context);
	find_reached(&reach, class, oid);
	queries = find_queries(&reach);
	if (reach.unlocked)
		ca_replacing_note();
	if (rows)
		add_tables(&reach);
	foreach (cell, queries)
		add_rule(lfirst(cell));
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(context);
}

void
ca_reach_add(Oid class, Oid oid)
{
	add_reached(class, oid, true);
}

void
ca_reach_add_queries(Oid class, Oid oid)
{
	add_reached(class, oid, false);
}
