/*
 * delivery.h: from committed transactions to acknowledged deletes.
 */
#ifndef CA_DELIVERY_H
#define CA_DELIVERY_H

#include "cache_aside.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "shared/sync.h"
#include "shared/trouble.h"
#include "log/log.h"
#include "resync/resync.h"

#include "lib/ilist.h"

typedef struct CaSink CaSink; /* sink.h */

/* ---- init.c: settings and start ---- */
typedef enum CaDeliveryMode
{
	CA_DELIVER_PRIMARY, /* only when not in recovery; a standby follows */
	CA_DELIVER_ALWAYS,  /* a standby too, into its own Redis, after replay */
	CA_DELIVER_OFF
} CaDeliveryMode;

typedef enum CaResyncPolicy
{
	CA_RESYNC_AUTO,
	CA_RESYNC_ALWAYS,
	CA_RESYNC_NEVER
} CaResyncPolicy;

extern int guc_delivery;            /* CaDeliveryMode */
extern int guc_resync_on_promotion; /* CaResyncPolicy */
extern bool guc_guard;              /* keep the guard that admits guarded fills */

typedef enum CaEventsMode
{
	CA_EVENTS_OFF,
	CA_EVENTS_PUBLISH,
	CA_EVENTS_STREAM
} CaEventsMode;

extern int guc_events;               /* CaEventsMode: how others are told of deletions */
extern int guc_events_stream_length; /* entries */
extern void ca_delivery_init(void);

/* ---- function_library.c: what runs inside Redis ---- */
extern const char ca_function_library_plain[]; /* apply_plain.lua */
/* Two commands, either of which may answer that a name exists. `older`: one of ours is there. */
extern void ca_function_library_load(CaRedis *redis, bool older, CaReplyHandler handler, void *arg);

/* ---- guard.c: the worker's calls of the function library in Redis; see library/interface.lua ---- */
#define CA_BATCH_STICKS 64   /* most in one call */
#define CA_GUARD_PRECISE 128 /* keys; a larger batch is always coarse */

typedef struct CaStick
{
	Size offset; /* of the whole Redis key */
	Size len;
	uint32 ttl; /* ms */
	XLogRecPtr lsn;
} CaStick;

/* What others are told of a batch; see events.c. */
typedef struct CaEvent
{
	char how[16]; /* as the library wants it */
	StringInfoData text;
} CaEvent;

typedef struct CaGuardBatch
{
	const char *bytes; /* where keys and sticks point into */
	const CaSlice *keys;
	int nkeys;
	const CaStick *sticks;
	int nsticks;
	XLogRecPtr lsn; /* highest commit among the keys; invalid: guard = off, the guard is deleted */
	const CaEvent *event; /* NULL: none */
	bool coarse; /* a backlog: cheaper for Redis, refuses more fills of readers behind it */
} CaGuardBatch;

/* Of this system among those that write the same keys. */
typedef enum CaRole
{
	CA_ROLE_SECOND, /* another one's fills are admitted */
	CA_ROLE_WRITER,
	CA_ROLE_TAKEN /* a claim: from now on; a renewal: if it claims again */
} CaRole;

typedef struct CaClaimCall
{
	TimeLineID timeline;
	const char *previous;       /* nonce of the claim before, or "" */
	const char *scope;          /* number of the database */
	const char *announcement;   /* key */
	const char *const *writers; /* keys, by prefix */
	int nwriters;
	const char *force;  /* see the library */
	const char *server; /* 16 bytes */
} CaClaimCall;

/* An answer of arm or renew. */
typedef struct CaArming
{
	bool admits;   /* the guard is there, as it was made */
	int64 now;     /* Redis's time, ms */
	bool renewed;  /* the rest is known: */
	int64 refused; /* newcomers */
	int64 foreign; /* deletions of another system */
	CaRole role;
} CaArming;

typedef struct CaClaim
{
	bool older; /* than ours is this library: load ours and claim again */
	int64 revision;
	bool found; /* there is a position; its text, valid as long as the reply: */
	const char *position;
	Size position_len;
	TimeLineID guard_timeline; /* 0: there is no guard */
	bool same;                 /* it was claimed last with the nonce before */
	int64 now;                 /* Redis's time, ms */
	CaRole role;
	bool guard_known; /* the guard is as it was left there, by a claim of this scope */
} CaClaim;

