/*
 * query.c: query rules; a query over the changed rows gives the keys.
 *
 * Input: the rule's query and the transition tables of a statement. Output: each row the query
 * returns is a key, handed on as it comes: memory stays flat however many there are.
 *
 * The query is wrapped as
 *
 *	WITH changed AS (SELECT * FROM <old> UNION ALL SELECT * FROM <new>) SELECT * FROM (<query>) q
 *
 * and runs as the table's owner, as foreign-key checks do, so that it sees what it needs whoever
 * writes: search_path pinned, row security off (a policy that would hide rows is an error, not a
 * missing key), settings that key text depends on pinned, security-restricted, read-only. It may not
 * name what is temporary (query_text.c): that is the writer's.
 *
 * A query that no longer fits the schema (SQLSTATE class 42, 3F) must not fail the user's write: it
 * runs in a subtransaction, and the caller then takes the pattern. Any other error is the query's own
 * and fails the statement. The plan is kept with the rule and goes with it.
 *
 * Not seen: a row that another transaction moves into a join of the query at the same moment.
 */
#include "cache_aside.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "rules/owner.h"
#include "rules/rule.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* ---- SQL ---- */

static char *
wrap_query(const char *changed, const char *query)
{
	/* The line break ends a comment that the query may end with. */
	return psprintf("WITH changed AS (%s) SELECT * FROM (%s\n) AS cache_aside_query", changed,
					query);
}

static char *
qualified_name(Relation relation)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
									  RelationGetRelationName(relation));
}

/* The names of a relation's columns that are virtual, or are not; "" when there is none. */
static char *
list_columns(Relation relation, bool is_virtual)
{
	TupleDesc columns = RelationGetDescr(relation);
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (!column->attisdropped && (column->attgenerated == 'v') == is_virtual)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
							 quote_identifier(NameStr(column->attname)));
	}
	return names.data;
}

/*
 * What "changed" has: no virtual column. A transition table holds NULL for it after an UPDATE, and after
 * an INSERT or DELETE core refuses to read it. So a query that names one does not fit, at attach or,
 * if the column became virtual since, at the next write.
 */
static const char *
changed_columns(Relation relation)
{
	return list_columns(relation, true)[0] == '\0' ? "*" : list_columns(relation, false);
}

static char *
changed_rows(Relation relation, const Trigger *trigger)
{
	const char *columns = changed_columns(relation);
	StringInfoData sql;

	initStringInfo(&sql);
	if (trigger->tgoldtable != NULL)
		appendStringInfo(&sql, "SELECT %s FROM %s", columns, quote_identifier(trigger->tgoldtable));
	if (trigger->tgoldtable != NULL && trigger->tgnewtable != NULL)
		appendStringInfoString(&sql, " UNION ALL ");
	if (trigger->tgnewtable != NULL)
		appendStringInfo(&sql, "SELECT %s FROM %s", columns, quote_identifier(trigger->tgnewtable));
	return sql.data;
}

/* An error's message, with what may explain it. */
static const char *
explain(Relation relation, const char *message)
{
	const char *missing = list_columns(relation, true);

	if (missing[0] == '\0')
		return psprintf("%s.", message);
	return psprintf("%s. Virtual generated columns (%s) are not in \"changed\".", message, missing);
}

static SPIPlanPtr
prepare(const char *sql, int argument_count, Oid *types)
{
	SPIPlanPtr plan = SPI_prepare(sql, argument_count, types);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return plan;
}

static void
execute(SPIPlanPtr plan, ParamListInfo parameters, DestReceiver *keys)
{
	SPIExecuteOptions options = {.params = parameters, .read_only = true, .dest = keys};
	int result;

	result = SPI_execute_plan_extended(plan, &options);
	if (result < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(result));
}

/* ---- triggers ---- */

/*
 * What a foreign-key check would see: the statement's own writes, and what others committed while it ran
 * or waited for a row's lock, also under REPEATABLE READ. With the statement's snapshot a key would be
 * missing that the same write, made a moment later, deletes. Undone by the subtransaction's abort.
 */
static void
push_newest_snapshot(void)
{
	CommandCounterIncrement();
	PushActiveSnapshot(IsolationUsesXactSnapshot() && !CA_DEBUG_SKIP("newest")
						   ? GetLatestSnapshot()
						   : GetTransactionSnapshot());
}

static void
run_plan(CaRule *rule, TriggerData *data, DestReceiver *keys)
{
	CaIdentity caller;

	ca_owner_become(&caller, data->tg_relation->rd_rel->relowner);
	if (rule->plan == NULL)
	{
		SPIPlanPtr plan;

		ca_query_text_require(rule->query);
		plan = prepare(wrap_query(changed_rows(data->tg_relation, data->tg_trigger), rule->query),
					   0, NULL);

		/* Analysis may have run the user's code, which may have fired this rule: then it has one. */
		if (rule->plan == NULL)
		{
			SPI_keepplan(plan);
			rule->plan = plan;
		}
	}
	push_newest_snapshot();
	execute(rule->plan, NULL, keys);
	PopActiveSnapshot();
	ca_owner_leave(&caller);
}

bool
ca_query_is_schema_error(int sqlstate)
{
	return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		   sqlstate == ERRCODE_INVALID_SCHEMA_NAME;
}

static void
warn_broken(CaRule *rule, const ErrorData *error)
{
	if (rule->warned)
		return;
	rule->warned = true;
	ereport(WARNING,
			(errcode(error->sqlerrcode), errmsg("query of cache rule \"%s\" fails", rule->name),
			 errdetail("%s. Every write deletes all keys that match \"%s\" instead.",
					   error->message, rule->pattern),
			 errhint("Detach the rule and attach one that fits today's tables.")));
}

