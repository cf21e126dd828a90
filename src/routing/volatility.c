/*
 * volatility.c: does an analysed and rewritten query call anything that may write?
 *
 * In: a Query, its views and row security policies already expanded. Out: NULL, or a sentence that
 * names the first function, relation or type because of which the query must run on the primary.
 *
 * PostgreSQL's own contain_volatile_functions() answers another question, so this is a walk of our
 * own. It also looks into what is called without being an expression of the query:
 *	 - the transition, final and moving-window functions of an aggregate (the aggregate itself is
 *	   always marked immutable), and its initial values, texts that are read when it starts,
 *	 - default arguments, which the planner adds later,
 *	 - CHECK constraints of domains, also below arrays, composite types and ranges, of what is computed
 *	   and of literals and parameters, which are read before anything runs (also by EXPLAIN),
 *	 - casts from user types to json, which to_json() and its relatives call at run time,
 *	 - comparison functions of ORDER BY, GROUP BY, DISTINCT, LEAST and window frames.
 * and it rejects what reads only but cannot be answered by a standby: unlogged relations (also as a
 * partition), and whatever is temporary: relations, functions, types.
 *
 * Functions are believed when they are marked STABLE or IMMUTABLE: PostgreSQL refuses INSERT, UPDATE
 * and DELETE in them, though not a call of a volatile function. Exceptions, and the volatile functions
 * that are known to read only, are listed in harmless.c.
 *
 * Catalog lookups only; nothing of the query is executed. Errors: those of catalog lookups. All
 * memory is the caller's context.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "routing/classify.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "access/transam.h"
#include "nodes/nodeFuncs.h"
#include "nodes/execnodes.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

typedef struct WalkState
{
	bool executed;      /* false below EXPLAIN: functions are not called */
	const char *reason; /* NULL until something was found */
} WalkState;

static bool check_type(Oid typid, WalkState *state);
static bool check_node(Node *node, void *context);

static bool
found(WalkState *state, const char *reason)
{
	state->reason = reason;
	return true;
}

static bool check_function(Oid funcid, void *context);

/* CREATE AGGREGATE marks every aggregate immutable: what counts is what it calls. */
static bool
check_aggregate(Oid aggid, WalkState *state)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggid));
	Form_pg_aggregate form;
	Oid parts[6];
	Oid states[2];

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	parts[0] = form->aggtransfn;
	parts[1] = form->aggfinalfn;
	parts[2] = form->aggmtransfn;
	parts[3] = form->aggminvtransfn;
	parts[4] = form->aggmfinalfn;
	parts[5] = form->aggcombinefn;
	states[0] = form->aggtranstype;
	states[1] = form->aggmtranstype;
	ReleaseSysCache(tuple);
	for (int i = 0; i < lengthof(states); i++)
		if (OidIsValid(states[i]) && check_type(states[i], state))
			return true;
	for (int i = 0; i < lengthof(parts); i++)
		if (OidIsValid(parts[i]) && check_function(parts[i], state))
			return true;
	return false;
}

/* check_functions_in_node() callback */
static bool
check_function(Oid funcid, void *context)
{
	WalkState *state = context;
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	Form_pg_proc proc;
	bool is_aggregate;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", funcid);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (isAnyTempNamespace(proc->pronamespace))
		state->reason = psprintf("function %s() is temporary: it exists only in this session",
								 quote_identifier(NameStr(proc->proname)));
	else if (!ca_harmless_function(proc, state->executed))
		state->reason = psprintf("function %s() %s",
								 quote_qualified_identifier(get_namespace_name(proc->pronamespace),
															NameStr(proc->proname)),
								 proc->provolatile == PROVOLATILE_VOLATILE
									 ? "is volatile and may write"
									 : "fails in recovery, or runs what only its arguments show");
	is_aggregate = proc->prokind == PROKIND_AGGREGATE;
	ReleaseSysCache(tuple);
	if (state->reason != NULL)
		return true;
	return is_aggregate && funcid >= FirstNormalObjectId && check_aggregate(funcid, state);
}

