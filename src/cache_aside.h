/*
 * cache_aside.h: the map. Vocabulary, shared types, and the functions of each file in flow order.
 *
 *	capture -> key -> pending -> message -> (commit) -> WAL -> tap -> delivery -> redis
 *
 * key       text of one cache entry's name in Redis, UTF-8, no NUL, at most CA_MAX_KEY bytes
 * template  "user:{id}"; rules carry it in their triggers' arguments, nowhere else
 * pattern   Redis glob (SCAN MATCH) that covers every key a rule can produce
 * pending   the keys the open transaction will invalidate
 * message   the WAL record that carries pending keys to the worker
 * position  (system identifier, timeline, confirmed LSN, restart LSN), kept in Redis
 *
 * Dependencies run one way. capture.c, key.c, pending.c and message.c know nothing of Redis or of
 * workers; redis.c is the only file that includes hiredis and knows nothing of WAL; only the worker
 * (worker.h and the files it lists) knows both.
 */
#ifndef CACHE_ASIDE_H
#define CACHE_ASIDE_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "storage/latch.h"
#include "utils/snapshot.h"
#include "utils/guc.h"

#include "common/compat.h"

#define CA_MAX_KEY 8192            /* bytes; a longer key fails the write */
#define CA_RESERVED "cache_aside:" /* begins the keys that are ours: positions, guards, ... */
#define CA_STICK_PREFIX CA_RESERVED "stick:"
#define CA_MAX_STICK 1024 /* bytes of a stick's name: ids of users or sessions */
#define CA_LONGEST_STICK INT64CONST(86400000) /* ms */
#define CA_MESSAGE_PREFIX "cache_aside"       /* of our logical messages, as others see it */
#define CA_MESSAGE_MARK                                                                            \
	"cache_aside\0"                                                                                \
	"1"                              /* and all of it: a NUL, the format, a NUL */
#define CA_MESSAGE_CHUNK (64 * 1024) /* entries of one message, unless it is a single one */

/* ---- common/init.c: settings and start ---- */
extern void ca_common_init(void);

/* ---- keys/init.c: settings and start ---- */
extern char *guc_key_prefix; /* prefix of every key, or several separated by commas */
extern void ca_keys_init(void);

/* ---- redis/init.c: settings and start ---- */
extern char *guc_redis_url;
extern char *guc_redis_password_file;
extern int guc_connect_timeout; /* ms */
extern int guc_command_timeout; /* ms */
extern void ca_redis_init(void);

/* ---- shared/init.c: settings and start ---- */
extern void ca_shared_init(void);

/* ---- transaction/init.c: settings and start ---- */
extern void ca_transaction_init(void);

/* ---- rows/init.c: settings and start ---- */
extern void ca_rows_init(void);

/* ---- rules/init.c: settings and start ---- */
extern bool guc_enabled;         /* capture writes keys (superuser may switch it off) */
extern bool guc_ddl_invalidates; /* DDL deletes patterns (superuser may switch it off) */
extern void ca_rules_init(void);

/* ---- log/init.c: settings and start ---- */
extern int guc_redelivery_window; /* s */
extern int guc_max_wal_retained;  /* MB */
extern void ca_log_init(void);

/* ---- resync/init.c: settings and start ---- */
extern int guc_scan_rate; /* keys looked at per second by a pattern scan; 0: no limit */
extern void ca_resync_init(void);

/* ---- delivery/init.c: settings and start ---- */
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
extern void ca_delivery_init(void);

/* ---- reads/init.c: settings and start ---- */
extern void ca_reads_init(void);

/* ---- routing/init.c: settings and start ---- */
extern void ca_routing_init(void);

/* ---- worker/init.c: settings and start ---- */
extern void ca_worker_init(void);

/* ---- preload.c ---- */
extern bool ca_preloaded(void);       /* did shared_preload_libraries load us? */
extern void ca_require_preload(void); /* ERROR with HINT otherwise */
extern void ca_preload_begin(void);
extern void ca_preload_shmem(void (*request)(void),
							 void (*init)(void)); /* of a folder; in its start */

