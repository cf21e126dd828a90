/*
 * status.h: what the worker shows of itself, and what backends and worker ask of each other.
 *
 * CaStatus is the worker's alone to write. It is copied whole under the spinlock `mutex`, by the worker when it publishes
 * and by backends when they look, and holds no pointers.
 *
 * The other fields of CaShared have one file each that writes them, but not all the same process: what the worker tells is
 * the worker's, what is asked of it (adopt(), ping(), reset_stats(), a census, who waits) is counted by the backends.
 * They are atomics and a condition variable, which need no lock, but for
 *
 *	left				what is left in Redis after uninstall(): under the mutex
 *	standby_id, server_id	made with the memory, never changed
 *	crashed, troubles	the worker's, no lock: see crashed in worker.c, trouble.c for who else looks at a trouble
 *
 * Which file writes which field, and who reads it: docs/internals/locks.md. scripts/check-shared.pl holds the source to it.
 */
#ifndef CA_STATUS_H
#define CA_STATUS_H

#include "cache_aside.h"
#include "shared/trouble.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/spin.h"

#define CA_LATENCY_BUCKETS 24 /* bucket i: below 2^i * 16 microseconds; the last takes the rest */

/* What is counted since reset_stats(), each by the one file named here. */
typedef enum CaCount
{
	CA_COUNT_COMMITS,    /* delivery.c: with keys, delivered */
	CA_COUNT_BATCH_KEYS, /* delivery.c */
	CA_COUNT_SCAN_KEYS,  /* scan.c: found by a pattern, and deleted */
	CA_COUNT_RETRIES, /* run.c: sessions begun again after an error answer or a lost connection */
	CA_COUNT_RECONNECTS,         /* session.c */
	CA_COUNT_PATTERNS,           /* batch.c */
	CA_COUNT_BATCHES,            /* delivery.c: answered */
	CA_COUNT_SKIPPED,            /* lost_sticks.c: commands, as certainly permanent for one key */
	CA_COUNT_BATCH_ERRORS,       /* ledger.c: error answers */
	CA_COUNT_SCAN_ERRORS,        /* scan.c: likewise */
	CA_COUNT_RESYNCS,            /* resync.c */
	CA_COUNT_REDELETED,          /* redelete.c: keys deleted again */
	CA_COUNT_REDELETE_DROPPED,   /* redelete.c: keys for which there was no room */
	CA_COUNT_FOREIGN_RECORDS,    /* not_followed.c: messages in the log that have our name only */
	CA_COUNT_UNREADABLE_RECORDS, /* not_followed.c: ... our mark, but cannot be read */
	CA_COUNT_LOG_SKIPS,          /* breaker.c */
	CA_COUNTS
} CaCount;

/* How far delivery is; see lag.c. */
typedef struct CaStatusProgress
{
	TimeLineID timeline;
	XLogRecPtr confirmed;
	XLogRecPtr restart;
	XLogRecPtr keep; /* log from here on; at or before restart */
	XLogRecPtr read_end;
	XLogRecPtr visible;
	XLogRecPtr undelivered_from; /* what is known to be undelivered while confirmed is not known */
	TimestampTz oldest;          /* commit time of the oldest undelivered commit; 0: none */
} CaStatusProgress;

/* The log that was skipped last. */
typedef struct CaStatusSkip
{
	XLogRecPtr from; /* 0: none was */
	XLogRecPtr to;
	TimestampTz at;
} CaStatusSkip;

/* The scan for a resync, or for patterns; see scan.c. */
typedef struct CaStatusScan
{
	TimestampTz since; /* 0: none is under way */
	uint64 seen;       /* keys that Redis gave, of the last one if none is */
	uint64 total;      /* likewise, when it has been through all; estimated, 0: not known */
} CaStatusScan;

/* What is wrong now; see trouble.c. */
typedef struct CaStatusTrouble
{
	CaTrouble cause;
	TimestampTz since;
	char first_error[256];
} CaStatusTrouble;

