/*
 * redis_private.h: what redis.c shares with the files that help it (redis_url.c, resolve.c, dial.c, redis_login.c, redis_wait.c).
 *
 * Nothing here allocates in a memory context or raises: URLs are parsed by a GUC check hook, and
 * look-ups outlive the connection that asked for them.
 */
#ifndef CA_REDIS_PRIVATE_H
#define CA_REDIS_PRIVATE_H

#include "cache_aside.h"
#include "redis/redis.h"

#include <sys/socket.h>

/* PostgreSQL's own macro names a format that clang does not know when gcc built the server. */
#define CA_PRINTF(f, a) __attribute__((format(__printf__, f, a)))

#define CA_REDIS_DEFAULT_PORT 6379
#define CA_SENTINEL_DEFAULT_PORT 26379
#define CA_REDIS_QUOTE 204 /* room for what is quoted of a server's words */

/* ---- redis_url.c: text to address ---- */
/* NULL when `setting` is a good URL, else the reason, which never quotes it (it may hold a secret). */
extern const char *ca_redis_url_parse(const char *setting, CaRedisAddress *address);

/* ---- resolve.c: host name to addresses, without blocking ---- */
#define CA_MAX_ADDRESSES CA_MOST_SOCKETS

typedef struct CaAddress
{
	struct sockaddr_storage addr;
	socklen_t len;
} CaAddress;

typedef struct CaLookup CaLookup;

/* Addresses of a literal (or what needs no resolver), 0 when `host` must be looked up. */
extern int ca_resolve_literal(const char *host, int port, CaAddress *addresses);
/* Begins to look up a name; NULL with *reason when that is not possible. */
extern CaLookup *ca_resolve_begin(const char *host, int port, const char **reason);
/* -1: still under way. Otherwise the number of addresses; 0 sets *reason. */
extern int ca_resolve_poll(CaLookup *lookup, CaAddress *addresses, const char **reason);
/* Lets go of it, finished or not; NULL is fine. */
extern void ca_resolve_end(CaLookup *lookup);

/* ---- dial.c: endpoint to a connected socket ---- */
typedef enum CaDialState
{
	CA_DIAL_UNDER_WAY,
	CA_DIAL_CONNECTED,
	CA_DIAL_FAILED
} CaDialState;

typedef struct CaDial
{
	int fd;            /* connected; -1: none is */
	uint32 generation; /* changes with the sockets, never the same in one process */
	CaLookup *lookup;  /* while the name is being resolved */
	CaAddress addresses[CA_MAX_ADDRESSES];
	int naddresses;
	int nbegun;                     /* so many from the front have had their turn */
	int attempts[CA_MAX_ADDRESSES]; /* their sockets; -1: it failed, or was taken */
	int64 deadline;
	int64 next_at; /* when the next one has its turn */
	char reason[256];
} CaDial;

extern int64 ca_dial_clock(void); /* ms of a monotonic clock */
extern void ca_dial_init(CaDial *dial);
extern CaDialState ca_dial_begin(CaDial *dial, const CaRedisAddress *address, int64 deadline);
extern CaDialState ca_dial_advance(CaDial *dial);
extern int64 ca_dial_next(const CaDial *dial); /* when ca_dial_advance must run at the latest */
/* Those that are open, at most CA_MOST_SOCKETS: the connected one, or those under way, to be waited for till writable */
extern int ca_dial_sockets(const CaDial *dial, pgsocket *sockets);
extern const char *ca_dial_doing(const CaDial *dial); /* "connecting", for messages */
/* Lets go of everything. May be repeated. */
extern void ca_dial_end(CaDial *dial);

/* ---- redis_login.c: what is said first on a new connection ---- */

/*
 * Puts the password where the credentials say it is found into address->password. NULL, or the reason
 * why not.
 */
extern const char *ca_redis_login_password(CaRedisAddress *address);
/* Queues AUTH, SELECT, CLIENT SETNAME and PING; ends in ca_redis_connection_ready or ca_redis_connection_fail. */
extern void ca_redis_login_begin(CaRedis *redis);
/* Printable ASCII of what a server said, shortened, without the password. */
extern void ca_redis_login_quote(const CaRedisAddress *address, const char *said, Size len,
								 char *quoted, Size size);
/*
 * After a failed write: what a server that turns us away said before it closed, which is worth
 * more than our EPIPE. False when it said nothing.
 */
extern bool ca_redis_login_parting_words(int fd, const CaRedisAddress *address, char *quoted,
										 Size size);

/* ---- redis_pipeline.c: bytes the socket has not taken, handlers not answered ---- */
typedef struct CaCommand
{
	CaReplyHandler handler;
	void *arg;
} CaCommand;

typedef struct CaPipeline
{
	StringInfoData bytes;
	Size sent;       /* so many from the front have been taken by the socket */
	CaCommand *ring; /* commands without an answer, oldest at `head` */
	int capacity;    /* a power of two */
	int head;
	int count;
} CaPipeline;

extern void ca_redis_pipeline_init(CaPipeline *pipeline, MemoryContext cxt);
/* One more handler, for the command just added. */
extern void ca_redis_pipeline_expect(CaPipeline *pipeline, CaReplyHandler handler, void *arg);
/* NULL, or why not; nothing was added then, nor when it raises. */
extern const char *ca_redis_pipeline_add(CaPipeline *pipeline, int argc, const char **argv,
										 const size_t *argvlen);
/* Takes out the oldest command. */
extern CaCommand ca_redis_pipeline_answered(CaPipeline *pipeline);
extern Size ca_redis_pipeline_unsent(const CaPipeline *pipeline);
/* The next bytes, valid until something is added */
extern const char *ca_redis_pipeline_peek(const CaPipeline *pipeline, Size most, Size *len);
/* So many of them were taken. */
extern void ca_redis_pipeline_taken(CaPipeline *pipeline, Size len);
/* When all bytes are taken: starts anew at the front. */
extern void ca_redis_pipeline_clean(CaPipeline *pipeline);

/* ---- redis_connection.c ---- */
extern void ca_redis_connection_fail(CaRedis *redis, const char *fmt, ...) CA_PRINTF(2, 3);
extern void ca_redis_connection_ready(CaRedis *redis);
/* command_timeout counts from here: nobody listened before. */
extern void ca_redis_begin_wait(CaRedis *redis);
extern void ca_redis_connection_queue(CaRedis *redis, int argc, const char **argv,
									  const size_t *argvlen, CaReplyHandler handler, void *arg);
extern const CaRedisAddress *ca_redis_connection_address(const CaRedis *redis);
/* Whose credentials may change; NULL unless it is READY. */
extern CaRedisAddress *ca_redis_connection_login(CaRedis *redis);
extern const char *ca_redis_connection_client_name(const CaRedis *redis);

#endif