typedef struct CaApplied
{
	int64 deleted;
	int64 failed_sticks; /* keys of a wrong type */
	char unheard[128];   /* why its event was not told, if it was only tried; empty: it was */
	bool guarded;        /* false: the guard is gone; arm again, with E */
} CaApplied;

typedef enum CaGuardProblem
{
	CA_GUARD_NO_PROBLEM,
	CA_GUARD_NOT_LOADED,  /* ca_function_library_load, then again */
	CA_GUARD_UNSUPPORTED, /* Redis before 7, or forbidden: send ca_function_library_plain by EVAL */
	CA_GUARD_FENCED,      /* a server of a newer timeline delivers here: touch nothing */
	CA_GUARD_OCCUPIED,    /* the claim is another's, who lives */
	CA_GUARD_CONNECT_AGAIN, /* this Redis is not what it was, or the position is another */
	CA_GUARD_OTHER          /* OOM, READONLY, ...: Redis's own */
} CaGuardProblem;

extern const char *ca_guard_key(void); /* cache_aside:guard:<system identifier> */
extern const char *ca_guard_events_key(void);
/* Each queues one command; `expected` is the position's text that Redis must hold, "" for none. */
/* With a new nonce. */
extern void ca_guard_claim(CaSink *sink, CaRedis *redis, const CaClaimCall *what,
						   CaReplyHandler handler, void *arg);
extern const char *ca_guard_nonce(CaSink *sink);
extern void ca_guard_epoch(CaSink *sink, CaRedis *redis, const char *expected, const char *position,
						   XLogRecPtr floor, bool clear, CaReplyHandler handler, void *arg);
/* `until`: Redis's time at which it ends, ms */
extern void ca_guard_arm(CaSink *sink, CaRedis *redis, const char *expected, XLogRecPtr floor,
						 int64 until, CaReplyHandler handler, void *arg);
/* `heard`: of deletions of another system; `above` all tokens given before that; 0: of none */
extern void ca_guard_renew(CaSink *sink, CaRedis *redis, int64 until, int64 heard, XLogRecPtr above,
						   CaReplyHandler handler, void *arg);
/* The claim is given up: no fill is admitted from here on. `remove`: with position and guard. */
extern void ca_guard_disarm(const char *nonce, CaRedis *redis, bool remove, CaReplyHandler handler,
							void *arg);
extern void ca_guard_apply(CaSink *sink, CaRedis *redis, const CaGuardBatch *batch,
						   const char *expected, const char *position, CaReplyHandler handler,
						   void *arg);
/* false: not the answer of such a call (see ca_guard_problem) */
extern bool ca_guard_read_claim(const CaReply *reply, CaClaim *claim);
extern bool ca_guard_read_apply(const CaReply *reply, CaApplied *applied);
/* Of either dialect: the element, if it is there */
extern void ca_guard_read_unheard(const CaReply *reply, Size i, CaApplied *applied);
extern bool ca_guard_read_arming(const CaReply *reply, CaArming *answer);
/* `ours`: it was our claim; `others`: claims that are alive in the library. */
extern bool ca_guard_read_disarm(const CaReply *reply, bool *ours, int64 *others);
extern CaGuardProblem ca_guard_problem(const CaReply *reply);

/* ---- queue.c: commits read and not completely sent; which of them are visible ---- */
extern void ca_queue_reset(void);
extern void ca_queue_add(void *unused, CaCommit *commit); /* a CaCommitHandler */
extern uint64 ca_queue_commits(void);                     /* added by this process, ever */
extern bool ca_queue_full(void);                          /* the tap should not read on */
extern bool ca_queue_waits(void);                         /* something is not visible yet */
extern bool ca_queue_async(void); /* an asynchronous commit was seen, ever */
extern CaCommit *ca_queue_oldest(void);
extern dlist_head *ca_queue_list(void);
extern XLogRecPtr ca_queue_first_message(void);
extern void ca_queue_take(CaCommit *commit);  /* out of the queue, to the caller */
extern void ca_queue_wait(CaCommit *commit);  /* for its tickets; it may be merged into another */
extern void ca_queue_block(CaCommit *commit); /* for room for its next pattern; likewise */
extern void ca_queue_unblock(CaCommit *commit);
extern XLogRecPtr ca_queue_look(XLogRecPtr read_end, TimeLineID timeline,
								TransactionId *oldest_running);
