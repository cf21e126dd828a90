/*
 * query_check.c: what the analysed query of a rule says before it ever ran, for attach_query().
 *
 * Input: the query as wrapped by query.c, analysed and rewritten. Output: what is wrong with it, or NULL.
 *
 *	reads changed	A query that does not gives the same keys whatever was written, hence is a mistake. The
 *				parser counts the references to the CTE, in subqueries too; a query that defines a `changed`
 *				of its own does not refer to ours.
 *	pattern		A key outside the rule's pattern is deleted by a write, but by no resync and no TRUNCATE. The
 *				constant text that a key begins with ('feed:' || ..., format, concat) must fit the literal
 *				text that the pattern begins with; of UNION each part must. What cannot be known is let
 *				pass: stray.c sees to it when the query runs.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "rules/rule.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/* A query and those around it. */
typedef struct Level
{
	Query *query;
	const struct Level *outer;
} Level;

static bool append_known(StringInfo out, Node *node, const Level *level);

static bool
append_constant(StringInfo out, Const *constant)
{
	if (constant->constisnull)
		return false;
	if (constant->consttype == UNKNOWNOID) /* an argument of type "any" */
		appendStringInfoString(out, DatumGetCString(constant->constvalue));
	else if (constant->consttype == TEXTOID || constant->consttype == VARCHAROID)
		appendStringInfoString(out, TextDatumGetCString(constant->constvalue));
	else
		return false;
	return true;
}

/* The known text up to the first placeholder. */
static bool
append_format(StringInfo out, Node *format, const Level *level)
{
	int start = out->len;
	bool whole = append_known(out, format, level);
	char *percent = strchr(out->data + start, '%');

	if (percent == NULL)
		return whole;
	*percent = '\0';
	out->len = (int) (percent - out->data);
	return false;
}

static bool
append_all(StringInfo out, List *arguments, const Level *level)
{
	ListCell *cell;

	foreach (cell, arguments)
		if (!append_known(out, lfirst(cell), level))
			return false;
	return true;
}

static bool
append_call(StringInfo out, Oid function, List *arguments, bool variadic, const Level *level)
{
	switch (function)
	{
		case F_TEXTCAT:
		case F_TEXTANYCAT:
			return append_all(out, arguments, level);
		case F_CONCAT:
			return !variadic && append_all(out, arguments, level);
		case F_CONCAT_WS:
			if (!variadic && list_length(arguments) > 1)
				(void) append_known(out, lsecond(arguments), level);
			return false;
		case F_FORMAT_TEXT:
		case F_FORMAT_TEXT_ANY:
			return append_format(out, linitial(arguments), level);
		default:
			return false;
	}
}

/* What a column of a subquery is made of. */
static bool
append_column(StringInfo out, Query *query, AttrNumber attnum, const Level *outer)
{
	Level level = {query, outer};
	TargetEntry *column = get_tle_by_resno(query->targetList, attnum);

	if (query->commandType != CMD_SELECT || query->setOperations != NULL || column == NULL ||
		column->resjunk)
		return false;
	return append_known(out, (Node *) column->expr, &level);
}

static bool
append_variable(StringInfo out, Var *variable, const Level *level)
{
	RangeTblEntry *table;

	for (Index up = variable->varlevelsup; up > 0 && level != NULL; up--)
		level = level->outer;
	if (level == NULL || variable->varno > list_length(level->query->rtable) ||
		variable->varattno <= 0)
		return false;
	table = rt_fetch(variable->varno, level->query->rtable);
	if (table->rtekind == RTE_SUBQUERY)
		return append_column(out, table->subquery, variable->varattno, level);
	if (table->rtekind != RTE_CTE || table->self_reference)
		return false;
	for (Index up = table->ctelevelsup; up > 0 && level != NULL; up--)
		level = level->outer;
	if (level != NULL)
	{
		ListCell *cell;

		foreach (cell, level->query->cteList)
		{
			CommonTableExpr *cte = lfirst(cell);

			if (strcmp(cte->ctename, table->ctename) == 0 && !cte->cterecursive)
				return append_column(out, castNode(Query, cte->ctequery), variable->varattno,
									 level);
		}
	}
	return false;
}

