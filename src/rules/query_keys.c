/*
 * query_keys.c: the rows that a rule's query returns, as keys.
 *
 * Input: rows of one column, from the executor. Output: each value as text, UTF-8, to a handler, one at a
 * time; NULL and the empty text are no keys. Runs with the settings that owner.c pins.
 *
 * The columns of what a query reads may have changed since it was attached. Rows that are no keys, and
 * values of another type than those of then (the same row would give another text, hence another key), are
 * an error of SQLSTATE class 42, for which query.c gives the pattern.
 */
#include "cache_aside.h"
#include "keys/keys.h"
#include "rules/rule.h"

#include "catalog/pg_type.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

typedef struct KeyReceiver
{
	DestReceiver receiver;
	CaKeyHandler handler;
	void *arg;
	const char *what;
	const char *type; /* that the column had at attach, or NULL */
	FmgrInfo output;
	MemoryContext row; /* reset for each row */
} KeyReceiver;

/* Values of text and varchar are the same text. search_path is pinned. */
static char *
type_name(Oid type)
{
	type = getBaseType(type);
	return format_type_be(type == VARCHAROID ? TEXTOID : type);
}

char *
ca_query_keys_type(TupleDesc columns)
{
	return type_name(TupleDescAttr(columns, 0)->atttypid);
}

char *
ca_query_keys_problem(TupleDesc columns, const char *wanted)
{
	Oid type;

	if (columns->natts != 1)
		return psprintf("It returns %d columns", columns->natts);
	type = getBaseType(TupleDescAttr(columns, 0)->atttypid);
	if (get_typtype(type) == TYPTYPE_COMPOSITE || get_typtype(type) == TYPTYPE_PSEUDO ||
		OidIsValid(get_element_type(type)))
		return psprintf("It returns %s, which is no text of a key",
						format_type_be(TupleDescAttr(columns, 0)->atttypid));
	if (wanted != NULL && strcmp(type_name(type), wanted) != 0)
		return psprintf("It returns %s, and returned %s when it was attached", type_name(type),
						wanted);
	return NULL;
}

/* The columns of what the query reads may have changed since attach: an error that gives the pattern. */
static void
start_keys(DestReceiver *self, int operation, TupleDesc columns)
{
	KeyReceiver *keys = (KeyReceiver *) self;
	const char *problem = ca_query_keys_problem(columns, keys->type);
	Oid function;
	bool is_varlena;

	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("%s", problem),
						errdetail("%s needs one column, the key.", keys->what),
						errhint("Detach the rule and attach one that fits today's tables.")));
	getTypeOutputInfo(TupleDescAttr(columns, 0)->atttypid, &function, &is_varlena);
	fmgr_info(function, &keys->output);
	keys->row =
		AllocSetContextCreate(CurrentMemoryContext, "cache_aside query row", ALLOCSET_SMALL_SIZES);
}

static bool
receive_key(TupleTableSlot *slot, DestReceiver *self)
{
	KeyReceiver *keys = (KeyReceiver *) self;
	MemoryContext previous = MemoryContextSwitchTo(keys->row);
	bool isnull;
	Datum value = slot_getattr(slot, 1, &isnull);

	if (!isnull)
	{
		char *key = OutputFunctionCall(&keys->output, value);
		Size len;

		key = ca_prefix_utf8(key, strlen(key), &len);
		if (len > CA_MAX_KEY)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("cache key is too long"),
					 errdetail("%s gives %zu bytes; %d are allowed.", keys->what, len, CA_MAX_KEY),
					 errhint("Let the query return shorter keys.")));
		if (len > 0)
			keys->handler(keys->arg, key, len);
	}
	MemoryContextSwitchTo(previous);
	MemoryContextReset(keys->row);
	return true;
}

static void
end_keys(DestReceiver *self)
{
	MemoryContextDelete(((KeyReceiver *) self)->row);
}

static void
destroy_keys(DestReceiver *self)
{
}

DestReceiver *
ca_query_keys_receiver(CaKeyHandler handler, void *arg, const char *what, const char *type)
{
	KeyReceiver *keys = palloc0(sizeof(*keys));

	keys->receiver.receiveSlot = receive_key;
	keys->receiver.rStartup = start_keys;
	keys->receiver.rShutdown = end_keys;
	keys->receiver.rDestroy = destroy_keys;
	keys->receiver.mydest = DestNone;
	keys->handler = handler;
	keys->arg = arg;
	keys->what = what;
	keys->type = type;
	return &keys->receiver;
}
