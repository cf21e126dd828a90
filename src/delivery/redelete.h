/*
 * redelete.h: keys deleted again, for clients that fill without a guard. See redelete.c.
 */
#ifndef CA_REDELETE_H
#define CA_REDELETE_H

#include "cache_aside.h"
#include "redis/redis.h"
#include "delivery/delivery.h"

extern bool guc_redelete;
extern int guc_redelete_delay; /* ms */

/* Redis deleted this key, or began to scan for this pattern, for a commit that ends at lsn. */
extern void ca_redelete_note(char kind, const char *text, Size len, XLogRecPtr lsn);
extern void ca_redelete_step(CaSink *sink,
							 CaRedis *redis); /* once a round; sends one command at most */
extern long
ca_redelete_timeout(CaSink *sink);         /* ms until the next step has work; -1: only events */
extern void ca_redelete_interrupted(void); /* the session ended */

#endif
