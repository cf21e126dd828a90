/*
 * log.h: the server's log: committed transactions, the slot, where delivery stands in it.
 */
#ifndef CA_LOG_H
#define CA_LOG_H

#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"

#include "lib/ilist.h"

/* ---- init.c: settings and start ---- */
extern int guc_redelivery_window; /* s */
extern int guc_max_wal_retained;  /* MB */
extern void ca_log_init(void);

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

/* What others were told of the deletions; see delivery/events.c. All zero: not all that is confirmed. */
typedef struct CaEventMark
{
	char how;      /* 'p' published, 's' in the stream */
	uint32 series; /* chosen when it began */
	uint64 number; /* of the last event */
} CaEventMark;

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
	CaEventMark events;
} CaPosition;

#define CA_POSITION_TEXT 360 /* bytes enough for any position and its NUL */

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
	bool key_ddl;            /* its patterns are deleted again with whoever it met, see open.c */
	bool async;              /* written under synchronous_commit = off */
	bool large;              /* entries are not here; read again from first to last */
	StringInfoData entries;  /* of its messages; data is NULL while there are none */
	TransactionId *children; /* subtransactions that logged messages; and who was merged into it */
	int nchildren;
	int children_room;
	const char *unread; /* why not all of it could be read, hence a resync; NULL: it could */
	/* delivery's place in it */
	bool begun;        /* the cursor was put into entries, or reading again began */
	CaMessage cursor;  /* entries, or one message of a large commit */
	bool has_keys;     /* or patterns */
	bool has_prefixes; /* and says under which prefixes */
	bool sent;         /* every key was sent; only a scan or a resync may be missing */
	bool waits;        /* ... and is */
	bool blocked;      /* there is no room for its next pattern */
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
extern void ca_committed_add_child(CaCommit *commit, TransactionId xid);

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
extern CaReread *ca_reread_open(MemoryContext cxt, CaCommit *commit); /* sorts its children */
extern CaRereadResult ca_reread_next(CaReread *reread, CaMessage *message);
extern void ca_reread_close(CaReread *reread);

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
extern void ca_breaker_note_claim(const char *nonce, TimeLineID timeline, bool untold);
extern void ca_breaker_note_told(void);
extern bool ca_breaker_untold(void);
extern bool ca_breaker_begin(const CaPosition *place, uint64 sequence);
extern XLogRecPtr ca_breaker_skip(XLogRecPtr from, uint64 *barrier);
extern void ca_breaker_reads(XLogRecPtr limit);
extern void ca_breaker_progress(const CaPosition *acked, bool delivered, bool due);
extern void ca_breaker_gap(void);
extern void ca_breaker_end(void);
extern void ca_breaker_died(void); /* reading was ended by an error, the process goes on */

/* ---- slot.c: the log that may be needed again ---- */
extern void ca_slot_keep(XLogRecPtr restart); /* call about once a second */
extern void ca_slot_forget(void);             /* drops it */

#endif
