/*
 * redis.h: one connection to Redis, without blocking; replies.
 */
#ifndef CA_REDIS_H
#define CA_REDIS_H

#include "cache_aside.h"

#include "common/child.h"

#include <sys/un.h>

/* ---- init.c: settings and start ---- */
extern char *guc_redis_url;
extern char *guc_redis_password_file;
extern char *guc_redis_credential_command;
extern int guc_redis_credential_timeout; /* ms */
extern char *guc_redis_sentinel_user;
extern char *guc_redis_sentinel_password_file;
extern int guc_connect_timeout; /* ms */
extern int guc_command_timeout; /* ms */
typedef enum CaVerify
{
	CA_VERIFY_FULL,
	CA_VERIFY_CA,
	CA_VERIFY_NONE
} CaVerify;
extern char *guc_tls_ca_file;
extern char *guc_tls_cert_file;
extern char *guc_tls_key_file;
extern int guc_tls_verify;
extern char *guc_tls_server_name;
extern void ca_redis_init(void);

/* ---- redis_address.c: where a Redis is, and how to log in there ---- */
#define CA_REDIS_MAX_HOST 256
#define CA_REDIS_MAX_HOSTS 16
#define CA_REDIS_MAX_USER 256
#define CA_REDIS_MAX_PASSWORD 8192 /* access tokens used as passwords reach a few kB */
#define CA_REDIS_MAX_NAME 128      /* of a master, as Sentinels know it */
#define CA_REDIS_MAX_PATH sizeof(((struct sockaddr_un *) 0)->sun_path)

typedef struct CaRedisHost
{
	char name[CA_REDIS_MAX_HOST]; /* or a literal address */
	int port;
} CaRedisHost;

typedef enum CaCredentials
{
	CA_CREDENTIALS_GIVEN,  /* user and password as they stand here; empty: none */
	CA_CREDENTIALS_FILE,   /* the password is the first line of a file, read at each connection */
	CA_CREDENTIALS_COMMAND /* user and password are what a command gave, see credential.c */
} CaCredentials;

/*
 * All zero names no Redis. One that is connected to has a path, or one host: the first. With a sentinel_name the
 * hosts are Sentinels, and who the master is has to be found out.
 */
typedef struct CaRedisAddress
{
	bool tls;
	char path[CA_REDIS_MAX_PATH]; /* of a unix socket; empty: hosts count */
	int nhosts;
	CaRedisHost hosts[CA_REDIS_MAX_HOSTS];
	int db;
	char user[CA_REDIS_MAX_USER]; /* empty: the default user */
	CaCredentials credentials;
	char password[CA_REDIS_MAX_PASSWORD];
	char password_file[MAXPGPATH];
	uint64 credential; /* COMMAND: the number of the one that is used; of a connection */
	char sentinel_name[CA_REDIS_MAX_NAME]; /* and how to log in at those who know it: */
	char sentinel_user[CA_REDIS_MAX_USER];
	char sentinel_password_file[MAXPGPATH];
	uint64 tls_state; /* of the settings of TLS, and of the files they name: 0 without TLS */
} CaRedisAddress;

/* What the settings say now; all zero if they name no Redis (ca_redis_url_lacking) */
extern void ca_redis_address_of_settings(CaRedisAddress *address);
/* An address that lists Sentinels becomes that of one of them, or of the master. */
extern void ca_redis_address_of_sentinel(CaRedisAddress *address, const CaRedisHost *sentinel);
extern void ca_redis_address_of_master(CaRedisAddress *address, const CaRedisHost *master);
extern bool ca_redis_address_is_host(const CaRedisHost *a, const CaRedisHost *b);
/* Is it the same place, and the same login? Certificates do not count: tls_state. */
extern bool ca_redis_address_is_place_of(const CaRedisAddress *a, const CaRedisAddress *b);
/* Why a connection would fail before it begins: certificates that cannot be used. NULL: it would not. */
extern const char *ca_redis_address_problem(const CaRedisAddress *address);
/* Stands for all of it, the secret too, where that must not be kept */
extern uint64 ca_redis_address_hash(const CaRedisAddress *address);
/* "host:port/db" or "path?db=N", never with a secret; palloc'd. Empty if it names no Redis. */
extern char *ca_redis_address_endpoint(const CaRedisAddress *address);

/* ---- credential_command.c: what the worker's connections log in with ---- */
#define CA_CREDENTIAL_LACKS "redis_credential_command"

typedef enum CaCredentialState
{
	CA_CREDENTIAL_READY,   /* a connection may be opened */
	CA_CREDENTIAL_AWAITED, /* the command runs: ask again after its next step */
	CA_CREDENTIAL_LACKING  /* it failed, and there is none */
} CaCredentialState;

extern bool ca_credential_command_is_set(void);
/* Of the worker, in each round; never blocks. `wanted`: somebody may connect. */
extern void ca_credential_command_step(bool wanted);
extern long
ca_credential_command_timeout(void); /* ms until the next step; -1: events tell, if any */
extern void ca_credential_command_pipes(CaChildPipes *pipes); /* which tell, beside the latch */
extern CaCredentialState ca_credential_command_ready(void);
extern const char *ca_credential_command_error(void); /* begins with CA_CREDENTIAL_LACKS */

/* ---- credential_words.c ---- */
/* Which setting the password is of: "command", "password file", "URL" or "none". `unused`: likewise, of one that has
   another and does not count; or NULL */
extern const char *ca_credential_words_source(const char **unused);