/* The planner adds default arguments after us, and they may be volatile. */
static bool
check_defaults(Oid funcid, int given, WalkState *state)
{
	HeapTuple tuple;
	Form_pg_proc proc;
	Node *defaults = NULL;

	if (funcid < FirstNormalObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", funcid);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (given < proc->pronargs && proc->pronargdefaults > 0)
	{
		bool isnull;
		Datum defaults_text = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proargdefaults, &isnull);

		defaults = stringToNode(TextDatumGetCString(defaults_text));
	}
	ReleaseSysCache(tuple);
	return defaults != NULL && check_node(defaults, state);
}

static bool
check_domain(Oid typid, WalkState *state)
{
	/* not on the stack: the memory context keeps a callback in it */
	DomainConstraintRef *ref = palloc(sizeof(DomainConstraintRef));
	ListCell *cell;

	InitDomainConstraintRef(typid, ref, CurrentMemoryContext, false);
	foreach (cell, ref->constraints)
	{
		DomainConstraintState *constraint = lfirst(cell);

		if (check_node((Node *) constraint->check_expr, state))
			return true;
	}
	return check_type(getBaseType(typid), state);
}

static bool
check_attributes(Oid typid, WalkState *state)
{
	TupleDesc desc = lookup_rowtype_tupdesc_copy(typid, -1);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped && check_type(attr->atttypid, state))
			return true;
	}
	return false;
}

static bool
is_temporary_type(Oid typid)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(typid));
	bool result = HeapTupleIsValid(tuple) &&
				  isAnyTempNamespace(((Form_pg_type) GETSTRUCT(tuple))->typnamespace);

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

/* Functions that making or showing a value of this type may call, beyond the type's own. */
static bool
check_type(Oid typid, WalkState *state)
{
	Oid castfunc;
	Oid element;

	if (typid < FirstNormalObjectId)
		return false;
	if (is_temporary_type(typid))
		return found(state, psprintf("type %s is temporary: it exists only in this session",
									 format_type_be(typid)));
	if (find_coercion_pathway(JSONOID, typid, COERCION_EXPLICIT, &castfunc) == COERCION_PATH_FUNC &&
		check_function(castfunc, state))
		return true;
	switch (get_typtype(typid))
	{
		case TYPTYPE_DOMAIN:
			return check_domain(typid, state);
		case TYPTYPE_COMPOSITE:
			return check_attributes(typid, state);
		case TYPTYPE_RANGE:
			return check_type(get_range_subtype(typid), state);
		case TYPTYPE_MULTIRANGE:
			return check_type(get_multirange_range(typid), state);
		default:
			element = get_element_type(typid);
			return OidIsValid(element) && check_type(element, state);
	}
}

/* Literals and parameters are read even where nothing is executed. */
static bool
check_input(Param *param, WalkState *state)
{
	bool executed = state->executed;
	bool result;

	state->executed = true;
	result = check_type(param->paramtype, state);
	state->executed = executed;
	return result;
}

static bool
check_types(List *typids, WalkState *state)
{
	ListCell *cell;

	foreach (cell, typids)
		if (check_type(lfirst_oid(cell), state))
			return true;
	return false;
}

static bool
check_persistence(Oid relid, WalkState *state)
{
	char persistence = get_rel_persistence(relid);

	if (persistence == RELPERSISTENCE_TEMP)
		return found(state, psprintf("relation %s is temporary: it exists only in this session",
									 quote_identifier(get_rel_name(relid))));
	if (persistence == RELPERSISTENCE_UNLOGGED)
		return found(state, psprintf("relation %s is unlogged: a standby cannot read it",
									 quote_identifier(get_rel_name(relid))));
	return false;
}

