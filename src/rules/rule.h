/*
 * rule.h: a rule as the trigger functions see it.
 */
#ifndef CA_RULE_H
#define CA_RULE_H

#include "cache_aside.h"
#include "keys/keys.h"
#include "rules/rule_stats.h"

#include "commands/trigger.h"

typedef struct CaRule
{
	Oid trigger;
	Oid relid;
	MemoryContext context; /* owns the rule and everything below */
	int pins; /* firings that hold it, one for the cache while it is in there, one while it is counted */
	bool valid;    /* false: the next firing parses anew */
	bool plain;    /* a firing runs nobody's code */
	bool computed; /* DDL may replace what its keys are worked out with */
	uint64 noted;  /* by computed.c */
	char *text;    /* template, or the pattern of a query rule */
	char *name;
	char *what;           /* names rule and table in errors */
	const char *pattern;  /* covers every key, UTF-8, without prefix */
	const char *missing;  /* column that is gone, or NULL */
	CaTemplate *template; /* NULL: query rule */
	char *query;
	char *type;             /* of the query's column when it was attached, or NULL: not known */
	struct _SPI_plan *plan; /* kept plan of `query`, or NULL */
	bool strayed;           /* warned of a key outside the pattern */
	bool warned;            /* about a query that fails, or is not approved */
	Oid counts_as; /* the trigger of the topmost table that it was cloned from, or itself */
	bool counted;  /* is in the list of those to add up */
	CaRuleCount count;
	struct CaRule *next_counted;
} CaRule;

/* Runs `fire` with the rule of a firing trigger, which stays whole until it returns or raises. */
extern void ca_rule_with(TriggerData *data, void (*fire)(CaRule *rule, TriggerData *data));

/* ---- query.c: query rules ---- */
/*
 * Runs the rule's query over the transition tables; `handler` gets each key and `arg`. False
 * when the query does not fit the schema any more; nothing was added then.
 */
extern bool ca_query_run(CaRule *rule, TriggerData *data, CaKeyHandler handler, void *arg);
/* Raises what is wrong with a query; the type of its keys. Both need an SPI connection. */
extern char *ca_query_check(Relation relation, const char *query, const char *pattern);
/* ---- query_keys.c ---- */
struct _DestReceiver;
/* Takes the rows of the query; `type` as below. */
extern struct _DestReceiver *ca_query_keys_receiver(CaKeyHandler handler, void *arg,
													const char *what, const char *type);
/* Why rows of this form are no keys, or NULL; `type`: that of the column at attach, or NULL. */
extern char *ca_query_keys_problem(TupleDesc columns, const char *type);
extern char *ca_query_keys_type(TupleDesc columns);
/* query_check.c: what the analysed, wrapped query says of itself: a problem, or NULL. */
struct Query;
extern char *ca_query_check_tree(struct Query *wrapped, const char *pattern);
/* The same for views: what is wrong, or NULL. Runs in a subtransaction. `type`: NULL, or what it was. */
extern char *ca_query_problem(Relation relation, const char *query, const char *type);
extern void ca_query_preview(Relation relation, const char *query, Datum *rows, int count,
							 const char *what, CaKeyHandler handler, void *arg);
/* Of errors: the schema is another one (then a firing gives the pattern); anything but a cancel. */
extern bool ca_query_is_schema_error(int sqlstate);
extern bool ca_query_is_any_error(const ErrorData *error);
/* In PG_CATCH: the error, in `context`, and out of the subtransaction in which it happened. */
extern ErrorData *ca_query_leave_subtransaction(MemoryContext context);

/* ---- fires.c: would a trigger fire? ---- */
typedef struct CaWrite
{
	int16 event; /* TRIGGER_TYPE_INSERT, _UPDATE or _DELETE */
	TupleTableSlot *old_row;
	TupleTableSlot *new_row; /* of the relation's form; NULL: the event has none */
} CaWrite;

/* Why it would not, or NULL. */
extern const char *ca_fires_problem(Relation relation, const Trigger *trigger,
									const CaWrite *write);

/* ---- stray.c ---- */
/*
 * A key, UTF-8, that the rule's pattern does not cover: warns once, and remembers it as a pattern, which is
 * returned; `last` is what the last call of the same firing returned, or NULL.
 */
extern char *ca_stray_note(CaRule *rule, const char *key, Size len, const char *last);

/* ---- query_text.c ---- */
/* What is wrong with a query's form, or NULL; require raises it. Both raise a syntax error. */
extern const char *ca_query_text_problem(const char *query);
extern void ca_query_text_require(const char *query);

#endif
