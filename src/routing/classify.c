/*
 * classify.c: may this SQL text run on a read replica? SQL: classify(query), is_read_only(query)
 *
 * In: the text of one or more statements as an application would send it, $n parameters of unknown
 * type included. Out: read-only or not, and why not. Read-only means: the text writes nothing, and
 * it succeeds or fails on a hot standby as it would on the primary. What is not known to be so is
 * not read-only; so is whatever depends on this session (temporary tables, cursors, SET).
 *
 * The text is parsed, analysed and rewritten, because views and row security policies hide volatile
 * functions from the text; it is never planned or executed. Statements that are writes on their face
 * are told from the raw parse tree, so that no lock stronger than AccessShareLock is taken (a
 * standby refuses more). Not even a literal is evaluated (analysis.c), and it runs as in a read-only
 * transaction all the same. Relations stay locked until the calling transaction ends, as after any
 * parse. A text without a statement is not read-only: drivers make an error of it, wherever it goes.
 *
 * The answer holds for the caller's role, search_path and row security settings. Functions are
 * believed when they are marked STABLE or IMMUTABLE (volatility.c).
 *
 * Errors: those of the parser and the analyser, with the position in the given text; a statement
 * found to be a write on its face ends the work before later ones are analysed.
 *
 * Whose rights: the caller's, whose text it is. Who passes on the text of others must have no more
 * rights than they, as if running it.
 */
#include "cache_aside.h"
#include "routing/classify.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "commands/prepare.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_type.h"
#include "parser/parser.h"
#include "rewrite/prs2lock.h"
#include "tcop/cmdtag.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"

/* The text being looked at, and what its earlier statements left behind. */
typedef struct TextState
{
	const char *text;
	bool in_transaction; /* a BEGIN of this text is open */
	bool writable;       /* ... and did not say READ ONLY */
} TextState;

typedef struct ParamTypes
{
	Oid *types;
	int count;
} ParamTypes;

static const char *check_statement(TextState *state, Node *stmt, RawStmt *raw, bool executed,
								   ParamTypes params);

/* raw_expression_tree_walker() callback: what is a write, or takes a row lock, on its face. */
static bool
is_plain_write(Node *node, void *context)
{
	const char **reason = context;

	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			*reason = psprintf("it contains %s", GetCommandTagName(CreateCommandTag(node)));
			return true;
		case T_LockingClause:
			*reason = "it locks rows";
			return true;
		case T_IntoClause:
			*reason = "SELECT INTO creates a table";
			return true;
		default:
			return raw_expression_tree_walker(node, is_plain_write, context);
	}
}

/*
 * query_tree_walker() callback: a view that locks rows. Rewriting it would take that lock, which a
 * standby refuses with an error. The context is the view we are in: its rule's OLD and NEW name it.
 */
static bool
has_locking_view(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		if (((Query *) node)->rowMarks != NIL)
			return true;
		return query_tree_walker((Query *) node, has_locking_view, context,
								 QTW_EXAMINE_RTES_BEFORE);
	}
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;
		Relation view;
		bool locks = false;

		if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_VIEW ||
			rte->relid == *(Oid *) context)
			return false;
		check_stack_depth();
		view = relation_open(rte->relid, AccessShareLock);
		if (view->rd_rules != NULL && view->rd_rules->numLocks > 0)
			locks = has_locking_view((Node *) view->rd_rules->rules[0]->actions, &view->rd_id);
		relation_close(view, NoLock);
		return locks;
	}
	return expression_tree_walker(node, has_locking_view, context);
}

/* Analyses and rewrites one SELECT and walks the result. */
static const char *
analyse_select(TextState *state, Node *stmt, RawStmt *raw, bool executed, ParamTypes params)
{
	RawStmt *select = makeNode(RawStmt);
	Query *query;
	List *rewritten;
	bool was_read_only = XactReadOnly;
	Oid outside = InvalidOid;
	const char *reason = NULL;

	select->stmt = stmt;
	select->stmt_location = raw->stmt_location;
	select->stmt_len = raw->stmt_len;
	PG_TRY();
	{
		XactReadOnly = true;
		query = ca_analysis_query(state->text, select, &params.types, &params.count);
		if (has_locking_view((Node *) query, &outside))
			reason = "it locks rows";
		else
		{
			rewritten = pg_rewrite_query(query);
			reason = ca_volatility_reason((Node *) linitial(rewritten), executed);
		}
	}
	PG_FINALLY();
	{
		XactReadOnly = was_read_only;
	}
	PG_END_TRY();
	return reason;
}