/* ---- settings.c ---- */
/* A check hook is not told whose it is: one for each number. */
#define CA_RANGE(setting, lowest, highest, unit, hint)                                             \
	static bool check_##setting(int *newval, void **extra, GucSource source)                       \
	{                                                                                              \
		return ca_settings_in_range(*newval, lowest, highest, unit, hint);                         \
	}
extern bool ca_settings_in_range(int value, int lowest, int highest, const char *unit,
								 const char *hint);
extern void ca_settings_number(const char *name, const char *what, const char *why, int *variable,
							   int preset, GucContext context, int flags, GucIntCheckHook check);

/* ---- capture.c: trigger functions; rows to keys ---- */
/* ---- rules.c: attach, detach and the checks a rule must pass ---- */
/* ---- ddl.c: utility hook; DROP, DETACH and rewrites that fire no trigger ---- */
extern void ca_ddl_init(void);

/* ---- merge.c: what MERGE moves between partitions ---- */
extern void ca_merge_init(void);
/* ---- version_increment.c: SET version = version + 1 where writers present what they read ---- */
extern void ca_version_increment_init(void);
extern void ca_version_increment_assign(bool value, void *extra);

/* ---- key.c: templates to text ---- */
typedef struct CaTemplate CaTemplate;
struct TupleTableSlot;
struct TupleDescData;
typedef void (*CaKeyHandler)(void *arg, const char *key, Size len);

/*
 * Parses `text` against the columns of a relation; the result lives in the current memory context.
 * A malformed template raises 22023. A column that is not there raises 42703, or, with `missing`,
 * is reported there (its name) and the template can only give its pattern.
 */
extern CaTemplate *ca_key_parse(const char *text, struct TupleDescData *columns,
								const char *relname, const char **missing);
/* ERROR 22023 for "user:${id}". */
extern void ca_key_refuse_shell(const char *str);
/* What became of such a column: "is gone", ... */
extern const char *ca_key_missing(struct TupleDescData *columns, const char *name);
extern Bitmapset *ca_key_columns(const CaTemplate *template);  /* attribute numbers */
extern const char *ca_key_pattern(const CaTemplate *template); /* without prefix */
/* The pattern of a template's text, columns unchecked; NULL when it is malformed. */
extern const char *ca_key_template_pattern(const char *str);
/* Calls `handler` for each key of a row (none when a column is NULL), without prefix. */
extern void ca_key_build(CaTemplate *template, struct TupleTableSlot *row, CaKeyHandler handler,
						 void *arg);
/* True when old and new row have bytewise equal values in the template's columns. */
extern bool ca_key_same(CaTemplate *template, struct TupleTableSlot *old_row,
						struct TupleTableSlot *new_row);

/* ---- prefix.c: key_prefix, encoding, glob text ---- */
extern void ca_prefix_assign(const char *newval, void *extra); /* GUC assign hook */
extern char *ca_prefix_utf8(const char *text, Size len, Size *result_len);
extern char *ca_prefix_pattern_utf8(const char *pattern, Size *result_len); /* never raises */
extern char *ca_prefix_from_utf8(char *utf8);
/* Is this the name of a key of ours, as it is in Redis? No rule, no caller and no scan touches it. */
extern bool ca_prefix_is_reserved(const char *key, Size len);
/* Would every key that the pattern can match be reserved, under some prefix? The second raises then. */
extern bool ca_prefix_reserves(const char *pattern, Size len);
extern void ca_prefix_check_pattern(const char *pattern, Size len, const char *what);
extern void ca_prefix_each(char kind, const char *str, Size len, const char *what,
						   CaKeyHandler handler, void *arg);
