/*
 * transaction.h: the open transaction's set, its way into the log, and what follows a commit.
 */
#ifndef CA_TRANSACTION_H
#define CA_TRANSACTION_H

#include "cache_aside.h"

/* ---- init.c: settings and start ---- */
extern void ca_transaction_init(void);

/* ---- pending.c: the open transaction's set ---- */
extern void ca_pending_init(void); /* registers the transaction callbacks, once per backend */
/*
 * Adds one entry (kinds below) to the open transaction's set. Errors: 25006 in a read-only
 * transaction or in recovery; out of memory or temp_file_limit. Copies `data`.
 */
extern void ca_pending_add(char kind, const char *data, Size len);
typedef void (*CaPendingHandler)(void *arg, const char *entry);
extern void ca_pending_each(CaPendingHandler handler, void *arg);

/* Moves on when the set is logged, and when the transaction ends; never 0. */
extern uint64 ca_pending_turn;
extern bool ca_pending_is_logged(void); /* what comes now is logged at once */
/* Called in pre-commit when the set was logged: may add more, and raise. Whoever wants it sets it in each transaction. */
extern void (*ca_pending_when_logged)(void);
/* There. If nothing was logged an empty message is, so that the worker knows that this transaction is open. */
extern void ca_pending_show_itself(void);

/* ---- replacing.c: its DDL that replaces what keys are worked out with ---- */
extern void ca_replacing_note(void);                   /* there is some */
extern void ca_replacing_before_commit_prepared(void); /* which may be of such a transaction */
extern char ca_replacing_flag(void);                   /* for its messages */
extern void ca_replacing_before_log(bool concerns_rules, bool prepares);
extern void ca_replacing_committed(void); /* neither allocates nor raises */
extern void ca_replacing_ended(void);     /* ... rolled back or prepared; likewise */
extern void ca_replacing_sent(void);      /* ... others have the invalidation messages; likewise */

/* ---- computed.c: keys worked out with what DDL may replace ---- */
extern void ca_computed_note_first(const char *pattern, uint64 *noted);

/* Before a rule works out keys: `noted` is the rule's own, 0 at first. */
static inline void
ca_computed_note(const char *pattern, uint64 *noted)
{
	if (*noted != ca_pending_turn)
		ca_computed_note_first(pattern, noted);
}

/* ---- entries.c: keys and patterns into it, once for each prefix ---- */
/* Add to the pending set, once per prefix. `what` begins the DETAIL of an error: 'Rule "x"'. */
extern void ca_entries_add_key(const char *key, Size len, const char *what);
extern void ca_entries_add_pattern(const char *pattern, Size len, const char *what);
extern void
ca_entries_add_rule_pattern(const char *pattern); /* UTF-8; never raises for what it is */

/* ---- seen.c: is an entry in its buffer already? ---- */
extern bool ca_seen_before(StringInfoData *buffer, uint32 offset, MemoryContext context);
extern void ca_seen_forget_from(const StringInfoData *buffer, uint32 offset);
extern void ca_seen_forget_all(void);
extern bool ca_seen_is_large(void); /* too large to outlive the transaction */
extern void ca_seen_is_gone(void);  /* with its memory */

/* ---- log_keys.c: shown as they come ---- */
extern int guc_log_keys; /* a level of ereport; 0: off */
extern const struct config_enum_entry ca_log_keys_levels[];
extern void ca_log_keys_show(char kind, const char *data, Size len);
extern void ca_log_keys_forget(void); /* the transaction is over; never raises */

/* ---- spill.c: its temporary file, once it outgrew memory ---- */
struct BufFile;
extern struct BufFile *ca_spill_create(void);
extern void ca_spill_seek(struct BufFile *file, int64 offset);
extern void ca_spill_read(struct BufFile *file, void *target, Size len);

/* ---- commit.c: right after a commit; nothing here raises ---- */
extern bool ca_commit_waits(void);           /* will this transaction wait for its delivery? */
extern void ca_commit_note_stick(bool wait); /* it leaves a stick */
extern void ca_commit_prepared(void);        /* it is prepared, and ends for this session */
extern void ca_commit_note_created(void);    /* CREATE EXTENSION runs */
extern void ca_commit_note_prepared(XLogRecPtr since); /* a COMMIT PREPARED ran */
extern void ca_commit_done(bool logged);               /* XACT_EVENT_COMMIT; did it log messages? */
extern void ca_commit_aborted(void);
extern void ca_commit_init(void); /* registers the resource release callback, once per backend */

/* ---- commit_token.c: the commit LSN as a ParameterStatus ---- */
extern bool guc_report_commit_lsn;
/* Tells the client, without blocking and without raising. Only where after_locks() calls it. */
extern void ca_commit_token_report(XLogRecPtr lsn);

#endif
