/*
 * rules.h: rules as attach, detach, keys and the utility hook see them: groups of triggers.
 */
#ifndef CA_RULES_H
#define CA_RULES_H

#include "nodes/parsenodes.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

typedef enum CaTriggerKind
{
	CA_TRIGGER_NONE, /* not ours */
	CA_TRIGGER_ROW,
	CA_TRIGGER_STATEMENT,
	CA_TRIGGER_TABLE
} CaTriggerKind;

extern CaTriggerKind ca_rules_kind(Oid function);

/* The name of a rule is its template; a query rule's is its third argument, else its pattern. */
extern const char *ca_rules_name(int nargs, char **args);
extern bool ca_rules_is_query(int nargs);
/* Is the trigger part of rule `name` (of any rule, if NULL)? */
extern bool ca_rules_member(const Trigger *trigger, const char *name);
/* Pattern of a rule, UTF-8, without prefix; NULL for a template that is malformed. */
extern const char *ca_rules_pattern(int nargs, char **args);
/* Adds the patterns of all rules on the relation to the pending set. */
extern void ca_rules_add_patterns(Relation relation);

/* ---- rule_check.c: what attach refuses ---- */
extern void ca_rule_check_null(bool isnull, const char *function, const char *argument);
extern void ca_rule_check_owner(Relation relation);
extern void ca_rule_check_relation(Relation relation, bool statement);
extern void ca_rule_check_pattern(const char *pattern);
/* Before CREATE TRIGGER, by hand or by a restore: can a trigger with our function work? */
extern void ca_rule_check_trigger(CreateTrigStmt *statement);

#endif
