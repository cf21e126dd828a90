/*
 * reads.h: what the reading side shares: a backend's connection to Redis, keys, values, tokens.
 */
#ifndef CA_READS_H
#define CA_READS_H

#include "cache_aside.h"

#include "utils/timestamp.h"

#define CA_MAX_VALUE (60 * 1024 * 1024) /* bytes; what one reply may bring back, with its framing */
#define CA_MAX_COPIES 1000              /* of a sharded key, as in templates */

/* ---- ask.c: this backend's connection ---- */
/*
 * READY, or NULL: Redis cannot be reached, ca_ask_problem tells why. Stays what it is, though it may
 * fail, until it is let go, which must happen on errors too; NULL need not be let go.
 */
extern CaRedis *ca_ask_hold(void);
extern void ca_ask_require_url(void); /* an ERROR if no Redis was named; the others call it */
extern void ca_ask_release(CaRedis *redis);
/* Sends one command and waits for its answer; false: none, ca_ask_problem tells why. */
extern bool ca_ask(int argc, const char **argv, const size_t *lens, CaReplyHandler handler,
				   void *arg);
/* Waits for the answers to everything that was sent on the connection. */
extern bool ca_ask_wait(CaRedis *redis);
extern const char *ca_ask_problem(void);
/* WARNING, once per statement, that Redis does not answer and what that means. */
extern void ca_ask_warn(const char *consequence);

/* ---- reads.c ---- */
typedef struct CaText
{
	char *data;
	Size len;
} CaText;

/* The key as it is in Redis: UTF-8, under the first prefix. ERROR when empty or too long. */
extern CaText ca_reads_key(const char *key, Size len);
/* The value as it goes to Redis. ERROR when too long. */
extern CaText ca_reads_value(const char *value, Size len, const char *key);
/* Bytes of Redis to text of this database; NULL when they are not. */
extern char *ca_reads_from_redis(const char *bytes, Size len);
extern int64 ca_reads_ttl(const Interval *interval); /* ms */
/* SQL condition on a row "t": the same key as the row $1 */
extern char *ca_same_key_condition(const CaTemplate *template, TupleDesc desc);

#endif
