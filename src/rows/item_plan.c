/*
 * item_plan.c: SQL statements with typed parameters, and the plans kept for them.
 *
 * Input: SQL text built by our own code from quoted, qualified names and OPERATOR(schema.op), so that
 * no search_path can change its meaning; every value is a parameter. Output: rows, or a count.
 *
 * Plans: kept per backend, least recently used out first, at most MAX_PLANS. The text is built anew for
 * each call and is part of the plan's identity together with the table's OID and the parameter types:
 * after a rename the text differs, so a plan can never be used for another table than the one that the
 * caller holds open. Everything else (indexes, statistics, row security, roles) is PostgreSQL's plan
 * cache's business; it checks the caller's rights at each execution.
 *
 * A plan in use may be asked for again (a trigger that calls an item function) and must survive: it is
 * not evicted while in_use > 0, and the count is taken back on errors too. Memory: each plan has its
 * context under TopMemoryContext.
 */
#include "cache_aside.h"
#include "rows/item.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_operator.h"
#include "commands/defrem.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "lib/ilist.h"
#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#define MAX_PLANS 128

typedef struct CaPlan
{
	dlist_node node;
	MemoryContext context;
	uint32 hash;
	Oid relid;
	char *sql;
	int nparams;
	Oid *types;
	SPIPlanPtr plan;
	int in_use;
} CaPlan;

static dlist_head plans = DLIST_STATIC_INIT(plans); /* most recently used first */
static int plan_count = 0;

const char *
ca_item_plan_column_name(CaItemTable *table, AttrNumber attnum)
{
	return quote_identifier(NameStr(TupleDescAttr(table->desc, attnum - 1)->attname));
}

void
ca_item_plan_init(CaStatement *statement, Oid relid, bool generic)
{
	memset(statement, 0, sizeof(CaStatement));
	statement->relid = relid;
	statement->generic = generic;
	initStringInfo(&statement->sql);
}

void
ca_item_plan_param(CaStatement *statement, Oid type, Datum value, bool isnull)
{
	int n = statement->nparams;

	if (n == statement->capacity)
	{
		statement->capacity = n == 0 ? 16 : 2 * n;
		if (n == 0)
		{
			statement->types = palloc(16 * sizeof(Oid));
			statement->values = palloc(16 * sizeof(Datum));
			statement->nulls = palloc(16 * sizeof(bool));
		}
		else
		{
			statement->types = repalloc(statement->types, 2 * n * sizeof(Oid));
			statement->values = repalloc(statement->values, 2 * n * sizeof(Datum));
			statement->nulls = repalloc(statement->nulls, 2 * n * sizeof(bool));
		}
	}
	statement->types[n] = type;
	statement->values[n] = value;
	statement->nulls[n] = isnull;
	statement->nparams = n + 1;
	appendStringInfo(&statement->sql, "$%d", n + 1);
}

/* The type's own btree operator, whatever search_path and look-alike operators there are. */
static Oid
comparison_operator(CaItemTable *table, AttrNumber attnum, int strategy)
{
	Form_pg_attribute att = TupleDescAttr(table->desc, attnum - 1);
	Oid opclass = GetDefaultOpClass(att->atttypid, BTREE_AM_OID);
	Oid input = OidIsValid(opclass) ? get_opclass_input_type(opclass) : InvalidOid;
	Oid operator= InvalidOid;

	if (OidIsValid(input))
		operator= get_opfamily_member(get_opclass_family(opclass), input, input, strategy);
	if (!OidIsValid(operator))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("column \"%s\" of table \"%s\" cannot be compared",
							   NameStr(att->attname), RelationGetRelationName(table->rel)),
						errdetail("Type %s has no order.", format_type_be(att->atttypid)),
						errhint("Match and range over columns that an index could have."),
						errtablecol(table->rel, attnum)));
	return operator;
}

void
ca_item_plan_compare(CaStatement *statement, CaItemTable *table, AttrNumber attnum, int strategy,
					 Datum value)
{
	Oid operator= comparison_operator(table, attnum, strategy);
	HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	appendStringInfo(
		&statement->sql, "i.%s OPERATOR(%s.%s) ", ca_item_plan_column_name(table, attnum),
		quote_identifier(get_namespace_name(form->oprnamespace)), NameStr(form->oprname));
	ReleaseSysCache(tuple);
	ca_item_plan_param(statement, TupleDescAttr(table->desc, attnum - 1)->atttypid, value, false);
}

