/*
 * trouble.h: what is wrong, by cause; see trouble.c.
 */
#ifndef CA_TROUBLE_H
#define CA_TROUBLE_H

#include "cache_aside.h"

#include "datatype/timestamp.h"

/* In the order of the table in trouble.c. */
typedef enum CaTrouble
{
	CA_TROUBLE_NONE,
	CA_TROUBLE_MISCONFIGURED, /* no Redis was named */
	CA_TROUBLE_UNREACHABLE,   /* nothing listens, answers, or holds the connection */
	CA_TROUBLE_TLS,
	CA_TROUBLE_CREDENTIAL, /* a command gives none */
	CA_TROUBLE_WRONGPASS,
	CA_TROUBLE_NOPERM,
	CA_TROUBLE_READONLY,
	CA_TROUBLE_OOM,
	CA_TROUBLE_MISCONF, /* Redis's own word: it cannot save */
	CA_TROUBLE_LOADING,
	CA_TROUBLE_BUSY,
	CA_TROUBLE_MASTERDOWN,
	CA_TROUBLE_NOREPLICAS,
	CA_TROUBLE_MAXCLIENTS,
	CA_TROUBLE_CLUSTER,
	CA_TROUBLE_CHANGED,        /* another session, or another server, has this claim or position */
	CA_TROUBLE_SENTINEL,       /* no majority names a master, or who is named is none */
	CA_TROUBLE_SENTINEL_NAME,  /* they have none of that name */
	CA_TROUBLE_SENTINEL_LOGIN, /* they refuse us */
	CA_TROUBLE_ANSWER,         /* any other error that Redis answers */
	CA_TROUBLE_FENCED,
	CA_TROUBLE_REFUSED,
	CA_TROUBLE_SECOND,    /* another system's fills are admitted */
	CA_TROUBLE_PAUSED,    /* breaker.c */
	CA_TROUBLE_FAILING,   /* an error in the worker, mishap.c */
	CA_TROUBLE_DATABASE,  /* a database cannot be visited */
	CA_TROUBLE_NO_WORKER, /* no free background worker for a visit */
	CA_TROUBLES
} CaTrouble;

/* What is kept from being done. One trouble each at a time; status shows the first that there is. */
typedef enum CaTroubleArea
{
	CA_AREA_DELIVERY,
	CA_AREA_FILLS,     /* of this system are admitted */
	CA_AREA_FOLLOWING, /* a standby reads the position */
	CA_AREA_VISITS,    /* databases are asked */
	CA_AREA_SENTINELS, /* are heard while delivery goes on */
	CA_AREA_PUBLISHING,
	CA_AREA_EVENTS,
	CA_AREAS
} CaTroubleArea;

/* In shared memory, so that a worker that is started anew goes on; only the worker looks at it. */
typedef struct CaTroubleState
{
	CaTrouble cause; /* NONE: no trouble */
	TimestampTz since;
	uint32 told;     /* bit for each cause that was logged */
	char first[256]; /* error */
} CaTroubleState;

/* Of the worker. `what` is logged and becomes last_error. */
extern void ca_trouble_begin(CaTroubleArea area, CaTrouble cause, const char *what);
/* Of one Redis, by its name. */
extern void ca_trouble_begin_at(CaTroubleArea area, CaTrouble cause, const char *what,
								const char *endpoint);
extern void ca_trouble_over(CaTroubleArea area); /* and says so, if there was one */
extern void ca_trouble_drop(CaTroubleArea area); /* likewise, without a word */
/* Shall the next ca_trouble_begin be logged? By default a cause is, once in a trouble. */
extern void ca_trouble_tell(CaTroubleArea area, CaTrouble cause, bool tell);
extern CaTrouble ca_trouble_of(CaTroubleArea area);
extern CaTrouble
ca_trouble_judge(const char *error); /* Redis's words, or ours about the connection */

/* Of anybody; static storage, never raises. */
extern const char *ca_trouble_name(CaTrouble cause); /* "" for none */
extern const char *ca_trouble_hint(CaTrouble cause);
/* Better, where the error tells more than its cause */
extern const char *ca_trouble_hint_for(CaTrouble cause, const char *error);
extern bool ca_trouble_is_answer(CaTrouble cause); /* Redis was reached, and refuses */
/* Why a commit is not waited for: "Redis cannot be reached" */
extern const char *ca_trouble_excuse(void);

#endif
