/*
 * worker.h: what only the worker process knows; its stages in flow order.
 *
 *	tap (WAL to committed transactions) -> delivery (queue, visibility, batches) -> redis
 *
 * session.c decides, at each connection, where delivery resumes (position.c) and what has to be
 * deleted wholesale first (resync.c); slot.c keeps the log that may be needed again. All of it runs
 * in one process and one thread; nothing here needs a lock except what status.c publishes.
 */
#ifndef CA_WORKER_H
#define CA_WORKER_H

#include "cache_aside.h"
#include "shared/sync.h"
#include "shared/trouble.h"

#include "lib/ilist.h"
#include "utils/snapshot.h"

/* ---- position.c: where delivery stands; stored in Redis beside the data it describes ---- */
typedef enum CaPositionState
{
	CA_POSITION_OK,       /* everything at or below confirmed is delivered */
	CA_POSITION_WIDENED,  /* but under prefixes that it does not name */
	CA_POSITION_UNLOGGED, /* unlogged tables are empty, what was cached from them is not gone yet */
	CA_POSITION_PENDING   /* a resync began and did not finish: begin again */
} CaPositionState;

/* ---- landmark.c: is this still the log that was read? ---- */
typedef struct CaLandmark
{
	XLogRecPtr start; /* of a record; 0: none is known */
	uint32 crc;       /* its own */
} CaLandmark;

typedef enum CaLandmarkState
{
	CA_LANDMARK_NONE, /* there is nothing to compare with */
	CA_LANDMARK_SAME,
	CA_LANDMARK_OTHER, /* another record, or none begins there: the log was rolled back, or rewritten */
	CA_LANDMARK_AHEAD, /* the log ends before it; a standby may not have replayed it again yet */
	CA_LANDMARK_GONE   /* that log was removed */
} CaLandmarkState;

extern CaLandmarkState ca_landmark_check(const CaLandmark *landmark);

typedef struct CaPosition
{
	TimeLineID timeline;
	XLogRecPtr confirmed; /* commits ending at or below it are delivered */
	XLogRecPtr restart;   /* reading resumes here, the start of a record */
	uint64 sequence;      /* grows with each write: no two positions are the same text */
	CaPositionState state;
	bool async;          /* asynchronous commits carried keys: a crash may have lost some */
	uint64 barrier;      /* full xid: transactions below it may have messages never read; 0: none */
	CaKeyspace keyspace; /* whose keys are deleted up to confirmed */
	XLogRecPtr seen;     /* log was read up to here, by whoever wrote it: no token is beyond */
	CaLandmark last;     /* the last record read */
	CaLandmark timed;    /* the last one with a time in it */
} CaPosition;

#define CA_POSITION_TEXT 320 /* bytes enough for any position and its NUL */

extern const char *ca_position_key(void); /* cache_aside:position:<system identifier> */
extern void ca_position_format(const CaPosition *position, char *text);
extern bool ca_position_parse(const char *text, Size len, CaPosition *position);
extern XLogRecPtr ca_position_keep(const CaPosition *position); /* log from here on is needed */

/* ---- wal.c: the server's own log ---- */
extern TimeLineID ca_wal_timeline(XLogRecPtr *end); /* now; end: flushed (standby: replayed) */
extern bool ca_wal_ends_before(XLogRecPtr lsn);
/* The redo point of the last checkpoint and the oldest full xid that began after it. */
extern XLogRecPtr ca_wal_last_checkpoint(uint64 *next_xid);
extern uint64 ca_wal_xid_after(TransactionId xid);
extern void ca_wal_finish_by(TimestampTz deadline); /* the server stops */
extern XLogRecPtr ca_wal_mark(void);                /* behind which new tokens lie */
extern XLogRecPtr ca_wal_end(uint64 *next_xid); /* and a full xid above any in a record before it */
extern XLogRecPtr ca_wal_inserted(void);

/* ---- tap.c: WAL to committed transactions ---- */
#define CA_BATCH_KEYS 512 /* Redis is held for less than a millisecond */

