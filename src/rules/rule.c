/*
 * rule.c: what a trigger's arguments say, parsed once per trigger and backend.
 *
 *	one argument      template
 *	two to four       pattern, query [, name [, type of the keys]]: a query rule
 *
 * Input: the TriggerData of a firing trigger. Output: a CaRule for the time of the firing.
 *
 * A firing runs the user's code (a rule's query, output functions of extension types), and that code
 * may do anything to rules: change the table's catalog rows, drop the trigger, write to the same
 * table and so fire the same rule again. Hence:
 *
 *	- a rule is allocated on its own, in its own context, and counts who holds it: each firing, and
 *	  the cache. It is freed when the last of them lets go, with its plan.
 *	- the relcache callback only marks. It may run at any catalog access, also between two lines of
 *	  whoever uses a rule, so it takes nothing out and frees nothing.
 *	- the next firing of any rule, and the end of each transaction, takes what is marked out of the
 *	  cache, entries of dropped triggers too: a session that drops a thousand tables keeps nothing.
 *	- a rule that was marked while it was parsed serves the firing it was parsed for, and is not kept.
 *
 * A plain rule's firing runs no such code: it has no query, and its output functions are known to look up nothing but
 * catalogs. Nobody sweeps meanwhile, so its rule is neither held nor let go, which costs as much as making a key.
 *
 * Any other firing lets go in PG_FINALLY. That is enough: every error inside it unwinds through that frame,
 * whatever subtransactions are aborted on the way; a subtransaction that the user's code rolls back
 * without leaving the firing must not let go. A resource owner would say the same later and cost an
 * entry per row.
 *
 * Firings are counted in the rule, which stays until its counts are added to those of all (rule_stats.c) at the end of a
 * transaction, or of the session. Those that only this keeps, for their tables are gone, are added up before when there are
 * many: a transaction may make a table, write to it and roll it back any number of times.
 *
 * A column that is gone must not fail the user's write: such a rule has `missing` set and gives its
 * pattern.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "rules/rule.h"
#include "rules/rules.h"

#include "access/tupdesc.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "storage/ipc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

typedef struct Entry
{
	Oid trigger; /* hash key */
	CaRule *rule;
	char status;
} Entry;

/* Core's template shadows a local of its own. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#define SH_PREFIX cache
#define SH_ELEMENT_TYPE Entry
#define SH_KEY_TYPE Oid
#define SH_KEY trigger
#define SH_HASH_KEY(tb, key) murmurhash32(key)
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"
#pragma GCC diagnostic pop

static cache_hash *rules;
static bool any_marked;  /* some rule in the cache is invalid */
static uint64 forgotten; /* calls of the callback */
static CaRule *counted;  /* those with counts to add up */
static int leftovers;    /* of those, about how many nobody else holds */

#define MOST_LEFTOVERS 100

static void
forget_relation(Datum arg, Oid relid)
{
	cache_iterator scan;
	Entry *entry;

	forgotten++;
	cache_start_iterate(rules, &scan);
	while ((entry = cache_iterate(rules, &scan)) != NULL)
	{
		if (!OidIsValid(relid) || entry->rule->relid == relid)
		{
			entry->rule->valid = false;
			any_marked = true;
		}
	}
}

static void
let_go(CaRule *rule)
{
	MemoryContext context = rule->context;

	Assert(rule->pins > 0);
	if (--rule->pins > 0)
		return;
	if (rule->plan != NULL)
		SPI_freeplan(rule->plan);
	CA_DEBUG_WIPE(rule);
	MemoryContextDelete(context);
}

/*
 * True when all that were counted are added up. A rule that fires has a pin more, or cannot be marked meanwhile; so leftovers
 * are those whose only pin is that of the list.
 */