static const char *
check_select(TextState *state, Node *stmt, RawStmt *raw, bool executed, ParamTypes params)
{
	const char *reason = NULL;

	if (is_plain_write(stmt, &reason))
		return reason;
	return analyse_select(state, stmt, raw, executed, params);
}

static const char *
check_explain(TextState *state, ExplainStmt *stmt, RawStmt *raw, ParamTypes params)
{
	bool analyse = false;
	ListCell *cell;

	foreach (cell, stmt->options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "analyze") == 0)
			analyse = defGetBoolean(option);
	}
	return check_statement(state, stmt->query, raw, analyse, params);
}

/* COPY relation TO reads what this SELECT reads; row security applies to both. */
static Node *
copied_relation(CopyStmt *stmt)
{
	SelectStmt *select = makeNode(SelectStmt);
	ResTarget *target = makeNode(ResTarget);
	ColumnRef *all = makeNode(ColumnRef);

	all->fields = list_make1(makeNode(A_Star));
	all->location = -1;
	target->val = (Node *) all;
	target->location = -1;
	select->targetList = list_make1(target);
	select->fromClause = list_make1(copyObject(stmt->relation));
	return (Node *) select;
}

static const char *
check_copy(TextState *state, CopyStmt *stmt, RawStmt *raw, ParamTypes params)
{
	if (stmt->is_from)
		return "COPY FROM writes";
	if (stmt->filename != NULL)
		return stmt->is_program ? "COPY runs a program on the server"
								: "COPY writes a file on the server";
	return check_select(state, stmt->query ? stmt->query : copied_relation(stmt), raw, true,
						params);
}

static const char *
check_prepare(TextState *state, PrepareStmt *stmt, RawStmt *raw)
{
	ParamTypes params = {NULL, list_length(stmt->argtypes)};
	ParseState *pstate = make_parsestate(NULL);
	ListCell *cell;
	int i = 0;

	pstate->p_sourcetext = state->text;
	params.types = palloc0((params.count + 1) * sizeof(Oid));
	foreach (cell, stmt->argtypes)
		params.types[i++] = typenameTypeId(pstate, lfirst_node(TypeName, cell));
	free_parsestate(pstate);
	return check_statement(state, stmt->query, raw, true, params);
}

/* Arguments are evaluated before the statement runs, and before it is explained. */
static const char *
check_execute_arguments(TextState *state, ExecuteStmt *stmt)
{
	const char *reason = NULL;
	ListCell *cell;

	foreach (cell, stmt->params)
	{
		if (is_plain_write(lfirst(cell), &reason))
			return reason;
		reason = ca_volatility_reason(ca_analysis_argument(state->text, lfirst(cell)), true);
		if (reason != NULL)
			return reason;
	}
	return NULL;
}

/* Looks at the statement this session prepared; the source is parsed anew, as a replan would. */
static const char *
check_execute(TextState *state, ExecuteStmt *stmt, bool executed)
{
	PreparedStatement *prepared = FetchPreparedStatement(stmt->name, false);
	TextState inner = *state;
	CachedPlanSource *source;
	RawStmt *raw;
	ParamTypes params;
	const char *reason;

	if (prepared == NULL)
		return psprintf("this session has no prepared statement %s", quote_identifier(stmt->name));
	source = prepared->plansource;
	if (source->raw_parse_tree == NULL)
		return NULL;
	raw = copyObject(source->raw_parse_tree);
	params.count = source->num_params;
	params.types = palloc0((params.count + 1) * sizeof(Oid));
	if (params.count > 0)
		memcpy(params.types, source->param_types, params.count * sizeof(Oid));
	inner.text = pstrdup(source->query_string);
	reason = check_execute_arguments(state, stmt);
	if (reason != NULL)
		return reason;
	return check_statement(&inner, raw->stmt, raw, executed, params);
}

/* Options of BEGIN and SET TRANSACTION. A standby refuses READ WRITE and SERIALIZABLE. */
static const char *
check_transaction_options(TextState *state, List *options)
{
	ListCell *cell;

	foreach (cell, options)
	{
		DefElem *option = lfirst_node(DefElem, cell);
		A_Const *value = (A_Const *) option->arg;

		if (strcmp(option->defname, "transaction_read_only") == 0)
		{
			if (!intVal(&value->val))
				return "READ WRITE is refused on a standby";
			state->writable = false;
		}
		else if (strcmp(option->defname, "transaction_isolation") == 0 &&
				 strcmp(strVal(&value->val), "serializable") == 0)
			return "SERIALIZABLE is refused on a standby";
	}
	return NULL;
}

