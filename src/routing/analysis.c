/*
 * analysis.c: parse analysis of SQL text that evaluates none of its literals.
 *
 * Core's analysis turns a literal into a value as soon as it knows the type: '(1,2)'::pair or '{1}'::age[] calls
 * input functions, and below a composite, array or range type those of domains, whose CHECK
 * constraints are anybody's code. It would run with the rights of whoever merely asks what a text does. No
 * setting makes core wait. But it cannot evaluate a parameter: so each string literal becomes one,
 * of unknown type as the literal is, and takes the type that the literal would be given, through the hook
 * that core has for parameters. Operators, functions and common types are resolved by type alone and come
 * out the same. Literals of equal text share a number, and types are settled per occurrence, so that
 * expressions which are equal stay equal (GROUP BY a || 'x'). Numbers, booleans, NULL and bit strings have
 * built-in types and stay. What the text's own type modifiers are ('numeric(10,2)') stays too. Only
 * two forms ask whether they are given a literal, and are rewritten first: typename('literal'), and
 * DEFAULT in JSON_VALUE.
 *
 * A literal that its type refuses ('x'::int) is therefore not noticed: the statement fails alike wherever
 * it runs. Whether the value's type could run code is volatility.c's business, which sees the parameter.
 *
 * Output: the analysed query, not rewritten; $n of the text as core's variable parameters, of type unknown
 * where nothing says which.
 * Errors: those of analysis. All memory is the caller's context. The tree given is copied.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "routing/classify.h"

#include "access/htup_details.h"
#include "common/hashfn.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_param.h"
#include "parser/parse_type.h"
#include "parser/parser.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Above every parameter that core accepts, MaxAllocSize / sizeof(Oid). */
#define FIRST_LITERAL 0x40000000

StaticAssertDecl(sizeof(ParamRef) <= sizeof(A_Const), "a literal becomes a parameter in place");
StaticAssertDecl(sizeof(TypeCast) <= sizeof(FuncCall), "a call becomes a cast in place");

typedef struct Literal
{
	uint64 hash; /* of the text; two texts of one hash would be taken for equal, and nothing else */
	int number;
} Literal;

/* Core's, which are the same for every query with variable parameters. */
static ParseParamRefHook variable_param;
static CoerceParamHook coerce_variable_param;

static bool
is_literal(Node *node)
{
	A_Const *constant = (A_Const *) node;

	return node != NULL && IsA(node, A_Const) && !constant->isnull &&
		   nodeTag(&constant->val) == T_String;
}

/* The plain type of this name, which makes name('literal') a cast; as core's FuncNameAsType(). */
static TypeName *
named_type(List *name)
{
	TypeName *result = makeTypeNameFromNameList(name);
	Type type = LookupTypeNameExtended(NULL, result, NULL, false, true);
	bool plain;

	if (type == NULL)
		return NULL;
	plain = ((Form_pg_type) GETSTRUCT(type))->typisdefined && !OidIsValid(typeTypeRelid(type));
	ReleaseSysCache(type);
	return plain ? result : NULL;
}

/* name('literal') means a cast only with a literal: say so while it is one. */
static void
spell_out_cast(Node *node)
{
	FuncCall *call = (FuncCall *) node;
	TypeCast cast = {.type = T_TypeCast};

	if (!IsA(node, FuncCall) || list_length(call->args) != 1 || !is_literal(linitial(call->args)) ||
		call->agg_order != NIL || call->agg_filter != NULL || call->over != NULL ||
		call->agg_distinct || call->func_variadic)
		return;
	cast.arg = linitial(call->args);
	cast.typeName = named_type(call->funcname);
	cast.location = call->location;
	if (cast.typeName != NULL)
		memcpy(node, &cast, sizeof(cast));
}

/* DEFAULT of JSON_VALUE (PostgreSQL 17) takes literals and calls, no parameters: so a call. */
static void
compute_default(Node **place)
{
	while (*place != NULL && (IsA(*place, TypeCast) || IsA(*place, CollateClause)))
		place =
			IsA(*place, TypeCast) ? &((TypeCast *) *place)->arg : &((CollateClause *) *place)->arg;
	if (is_literal(*place))
		*place =
			(Node *) makeFuncCall(SystemFuncName("textcat"), list_make2(*place, copyObject(*place)),
								  COERCE_EXPLICIT_CALL, -1);
}

