/*
 * sink.h: what belongs to one Redis: the connection and its claim, what was sent and is not answered, when to
 * try again.
 *
 * One for each Redis that is delivered to; today the worker has one (role.c). What belongs to the server is not
 * in it: the tap and what a run of delivery is about (run_state.h), queue, batches under construction, patterns and
 * scans asked for, read tokens, the slot. Each part belongs to the file it is named for, which alone looks into
 * it; all zero is a sink that never connected.
 */
#ifndef CA_SINK_H
#define CA_SINK_H

#include "cache_aside.h"
#include "shared/endpoint.h"
#include "delivery/delivery.h"
#include "delivery/watch.h"
#include "redis/redis.h"

#include "lib/ilist.h"
#include "portability/instr_time.h"

#define CA_NONCE_LEN 16 /* as the library wants it */

typedef enum CaPhase
{
	CA_PHASE_WAITING,
	CA_PHASE_FINDING,
	CA_PHASE_OPENING,
	CA_PHASE_CLAIMING,
	CA_PHASE_CLAIMED,
	CA_PHASE_RUNNING
} CaPhase;

typedef struct CaSinkSession /* session.c */
{
	CaRedisAddress address; /* as it was when the session was opened */
	CaPhase phase;
	MemoryContext cxt;
	CaRedis *redis;
	TimestampTz retry_at; /* in WAITING */
	bool awaits;          /* likewise, for a credential, however long that takes */
} CaSinkSession;

typedef struct CaSinkHandshake /* handshake.c */
{
	CaRedis *redis;
	CaHandshake claimed;
	int answers_missing;
	char failure[256]; /* empty: none */
	CaGuardProblem problem;
	TimeLineID announced; /* in plain mode: the timeline that this server streamed just now */
	bool library_older;
	bool library_loaded; /* by this session */
	char forbidden[128]; /* why the library cannot be loaded or called; empty: it can */
	char no_time[128];   /* why the library cannot know the time, likewise */
	bool told;           /* that it has no functions */
} CaSinkHandshake;

typedef struct CaSinkMemory /* resume.c: of the last session that ran in this process */
{
	CaHandshake claimed;
	CaPosition position;
	bool known;
} CaSinkMemory;

typedef struct CaSinkGuard /* guard.c */
{
	char nonce[CA_NONCE_LEN + 1];
} CaSinkGuard;

typedef struct CaSinkArming /* arming.c */
{
	int64 redis_ms;         /* Redis's time when ... */
	instr_time known_since; /* ... this was ours; 0: not known */
	instr_time renewed_at;
	char nonce[CA_NONCE_LEN + 1]; /* of the last claim of this process; empty: there was none */
	int64 extended_at; /* an arming under it was sent last, ms of our clock; 0: none can last */
	char left[CA_NONCE_LEN +
			  1];     /* nonce of the claim before that, of another process; empty: not known */
	int64 left_end;   /* when its arming has ended at the latest, likewise; 0: it has */
	int64 others_end; /* ... and all of before */
	bool other;       /* it was another process than before */
	bool untold;
	int64 foreign_heard;  /* deletions of another system, of this claim */
	XLogRecPtr heard_end; /* of the log, written when we heard of them */
	bool to_tell;         /* Redis is to know, once it is read */
} CaSinkArming;

typedef struct CaSinkContest /* contest.c */
{
	uint32 adopted; /* requests of adopt() that were carried out, or are none of ours */
	bool forced;    /* the next claim is */
	bool second;
	bool claim_again;
	int64 refused_before; /* newcomers, of this session */
	bool told_foreign;
	char watched[CA_POSITION_TEXT]; /* Redis before 7: another's position ... */
	instr_time watched_since;       /* ... and since when it is that */
} CaSinkContest;

typedef struct CaSinkDialect /* apply.c */
{
	bool plain; /* no functions here */
	char plain_sha[41];
} CaSinkDialect;

typedef struct CaSinkLedger /* ledger.c */
{
	CaRedis *redis;
	dlist_head flight; /* batches without an answer */
	int in_flight;
	dlist_head finished; /* completed by a scan: next batch's */
	CaPosition sent;     /* as of the last call sent */
	CaPosition acked;    /* as of the last batch answered */
	char expected[CA_POSITION_TEXT];
	TimestampTz last_sent;
	bool marked;         /* state or barrier changed since the last batch */
	char failure[256];   /* empty: none */
	XLogRecPtr begun_at; /* where the session began */
	uint64 keys;         /* acknowledged in this session */
} CaSinkLedger;