/* Those in force, as the log has them; length 0: none. Valid until the setting changes. */
extern const char *ca_prefix_packed(Size *len);
extern int ca_prefix_count(void); /* of the setting, at least 1, which may be the empty one */
extern const char *ca_prefix_get(int i);
extern void ca_prefix_escape(StringInfo target, const char *text, Size len); /* glob characters */

/* ---- keyspace.c: which keys a position, or a transaction, speaks for ---- */
#define CA_KEYSPACE_PREFIXES 8
#define CA_KEYSPACE_TEXT 88 /* 9 bytes a prefix, and a number */

typedef struct CaKeyspace
{
	int database;
	bool combined; /* too many prefixes: one hash of all */
	int count;
	uint32 hashes[CA_KEYSPACE_PREFIXES]; /* of prefixes, ascending */
} CaKeyspace;

extern void ca_keyspace_current(int database, CaKeyspace *keyspace);
extern bool ca_keyspace_has(const CaKeyspace *keyspace, const char *prefix);
extern bool ca_keyspace_covers(const CaKeyspace *known, const CaKeyspace *now);
extern void ca_keyspace_intersect(CaKeyspace *keyspace, const CaKeyspace *other);
extern void ca_keyspace_format(const CaKeyspace *keyspace, char *out);
extern void ca_keyspace_parse(int database, const char *prefixes, CaKeyspace *keyspace);
/* The prefixes alone, as an entry of the log has them; the length, 0 for one that is empty. */
extern Size ca_keyspace_pack(const CaKeyspace *keyspace, char *out);
#define CA_KEYSPACE_PACKED (1 + 4 * CA_KEYSPACE_PREFIXES)
extern bool ca_keyspace_packed_is_valid(const char *data, Size len);
extern void ca_keyspace_unpack(const char *data, Size len, CaKeyspace *keyspace);

/* ---- text.c: bytes that may be no text of this database ---- */
extern bool ca_text_is_valid(const char *str);
extern char *ca_text_show(const char *str); /* palloc'd; printable if it is not valid */
/* ERROR 22021 unless it is valid. */
extern void ca_text_require(const char *str, const char *what);
extern void ca_text_require_all(int n, char **strs, const char *what);

/* ---- pending.c: the open transaction's set ---- */
extern void ca_pending_init(void); /* registers the transaction callbacks, once per backend */
/*
 * Adds one entry (kinds below) to the open transaction's set. Errors: 25006 in a read-only
 * transaction or in recovery; out of memory or temp_file_limit. Copies `data`.
 */
extern void ca_pending_add(char kind, const char *data, Size len);

/* ---- entries.c: keys and patterns into it, once for each prefix ---- */
/* Add to the pending set, once per prefix. `what` begins the DETAIL of an error: 'Rule "x"'. */
extern void ca_entries_add_key(const char *key, Size len, const char *what);
extern void ca_entries_add_pattern(const char *pattern, Size len, const char *what);
extern void
ca_entries_add_rule_pattern(const char *pattern); /* UTF-8; never raises for what it is */

/* ---- spill.c: its temporary file, once it outgrew memory ---- */
struct BufFile;
extern struct BufFile *ca_spill_create(void);
extern void ca_spill_seek(struct BufFile *file, int64 offset);
extern void ca_spill_read(struct BufFile *file, void *target, Size len);

/* ---- commit.c: right after a commit; nothing here raises ---- */
extern bool ca_commit_waits(void);           /* will this transaction wait for its delivery? */
extern void ca_commit_note_stick(bool wait); /* it leaves a stick */
extern void ca_commit_prepared(void);        /* it is prepared, and ends for this session */
extern void ca_commit_note_created(void);    /* CREATE EXTENSION runs */
extern void ca_commit_note_prepared(XLogRecPtr since); /* a COMMIT PREPARED ran */
extern void ca_prepared_mark(void);      /* prepared.c: it is being prepared, and logged messages */
extern void ca_commit_done(bool logged); /* XACT_EVENT_COMMIT; did it log messages? */
extern void ca_commit_aborted(void);
extern void ca_commit_init(void); /* registers the resource release callback, once per backend */

