/*
 * rule_stats.h: what a backend counts for each rule, and where it is added up.
 */
#ifndef CA_RULE_STATS_H
#define CA_RULE_STATS_H

#include "cache_aside.h"

/* Since it was added up last. */
typedef struct CaRuleCount
{
	uint64 fired;
	uint64 ended; /* without an error: what is missing failed */
	uint64 keys;
	uint64 patterns;
	uint64 failures; /* keys could not be made, so it gave its pattern */
} CaRuleCount;

extern void ca_rule_stats_shmem_request(void);
extern void ca_rule_stats_shmem_init(void);
/*
 * Lock, put what there is, unlock; nothing raises. Without `may_replace` put is false for a trigger that has no
 * place; without `wait` the lock is not waited for, and false is returned.
 */
extern bool ca_rule_stats_lock(bool may_replace, bool wait);
extern bool ca_rule_stats_put(Oid trigger, const CaRuleCount *count, TimestampTz now,
							  bool may_replace);
extern void ca_rule_stats_unlock(void);

#endif
