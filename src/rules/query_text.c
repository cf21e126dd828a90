/*
 * query_text.c: may the text of a query rule be analysed?
 *
 * It must be one plain SELECT that names nothing temporary. A rule's query runs as the table's owner in
 * whoever's session writes, and "pg_catalog, pg_temp" has no end without pg_temp: what pg_catalog does
 * not know is looked for among the writer's temporary objects. A view there runs its functions with the
 * owner's rights, a domain runs its CHECK as soon as the query is analysed. So this is asked before each
 * analysis, of the raw parse tree: is a name of a relation or type, unqualified and not in pg_catalog,
 * one of this session's temporary ones; does any name say pg_temp?
 *
 * Too strict is harmless: a CTE of the query hides a temporary table of its name, and counts as it all
 * the same; then the rule gives its pattern. Functions, operators and collations without a schema are
 * never looked for in pg_temp. A plan that is kept stays right: what it found, it found in pg_catalog,
 * which comes first, or by a qualified name.
 *
 * Input: text. Output: a sentence, or NULL; a syntax error is raised. Catalog look-ups only, no locks.
 * Call it as the owner (owner.c), under whose settings the text is read.
 */
#include "cache_aside.h"
#include "rules/rule.h"

#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

typedef struct Search
{
	Oid mine; /* this session's temporary schema, or InvalidOid */
	const char *found;
} Search;

static bool
is_temporary_schema(const char *name)
{
	Oid schema = get_namespace_oid(name, true);

	return strcmp(name, "pg_temp") == 0 || (OidIsValid(schema) && isAnyTempNamespace(schema));
}

/* The rows that changed are there under this name. */
static bool
is_changed_rows(const char *name)
{
	return strcmp(name, "changed") == 0;
}

static bool
finds_relation(const Search *search, const char *name)
{
	return OidIsValid(search->mine) && !is_changed_rows(name) &&
		   !OidIsValid(get_relname_relid(name, PG_CATALOG_NAMESPACE)) &&
		   OidIsValid(get_relname_relid(name, search->mine));
}

static bool
type_exists(const char *name, Oid schema)
{
	return SearchSysCacheExists2(TYPENAMENSP, CStringGetDatum(name), ObjectIdGetDatum(schema));
}

static bool
finds_type(const Search *search, const char *name)
{
	return OidIsValid(search->mine) && !type_exists(name, PG_CATALOG_NAMESPACE) &&
		   type_exists(name, search->mine);
}

static bool
check_relation(Search *search, const RangeVar *relation)
{
	if (relation->schemaname != NULL ? is_temporary_schema(relation->schemaname)
									 : finds_relation(search, relation->relname))
		search->found = relation->relname;
	return search->found != NULL;
}

/* Of a type, a function, an operator; all but types are found in pg_temp only by its name. */
static bool
check_names(Search *search, List *names, bool is_type)
{
	int count = list_length(names);

	if (count > 1 ? is_temporary_schema(strVal(list_nth(names, count - 2)))
				  : count == 1 && is_type && finds_type(search, strVal(linitial(names))))
		search->found = strVal(llast(names));
	return search->found != NULL;
}

static bool
look_at(Node *node, void *context)
{
	Search *search = context;
	bool found = false;

	if (node == NULL)
		return false;
	if (IsA(node, RangeVar))
		found = check_relation(search, (RangeVar *) node);
	else if (IsA(node, TypeName))
		found = check_names(search, ((TypeName *) node)->names, true);
	else if (IsA(node, FuncCall))
		found = check_names(search, ((FuncCall *) node)->funcname, false);
	else if (IsA(node, A_Expr))
		found = check_names(search, ((A_Expr *) node)->name, false);
	else if (IsA(node, SubLink))
		found = check_names(search, ((SubLink *) node)->operName, false);
	else if (IsA(node, SortBy))
		found = check_names(search, ((SortBy *) node)->useOp, false);
	return found || raw_expression_tree_walker(node, look_at, context);
}

static const char *
find_temporary(Node *query)
{
	Search search = {0};
	Oid toast;

	GetTempNamespaceState(&search.mine, &toast);
	if (!look_at(query, &search))
		return NULL;
	return psprintf("It names \"%s\", which is temporary.", search.found);
}

const char *
ca_query_text_problem(const char *query)
{
	List *parsed = raw_parser(query, RAW_PARSE_DEFAULT);
	SelectStmt *select;

	if (list_length(parsed) != 1)
		return psprintf("It has %d statements.", list_length(parsed));
	select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	if (!IsA(select, SelectStmt) || select->intoClause != NULL)
		return "It is not a plain SELECT.";
	return find_temporary((Node *) select);
}

void
ca_query_text_require(const char *query)
{
	const char *problem = ca_query_text_problem(query);

	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR),
						errmsg_internal("%.*s", (int) strlen(problem) - 1, problem)));
}
