/*
 * rule.c: what a trigger's arguments say, parsed once per trigger and backend.
 *
 *	one argument      template
 *	two or three      pattern, query [, name]: a query rule
 *
 * Input: the TriggerData of a firing trigger. Output: a CaRule that stays valid until the relation's
 * next relcache invalidation (any DDL on it, its triggers included); the next firing parses again.
 * The callback only marks: whoever uses the rule at that moment keeps a whole one.
 *
 * A column that is gone must not fail the user's write: such a rule has `missing` set and gives its
 * pattern. Memory: one context per rule below TopMemoryContext.
 */
#include "cache_aside.h"

#include "access/tupdesc.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "rule.h"
#include "rules.h"

static HTAB *rules; /* trigger oid -> CaRule */

static void
forget_relation(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	CaRule *rule;

	hash_seq_init(&scan, rules);
	while ((rule = hash_seq_search(&scan)) != NULL)
	{
		if (!OidIsValid(relid) || rule->relid == relid)
			rule->valid = false;
	}
}

static void
create_cache(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(CaRule)};

	rules = hash_create("cache_aside rules", 32, &control, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
}

static void
warn_missing(const CaRule *rule, const char *relname)
{
	ereport(
		WARNING,
		(errcode(ERRCODE_UNDEFINED_COLUMN),
		 errmsg("cache rule \"%s\" of table \"%s\" names column \"%s\", which is gone", rule->text,
				relname, rule->missing),
		 errdetail("Every write deletes all keys that match \"%s\" instead.", rule->pattern),
		 errhint("See cache_aside.gaps; detach the rule and attach one with today's columns.")));
}

/* Fills the rule in its own context; raises without having made it valid. */
static void
parse_rule(CaRule *rule, Relation relation, Trigger *trigger)
{
	const char *relname = RelationGetRelationName(relation);

	rule->text = pstrdup(trigger->tgargs[0]);
	rule->name = pstrdup(ca_rules_name(trigger->tgnargs, trigger->tgargs));
	rule->what = psprintf("Rule \"%s\" of table \"%s\"", rule->name, relname);
	if (trigger->tgnargs == 1)
	{
		rule->template =
			ca_key_parse(rule->text, RelationGetDescr(relation), relname, &rule->missing);
		rule->pattern = ca_key_pattern(rule->template);
	}
	else
	{
		Size len;

		rule->pattern = ca_prefix_utf8(rule->text, strlen(rule->text), &len);
		rule->query = pstrdup(trigger->tgargs[1]);
	}
	if (rule->missing != NULL)
		warn_missing(rule, relname);
}

/* A firing that still runs (its query wrote to the table) keeps what it holds: leaked, and rare. */
static void
free_rule(CaRule *rule)
{
	if (rule->context == NULL || rule->uses > 0)
		return;
	if (rule->plan != NULL)
		SPI_freeplan(rule->plan);
	MemoryContextDelete(rule->context);
}

static void
load_rule(CaRule *rule, Relation relation, Trigger *trigger)
{
	MemoryContext previous;
	Oid key = rule->trigger;

	free_rule(rule);
	memset(rule, 0, sizeof(*rule));
	rule->trigger = key;
	rule->relid = RelationGetRelid(relation);
	rule->context =
		AllocSetContextCreate(TopMemoryContext, "cache_aside rule", ALLOCSET_SMALL_SIZES);
	previous = MemoryContextSwitchTo(rule->context);
	rule->valid = true; /* an invalidation while parsing clears it again */
	PG_TRY();
	{
		parse_rule(rule, relation, trigger);
	}
	PG_CATCH();
	{
		rule->valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(previous);
}

CaRule *
ca_rule_get(TriggerData *data)
{
	CaRule *rule;
	bool found;

	if (rules == NULL)
		create_cache();
	rule = hash_search(rules, &data->tg_trigger->tgoid, HASH_ENTER, &found);
	if (!found)
	{
		Oid key = rule->trigger;

		memset(rule, 0, sizeof(*rule));
		rule->trigger = key;
	}
	if (!rule->valid)
		load_rule(rule, data->tg_relation, data->tg_trigger);
	return rule;
}
