/*
 * resync.h: patterns: which, in which databases; scan and delete.
 */
#ifndef CA_RESYNC_H
#define CA_RESYNC_H

#include "cache_aside.h"
#include "keys/keys.h"
#include "redis/redis.h"

#include "lib/ilist.h"

/* ---- init.c: settings and start ---- */
extern int guc_scan_rate; /* keys looked at per second by a pattern scan; 0: no limit */
extern void ca_resync_init(void);

/* ---- pattern_index.c: which of many patterns match a key ---- */
typedef struct CaGlob
{
	const char *text;
	Size len;
} CaGlob;

typedef enum CaPatternMatch
{
	CA_PATTERN_MISSES,
	CA_PATTERN_MATCHES,
	CA_PATTERN_LATER /* the budget is spent */
} CaPatternMatch;

typedef struct CaPatternIndex CaPatternIndex;

extern CaPatternIndex *ca_pattern_index_make(const CaGlob *patterns, int n); /* at least one */
extern void ca_pattern_index_free(CaPatternIndex *index);
extern Size ca_pattern_index_common(const CaPatternIndex *index, const char **common);
extern CaPatternMatch ca_pattern_index_match(const CaPatternIndex *index, const char *key, Size len,
											 int *reached, Size *budget);

/* ---- scan.c: patterns; SCAN and UNLINK in steps between deliveries ---- */
/* A pass over the keyspace of one Redis; the patterns are everybody's. Zero: none. */
typedef struct CaScan
{
	CaRedis *redis;
	bool running;
	bool waiting;   /* for an answer */
	bool last_page; /* the cursor came back as 0 */
	char cursor[24];
	StringInfoData page; /* keys that Redis returned */
	CaSlice *page_keys;
	Size page_count;
	Size page_looked;  /* at so many of them */
	Size page_matched; /* these are the first in page_keys */
	int page_reached;  /* how far the next of them was compared; 0: not at all */
	TimestampTz next_step;
	TimestampTz since; /* this pass */
	uint64 looked_at;  /* keys, in this pass */
	uint64 deleted;    /* keys, in this session */
	char failure[256];
	/* Called for each pattern of a pass that is over; NULL: nobody wants to know. */
	void (*served)(void *arg, const char *pattern, Size len);
	void *served_arg;
} CaScan;

/* Adds a pattern to the next pass over the keyspace; the ticket is done when that pass is. */
extern uint64 ca_scan_request(const char *pattern, Size len);
extern uint64 ca_scan_done(void); /* tickets at or below it are done */
extern void ca_scan_forget(void); /* all patterns, before a pass goes on anywhere */
extern void ca_scan_reset(CaScan *scan);
extern void ca_scan_step(CaScan *scan,
						 CaRedis *redis); /* sends the next SCAN or UNLINK, if one is due */
extern bool ca_scan_running(CaScan *scan);
extern bool ca_scan_deleted(const CaScan *scan);
extern bool ca_scan_full(void);           /* no room for what transactions ask for: later */
extern bool ca_scan_begins(CaScan *scan); /* the next step begins a pass: raise the floor first */
extern long ca_scan_timeout(CaScan *scan);
extern const char *ca_scan_error(CaScan *scan);

/* ---- visit_rules.c: the patterns of every database's rules ---- */
typedef enum CaVisitScope
{
	CA_VISIT_CENSUS,   /* is the extension there? */
	CA_VISIT_PREFIXES, /* nothing: what carries a new prefix; see ca_resync_widen */
	CA_VISIT_UNLOGGED, /* rules on unlogged tables */
	CA_VISIT_ALL       /* every rule and registered pattern */
} CaVisitScope;

extern void ca_visit_rules_begin(CaVisitScope scope);
extern bool ca_visit_rules_step(void (*found)(const char *pattern, Size len));
extern bool ca_visit_rules_stuck(void); /* what is left cannot be asked now; it is tried again */
extern void ca_visit_rules_cancel(void);

/* ---- resync.c: delete everything the rules could have produced ---- */
extern uint64 ca_resync_request(CaVisitScope scope, const char *reason); /* a ticket */
extern void
ca_resync_widen(const CaKeyspace *known); /* PREFIXES means those that it does not name */
extern uint64 ca_resync_done(void);       /* tickets at or below it are done */
extern bool ca_resync_running(void);
extern bool ca_resync_ended(void); /* one of everything, since this was asked last */
extern void ca_resync_step(void);
extern void ca_resync_interrupted(void); /* the session ended */

/* ---- census.c: is there any database that has the extension? ---- */
extern void ca_census_ask(void);
extern void ca_census_step(bool resync);
extern bool ca_census_running(void);
extern bool ca_census_counted(void); /* at least once */
extern bool ca_census_installed(void);
extern long ca_census_timeout(bool resync);
extern void ca_census_yield(void); /* a resync needs the survey now */

#endif