typedef struct CaCommit
{
	dlist_node node;
	TransactionId xid;       /* top level */
	XLogRecPtr start;        /* of the commit record; the commit is undelivered above it ... */
	XLogRecPtr end;          /* ... and is identified by its end */
	XLogRecPtr first;        /* start of the first message */
	XLogRecPtr last;         /* start of the last message */
	TimestampTz time;        /* of the commit, by the writer's clock */
	bool visible;            /* new snapshots see it */
	bool prepared;           /* a COMMIT PREPARED */
	bool async;              /* written under synchronous_commit = off */
	bool large;              /* entries are not here; read again from first to last */
	StringInfoData entries;  /* of its messages; data is NULL while there are none */
	TransactionId *children; /* subtransactions that logged messages, sorted */
	int nchildren;
	int children_room;
	const char *unread; /* why not all of it could be read, hence a resync; NULL: it could */
	/* delivery's place in it */
	bool begun;        /* the cursor is, or was, in entries */
	CaMessage cursor;  /* entries, or one message of a large commit */
	bool has_keys;     /* or patterns */
	bool has_prefixes; /* and says under which prefixes */
	bool sent;         /* every key was sent; only a scan or a resync may be missing */
	bool waits;        /* ... and is */
	uint64 others;     /* commits merged into it, see queue.c */
	uint64 scan;       /* ticket of the last scan for its patterns; 0: none */
	uint64 resync;     /* ticket of the resync it asked for; 0: none */
} CaCommit;

typedef enum CaTapResult
{
	CA_TAP_MORE,  /* stopped at the budget */
	CA_TAP_END,   /* everything flushed (standby: replayed) was read */
	CA_TAP_RETRY, /* a segment is missing for a moment (promotion): call again later */
	CA_TAP_GAP    /* the log needed is gone */
} CaTapResult;

typedef void (*CaCommitHandler)(void *arg, CaCommit *commit);

typedef struct CaTap CaTap;

/*
 * `barrier`: transactions below it may have messages that are not read; their commits are handed
 * over as unread ones. Invalid: there are none.
 */
extern CaTap *ca_tap_open(MemoryContext cxt, XLogRecPtr restart, XLogRecPtr confirmed,
						  TransactionId barrier);
extern void ca_tap_lift_barrier(CaTap *tap);
/* Notes what was read last, unless the position names something later. */
extern void ca_tap_mark(const CaTap *tap, CaPosition *position);
/* It had to forget open transactions since the last call: the barrier it raised, a full xid; else 0. */
extern uint64 ca_tap_forgot(CaTap *tap);
extern void ca_tap_close(CaTap *tap);
/* Reads about `budget` bytes; hands each message-carrying commit above confirmed to the handler. */
extern CaTapResult ca_tap_read(CaTap *tap, Size budget, CaCommitHandler handler, void *arg);
extern XLogRecPtr ca_tap_read_end(const CaTap *tap); /* end of the last complete record read */
/* First message of the oldest transaction still open or prepared; invalid if there is none. */
extern XLogRecPtr ca_tap_oldest_open(const CaTap *tap);
extern bool ca_tap_clean_switch(const CaTap *tap); /* the last change of timeline lost nothing */

/* ---- committed.c ---- */
extern void ca_committed_free(CaCommit *commit);

/* ---- reread.c ---- */
/* The messages of a large commit, read again from the log in steps. */
typedef enum CaRereadResult
{
	CA_REREAD_MESSAGE,
	CA_REREAD_END,
	CA_REREAD_LATER, /* none yet: call again, in another round */
	CA_REREAD_GONE   /* the log is gone */
} CaRereadResult;

typedef struct CaReread CaReread;
extern CaReread *ca_reread_open(MemoryContext cxt, const CaCommit *commit);
extern CaRereadResult ca_reread_next(CaReread *reread, CaMessage *message);
extern void ca_reread_close(CaReread *reread);

/* ---- queue.c: commits read and not completely sent; which of them are visible ---- */
extern void ca_queue_reset(void);
extern void ca_queue_add(void *unused, CaCommit *commit); /* a CaCommitHandler */
extern bool ca_queue_full(void);                          /* the tap should not read on */
extern bool ca_queue_waits(void);                         /* something is not visible yet */
extern bool ca_queue_async(void); /* an asynchronous commit was seen, ever */
extern CaCommit *ca_queue_oldest(void);
extern dlist_head *ca_queue_list(void);
extern XLogRecPtr ca_queue_first_message(void);
extern void ca_queue_take(CaCommit *commit); /* out of the queue, to the caller */
extern void ca_queue_wait(CaCommit *commit); /* for its tickets; it may be merged into another */
extern XLogRecPtr ca_queue_look(XLogRecPtr read_end, TimeLineID timeline,
								TransactionId *oldest_running);
extern void ca_queue_discard_visible(void);
extern bool ca_queue_owes(dlist_head *list, const CaAwaited *awaited);