typedef struct CaStatus
{
	pid_t pid;      /* 0: no worker */
	char state[24]; /* starting, delivering, resyncing, standby, fenced, refused, off, ... */
	CaStatusProgress progress;
	XLogRecPtr slot_restart; /* invalid: no slot */
	bool settled;            /* what the log held when the session began is delivered */
	uint64 counts[CA_COUNTS];
	CaStatusScan scan;
	uint64 redelete_waiting;  /* keys that are to be deleted again */
	uint64 stray_keys_before; /* of CaShared, at the last reset */
	CaStatusSkip skip;
	uint64 latency[CA_LATENCY_BUCKETS]; /* commits by time from commit to acknowledgement */
	char last_error[256];
	TimestampTz last_error_at;
	CaStatusTrouble trouble;
	char waits_for[NAMEDATALEN]; /* database, while that is the trouble */
	TimestampTz stats_reset;
} CaStatus;

typedef struct CaShared
{
	slock_t mutex; /* guards status */
	CaStatus status;
	pg_atomic_uint32 worker_proc;   /* its number in the proc array + 1; 0: no worker */
	pg_atomic_uint32 wants_commits; /* shall a commit with keys wake the worker? */
	pg_atomic_uint64 confirmed;     /* as status.confirmed */
	pg_atomic_uint32 uninstalled;   /* uninstall() was called: no delivery, no slot */
	pg_atomic_uint32 parted;        /* and Redis was told; then there is, guarded by the mutex: */
	char left[512];                 /* what is left there; empty: nothing */
	pg_atomic_uint32 census_asked;  /* counts creations of the extension that committed */
	pg_atomic_uint32 installed;     /* a database has the extension, as far as the worker knows */
	pg_atomic_uint32 keys_logged;   /* a commit with keys found that it does not know one */
	pg_atomic_uint64 stray_keys;    /* see stray.c; counted by whoever writes */
	pg_atomic_uint32 adopt_asked;   /* counts adopt() calls */
	char standby_id[17];            /* announce.c; set with the rest, then constant */
	char server_id[17];             /* likewise; for claims */
	pg_atomic_uint32 trouble;       /* CaTrouble that keeps keys from being delivered */
	CaTroubleState troubles[CA_AREAS];
	bool crashed; /* the server starts after a crash; set before, cleared by the one worker */
	pg_atomic_uint32 reset_requested; /* counts reset_stats() calls */
	ConditionVariable progress;       /* broadcast: confirmed advanced, a ping was answered */
	pg_atomic_uint32 waiters;         /* backends in wait_delivered or ping: batch no longer */
	pg_atomic_uint32 ping_asked;      /* counts ping() calls ... */
	pg_atomic_uint32 ping_answered;   /* ... and how far they are answered */
	pg_atomic_uint64 ping_us;         /* round trip; PG_UINT64_MAX: see last_error */
} CaShared;

extern CaShared *ca_status_shared;            /* NULL without preload */
extern void ca_status_copy(CaStatus *status); /* an ERROR without */
extern bool ca_status_worker_began(void);     /* or the server has just been started */

/* wait_delivered.c: sleeps on `progress` until the condition holds (true) or `us` have passed (false). */
typedef bool (*CaCondition)(uint64 arg);
extern bool ca_wait_delivered_until(CaCondition holds, uint64 arg, int64 us);

/* Worker side: a copy of its own, which publish makes known. */
extern void ca_status_attach(void); /* this process is the worker */
extern void ca_status_publish(void);
extern bool ca_status_want_commits(bool want); /* true: look at the log before you sleep */
/* Said by whoever it happens to. */
extern void ca_status_error(const char *text); /* becomes last_error */
extern void ca_status_state(const char *state);
/* Each is called by one file, whose own the value is: nobody reads it here to decide anything. */
extern void ca_status_count(CaCount what, uint64 by);
extern void ca_status_put_latency(TimestampTz commit_time);           /* delivery.c */
extern void ca_status_put_progress(const CaStatusProgress *progress); /* lag.c */
extern void ca_status_get_progress(CaStatusProgress *progress); /* as the worker before had it */
extern void ca_status_put_settled(bool settled);                /* lost_sticks.c */
extern void ca_status_put_installed(bool installed);            /* census.c */
extern bool ca_status_take_keys(void); /* keys were committed although nobody has the extension? */
extern void ca_status_put_redelete(uint64 waiting);                /* redelete.c */
extern void ca_status_put_scan(const CaStatusScan *scan);          /* scan.c */
extern void ca_status_put_skip(const CaStatusSkip *skip);          /* breaker.c */
extern void ca_status_put_slot(XLogRecPtr restart);                /* slot.c */
extern void ca_status_put_trouble(const CaStatusTrouble *trouble); /* trouble.c */
extern void ca_status_put_waits_for(const char *database);         /* visits.c */

#endif