/*
 * In PG_CATCH: takes the error and rolls back the subtransaction in which it happened. Whoever
 * catches a rethrown error counts on its own subtransaction being the innermost.
 */
ErrorData *
ca_query_leave_subtransaction(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	return error;
}

/* Returns false when the query does not fit the schema any more; nothing was added then. */
bool
ca_query_run(CaRule *rule, TriggerData *data, CaKeyHandler handler, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	DestReceiver *keys = ca_query_keys_receiver(handler, arg, rule->what, rule->type);
	volatile bool done = false;

	SPI_connect();
	SPI_register_trigger_data(data);
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		run_plan(rule, data, keys);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData *error = ca_query_leave_subtransaction(context);

		if (!ca_query_is_schema_error(error->sqlerrcode))
			ReThrowError(error);
		warn_broken(rule, error);
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(context);
	SPI_finish();
	return done;
}

/* ---- attach, keys ---- */

static void
refuse_query(int sqlstate, const char *detail)
{
	ereport(ERROR,
			(errcode(sqlstate), errmsg("query of the cache rule is malformed"),
			 errdetail("%s", detail),
			 errhint("Write one SELECT that returns one column, the key, and reads the table "
					 "\"changed\"; qualify names with their schema, for it runs with search_path = "
					 "pg_catalog, pg_temp.")));
}

/* What find_problem() looks for, and what it saw. */
typedef struct Check
{
	const char *pattern; /* at attach, when the query must also fit it; else NULL */
	const char *type;    /* that the keys had at attach, or NULL */
	bool (*expected)(const ErrorData *);
	int sqlstate;
	char *found; /* type of the keys */
} Check;

static const char *
check_plan(const char *sql, Check *check)
{
	SPIPlanPtr plan = prepare(sql, 0, NULL);
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));
	const char *problem = ca_query_keys_problem(source->resultDesc, check->type);

	if (problem != NULL)
		return psprintf("%s.", problem);
	check->found = ca_query_keys_type(source->resultDesc);
	if (check->pattern != NULL)
		return ca_query_check_tree(linitial_node(Query, source->query_list), check->pattern);
	return NULL;
}

/* At attach: what the author of the query can mend. */
static bool
is_query_error(const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return ca_query_is_schema_error(error->sqlerrcode) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_FEATURE_NOT_SUPPORTED);
}

/*
 * In a view: everything but a cancel of the statement. The owner of one table must not break it for
 * all, and his code can raise a cancel's SQLSTATE, though not from core's function.
 */
bool
ca_query_is_any_error(const ErrorData *error)
{
	return error->sqlerrcode != ERRCODE_QUERY_CANCELED || error->funcname == NULL ||
		   strcmp(error->funcname, "ProcessInterrupts") != 0;
}

/*
 * What is wrong with the query, or NULL; an error that is not expected is raised. Whoever goes on
 * after a finding must roll back a subtransaction, or raise.
 */
static const char *
find_problem(Relation relation, const char *query, Check *check)
{
	MemoryContext context = CurrentMemoryContext;
	char *sql = wrap_query(
		psprintf("SELECT %s FROM %s", changed_columns(relation), qualified_name(relation)), query);
	const char *volatile detail = NULL;
	CaIdentity caller;

	check->sqlstate = ERRCODE_SYNTAX_ERROR;
	PG_TRY();
	{
		ca_owner_become(&caller, relation->rd_rel->relowner);
		detail = ca_query_text_problem(query);
		if (detail == NULL)
			detail = check_plan(sql, check);
		ca_owner_leave(&caller);
		MemoryContextSwitchTo(context); /* out of SPI's, which end with it */
		detail = detail ? pstrdup(detail) : NULL;
		check->found = check->found ? pstrdup(check->found) : NULL;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (!check->expected(error))
			PG_RE_THROW();
		FlushErrorState();
		check->sqlstate = error->sqlerrcode;
		detail = explain(relation, error->message);
	}
	PG_END_TRY();
	return detail;
}

char *
ca_query_check(Relation relation, const char *query, const char *pattern)
{
	Check check = {.pattern = pattern, .expected = is_query_error};
	const char *detail = find_problem(relation, query, &check);

	if (detail != NULL)
		refuse_query(check.sqlstate, detail);
	return check.found;
}

char *
ca_query_problem(Relation relation, const char *query, const char *type)
{
	Check check = {.type = type, .expected = ca_query_is_any_error};
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	const char *volatile detail = NULL;

	SPI_connect();
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		detail = find_problem(relation, query, &check);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ReThrowError(ca_query_leave_subtransaction(context));
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	SPI_finish();
	MemoryContextSwitchTo(context);
	return detail == NULL ? NULL : pstrdup(detail);
}

/* The keys that a change of these rows (two at most), given as jsonb, yields. SPI is connected, we are the owner. */
void
ca_query_preview(Relation relation, const char *query, Datum *rows, int count, const char *what,
				 CaKeyHandler handler, void *arg)
{
	Oid types[2] = {JSONBOID, JSONBOID};
	ParamListInfo parameters = makeParamList(count);
	StringInfoData changed;

	ca_query_text_require(query);
	initStringInfo(&changed);
	for (int i = 0; i < count; i++)
	{
		appendStringInfo(
			&changed, "%sSELECT %s FROM pg_catalog.jsonb_populate_record(NULL::%s, $%d)",
			i > 0 ? " UNION ALL " : "", changed_columns(relation), qualified_name(relation), i + 1);
		parameters->params[i] =
			(ParamExternData){.value = rows[i], .pflags = PARAM_FLAG_CONST, .ptype = JSONBOID};
	}
	execute(prepare(wrap_query(changed.data, query), count, types), parameters,
			ca_query_keys_receiver(handler, arg, what, NULL));
}