/* ---- commit_token.c: the commit LSN as a ParameterStatus ---- */
extern bool guc_report_commit_lsn;
/* Tells the client, without blocking and without raising. Only where after_locks() calls it. */
extern void ca_commit_token_report(XLogRecPtr lsn);

/* ---- message.c: writes the WAL message ---- */
#define CA_ENTRY_KEY 'k'     /* data: the key */
#define CA_ENTRY_PATTERN 'p' /* data: the glob pattern */
#define CA_ENTRY_STICK 's'   /* data: uint32 ttl in ms, not 0, then the name */

#define CA_ENTRY_PREFIXES 'w' /* data: a packed keyspace; the prefixes of this transaction's keys */

#define CA_ENTRY_RESYNC 'r' /* no data: resync() was called */
#define CA_ENTRY_CENSUS 'x' /* no data: the extension or a database that had it was dropped */
#define CA_ENTRY_CRASH 'c'  /* no data: the server recovered from a crash */

#define CA_ENTRY_HEADER_SIZE 5       /* kind (1 byte) and length (uint32) before the data */
#define CA_MESSAGE_ASYNC_COMMIT 0x01 /* flag: the writer ran with synchronous_commit = off */
#define CA_MESSAGE_MAX (CA_MESSAGE_CHUNK + CA_ENTRY_HEADER_SIZE + CA_MAX_KEY)

/* Appends one entry to a buffer of entries; ca_message_log writes such a buffer as one message. */
extern void ca_message_append(StringInfo entries, char kind, const char *data, Size len);
extern XLogRecPtr ca_message_log(const char *entries, Size len);
/* Logs an empty, non-transactional message: a record with a definite end to wait for. */
extern XLogRecPtr ca_message_log_barrier(void);

/* ---- record.c: reads it, and believes nothing else ---- */
typedef struct CaEntry
{
	char kind;
	const char *data; /* points into the message; not NUL-terminated */
	Size len;
} CaEntry;

typedef struct CaMessage
{
	bool async_commit;
	const char *next; /* iteration state */
	const char *end;
} CaMessage;

typedef enum CaRecordKind
{
	CA_RECORD_OTHER,     /* nothing to do with us, or a barrier */
	CA_RECORD_FOREIGN,   /* has our name, as any role can write it: not to be followed */
	CA_RECORD_MESSAGE,   /* ours, and whole */
	CA_RECORD_UNREADABLE /* ours, but malformed or of another format */
} CaRecordKind;

/* `data`: all of a record of RM_LOGICALMSG_ID. `problem` is set for UNREADABLE alone. */
extern CaRecordKind ca_record_parse(const char *data, Size len, CaMessage *message,
									const char **problem);
extern bool ca_record_next(CaMessage *message, CaEntry *entry); /* false at the end */
/* Is this an entry that the reader accepts? */
extern bool ca_record_entry_is_valid(char kind, const char *data, Size len);

/* ---- redis.c: one connection; the only file with hiredis ---- */
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

extern CaReplyType ca_reply_type(const CaReply *reply);
extern const char *ca_reply_text(const CaReply *reply, Size *len); /* STATUS, STRING, ERROR */
extern int64 ca_reply_integer(const CaReply *reply);
extern Size ca_reply_count(const CaReply *reply); /* ARRAY */
extern const CaReply *ca_reply_element(const CaReply *reply, Size i);

/*
 * Begins a connection to guc_redis_url; never blocks, never raises for what Redis or the network
 * do (state FAILED instead). Lives in `cxt`. `client_name` is shown by CLIENT LIST.
 */
extern CaRedis *ca_redis_open(MemoryContext cxt, const char *client_name);
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
extern int ca_redis_in_flight(const CaRedis *redis); /* commands without an answer */
extern Size ca_redis_unsent_bytes(const CaRedis *redis);
/*
 * What to wait for: socket (PGINVALID_SOCKET while there is none), WL_SOCKET_* events, and the
 * milliseconds after which ca_redis_advance must run even if nothing happened (-1: none).
 */