extern void ca_queue_discard_visible(void);
extern bool ca_queue_owes(dlist_head *list, const CaAwaited *awaited);

/* ---- apply.c: the one atomic call per batch ---- */
typedef struct CaBatch
{
	dlist_node node;
	CaSink *sink;         /* where it goes */
	CaPosition position;  /* as it is once Redis has applied the batch */
	dlist_head done;      /* commits that are delivered with it */
	XLogRecPtr lsn;       /* highest commit among its keys; 0: no keys */
	StringInfoData bytes; /* keys and stick names, one behind the other */
	bool async;           /* asynchronous commits carried keys before it */
	uint64 wait;          /* number of the WAIT behind it, see replicas.c */
	CaEvent *event;       /* NULL: none */
	bool probe;           /* its event is only tried */
	Size notes;           /* bytes of the sink's notes that are in its event */
	int most;             /* bytes of keys, at which it is full */
	int nkeys;
	int nsticks;
	CaSlice keys[CA_BATCH_KEYS];
	CaStick sticks[CA_BATCH_STICKS];
} CaBatch;

extern void ca_apply_use_functions(CaSink *sink);
extern void ca_apply_use_plain(CaSink *sink, CaRedis *redis); /* Redis before 7 */
extern bool ca_apply_guarded(CaSink *sink);                   /* is there a guard to raise? */
extern bool
ca_apply_has_functions(CaSink *sink); /* and so claims, whether there is a guard or not */
/* `expected`: text of the position Redis must hold, empty for none; `position`: that of the batch. */
extern void ca_apply_send(CaSink *sink, CaRedis *redis, CaBatch *batch, const char *expected,
						  const char *position, CaReplyHandler handler);
extern bool ca_apply_read(CaSink *sink, const CaReply *reply, CaApplied *applied);

/* ---- ledger.c: what one Redis was sent and has acknowledged ---- */
/* What needs to know how far the log is read gets the tap that reads it. */
extern void ca_ledger_reset(CaSink *sink); /* forgets everything sent; the log has it */
extern void ca_ledger_start(CaSink *sink, CaRedis *redis, const CaPosition *position,
							const char *stored);
extern CaRedis *ca_ledger_redis(CaSink *sink);
extern void ca_ledger_fail(CaSink *sink, const char *reason);
extern const char *ca_ledger_error(CaSink *sink); /* what stopped the session, or NULL */
extern bool ca_ledger_take_answer(CaSink *sink, const CaReply *reply);
extern bool ca_ledger_idle(CaSink *sink); /* nothing queued, nothing unanswered */
extern bool ca_ledger_began(CaSink *sink);
extern int ca_ledger_in_flight(CaSink *sink); /* batches without an answer */
extern bool ca_ledger_completes(CaSink *sink);
extern bool ca_ledger_owes(CaSink *sink, const CaAwaited *awaited);
/* Commit time of what is not acknowledged; 0: none */
extern TimestampTz ca_ledger_oldest(CaSink *sink);
extern const CaPosition *ca_ledger_acked(CaSink *sink);
extern const CaPosition *ca_ledger_sent(CaSink *sink);
extern void ca_ledger_mark(CaSink *sink, CaPositionState state, uint64 barrier);
/* The next position speaks for it. */
extern void ca_ledger_cover(CaSink *sink, const CaKeyspace *keyspace);
extern void ca_ledger_raise_barrier(CaSink *sink, uint64 barrier);
extern uint64 ca_ledger_barrier(CaSink *sink); /* of the position as the next batch writes it */
extern void ca_ledger_collect(CaSink *sink);
extern void ca_ledger_next(CaSink *sink, const CaTap *tap, CaPosition *position);
extern bool ca_ledger_due(CaSink *sink, const CaTap *tap, bool now);
extern const char *ca_ledger_expected(CaSink *sink);
/* `formatted`: the position */
extern void ca_ledger_expect(CaSink *sink, const CaPosition *position, const char *formatted);
extern void ca_ledger_enter(CaSink *sink, const CaTap *tap, CaBatch *batch);
extern void ca_ledger_note_sent(CaSink *sink, const CaBatch *batch, const char *position);
extern void ca_ledger_leave(CaSink *sink, CaBatch *batch);
extern void ca_ledger_acknowledge(CaSink *sink, const CaBatch *batch);