/* ---- delivery.c: batches to Redis, acknowledgement, position ---- */
extern void ca_delivery_reset(void); /* forgets everything queued; the log has it */
extern void ca_delivery_start(CaTap *tap, CaRedis *redis, const CaPosition *position,
							  const char *stored);
extern TimestampTz ca_delivery_oldest(void); /* commit time of what is not acknowledged; 0: none */
extern bool ca_delivery_idle(void);          /* nothing queued, nothing unanswered */
extern bool ca_delivery_unanswered(void);
/* Is there something unacknowledged of it? Everything up to its LSN has been read. */
extern bool ca_delivery_owes(const CaAwaited *awaited);
extern void ca_delivery_mark(CaPositionState state, uint64 barrier);
extern void ca_delivery_cover(const CaKeyspace *keyspace); /* the next position speaks for it */
extern void ca_delivery_raise_barrier(uint64 barrier);
extern uint64 ca_delivery_barrier(void); /* of the position as the next batch writes it */
extern void ca_delivery_raise_floor(bool clear);
extern void ca_delivery_arm(XLogRecPtr caught_up_to); /* unless it is, or was asked to be */
extern int ca_delivery_send(void);
extern void ca_delivery_renew(void); /* the arming */
extern bool ca_delivery_tell(void);  /* those who wait; true: call again at once */
extern void ca_delivery_heartbeat(bool now);
extern const char *ca_delivery_error(void);          /* what stopped the session, or NULL */
extern const CaPosition *ca_delivery_position(void); /* as last acknowledged by Redis */

/* ---- apply.c: the one atomic call per batch ---- */
typedef struct CaBatch
{
	dlist_node node;
	CaPosition position;  /* as it is once Redis has applied the batch */
	dlist_head done;      /* commits that are delivered with it */
	XLogRecPtr lsn;       /* highest commit among its keys; 0: no keys */
	StringInfoData bytes; /* keys and stick names, one behind the other */
	bool async;           /* asynchronous commits carried keys before it */
	int nkeys;
	int nsticks;
	CaSlice keys[CA_BATCH_KEYS];
	CaStick sticks[CA_BATCH_STICKS];
} CaBatch;

extern void ca_apply_use_functions(void);
extern void ca_apply_use_plain(CaRedis *redis); /* Redis before 7 */
extern bool ca_apply_guarded(void);             /* is there a guard to raise? */
extern bool ca_apply_has_functions(void);       /* and so claims, whether there is a guard or not */
/* `expected`: text of the position Redis must hold, empty for none. */
extern void ca_apply_send(CaRedis *redis, CaBatch *batch, const char *expected,
						  CaReplyHandler handler);
extern bool ca_apply_read(const CaReply *reply, CaApplied *applied);

/* ---- arming.c: how long fills are admitted, and who may be told ---- */
extern void ca_arming_claimed(const CaClaim *claim); /* a claim was answered */
extern void ca_arming_answered(const CaArming *answer);
/* Of another system's deletions: how many were heard of; `above` all tokens given before. */
extern int64 ca_arming_heard(XLogRecPtr read_end, XLogRecPtr *above);
extern const char *ca_arming_previous(void); /* nonce of the claim before; "" */
extern int64 ca_arming_until(void);          /* ms, of Redis's clock */
extern long ca_arming_timeout(void);
extern bool ca_arming_renewal_due(XLogRecPtr read_end);
extern bool ca_arming_untold(void); /* another process may still be armed: tell nobody */

/* ---- stick.c: sticks that Redis may have lost ---- */

/* ---- contest.c: who else wants this Redis ---- */
extern void ca_contest_attach(void);
extern bool ca_contest_step(void); /* true: claim anew */
extern const char *ca_contest_force(void);
extern void ca_contest_claimed(CaRole role);
extern void ca_contest_renewed(const CaArming *answer);
extern bool ca_contest_second(void); /* another system's fills are admitted */
extern bool ca_contest_watch(const char *stored);

/* ---- announce.c: a standby that streams says so ---- */
extern const char *ca_announce_key(void);
extern void ca_announce_step(CaRedis *redis);

/* ---- batch.c: entries of visible commits, as many as fit ---- */
extern CaBatch *ca_batch_make(void);
/* `async`: the position says that asynchronous commits carried keys. */
extern bool ca_batch_fill(CaBatch *batch, bool async);
extern void ca_batch_free(CaBatch *batch); /* with the commits it completes */
extern bool ca_batch_unfinished(void);     /* more of a large commit can be read at once */
extern void ca_batch_reset(void);

