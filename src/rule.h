/*
 * rule.h: a rule as the trigger functions see it.
 */
#ifndef CA_RULE_H
#define CA_RULE_H

#include "commands/trigger.h"

typedef struct CaRule
{
	Oid trigger; /* hash key */
	Oid relid;
	bool valid;
	MemoryContext context; /* owns everything below */
	char *text;            /* template, or the pattern of a query rule */
	char *what;            /* names the rule in errors */
	const char *pattern;   /* covers every key, UTF-8, without prefix */
	const char *missing;   /* column that is gone, or NULL */
	CaTemplate *template;  /* NULL: query rule */
	char *query;
} CaRule;

extern CaRule *ca_rule_get(TriggerData *data);

#endif