/* ---- delivery.c: batches to Redis, and their acknowledgement ---- */
extern void ca_delivery_start(CaSink *sink, CaRedis *redis, const CaPosition *position,
							  const char *stored);
extern bool ca_delivery_send(CaSink *sink, const CaTap *tap);
extern bool ca_delivery_full(CaSink *sink); /* no batch can be sent before an answer */
/* The position alone, if it is due */
extern void ca_delivery_heartbeat(CaSink *sink, const CaTap *tap, bool now);
/* Tells how far everything is delivered. False: nobody is to be told of what is delivered. */
extern bool ca_delivery_tells(CaSink *sink);

/* ---- events.c: others are told of deletions ---- */
/* A session, from a position that has this mark */
extern void ca_events_begin(CaSink *sink, const CaEventMark *mark);
extern const CaEventMark *ca_events_mark(CaSink *sink); /* as the next position has it */
extern bool ca_events_step(CaSink *sink);               /* true: send nothing but a probe */
extern bool ca_events_probe(CaSink *sink); /* is one to be sent? Then it is taken for sent. */
/* Redis deleted it, but not by a batch: `kind` as in the log, CA_ENTRY_RESYNC for everything. */
extern void ca_events_note(CaSink *sink, char kind, const char *data, Size len);
extern void ca_events_note_pattern(void *sink, const char *pattern, Size len);
extern bool ca_events_unsent(CaSink *sink);               /* something of it is in no batch yet */
extern bool ca_events_full(CaSink *sink);                 /* note no more, if it can wait */
extern void ca_events_take(CaSink *sink, CaBatch *batch); /* as much of it as fits */
extern void ca_events_compose(CaSink *sink, const CaTap *tap, CaBatch *batch);
extern void ca_events_answered(CaSink *sink, const CaBatch *batch, const CaApplied *applied);
extern void ca_events_judge(CaSink *sink, const CaReply *reply); /* is it an error about events? */
extern void ca_events_session_ended(CaSink *sink);
extern long ca_events_timeout(CaSink *sink);

/* ---- admission.c: when fills are admitted ---- */
extern void ca_admission_start(CaSink *sink);
extern void ca_admission_lost(CaSink *sink);
extern void ca_admission_raise_floor(CaSink *sink, const CaTap *tap, bool clear);
/* Unless it is, or was asked to be. */
extern void ca_admission_arm(CaSink *sink, XLogRecPtr caught_up_to, XLogRecPtr read_end);
extern void ca_admission_renew(CaSink *sink, XLogRecPtr read_end); /* the arming */

/* ---- arming.c: how long fills are admitted, and who may be told ---- */
extern void ca_arming_claimed(CaSink *sink, const CaClaim *claim); /* a claim was answered */
extern void ca_arming_answered(CaSink *sink, const CaArming *answer);
/* Of another system's deletions: how many were heard of; `above` all tokens given before. */
extern int64 ca_arming_heard(CaSink *sink, XLogRecPtr read_end, XLogRecPtr *above);
extern const char *ca_arming_previous(void); /* nonce of the claim before; "" */
extern int64 ca_arming_extend(CaSink *sink); /* until: ms, of Redis's clock */
extern bool ca_arming_other(CaSink *sink);
extern void ca_arming_given_up(CaSink *sink, const char *nonce);
extern long ca_arming_timeout(CaSink *sink);
extern bool ca_arming_renewal_due(CaSink *sink, XLogRecPtr read_end);
extern bool ca_arming_untold(CaSink *sink); /* another process may still be armed: tell nobody */