/* ---- credential.c: for everybody ---- */
extern uint64 ca_credential_number(void); /* of the present one; 0: there is none */
/* Waits for another than this one, for so many ms; serves interrupts. False: there is none. */
extern bool ca_credential_await(uint64 before, long timeout);
extern void ca_credential_refuse(uint64 number);

/* ---- redis.c: one connection ---- */
typedef struct CaRedis CaRedis;

typedef enum CaReplyType
{
	CA_REPLY_NIL,
	CA_REPLY_STATUS,
	CA_REPLY_STRING,
	CA_REPLY_INTEGER,
	CA_REPLY_ARRAY,
	CA_REPLY_ERROR
} CaReplyType;

typedef struct CaReply CaReply;

typedef enum CaRedisState
{
	CA_REDIS_CONNECTING, /* resolving, connecting, TLS, AUTH, SELECT */
	CA_REDIS_READY,      /* commands flow */
	CA_REDIS_FAILED      /* dead until ca_redis_close; ca_redis_error tells why */
} CaRedisState;

/*
 * Called once per command, in order. `reply` is valid during the call only and is NULL when the
 * connection failed before the answer arrived. Must not raise and must not call ca_redis_close.
 */
typedef void (*CaReplyHandler)(void *arg, const CaReply *reply);

extern CaReplyType ca_redis_reply_type(const CaReply *reply);
extern const char *ca_redis_reply_text(const CaReply *reply, Size *len); /* STATUS, STRING, ERROR */
extern int64 ca_redis_reply_integer(const CaReply *reply);
extern Size ca_redis_reply_count(const CaReply *reply); /* ARRAY */
extern const CaReply *ca_redis_reply_element(const CaReply *reply, Size i);
/* An error that says: this command is not to be had here, or not by this user? */
extern bool ca_redis_reply_forbids(const CaReply *reply);

/*
 * Begins a connection to that address, of which it keeps a copy; never blocks, never raises for what
 * Redis or the network do (state FAILED instead). Lives in `cxt`. `client_name` is shown by CLIENT LIST.
 */
extern CaRedis *ca_redis_open(MemoryContext cxt, const CaRedisAddress *address,
							  const char *client_name);
extern int ca_redis_database(const CaRedis *redis);
extern void ca_redis_close(CaRedis *redis); /* NULL is fine; pending handlers get NULL */
/* Ends it for the other side; found out at the next use. Async-signal-safe. */
extern void ca_redis_hang_up(CaRedis *redis);
/* Makes it FAILED and forgets the handlers without calling them. */
extern void ca_redis_abandon(CaRedis *redis, const char *reason);
extern CaRedisState ca_redis_state(const CaRedis *redis);
extern const char *ca_redis_error(const CaRedis *redis);
/*
 * Queues a command (binary-safe); it is sent by the next ca_redis_advance. Only when READY; on a
 * connection that failed the handler gets its NULL at the next ca_redis_advance or ca_redis_close.
 * A handler may send more, but not when its reply is NULL.
 */
extern void ca_redis_send(CaRedis *redis, int argc, const char **argv, const size_t *argvlen,
						  CaReplyHandler handler, void *arg);
/* A connection that is READY logs in anew if there is a newer credential; what is sent goes on. */
extern void ca_redis_login_again(CaRedis *redis);
/* For a connection that subscribes: the handler gets what comes without having been asked for. */
extern void ca_redis_listen(CaRedis *redis, CaReplyHandler handler, void *arg);
extern int ca_redis_in_flight(const CaRedis *redis); /* commands without an answer */
extern Size ca_redis_unsent_bytes(const CaRedis *redis);
/*
 * What to wait for: sockets, WL_SOCKET_* events on each of them, and the milliseconds after which
 * ca_redis_advance must run even if nothing happened (-1: none; 0 after one that had answers handled, so that whoever
 * waits for them looks before it sleeps: no event tells of what was read). Sockets are several while addresses are
 * tried; none while the name is looked up, or after a failure.
 */
#define CA_MOST_SOCKETS 16
extern int ca_redis_sockets(const CaRedis *redis, pgsocket *sockets); /* how many */
/*
 * Changes whenever a socket does. A WaitEventSet that holds them must be made anew then:
 * a new one may have the number of an old.
 */
extern uint32 ca_redis_generation(const CaRedis *redis);
extern uint32 ca_redis_events(const CaRedis *redis);
extern long ca_redis_timeout(const CaRedis *redis);
/* Does what can be done without blocking: connect, write, read, call handlers, time out. */
extern CaRedisState ca_redis_advance(CaRedis *redis);
/*
 * For a backend that waits: advances until the connection is READY and every command is answered
 * (true), or it is FAILED (false). Not done after `timeout_ms` (-1: the time-outs of the settings
 * alone): the connection is made FAILED. Interrupts are served; when one raises, the connection is
 * FAILED and the handlers left are never called.
 */
extern bool ca_redis_wait(CaRedis *redis, long timeout_ms, uint32 wait_event);

/* ---- redis_hint.c ---- */
/* What to do about this error of a connection, where more is to be said than the cause; or NULL */
extern const char *ca_redis_hint(const char *error);

/* ---- redis_url.c ---- */
/* GUC check hook for cache_aside.redis_url */
extern bool ca_redis_url_check(char **newval, void **extra, GucSource source);
/* Why there is no Redis to connect to, in words that last until the next call; NULL: there is one */
extern const char *ca_redis_url_lacking(void);
extern void ca_redis_url_require(void); /* an ERROR if there is none */

#endif