static bool
check_relation(RangeTblEntry *rte, WalkState *state)
{
	ListCell *cell;

	if (check_persistence(rte->relid, state))
		return true;
	if (!rte->inh || !has_subclass(rte->relid))
		return false;
	foreach (cell, find_all_inheritors(rte->relid, NoLock, NULL))
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(cell))) &&
			check_persistence(lfirst_oid(cell), state))
			return true;
	return false;
}

static bool
check_range_table_entry(RangeTblEntry *rte, WalkState *state)
{
	ListCell *cell;

	if (rte->rtekind == RTE_RELATION)
		return check_relation(rte, state);
	if (rte->rtekind == RTE_TABLEFUNC)
		return check_types(rte->tablefunc->coltypes, state);
	foreach (cell, rte->functions)
		if (check_types(((RangeTblFunction *) lfirst(cell))->funccoltypes, state))
			return true;
	return false;
}

static bool
check_sort(SortGroupClause *clause, WalkState *state)
{
	return (OidIsValid(clause->eqop) && check_function(get_opcode(clause->eqop), state)) ||
		   (OidIsValid(clause->sortop) && check_function(get_opcode(clause->sortop), state));
}

static bool
check_window(WindowClause *clause, WalkState *state)
{
	return (OidIsValid(clause->startInRangeFunc) &&
			check_function(clause->startInRangeFunc, state)) ||
		   (OidIsValid(clause->endInRangeFunc) && check_function(clause->endInRangeFunc, state));
}

static bool
check_min_max(MinMaxExpr *expr, WalkState *state)
{
	TypeCacheEntry *type = lookup_type_cache(expr->minmaxtype, TYPECACHE_CMP_PROC);

	return OidIsValid(type->cmp_proc) && check_function(type->cmp_proc, state);
}

static bool
check_query(Query *query, WalkState *state)
{
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
		return found(state, "it modifies data");
	if (query->rowMarks != NIL)
		return found(state, "it locks rows");
	return query_tree_walker(query, check_node, state,
							 QTW_EXAMINE_RTES_BEFORE | QTW_EXAMINE_SORTGROUP);
}

/* What this node calls that its children do not show; true stops the walk, reason set. */
static bool
check_calls(Node *node, WalkState *state)
{
	if (check_functions_in_node(node, check_function, state))
		return true;
	switch (nodeTag(node))
	{
		case T_FuncExpr:
			return check_defaults(((FuncExpr *) node)->funcid,
								  list_length(((FuncExpr *) node)->args), state) ||
				   check_type(((FuncExpr *) node)->funcresulttype, state);
		case T_WindowFunc:
			return check_defaults(((WindowFunc *) node)->winfnoid,
								  list_length(((WindowFunc *) node)->args), state);
		case T_Param:
			return check_input((Param *) node, state);
		case T_Var:
			return check_type(((Var *) node)->vartype, state);
		case T_CoerceToDomain:
			return check_type(((CoerceToDomain *) node)->resulttype, state);
		case T_CoerceViaIO:
			return check_type(((CoerceViaIO *) node)->resulttype, state);
		case T_RowExpr:
			return check_type(((RowExpr *) node)->row_typeid, state);
		case T_MinMaxExpr:
			return check_min_max((MinMaxExpr *) node, state);
		case T_SortGroupClause:
			return check_sort((SortGroupClause *) node, state);
		case T_WindowClause:
			return check_window((WindowClause *) node, state);
		case T_NextValueExpr:
			return state->executed && found(state, "it advances a sequence");
		default:
			return CA_IS_JSON_EXPR(node) && check_type(exprType(node), state);
	}
}

static bool
check_node(Node *node, void *context)
{
	WalkState *state = context;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return check_query((Query *) node, state);
	if (IsA(node, RangeTblEntry))
		return check_range_table_entry((RangeTblEntry *) node, state);
	if (check_calls(node, state))
		return true;
	return expression_tree_walker(node, check_node, context);
}

const char *
ca_volatility_reason(Node *node, bool executed)
{
	WalkState state = {.executed = executed};

	check_node(node, &state);
	return state.reason;
}