static bool
add_up(TimestampTz now, bool may_replace, bool wait, bool only_leftovers)
{
	CaRule *rest = NULL;
	CaRule *done = NULL;
	CaRule *next;

	if (!ca_rule_stats_lock(may_replace, wait))
		return false;
	for (CaRule *rule = counted; rule != NULL; rule = next)
	{
		CaRule **list = &rest;

		next = rule->next_counted;
		if ((!only_leftovers || rule->pins == 1) &&
			ca_rule_stats_put(rule->counts_as, &rule->count, now, may_replace))
			list = &done;
		rule->next_counted = *list;
		*list = rule;
	}
	ca_rule_stats_unlock();
	counted = rest;
	leftovers = 0;
	for (CaRule *rule = done; rule != NULL; rule = next)
	{
		next = rule->next_counted;
		rule->counted = false;
		memset(&rule->count, 0, sizeof(rule->count));
		let_go(rule);
	}
	return counted == NULL;
}

/* Takes what is marked out of the cache. Nothing in here looks into a catalog. */
static void
sweep(void)
{
	cache_iterator scan;
	Entry *entry;

	any_marked = false;
	cache_start_iterate(rules, &scan);
	while ((entry = cache_iterate(rules, &scan)) != NULL)
	{
		CaRule *rule = entry->rule;
		bool counts = rule->counted;

		if (rule->valid)
			continue;
		cache_delete_item(rules, entry); /* as the template allows while iterating */
		let_go(rule);
		leftovers += counts;
	}
	if (leftovers >= MOST_LEFTOVERS)
		(void) add_up(GetCurrentTimestamp(), true, false, true);
}

/* ---- counting ---- */

static void
add_up_at_exit(int code, Datum arg)
{
	if (counted != NULL && !add_up(GetCurrentTimestamp(), false, true, false))
		(void) add_up(GetCurrentTimestamp(), true, true, false);
}

static pg_noinline void
begin_count(CaRule *rule)
{
	rule->counted = true;
	rule->pins++;
	rule->next_counted = counted;
	counted = rule;
}

static inline void
count_firing(CaRule *rule)
{
	if (!rule->counted)
		begin_count(rule);
	rule->count.fired++;
}

/* ---- the end of a transaction ---- */

/*
 * Nobody fires then; a firing that an error ended has let go before. Neither allocates nor raises, nor waits for a lock:
 * those who do not get it are counted at the next end.
 */
static void
at_end(XactEvent event, void *arg)
{
	TimestampTz now;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (counted != NULL)
	{
		now = GetCurrentTransactionStopTimestamp();
		if (!add_up(now, false, false, false))
			(void) add_up(now, true, false, false);
	}
	if (any_marked)
		sweep();
}

static void
create_cache(void)
{
	rules = cache_create(
		AllocSetContextCreate(TopMemoryContext, "cache_aside rules", ALLOCSET_SMALL_SIZES), 32,
		NULL);
	CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
	RegisterXactCallback(at_end, NULL);
	/* not before_shmem_exit: whoever is within PG_ENSURE_ERROR_CLEANUP wants to take his own off that list again */
	on_shmem_exit(add_up_at_exit, (Datum) 0);
}

static void
warn_missing(const CaRule *rule, Relation relation)
{
	const char *relname = RelationGetRelationName(relation);

	ereport(
		WARNING,
		(errcode(ERRCODE_UNDEFINED_COLUMN),
		 errmsg("cache rule \"%s\" of table \"%s\" names column \"%s\", which %s", rule->text,
				relname, rule->missing,
				ca_template_missing(RelationGetDescr(relation), rule->missing)),
		 errdetail("Every write deletes all keys that match \"%s\" instead.", rule->pattern),
		 errhint("See cache_aside.gaps; detach the rule and attach one with today's columns.")));
}