/* ---- lost_sticks.c: sticks that Redis forgot ---- */
extern void ca_lost_sticks_begin(bool absent, XLogRecPtr end);
extern void ca_lost_sticks_settle(bool delivered);
extern XLogRecPtr ca_lost_sticks_forgotten(uint32 *ttl);

/* ---- scan.c: patterns; SCAN and UNLINK in steps between deliveries ---- */
/* Adds a pattern to the next pass over the keyspace; the ticket is done when that pass is. */
extern uint64 ca_scan_request(const char *pattern, Size len);
extern uint64 ca_scan_done(void); /* tickets at or below it are done */
extern void ca_scan_reset(void);
extern void ca_scan_step(CaRedis *redis); /* sends the next SCAN or UNLINK, if one is due */
extern bool ca_scan_running(void);
extern bool ca_scan_full(void);   /* no room for what transactions ask for: later */
extern bool ca_scan_begins(void); /* the next step begins a pass: raise the floor first */
extern long ca_scan_timeout(void);
extern const char *ca_scan_error(void);

/* ---- survey.c: the patterns of every database's rules ---- */
typedef enum CaSurveyScope
{
	CA_SURVEY_CENSUS,   /* is the extension there? */
	CA_SURVEY_PREFIXES, /* nothing: what carries a new prefix; see ca_resync_widen */
	CA_SURVEY_UNLOGGED, /* rules on unlogged tables */
	CA_SURVEY_ALL       /* every rule and registered pattern */
} CaSurveyScope;

extern void ca_survey_begin(CaSurveyScope scope);
extern bool ca_survey_step(void (*found)(const char *pattern, Size len));
extern bool ca_survey_stuck(void); /* what is left cannot be asked now; it is tried again */
extern void ca_survey_cancel(void);

/* ---- resync.c: delete everything the rules could have produced ---- */
extern uint64 ca_resync_request(CaSurveyScope scope, const char *reason); /* a ticket */
extern void
ca_resync_widen(const CaKeyspace *known); /* PREFIXES means those that it does not name */
extern uint64 ca_resync_done(void);       /* tickets at or below it are done */
extern bool ca_resync_running(void);
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

/* ---- follow.c: a standby that does not deliver ---- */
extern bool ca_follow_step(void);
extern void ca_follow_close(void);
extern void ca_follow_reconnect(void);
extern CaRedis *ca_follow_redis(void);

/* ---- claim.c: who is this Redis, and what does it hold? ---- */
typedef struct CaClaimed
{
	char stored[CA_POSITION_TEXT]; /* text of the position; empty: absent */
	bool nonsense;                 /* something that cannot be one */
	bool forced;                   /* an operator decided for this server */
	CaRole role;
	bool guard_known; /* the guard in these data is as this server left it there */
	int database;
	char run_id[48];         /* of the Redis process, */
	char replication_id[48]; /* and of the history of its data */
} CaClaimed;

typedef enum CaClaimState
{
	CA_CLAIM_WAITING,
	CA_CLAIM_DONE,
	CA_CLAIM_FENCED,   /* a server of a newer timeline delivers here */
	CA_CLAIM_OCCUPIED, /* another one that lives: ca_claim_error tells which */
	CA_CLAIM_FAILED
} CaClaimState;

extern void ca_claim_begin(CaRedis *redis);
extern CaClaimState ca_claim_step(void);
extern const char *ca_claim_error(void);
extern CaClaimed *ca_claim_result(void);
extern void ca_claim_drop_nonsense(void);

/* ---- resume.c: where a session goes on ---- */
typedef struct CaResume
{
	CaPosition found; /* as Redis holds it, or held it; all zero: it does not */
	CaPosition position;
	CaKeyspace keyspace;  /* as the settings have it */
	bool unverified;      /* what it says of the log is to be compared when that is replayed */
	const char *reason;   /* why a resync is needed; NULL: it is not */
	CaSurveyScope scope;  /* of what */
	bool unless_clean;    /* ... of unlogged tables only if the old primary was shut down cleanly */
	bool after_promotion; /* the position is of an older timeline */
	bool fenced;          /* it is of a newer one: touch nothing */
	bool nonsense;        /* what is stored is no position and has to go */
} CaResume;