extern pgsocket ca_redis_socket(const CaRedis *redis);
/*
 * Changes whenever the socket does. A WaitEventSet that holds the socket must be made anew then:
 * the new one may have the number of the old.
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
/* "host:port/db" or "path?db=N" of guc_redis_url, never with a secret; palloc'd */
extern char *ca_redis_endpoint(void);
/* GUC check hook for cache_aside.redis_url */
extern bool ca_redis_check_url(char **newval, void **extra, GucSource source);
/* Why there is no Redis to connect to, in words that last until the next call; NULL: there is one */
extern const char *ca_redis_misconfigured(void);
extern void ca_redis_url_require(void); /* an ERROR if there is none */
#define CA_REDIS_URL_HINT                                                                          \
	"Set cache_aside.redis_url in the configuration, for example to redis://host:6379/0, and "     \
	"reload it. SELECT * FROM pg_file_settings WHERE error IS NOT NULL shows the line of a value " \
	"that was refused."

/* ---- token.c: how fresh is what a transaction reads ---- */
#define CA_TOKEN_TEXT 64 /* bytes enough for any token and its NUL */
extern void ca_token_shmem_request(void);
extern void ca_token_shmem_init(void);
/* Of the worker alone, with a snapshot taken before the call. */
extern void ca_token_sample(Snapshot snapshot, XLogRecPtr visible, TimeLineID timeline);
extern void ca_token_sample_replayed(void); /* for a standby that reads no log */
extern void ca_token_attach(void);          /* the worker begins; tokens end with it */
extern void ca_token_reset(void);
extern const char *ca_token_current(void); /* NULL: there is none; static storage */
extern void ca_token_format(uint64 sysid, TimeLineID timeline, XLogRecPtr lsn, char *token);
extern bool ca_token_parse(const char *token, uint64 *sysid, TimeLineID *timeline, XLogRecPtr *lsn);

/* ---- allowance.c: how many backends may be connected to Redis; see reads.h ---- */
extern int guc_max_backend_connections;
extern int guc_backend_idle_timeout; /* ms */
extern void ca_allowance_shmem_request(void);
extern void ca_allowance_shmem_init(void);
extern uint32 ca_allowance_used(void);

/* ---- warm.c: progress of warm() ---- */
extern void ca_warm_shmem_request(void);
extern void ca_warm_shmem_init(void);

/* ---- guard.c: the worker's calls of the function library in Redis; see cache_aside.lua ---- */
/* Of the library, as there. */
#define CA_LIBRARY_PROTOCOL "1"
#define CA_LIBRARY_REVISION 2
#define CA_LIBRARY_CALL(verb) "cache_aside_" verb "_" CA_LIBRARY_PROTOCOL
#define CA_BATCH_STICKS 64   /* most in one call */
#define CA_GUARD_PRECISE 128 /* keys; a larger batch is always coarse */

typedef struct CaSlice
{
	Size offset;
	Size len;
} CaSlice;

typedef struct CaStick
{
	Size offset; /* of the whole Redis key */
	Size len;
	uint32 ttl; /* ms */
	XLogRecPtr lsn;
} CaStick;

typedef struct CaGuardBatch
{
	const char *bytes; /* where keys and sticks point into */
	const CaSlice *keys;
	int nkeys;
	const CaStick *sticks;
	int nsticks;
	XLogRecPtr lsn; /* highest commit among the keys; invalid: guard = off, the guard is deleted */
	bool coarse;    /* a backlog: cheaper for Redis, refuses more fills of readers behind it */
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
	bool guarded;        /* false: the guard is gone; arm again, with E */
} CaApplied;