/* ---- contest.c: who else wants this Redis ---- */
extern void ca_contest_attach(CaSink *sink);
extern bool ca_contest_step(CaSink *sink); /* true: claim anew */
extern const char *ca_contest_force(CaSink *sink);
extern void ca_contest_claimed(CaSink *sink, CaRole role);
extern void ca_contest_renewed(CaSink *sink, const CaArming *answer);
extern bool ca_contest_second(CaSink *sink); /* another system's fills are admitted */
extern bool ca_contest_watch(CaSink *sink, const char *stored);

/* ---- announce.c: a standby that streams says so ---- */
extern const char *ca_announce_key(void);
extern void ca_announce_step(CaSink *sink, CaRedis *redis);

/* ---- batch.c: entries of visible commits, as many as fit ---- */
extern CaBatch *ca_batch_make(CaSink *sink);
/* `async`: the position says that asynchronous commits carried keys. */
extern bool ca_batch_fill(CaBatch *batch, bool async);
extern void ca_batch_free(CaBatch *batch); /* with the commits it completes */
extern bool ca_batch_unfinished(void);     /* more of a large commit can be read at once */
extern void ca_batch_reset(void);

/* ---- lost_sticks.c: sticks that Redis forgot, or has no place for ---- */
extern void ca_lost_sticks_begin(CaSink *sink, bool absent, XLogRecPtr end);
extern void ca_lost_sticks_settle(bool delivered);
extern void ca_lost_sticks_unsettle(void); /* the session ends */
extern XLogRecPtr ca_lost_sticks_forgotten(CaSink *sink, uint32 *ttl);
extern void ca_lost_sticks_skipped(CaSink *sink, int64 count); /* of a batch that was applied */

/* ---- handshake.c: who is this Redis, and what does it hold? ---- */
typedef struct CaHandshake
{
	char stored[CA_POSITION_TEXT]; /* text of the position; empty: absent */
	bool nonsense;                 /* something that cannot be one */
	bool forced;                   /* an operator decided for this server */
	CaRole role;
	bool guard_known; /* the guard in these data is as this server left it there */
	int database;
	char run_id[48];         /* of the Redis process, */
	char replication_id[48]; /* and of the history of its data */
} CaHandshake;

typedef enum CaHandshakeState
{
	CA_HANDSHAKE_WAITING,
	CA_HANDSHAKE_DONE,
	CA_HANDSHAKE_FENCED,   /* a server of a newer timeline delivers here */
	CA_HANDSHAKE_OCCUPIED, /* another one that lives: ca_handshake_error tells which */
	CA_HANDSHAKE_FAILED
} CaHandshakeState;

extern void ca_handshake_begin(CaSink *sink, CaRedis *redis);
extern CaHandshakeState ca_handshake_step(CaSink *sink);
extern const char *ca_handshake_error(CaSink *sink);
extern CaHandshake *ca_handshake_result(CaSink *sink);
extern void ca_handshake_drop_nonsense(CaSink *sink);

/* ---- resume.c: where a session goes on ---- */
typedef struct CaResume
{
	CaPosition found; /* as Redis holds it, or held it; all zero: it does not */
	CaPosition position;
	CaKeyspace keyspace;  /* as the settings have it */
	bool unverified;      /* what it says of the log is to be compared when that is replayed */
	const char *reason;   /* why a resync is needed; NULL: it is not */
	CaVisitScope scope;   /* of what */
	bool unless_clean;    /* ... of unlogged tables only if the old primary was shut down cleanly */
	bool after_promotion; /* the position is of an older timeline */
	bool fenced;          /* it is of a newer one: touch nothing */
	bool nonsense;        /* what is stored is no position and has to go */
} CaResume;

extern void ca_resume_remember(CaSink *sink, const CaHandshake *claimed,
							   const CaPosition *position);
extern void ca_resume_choose(CaSink *sink, CaResume *resume, const CaHandshake *claimed,
							 bool log_gone);
extern void ca_resume_skip(CaResume *resume);
extern CaPositionState ca_resume_state(const CaResume *resume); /* until that resync has ended */
/* On a standby, which had to replay it again: is the log that the position names the same by now? */
extern bool ca_resume_verified(CaResume *resume, bool *log_gone);

/* ---- open_at_start.c: transactions that were open where reading began ---- */
extern void ca_open_at_start_begin(const CaPosition *position);
/* `barrier`: as the next position has it */
extern void ca_open_at_start_raised(void);
extern void ca_open_at_start_resync_begins(uint64 barrier, TransactionId oldest_running);
extern bool ca_open_at_start_passed(uint64 barrier, XLogRecPtr read_end,
									TransactionId oldest_running, bool *resync);

