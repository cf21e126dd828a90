/*
 * volatility.c: does an analysed and rewritten query call anything that may write?
 *
 * In: a Query, its views and row security policies already expanded. Out: NULL, or a sentence that
 * names the first function, relation or type because of which the query must run on the primary.
 *
 * PostgreSQL's own contain_volatile_functions() answers another question, so this is a walk of our
 * own. It also looks into what is called without being an expression of the query:
 *	 - the transition, final and moving-window functions of an aggregate (the aggregate itself is
 *	   always marked immutable),
 *	 - default arguments, which the planner adds later,
 *	 - CHECK constraints of domains, also below arrays, composite types and ranges,
 *	 - casts from user types to json, which to_json() and its relatives call at run time,
 *	 - comparison functions of ORDER BY, GROUP BY, DISTINCT, LEAST and window frames.
 * and it rejects what reads only but cannot be answered by a standby: unlogged relations (also as a
 * partition) and temporary ones.
 *
 * Functions are believed when they are marked STABLE or IMMUTABLE: PostgreSQL refuses INSERT, UPDATE
 * and DELETE in them, though not a call of a volatile function. Exceptions are built-in functions
 * that say STABLE and assign a transaction id or run a query hidden in their arguments. Of the
 * volatile functions, those listed below are known to read only, in recovery too.
 *
 * Catalog lookups only; nothing of the query is executed. Errors: those of catalog lookups. All
 * memory is the caller's context.
 */
#include "cache_aside.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
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

#include "classify.h"

typedef struct WalkState
{
	bool executed;      /* false below EXPLAIN: functions are not called */
	const char *reason; /* NULL until something was found */
} WalkState;

/* Volatile built-in functions that change nothing and work in recovery; sorted. */
static const char *const harmless[] = {
	"clock_timestamp",
	"current_query",
	"gen_random_uuid",
	"lo_get",
	"pg_blocking_pids",
	"pg_collation_actual_version",
	"pg_control_checkpoint",
	"pg_control_init",
	"pg_control_recovery",
	"pg_control_system",
	"pg_database_collation_actual_version",
	"pg_database_size",
	"pg_get_backend_memory_contexts",
	"pg_get_shmem_allocations",
	"pg_get_wal_resource_managers",
	"pg_hba_file_rules",
	"pg_ident_file_mappings",
	"pg_indexes_size",
	"pg_is_in_recovery",
	"pg_jit_available",
	"pg_last_wal_receive_lsn",
	"pg_last_wal_replay_lsn",
	"pg_last_xact_replay_timestamp",
	"pg_lock_status",
	"pg_notification_queue_usage",
	"pg_partition_ancestors",
	"pg_partition_tree",
	"pg_prepared_xact",
	"pg_relation_size",
	"pg_safe_snapshot_blocking_pids",
	"pg_show_all_file_settings",
	"pg_sleep",
	"pg_sleep_for",
	"pg_sleep_until",
	"pg_stat_get_recovery_prefetch",
	"pg_stat_get_xact_blocks_fetched",
	"pg_stat_get_xact_blocks_hit",
	"pg_stat_get_xact_function_calls",
	"pg_stat_get_xact_function_self_time",
	"pg_stat_get_xact_function_total_time",
	"pg_stat_get_xact_numscans",
	"pg_stat_get_xact_tuples_deleted",
	"pg_stat_get_xact_tuples_fetched",
	"pg_stat_get_xact_tuples_hot_updated",
	"pg_stat_get_xact_tuples_inserted",
	"pg_stat_get_xact_tuples_returned",
	"pg_stat_get_xact_tuples_updated",
	"pg_stat_have_stats",
	"pg_table_size",
	"pg_tablespace_size",
	"pg_total_relation_size",
	"pg_xact_status",
	"random",
	"random_normal",
	"timeofday",
	"txid_status",
	"uuidv4",
	"uuidv7",
};

/* Built-in functions that are not volatile and yet write, or run a query we cannot see; sorted. */
static const char *const harmful[] = {
	"database_to_xml",
	"database_to_xml_and_xmlschema",
	"pg_current_xact_id",
	"schema_to_xml",
	"schema_to_xml_and_xmlschema",
	"table_to_xml",
	"table_to_xml_and_xmlschema",
	"txid_current",
};

/* Volatile functions of this extension that a standby can answer; sorted. */
static const char *const ours[] = {
	"caught_up",
	"read_token",
	"route",
	"stuck_at",
};

static bool check_type(Oid typid, WalkState *state);
static bool check_node(Node *node, void *context);

static int
compare_names(const void *a, const void *b)
{
	return strcmp((const char *) a, *(const char *const *) b);
}

#define LISTED(name, list)                                                                         \
	(bsearch((name), (list), lengthof(list), sizeof(char *), compare_names) != NULL)

static bool
found(WalkState *state, const char *reason)
{
	state->reason = reason;
	return true;
}

/* May this function be called on a standby? */
static bool
is_harmless(Form_pg_proc proc)
{
	const char *name = NameStr(proc->proname);

	if (proc->oid < FirstNormalObjectId && proc->pronamespace == PG_CATALOG_NAMESPACE)
	{
		if (proc->provolatile == PROVOLATILE_VOLATILE)
			return LISTED(name, harmless);
		return !LISTED(name, harmful);
	}
	if (proc->provolatile != PROVOLATILE_VOLATILE)
		return true;
	return proc->prolang == ClanguageId && LISTED(name, ours) &&
		   proc->pronamespace == get_namespace_oid("cache_aside", true);
}

static bool check_function(Oid funcid, void *context);

/* CREATE AGGREGATE marks every aggregate immutable: what counts is what it calls. */
static bool
check_aggregate(Oid aggid, WalkState *state)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggid));
	Form_pg_aggregate form;
	Oid parts[6];

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	parts[0] = form->aggtransfn;
	parts[1] = form->aggfinalfn;
	parts[2] = form->aggmtransfn;
	parts[3] = form->aggminvtransfn;
	parts[4] = form->aggmfinalfn;
	parts[5] = form->aggcombinefn;
	ReleaseSysCache(tuple);
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
	if (!is_harmless(proc))
		state->reason = psprintf("function %s() %s",
								 quote_qualified_identifier(get_namespace_name(proc->pronamespace),
															NameStr(proc->proname)),
								 proc->provolatile == PROVOLATILE_VOLATILE
									 ? "is volatile and may write"
									 : "assigns a transaction id or runs a query of its own");
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

/* Functions that making or showing a value of this type may call, beyond the type's own. */
static bool
check_type(Oid typid, WalkState *state)
{
	Oid castfunc;
	Oid element;

	if (typid < FirstNormalObjectId)
		return false;
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
	if (!state->executed)
		return false;
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
			return found(state, "it advances a sequence");
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
	if (state->executed && check_calls(node, state))
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