extern void ca_resume_remember(const CaClaimed *claimed, const CaPosition *position);
extern void ca_resume_choose(CaResume *resume, const CaClaimed *claimed, bool log_gone);
extern void ca_resume_skip(CaResume *resume);
extern CaPositionState ca_resume_state(const CaResume *resume); /* until that resync has ended */
/* On a standby, which had to replay it again: is the log that the position names the same by now? */
extern bool ca_resume_verified(CaResume *resume, bool *log_gone);

/* ---- barrier.c: transactions that were open where reading began ---- */
extern void ca_barrier_begin(const CaPosition *position);
extern void ca_barrier_raise(uint64 xid);
extern void ca_barrier_resync_begins(TransactionId oldest_running);
extern bool ca_barrier_passed(XLogRecPtr read_end, TransactionId oldest_running, bool *resync);

/* ---- prepared.c: which prepared transactions have messages? ---- */
extern void ca_prepared_look(bool any);
extern bool ca_prepared_is_harmless(TransactionId xid);
extern TransactionId ca_prepared_oldest(Snapshot snapshot);

/* ---- breaker.c: log that ends the worker again and again is skipped ---- */
extern void ca_breaker_attach(void);   /* the worker begins ... */
extern bool ca_breaker_suspects(void); /* of the log: it was not the only worker that died */
extern void ca_breaker_leave(void);    /* and ends in order */
extern long ca_breaker_pause(void);    /* ms that it is to wait before it does anything */
extern void ca_breaker_end_pause(void);
extern void ca_breaker_duty(bool reads);
extern void ca_breaker_lives(bool session); /* is there one? */
extern void ca_breaker_forget(void);
/* Reading begins at this place; true: skip the log there. */
/* Nonce of this server's last claim of a Redis, or ""; `never`: there was none. */
extern const char *ca_breaker_claimed(TimeLineID timeline, bool *never);
extern void ca_breaker_note_claim(const char *nonce, TimeLineID timeline);
extern bool ca_breaker_begin(const CaPosition *place, uint64 sequence);
extern XLogRecPtr ca_breaker_skip(XLogRecPtr from, uint64 *barrier);
extern void ca_breaker_reads(XLogRecPtr limit);
extern void ca_breaker_progress(const CaPosition *acked, bool delivered, bool due);
extern void ca_breaker_gap(void);
extern void ca_breaker_end(void);
extern void ca_breaker_died(void); /* reading was ended by an error, the process goes on */

/* ---- outage.c: Redis cannot be delivered to ---- */
extern int ca_outage_begin(const char *reason); /* returns ms until the next attempt */
extern void ca_outage_fenced(void);             /* another server delivers, rightly */
extern void ca_outage_refused(const char *why); /* ... or because it was first */
extern bool ca_outage_lasts(void);
extern void ca_outage_end(void);
/* No Redis was named: do not connect. */
extern bool ca_outage_misconfigured(CaTroubleArea area);

/* ---- lag.c: the oldest commit that is not delivered ---- */
extern bool ca_lag_look(void);
extern void ca_lag_note(bool caught_up);
extern void ca_lag_publish(XLogRecPtr read_end, XLogRecPtr visible, XLogRecPtr caught_up_to);
extern void ca_lag_forget(void);

/* ---- session.c: one connection to Redis, from opening it to its end ---- */
extern bool ca_session_step(void);   /* true: there is more to do at once */
extern void ca_session_listen(void); /* answers only */
extern void ca_session_close(void);
extern bool ca_session_settled(void); /* everything flushed so far is delivered */
extern bool ca_session_running(void);
extern CaRedis *ca_session_redis(void);
extern long ca_session_timeout(void); /* ms until ca_session_step has something to do */

/* ---- farewell.c: the last words to a Redis that is left ---- */
extern bool ca_farewell_said(CaRedis *redis, bool remove);
extern bool ca_farewell_lasts(void);
extern const char *ca_farewell_left(void); /* "": nothing */

/* ---- ping.c: round trips that backends ask for ---- */
extern void ca_ping_send(CaRedis *redis); /* if one was asked for */
extern void ca_ping_refuse(void);         /* there is nobody to ask */

/* ---- duty.c: deliver, follow, or nothing ---- */
extern bool ca_duty_step(void);
extern void ca_duty_reconnect(void); /* to the Redis that the settings name by now */
extern void ca_duty_abandon(const char *what);
extern CaRedis *ca_duty_redis(void);
extern long ca_duty_timeout(void);

/* ---- slot.c: the log that may be needed again ---- */
extern void ca_slot_keep(XLogRecPtr restart); /* call about once a second */
extern void ca_slot_forget(void);             /* drops it */

#endif