/* Appends the text that every value of an expression begins with; true if that is all of it. */
static bool
append_known(StringInfo out, Node *node, const Level *level)
{
	check_stack_depth();
	switch (nodeTag(node))
	{
		case T_Const:
			return append_constant(out, (Const *) node);
		case T_Var:
			return append_variable(out, (Var *) node, level);
		case T_RelabelType:
			return append_known(out, (Node *) ((RelabelType *) node)->arg, level);
		case T_CoerceToDomain:
			return append_known(out, (Node *) ((CoerceToDomain *) node)->arg, level);
		case T_OpExpr:
			return append_call(out, ((OpExpr *) node)->opfuncid, ((OpExpr *) node)->args, false,
							   level);
		case T_FuncExpr:
			return append_call(out, ((FuncExpr *) node)->funcid, ((FuncExpr *) node)->args,
							   ((FuncExpr *) node)->funcvariadic, level);
		default:
			return false;
	}
}

/* Can the text (the beginning of one, unless `whole`) match? `pattern` is UTF-8. */
static bool
fits(const char *pattern, const char *known, bool whole)
{
	Size known_len;
	Size pattern_len = strlen(pattern);
	const char *text_known = ca_prefix_utf8(known, strlen(known), &known_len);
	char *literal = palloc(pattern_len + 1);
	Size literal_len = ca_glob_prefix(pattern, pattern_len, literal);

	if (whole)
		return known_len == 0 || ca_glob_match(pattern, pattern_len, text_known, known_len);
	return memcmp(text_known, literal, Min(known_len, literal_len)) == 0;
}

static char *
column_problem(const Level *level, const char *pattern)
{
	TargetEntry *column = get_tle_by_resno(level->query->targetList, 1);
	StringInfoData known;
	bool whole;
	Size len;

	if (column == NULL)
		return NULL;
	initStringInfo(&known);
	whole = append_known(&known, (Node *) column->expr, level);
	if (fits(ca_prefix_pattern_utf8(pattern, &len), known.data, whole))
		return NULL;
	return psprintf("Its keys %s \"%s\", which the pattern \"%s\" does not cover.",
					whole ? "are" : "begin with", known.data, pattern);
}

static char *query_problem(Query *query, const Level *outer, const char *pattern);

/* Of EXCEPT and INTERSECT all rows are rows of the left side. */
static char *
set_problem(Node *node, const Level *level, const char *pattern)
{
	SetOperationStmt *set;
	char *problem;

	check_stack_depth();
	if (IsA(node, RangeTblRef))
		return query_problem(
			rt_fetch(((RangeTblRef *) node)->rtindex, level->query->rtable)->subquery, level,
			pattern);
	set = castNode(SetOperationStmt, node);
	problem = set_problem(set->larg, level, pattern);
	if (problem != NULL || set->op != SETOP_UNION)
		return problem;
	return set_problem(set->rarg, level, pattern);
}

static char *
query_problem(Query *query, const Level *outer, const char *pattern)
{
	Level level = {query, outer};

	if (query->setOperations != NULL)
		return set_problem(query->setOperations, &level, pattern);
	return column_problem(&level, pattern);
}

char *
ca_query_check_tree(Query *wrapped, const char *pattern)
{
	CommonTableExpr *changed = linitial(wrapped->cteList);
	Level level = {wrapped, NULL};
	RangeTblEntry *inner = linitial(wrapped->rtable);

	if (changed->cterefcount == 0)
		return pstrdup("It never reads \"changed\", the rows that were written.");
	if (inner->rtekind != RTE_SUBQUERY)
		return NULL;
	return query_problem(inner->subquery, &level, pattern);
}