static uint32
statement_hash(const CaStatement *statement)
{
	uint32 hash = hash_bytes((unsigned char *) statement->sql.data, statement->sql.len);

	hash = hash_combine(
		hash, hash_bytes((unsigned char *) statement->types, statement->nparams * sizeof(Oid)));
	return hash_combine(hash, statement->relid);
}

static CaPlan *
find_plan(const CaStatement *statement, uint32 hash)
{
	dlist_iter iter;

	dlist_foreach (iter, &plans)
	{
		CaPlan *plan = dlist_container(CaPlan, node, iter.cur);

		if (plan->hash == hash && plan->relid == statement->relid &&
			plan->nparams == statement->nparams && strcmp(plan->sql, statement->sql.data) == 0 &&
			memcmp(plan->types, statement->types, plan->nparams * sizeof(Oid)) == 0)
		{
			dlist_move_head(&plans, &plan->node);
			return plan;
		}
	}
	return NULL;
}

static void
make_room(void)
{
	dlist_node *node = plan_count < MAX_PLANS ? NULL : dlist_tail_node(&plans);

	while (node)
	{
		CaPlan *plan = dlist_container(CaPlan, node, node);

		if (plan->in_use == 0)
		{
			dlist_delete(&plan->node);
			plan_count--;
			SPI_freeplan(plan->plan);
			MemoryContextDelete(plan->context);
			return;
		}
		node = dlist_has_prev(&plans, node) ? dlist_prev_node(&plans, node) : NULL;
	}
}

/* Prepared first, entered last: an error in between leaves nothing in the list. */
static CaPlan *
make_plan(const CaStatement *statement, uint32 hash)
{
	SPIPlanPtr prepared =
		SPI_prepare_cursor(statement->sql.data, statement->nparams, statement->types,
						   statement->generic ? CURSOR_OPT_GENERIC_PLAN : 0);
	MemoryContext context;
	CaPlan *plan;

	if (prepared == NULL)
		elog(ERROR, "could not prepare: %s (%s)", statement->sql.data,
			 SPI_result_code_string(SPI_result));
	make_room();
	context =
		AllocSetContextCreate(TopMemoryContext, "cache_aside item plan", ALLOCSET_SMALL_SIZES);
	plan = MemoryContextAllocZero(context, sizeof(CaPlan));
	plan->context = context;
	plan->hash = hash;
	plan->relid = statement->relid;
	plan->sql = MemoryContextStrdup(context, statement->sql.data);
	plan->nparams = statement->nparams;
	plan->types = MemoryContextAlloc(context, (plan->nparams + 1) * sizeof(Oid));
	if (plan->nparams > 0)
		memcpy(plan->types, statement->types, plan->nparams * sizeof(Oid));
	SPI_keepplan(prepared);
	plan->plan = prepared;
	dlist_push_head(&plans, &plan->node);
	plan_count++;
	return plan;
}

static ParamListInfo
parameters(const CaStatement *statement)
{
	ParamListInfo params = makeParamList(statement->nparams);

	for (int i = 0; i < statement->nparams; i++)
	{
		params->params[i].value = statement->values[i];
		params->params[i].isnull = statement->nulls[i];
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = statement->types[i];
	}
	return params;
}

uint64
ca_item_plan_run(CaStatement *statement, bool read_only, DestReceiver *dest)
{
	uint32 hash = statement_hash(statement);
	CaPlan *plan = find_plan(statement, hash);
	SPIExecuteOptions options = {0};
	int result = 0;

	if (plan == NULL)
		plan = make_plan(statement, hash);
	options.params = parameters(statement);
	options.read_only = read_only;
	options.dest = dest;
	plan->in_use++;
	PG_TRY();
	{
		result = SPI_execute_plan_extended(plan->plan, &options);
	}
	PG_FINALLY();
	{
		plan->in_use--;
	}
	PG_END_TRY();
	if (result < 0)
		elog(ERROR, "could not run: %s (%s)", statement->sql.data, SPI_result_code_string(result));
	return SPI_processed;
}
