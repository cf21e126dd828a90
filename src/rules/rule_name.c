/*
 * rule_name.c: what a trigger says about its rule: kind, name, pattern, and the names of its fellows.
 *
 * Input: a trigger's function and arguments, as the catalog has them. Nothing is kept, no lock is taken.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "rules/rules.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static CaTriggerKind
kind_of_name(const char *name)
{
	if (strcmp(name, "invalidate_row") == 0)
		return CA_TRIGGER_ROW;
	if (strcmp(name, "invalidate_statement") == 0)
		return CA_TRIGGER_STATEMENT;
	if (strcmp(name, "invalidate_table") == 0)
		return CA_TRIGGER_TABLE;
	return CA_TRIGGER_NONE;
}

CaTriggerKind
ca_rule_name_kind(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	CaTriggerKind kind = CA_TRIGGER_NONE;
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		return CA_TRIGGER_NONE;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	/* Whoever may create a database's schema cache_aside can name functions like ours, but not in C. */
	if (form->prolang == ClanguageId && form->prorettype == TRIGGEROID &&
		form->pronamespace == get_namespace_oid("cache_aside", true))
		kind = kind_of_name(NameStr(form->proname));
	ReleaseSysCache(tuple);
	return kind;
}

const char *
ca_rule_name_of(int nargs, char **args)
{
	return nargs == 0 ? "" : nargs >= 3 ? args[2] : args[0];
}

bool
ca_rule_name_is_query(int nargs)
{
	return nargs > 1;
}

const char *
ca_rule_name_pattern(int nargs, char **args)
{
	Size len;

	if (nargs == 0)
		return NULL;
	if (ca_rule_name_is_query(nargs) && !ca_text_is_valid(args[0]))
		return NULL;
	if (ca_rule_name_is_query(nargs))
		return ca_prefix_pattern_utf8(args[0], &len);
	return ca_template_text_pattern(args[0]);
}

char *
ca_rule_name_prefix(const char *table, const char *name)
{
	char *identity = psprintf("%s %s", table, name);

	return psprintf("cache_aside_%08x",
					hash_bytes((unsigned char *) identity, (int) strlen(identity)));
}

char *
ca_rule_name_table(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}
