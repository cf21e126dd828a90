/*
 * sync.h: synchronous commit of invalidations, between the backends that wait and the worker.
 *
 * See sync.c for how the two meet, and sync_wait.c for why nothing raises in a backend.
 */
#ifndef CA_SYNC_H
#define CA_SYNC_H

#include "cache_aside.h"

#include "access/xlogdefs.h"
#include "port/atomics.h"

extern bool guc_synchronous;
extern int guc_synchronous_timeout; /* ms */
extern int guc_redis_min_replicas;

extern void ca_sync_shmem_request(void);
extern void ca_sync_shmem_init(void);

/* ---- sync.c: in backends ---- */
/* Must a transaction that logged messages be flushed at its commit, whatever the session asked? */
extern bool ca_sync_must_flush(bool waits);
/* Is the worker woken when a commit of this session enters the queue, and not before? */
extern bool ca_sync_wakes_later(bool waits);

/* What a backend waits for. */
typedef enum CaAwaitedKind
{
	CA_AWAITED_COMMIT,   /* the commit whose record ends at lsn; it has messages */
	CA_AWAITED_PREPARED, /* a COMMIT PREPARED between since and lsn, if that has any */
	CA_AWAITED_ALL       /* every visible commit before lsn: some of them are its own */
} CaAwaitedKind;

typedef struct CaAwaited
{
	CaAwaitedKind kind;
	XLogRecPtr since; /* PREPARED: end of the log before the statement */
	XLogRecPtr lsn;
} CaAwaited;

typedef enum CaSyncOutcome
{
	CA_SYNC_IDLE,
	CA_SYNC_WAITING,
	CA_SYNC_DELIVERED,
	CA_SYNC_OUTAGE,
	CA_SYNC_NO_WORKER,
	CA_SYNC_NO_DELIVERY,
	/* found by the session itself */
	CA_SYNC_TIMED_OUT,
	CA_SYNC_CANCELED,
	CA_SYNC_TERMINATED
} CaSyncOutcome;

extern CaSyncOutcome ca_sync_enlist(const CaAwaited *awaited);
extern CaSyncOutcome ca_sync_outcome(void);
extern CaSyncOutcome ca_sync_leave(CaSyncOutcome why);

/* ---- sync_wait.c ---- */
extern void ca_sync_wait_prepare(bool waits); /* before the commit record: what may raise */
/* Waits until it was delivered; never raises. */
extern void ca_sync_wait(const CaAwaited *awaited);

/* ---- commit_warning.c ---- */
extern void ca_commit_warning_send(const char *reason, const char *detail);

/* ---- gather.c: how many waiters are worth waking the worker for ---- */
typedef struct CaGather
{
	pg_atomic_uint32 waiting;  /* in the queue */
	pg_atomic_uint32 enlisted; /* entries into the queue, ever */
	pg_atomic_uint32 enough;   /* so many waiters wake the worker; 1: each does */
	pg_atomic_uint32 window;   /* in which waiters are counted */
	pg_atomic_uint32 people;   /* different waiters that came in it */
} CaGather;

extern void ca_gather_init(CaGather *gather);
extern void ca_gather_enter(CaGather *gather, uint32 *window);
extern bool ca_gather_active(CaGather *gather);
extern bool ca_gather_complete(CaGather *gather);
extern bool ca_gather_begin(CaGather *gather);
extern void ca_gather_end(CaGather *gather);

/* ---- sync.c: in the worker ---- */
typedef bool (*CaOwes)(void *arg, const CaAwaited *awaited);

extern void ca_sync_attach(void);
extern void ca_sync_connecting(void); /* a session begins */
extern void ca_sync_available(void);  /* and delivers */
extern void ca_sync_outage(void);     /* Redis cannot be delivered to */
extern void ca_sync_switched_off(void);
/* Redis acknowledged this commit; or everything at or below an LSN. */
extern void ca_sync_delivered(XLogRecPtr start, XLogRecPtr end);
extern void ca_sync_confirmed(XLogRecPtr lsn);
extern void ca_sync_async_recorded(bool recorded);
/* Shall who is delivered be held back until replicas of Redis have it? Under which number, from now on? */
extern void ca_sync_hold(bool hold);
extern void ca_sync_hold_under(uint64 number);
extern void ca_sync_replicated(uint64 number, XLogRecPtr lsn);
extern bool ca_sync_held(void); /* somebody is held back */
/* For waiters that may have come too late. True: call again at once. */
extern bool ca_sync_answer(XLogRecPtr read_end, CaOwes owes, void *arg);
extern bool ca_sync_active(void); /* somebody waits, or did just now: do not pace */
extern void ca_sync_wake(void);   /* after ca_sync_delivered: sets the latches */
/* Shall the worker sleep a moment for more waiters? Then ca_sync_gathered ends that. */
extern bool ca_sync_gather(void);
extern void ca_sync_gathered(void);

#endif
