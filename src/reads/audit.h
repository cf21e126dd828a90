/*
 * audit.h: what audit.c, the verdicts, and audit_entries.c, the questions to Redis, share.
 */
#ifndef CA_AUDIT_H
#define CA_AUDIT_H

#include "cache_aside.h"
#include "common/compat.h"
#include "redis/redis.h"
#include "reads/reads.h"

#include "nodes/pg_list.h"

#define CA_AUDIT_FETCH 200 /* rows, and questions to Redis, at a time */

typedef struct CaProbe
{
	CaText key;     /* as in Redis */
	char *shown;    /* without prefix */
	Datum row;      /* to find it again */
	char *expected; /* NULL: the row is gone */
	char *version;  /* of the row in this round; NULL: first pass, or gone */
	bool found;
	bool lacks_memory; /* for the entry that came */
	CaText cached;
	bool same_row;   /* as in the round before */
	bool same_entry; /* likewise */
	bool empty;      /* the entry, or there is none */
	const char *verdict;
} CaProbe;

/* Reads the entries of all probes without a verdict. */
extern void ca_audit_entries_read(CaRedis *redis, List *probes);
/* Does the entry that was found hold what it should? */
extern bool ca_audit_entries_agree(const CaProbe *probe);
pg_noreturn extern void ca_audit_entries_no_answer(void);

#endif