/* In the rule's own context. */
static void
parse_rule(CaRule *rule, Relation relation, const Trigger *trigger)
{
	const char *relname = RelationGetRelationName(relation);

	ca_text_require_all(trigger->tgnargs, trigger->tgargs, "argument of a cache rule's trigger");
	rule->text = pstrdup(trigger->tgargs[0]);
	rule->name = pstrdup(ca_rule_name_of(trigger->tgnargs, trigger->tgargs));
	rule->what = psprintf("Rule \"%s\" of table \"%s\"", rule->name, relname);
	if (trigger->tgnargs == 1)
	{
		rule->template =
			ca_template_parse(rule->text, RelationGetDescr(relation), relname, &rule->missing);
		rule->pattern = ca_template_pattern(rule->template);
	}
	else
	{
		Size len;

		rule->pattern = ca_prefix_pattern_utf8(rule->text, &len);
		rule->query = pstrdup(trigger->tgargs[1]);
		rule->type = trigger->tgnargs < CA_QUERY_ARGS ? NULL : pstrdup(trigger->tgargs[3]);
	}
	if (rule->missing != NULL)
		warn_missing(rule, relation);
	else
		rule->plain = rule->template != NULL && ca_template_is_plain(rule->template);
	rule->computed = rule->template == NULL || ca_template_is_computed(rule->template);
}

/* The trigger that shows as the rule's: of a partition's, the one of the topmost table. */
static Oid
topmost(const Trigger *trigger)
{
	Oid oid = trigger->tgoid;
	CaTriggerFacts facts;

	if (trigger->tgisclone)
		while (ca_rule_trigger_find(oid, NULL, &facts) && OidIsValid(facts.parent))
			oid = facts.parent;
	return oid;
}

/* A rule with one pin, the caller's. An error frees it with the current context, until it is kept. */
static CaRule *
load_rule(Relation relation, const Trigger *trigger)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "cache_aside rule", ALLOCSET_SMALL_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(context);
	CaRule *rule = palloc0(sizeof(CaRule));

	rule->trigger = trigger->tgoid;
	rule->relid = RelationGetRelid(relation);
	rule->context = context;
	rule->pins = 1;
	rule->counts_as = topmost(trigger);
	parse_rule(rule, relation, trigger);
	MemoryContextSwitchTo(previous);
	return rule;
}

/* Puts the rule into the cache, which then holds it too. */
static void
keep(CaRule *rule)
{
	bool found;
	Entry *entry = cache_insert(rules, rule->trigger, &found);

	if (found) /* parsing fired the same rule */
		return;
	entry->rule = rule;
	rule->valid = true;
	rule->pins++;
}

/* The rule as the cache has it, or NULL. */
static CaRule *
find(Oid trigger)
{
	Entry *entry;

	if (rules == NULL)
		create_cache();
	if (any_marked)
		sweep();
	entry = cache_lookup(rules, trigger);
	return entry == NULL ? NULL : entry->rule;
}

/* What was found, or is loaded now; with a pin, the caller's. */
static pg_noinline CaRule *
take(CaRule *found, TriggerData *data)
{
	uint64 before = forgotten;
	CaRule *rule;

	if (found != NULL)
	{
		found->pins++;
		return found;
	}
	rule = load_rule(data->tg_relation, data->tg_trigger);
	if (forgotten == before)
		keep(rule);
	MemoryContextSetParent(rule->context, TopMemoryContext);
	return rule;
}

static pg_noinline void
fire_pinned(CaRule *found, TriggerData *data, void (*fire)(CaRule *rule, TriggerData *data))
{
	CaRule *rule = take(found, data);

	PG_TRY();
	{
		count_firing(rule);
		fire(rule, data);
		rule->count.ended++;
	}
	PG_FINALLY();
	{
		let_go(rule);
	}
	PG_END_TRY();
}

void
ca_rule_with(TriggerData *data, void (*fire)(CaRule *rule, TriggerData *data))
{
	CaRule *rule = find(data->tg_trigger->tgoid);

	if (rule == NULL || !rule->plain)
	{
		fire_pinned(rule, data, fire);
		return;
	}
	count_firing(rule);
	fire(rule, data);
	rule->count.ended++;
}