static bool
hide_literals(Node *node, void *context)
{
	HTAB *literals = context;
	A_Const *constant = (A_Const *) node;
	bool found;
	Literal *literal;
	uint64 hash;
	int location;

	if (node == NULL || CA_TAKES_LITERALS_ONLY(node))
		return false;
	if (CA_JSON_DEFAULT(node) != NULL)
		compute_default(CA_JSON_DEFAULT(node));
	spell_out_cast(node);
	if (IsA(node, ParamRef) && ((ParamRef *) node)->number >= FIRST_LITERAL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_PARAMETER),
						errmsg("there is no parameter $%d", ((ParamRef *) node)->number)));
	if (!is_literal(node))
		return raw_expression_tree_walker(node, hide_literals, context);
	hash = hash_bytes_extended((unsigned char *) constant->val.sval.sval,
							   strlen(constant->val.sval.sval), 0);
	literal = hash_search(literals, &hash, HASH_ENTER, &found);
	if (!found)
		literal->number = FIRST_LITERAL + hash_get_num_entries(literals);
	location = constant->location;
	memset(constant, 0, sizeof(A_Const));
	constant->type = T_ParamRef;
	((ParamRef *) node)->number = literal->number;
	((ParamRef *) node)->location = location;
	return false;
}

static Node *
without_literals(Node *node)
{
	HASHCTL control = {.keysize = sizeof(uint64), .entrysize = sizeof(Literal)};
	HTAB *literals;

	control.hcxt = CurrentMemoryContext;
	literals =
		hash_create("cache_aside literals", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	node = copyObject(node);
	hide_literals(node, literals);
	hash_destroy(literals);
	return node;
}

/* ParseParamRefHook */
static Node *
refer_to_param(ParseState *pstate, ParamRef *reference)
{
	Param *param;

	if (reference->number < FIRST_LITERAL)
		return variable_param(pstate, reference);
	param = makeNode(Param);
	param->paramkind = PARAM_EXTERN;
	param->paramid = reference->number;
	param->paramtype = UNKNOWNOID;
	param->paramtypmod = -1;
	param->paramcollid = get_typcollation(UNKNOWNOID);
	param->location = reference->location;
	return (Node *) param;
}

/* CoerceParamHook: the type this literal is given here, as if it were of that type all along. */
static Node *
coerce_literal(ParseState *pstate, Param *param, Oid type, int32 typmod, int location)
{
	if (param->paramkind != PARAM_EXTERN || param->paramid < FIRST_LITERAL)
		return coerce_variable_param(pstate, param, type, typmod, location);
	if (param->paramtype != UNKNOWNOID)
		return NULL;
	param->paramtype = type;
	param->paramcollid = get_typcollation(type);
	return (Node *) param;
}

static ParseState *
begin(const char *source, Oid **types, int *count)
{
	ParseState *pstate = make_parsestate(NULL);

	pstate->p_sourcetext = source;
	setup_parse_variable_parameters(pstate, types, count);
	variable_param = pstate->p_paramref_hook;
	coerce_variable_param = pstate->p_coerce_param_hook;
	pstate->p_paramref_hook = refer_to_param;
	pstate->p_coerce_param_hook = coerce_literal;
	return pstate;
}

Query *
ca_analysis_query(const char *source, RawStmt *statement, Oid **types, int *count)
{
	ParseState *pstate = begin(source, types, count);
	RawStmt *hidden = makeNode(RawStmt);
	Query *query;

	hidden->stmt = without_literals(statement->stmt);
	hidden->stmt_location = statement->stmt_location;
	hidden->stmt_len = statement->stmt_len;
	query = transformTopLevelStmt(pstate, hidden);
	free_parsestate(pstate);
	return query;
}

Node *
ca_analysis_argument(const char *source, Node *argument)
{
	Oid *types = NULL;
	int count = 0;
	ParseState *pstate = begin(source, &types, &count);
	Node *expression =
		transformExpr(pstate, without_literals(argument), EXPR_KIND_EXECUTE_PARAMETER);

	free_parsestate(pstate);
	return expression;
}