static const char *
check_transaction(TextState *state, TransactionStmt *stmt)
{
	switch (stmt->kind)
	{
		case TRANS_STMT_BEGIN:
		case TRANS_STMT_START:
			state->in_transaction = true;
			state->writable = true;
			return check_transaction_options(state, stmt->options);
		case TRANS_STMT_COMMIT:
		case TRANS_STMT_ROLLBACK:
			if (!state->in_transaction)
				return "it ends a transaction that began before this text";
			state->in_transaction = stmt->chain;
			return NULL;
		case TRANS_STMT_SAVEPOINT:
		case TRANS_STMT_RELEASE:
		case TRANS_STMT_ROLLBACK_TO:
			if (!state->in_transaction)
				return "it belongs to a transaction that began before this text";
			return NULL;
		default:
			return "two-phase commit writes";
	}
}

static const char *
check_set(TextState *state, VariableSetStmt *stmt)
{
	if (stmt->kind == VAR_SET_MULTI && strcmp(stmt->name, "TRANSACTION") == 0)
		return check_transaction_options(state, stmt->args);
	return "it changes the session, and with it the meaning of later statements";
}

/* NULL if this statement may run on a replica, else why not. */
static const char *
check_statement(TextState *state, Node *stmt, RawStmt *raw, bool executed, ParamTypes params)
{
	check_stack_depth();
	switch (nodeTag(stmt))
	{
		case T_SelectStmt:
			return check_select(state, stmt, raw, executed, params);
		case T_ExplainStmt:
			return check_explain(state, (ExplainStmt *) stmt, raw, params);
		case T_CopyStmt:
			return check_copy(state, (CopyStmt *) stmt, raw, params);
		case T_DeclareCursorStmt:
			return check_select(state, ((DeclareCursorStmt *) stmt)->query, raw, true, params);
		case T_PrepareStmt:
			return check_prepare(state, (PrepareStmt *) stmt, raw);
		case T_ExecuteStmt:
			return check_execute(state, (ExecuteStmt *) stmt, executed);
		case T_TransactionStmt:
			return check_transaction(state, (TransactionStmt *) stmt);
		case T_VariableSetStmt:
			return check_set(state, (VariableSetStmt *) stmt);
		case T_VariableShowStmt:
			return NULL;
		default:
			return psprintf("%s belongs on the primary", GetCommandTagName(CreateCommandTag(stmt)));
	}
}

/* Errors point into the text that was given, not into the statement that called us. */
static void
report_position(void *arg)
{
	const TextState *state = arg;
	int position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(state->text);
	}
}

static const char *
check_text(TextState *state)
{
	ErrorContextCallback context = {
		.previous = error_context_stack, .callback = report_position, .arg = state};
	const char *reason = NULL;
	List *statements;
	ListCell *cell;

	error_context_stack = &context;
	statements = raw_parser(state->text, RAW_PARSE_DEFAULT);
	if (statements == NIL)
		reason = "it contains no statement";
	foreach (cell, statements)
	{
		RawStmt *raw = lfirst_node(RawStmt, cell);
		ParamTypes params = {NULL, 0};

		reason = check_statement(state, raw->stmt, raw, true, params);
		if (reason != NULL && list_length(statements) > 1)
			reason = psprintf("statement %d: %s", foreach_current_index(cell) + 1, reason);
		if (reason != NULL)
			break;
	}
	error_context_stack = context.previous;
	if (reason == NULL && state->in_transaction && state->writable)
		reason = "it leaves a transaction open that may write";
	return reason;
}

PG_FUNCTION_INFO_V1(cache_aside_classify);
PG_FUNCTION_INFO_V1(cache_aside_is_read_only);

Datum
cache_aside_is_read_only(PG_FUNCTION_ARGS)
{
	TextState state = {.text = text_to_cstring(PG_GETARG_TEXT_PP(0))};

	PG_RETURN_BOOL(check_text(&state) == NULL);
}

Datum
cache_aside_classify(PG_FUNCTION_ARGS)
{
	TextState state = {.text = text_to_cstring(PG_GETARG_TEXT_PP(0))};
	const char *reason = check_text(&state);
	TupleDesc desc;
	Datum values[2];
	bool nulls[2] = {false, reason == NULL};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "classify() needs a row type");
	values[0] = BoolGetDatum(reason == NULL);
	values[1] = reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
