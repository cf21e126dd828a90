/*
 * fetch.c: fetch(): a value from the cache, or from the query that makes it.
 *
 * What is missing is read, filled with the token of this statement's snapshot, and returned. A transaction that has
 * written neither reads the cache nor fills it (reads.c).
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "shared/shared.h"
#include "reads/reads.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "parser/parse_param.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(cache_aside_fetch);

/* Parameters of fetch's query: their types are found out by the parser. */
typedef struct Params
{
	Oid *types;
	int n;
} Params;

static void
setup_parser(ParseState *pstate, void *arg)
{
	Params *params = arg;

	setup_parse_variable_parameters(pstate, &params->types, &params->n);
}

static ParamListInfo
make_params(const Params *params, ArrayType *given)
{
	ParamListInfo list;
	Datum *texts;
	bool *nulls;
	int n = 0;

	if (given != NULL)
		deconstruct_array(given, TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &n);
	if (n < params->n)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_PARAMETER),
						errmsg("the query of fetch() has more parameters than were given"),
						errdetail("It uses $%d, %d were given.", params->n, n),
						errhint("Pass them behind the time to live.")));
	list = makeParamList(params->n);
	for (int i = 0; i < params->n; i++)
	{
		ParamExternData *param = &list->params[i];
		Oid input;
		Oid io_param;

		param->ptype = OidIsValid(params->types[i]) ? params->types[i] : TEXTOID;
		param->pflags = PARAM_FLAG_CONST;
		param->isnull = nulls[i];
		getTypeInputInfo(param->ptype, &input, &io_param);
		param->value = OidInputFunctionCall(input, nulls[i] ? NULL : TextDatumGetCString(texts[i]),
											io_param, -1);
	}
	return list;
}

static void
refuse_query(const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid query for fetch()"),
					errdetail("%s", detail),
					errhint("Give one SELECT that returns the value as its only column.")));
}

/*
 * First column of the first row, in the caller's context; NULL when there is none. Read-only, hence
 * with the snapshot of the calling statement, the one that the token is about.
 */
static char *
run_query(const char *query, ArrayType *given, MemoryContext cxt)
{
	Params params = {NULL, 0};
	SPIPlanPtr plan;
	char *value;
	char *result = NULL;

	SPI_connect();
	/* The parser enlarges it with repalloc: made here, it outlives SPI's own parsing context. */
	params.types = palloc0(sizeof(Oid));
	plan = SPI_prepare_params(query, setup_parser, &params, 0);
	if (plan == NULL)
		refuse_query(SPI_result_code_string(SPI_result));
	if (SPI_execute_plan_with_paramlist(plan, make_params(&params, given), true, 1) !=
		SPI_OK_SELECT)
		refuse_query("It is not a SELECT.");
	if (SPI_tuptable->tupdesc->natts != 1)
		refuse_query(psprintf("It returns %d columns.", SPI_tuptable->tupdesc->natts));
	value =
		SPI_processed == 0 ? NULL : SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (value != NULL)
		result = MemoryContextStrdup(cxt, value);
	SPI_finish();
	return result;
}

/* The cached value as text; NULL: a miss, or bytes that are no text, which a fill replaces. */
static char *
cached_text(const char *shown, const CaText *key)
{
	CaGot got;

	if (ca_reads_has_written())
		return NULL;
	ca_reads_get(shown, key, &got);
	return got.type == CA_REPLY_STRING ? ca_reads_from_redis(got.data, got.len) : NULL;
}

/* fetch(key, query, ttl [, VARIADIC params]) */
Datum
cache_aside_fetch(PG_FUNCTION_ARGS)
{
	char *shown = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int64 ttl = ca_reads_ttl(PG_GETARG_INTERVAL_P(2));
	CaText key = ca_reads_key(shown, strlen(shown));
	char *value = cached_text(shown, &key);
	CaText sent;
	const char *token;

	if (value != NULL)
		PG_RETURN_TEXT_P(cstring_to_text(value));
	token = ca_read_token_current();
	token = token ? pstrdup(token) : NULL;
	value =
		run_query(query, PG_NARGS() > 3 ? PG_GETARG_ARRAYTYPE_P(3) : NULL, CurrentMemoryContext);
	if (value == NULL)
		PG_RETURN_NULL();
	if (token != NULL && !ca_reads_has_written() && ca_reads_fits(value, strlen(value), &sent))
		ca_fill_store(shown, &key, &sent, ttl, token, NULL);
	PG_RETURN_TEXT_P(cstring_to_text(value));
}