typedef enum CaGuardProblem
{
	CA_GUARD_NO_PROBLEM,
	CA_GUARD_NOT_LOADED,    /* ca_guard_load, then again */
	CA_GUARD_UNSUPPORTED,   /* Redis before 7: send ca_guard_plain_script by EVAL */
	CA_GUARD_FENCED,        /* a server of a newer timeline delivers here: touch nothing */
	CA_GUARD_OCCUPIED,      /* the claim is another's, who lives */
	CA_GUARD_CONNECT_AGAIN, /* this Redis is not what it was, or the position is another */
	CA_GUARD_OTHER          /* OOM, READONLY, ...: Redis's own */
} CaGuardProblem;

extern const char ca_guard_plain_script[]; /* apply_plain.lua */
extern const char *ca_guard_key(void);     /* cache_aside:guard:<system identifier> */
/* Each queues one command; `expected` is the position's text that Redis must hold, "" for none. */
/* Two commands, either of which may answer that a name exists. `older`: one of ours is there. */
extern void ca_guard_load(CaRedis *redis, bool older, CaReplyHandler handler, void *arg);
/* With a new nonce. */
extern void ca_guard_claim(CaRedis *redis, const CaClaimCall *what, CaReplyHandler handler,
						   void *arg);
extern const char *ca_guard_nonce(void);
extern void ca_guard_epoch(CaRedis *redis, const char *expected, const char *position,
						   XLogRecPtr floor, bool clear, CaReplyHandler handler, void *arg);
/* `until`: Redis's time at which it ends, ms */
extern void ca_guard_arm(CaRedis *redis, const char *expected, XLogRecPtr floor, int64 until,
						 CaReplyHandler handler, void *arg);
/* `heard`: of deletions of another system; `above` all tokens given before that; 0: of none */
extern void ca_guard_renew(CaRedis *redis, int64 until, int64 heard, XLogRecPtr above,
						   CaReplyHandler handler, void *arg);
/* The claim is given up: no fill is admitted from here on. `remove`: with position and guard. */
extern void ca_guard_disarm(CaRedis *redis, bool remove, CaReplyHandler handler, void *arg);
extern void ca_guard_apply(CaRedis *redis, const CaGuardBatch *batch, const char *expected,
						   const char *position, CaReplyHandler handler, void *arg);
/* false: not the answer of such a call (see ca_guard_problem) */
extern bool ca_guard_read_claim(const CaReply *reply, CaClaim *claim);
extern bool ca_guard_read_apply(const CaReply *reply, CaApplied *applied);
extern bool ca_guard_read_arming(const CaReply *reply, CaArming *answer);
/* `ours`: it was our claim; `others`: claims that are alive in the library. */
extern bool ca_guard_read_disarm(const CaReply *reply, bool *ours, int64 *others);
extern CaGuardProblem ca_guard_problem(const CaReply *reply);

/* ---- glob.c: Redis glob patterns ---- */
extern Size ca_glob_prefix(const char *pattern, Size len, char *out);
extern Size ca_glob_cut(const char *pattern, Size len, Size most); /* cuts no unit in two */
extern bool ca_glob_begins(const char *pattern, Size len, const char *literal, Size literal_len);
extern void ca_glob_escape(StringInfo out, const char *text, Size len);
extern bool ca_glob_match(const char *pattern, Size pattern_len, const char *text, Size text_len);

/* ---- row_version.c: the version trigger; see row_version.h, item.h ---- */
extern bool guc_import_mode; /* keep the versions that are given (superuser, SET LOCAL) */

/* ---- status.c: what the worker tells the world; all of it in shared memory ---- */
extern void ca_status_shmem_request(void);
extern void ca_status_shmem_init(void);
/*
 * Sets the worker's latch if there is a worker. Safe anywhere, after commit included: takes no
 * lock, never raises.
 */
extern void ca_status_wake_worker(void);
extern void ca_status_ask_census(void); /* likewise */
extern void ca_status_note_keys(void);  /* likewise */

/* ---- announce.c ---- */

/* ---- worker.c ---- */
extern void ca_worker_register(void);

#endif