/* ---- outage.c: Redis cannot be delivered to ---- */
extern int ca_outage_begin(CaSink *sink,
						   const char *reason); /* returns ms until the next attempt */
extern void ca_outage_fenced(CaSink *sink);     /* another server delivers, rightly */
extern void ca_outage_refused(CaSink *sink, const char *why); /* ... or because it was first */
extern bool ca_outage_lasts(void);
extern void ca_outage_end(CaSink *sink);

/* ---- lag.c: the oldest commit that is not delivered ---- */
typedef struct CaLagRound
{
	const CaPosition *position; /* as acknowledged */
	TimestampTz oldest;         /* commit time of what is read and not delivered; 0: nothing is */
	bool idle;                  /* all is */
	bool untold;                /* but nobody may be told */
	XLogRecPtr read_end;
	XLogRecPtr visible;
	XLogRecPtr
		caught_up_to; /* end of what was in the log when reading began; 0: it is not read yet */
} CaLagRound;

extern void ca_lag_attach(void);
extern bool ca_lag_look(void);
extern bool ca_lag_watches(void); /* without a run: is the first commit with keys still to come? */
extern void ca_lag_note(TimestampTz oldest, bool caught_up);
extern void ca_lag_publish(const CaLagRound *round);
extern void ca_lag_forget(void);
extern void ca_lag_follow_log(XLogRecPtr read_end, XLogRecPtr visible);
extern void ca_lag_follow_position(TimeLineID timeline, XLogRecPtr confirmed, XLogRecPtr restart,
								   XLogRecPtr keep);
extern XLogRecPtr ca_lag_keep(void);

/* ---- session.c: one connection to Redis, from opening it to its end ---- */
extern void ca_session_step(CaSink *sink);    /* connects and claims */
extern bool ca_session_rests(CaSink *sink);   /* there is no connection, nor is one due */
extern bool ca_session_waits(CaSink *sink);   /* there is no connection */
extern bool ca_session_claimed(CaSink *sink); /* it may be run: */
/* From this position on. `end`: of the log, by now */
extern void ca_session_run(CaSink *sink, const CaPosition *position, XLogRecPtr end);
extern bool ca_session_running(CaSink *sink);
extern void ca_session_advance(CaSink *sink); /* writes what is queued, takes answers */
extern bool ca_session_held(CaSink *sink);  /* ... not before it is known to be the master still */
extern bool ca_session_moved(CaSink *sink); /* another one is: begin anew */
extern const char *ca_session_error(CaSink *sink);            /* what stopped it, or NULL */
extern bool ca_session_healthy(CaSink *sink, bool caught_up); /* it has no error */
extern void ca_session_fail(CaSink *sink, const char *why);   /* ends; again after a while */
extern void ca_session_fence(CaSink *sink); /* another server delivers here by now */
extern void ca_session_close(CaSink *sink); /* ends; again at the next step */
extern CaRedis *ca_session_redis(CaSink *sink);
extern long ca_session_timeout(CaSink *sink); /* ms until it has something to do */

/* ---- farewell.c: the last words to a Redis that is left ---- */
extern bool ca_farewell_said(CaSink *sink, CaRedis *redis, bool remove);
extern bool ca_farewell_lasts(CaSink *sink);
extern void ca_farewell_over(CaSink *sink);
extern const char *ca_farewell_left(CaSink *sink); /* "": nothing */

/* ---- replicas.c: replicas of Redis that a synchronous commit waits for ---- */
extern uint64 ca_replicas_number(CaSink *sink);
extern void ca_replicas_begin(CaSink *sink);
extern void ca_replicas_step(CaSink *sink, CaRedis *redis, bool unanswered, XLogRecPtr confirmed);
extern long ca_replicas_timeout(CaSink *sink);

/* ---- ping.c: round trips that backends ask for ---- */
extern void ca_ping_send(CaSink *sink, CaRedis *redis); /* if one was asked for */
extern void ca_ping_refuse(void);                       /* there is nobody to ask */

#endif