typedef struct CaSinkAdmission /* admission.c */
{
	bool armed;   /* guarded fills are admitted */
	bool arming;  /* an arming or a renewal was sent and is not answered yet */
	bool looking; /* at the position; it must be this: */
	char looked_for[CA_POSITION_TEXT];
} CaSinkAdmission;

typedef struct CaSinkEvents /* events.c */
{
	CaEventsMode mode; /* as the settings had it when this stage began */
	enum
	{
		CA_EVENTS_SILENT, /* off, or refused until retry_at */
		CA_EVENTS_TO_PROBE,
		CA_EVENTS_PROBING, /* and nothing else is sent until that is answered */
		CA_EVENTS_TOLD
	} stage;
	TimestampTz retry_at; /* 0: not refused */
	uint32 series;        /* of the probe */
	CaEventMark mark;     /* of the last event, while others are told of everything */
	StringInfoData notes; /* entries as in a message, in the order in which they are told */
	Size taken;           /* bytes of them in batches without an answer */
} CaSinkEvents;

typedef struct CaSinkSticks /* lost_sticks.c */
{
	bool began;           /* a session, in this process */
	XLogRecPtr forgotten; /* the next batch leaves a stick without a name; 0: it need not */
	bool told_skipped;
} CaSinkSticks;

typedef struct CaSinkOutage /* outage.c */
{
	int backoff; /* ms; 0: no outage */
} CaSinkOutage;

typedef struct CaSinkRedelete /* redelete.c; what is kept for it is the worker's */
{
	dlist_head flight; /* in the UNLINK without an answer */
	bool in_flight;
	TimestampTz not_before; /* after an error */
} CaSinkRedelete;

typedef struct CaSinkAnnounce /* announce.c */
{
	TimestampTz announced_at;
} CaSinkAnnounce;

typedef struct CaSinkFollowed /* worker/followed.c: another server delivers there */
{
	CaRedisAddress address;
	CaRedis *redis;
	bool looking; /* at the position */
	TimestampTz next_look;
	XLogRecPtr read_end; /* of the log here, in this step */
	bool told;           /* where delivery stands, or that there is none: */
	TimeLineID timeline;
	XLogRecPtr confirmed; /* invalid: there is none */
	XLogRecPtr restart;
	XLogRecPtr keep;
} CaSinkFollowed;

typedef struct CaSinkFarewell /* farewell.c */
{
	enum
	{
		CA_FAREWELL_SILENT,
		CA_FAREWELL_DISARMING, /* and removing keys */
		CA_FAREWELL_REMOVING,  /* the library */
		CA_FAREWELL_PARTED
	} stage;
	TimestampTz deadline;
	int unanswered;
	bool removes;
	bool library_removed; /* under either name, or it is not to be */
	char left[512];       /* what is; empty: nothing */
} CaSinkFarewell;

typedef struct CaSinkPing /* ping.c */
{
	uint32 sent; /* highest number the PING under way answers */
	TimestampTz at;
} CaSinkPing;

typedef struct CaSinkReplicas /* replicas.c */
{
	uint64 answered;      /* WAITs, ever; the next has the next number */
	bool waiting;         /* one is under way */
	XLogRecPtr confirmed; /* when it was sent, */
	TimestampTz sent_at;
	TimestampTz not_before;
	bool told; /* that it is refused */
} CaSinkReplicas;

struct CaSink
{
	CaEndpoint endpoint; /* what is told of it; each part may */
	CaSinkSession session;
	CaWatch watch;
	CaSinkHandshake handshake;
	CaSinkMemory memory;
	CaSinkGuard guard;
	CaSinkArming arming;
	CaSinkContest contest;
	CaSinkDialect dialect;
	CaSinkLedger ledger;
	CaSinkAdmission admission;
	CaSinkSticks sticks;
	CaSinkEvents events;
	CaScan scan;
	CaSinkOutage outage;
	CaSinkRedelete redelete;
	CaSinkAnnounce announce;
	CaSinkFollowed followed;
	CaSinkFarewell farewell;
	CaSinkPing ping;
	CaSinkReplicas replicas;
};

#endif
