/*
 * common.h: what every folder may use: text, patterns, the record in the log, settings, how the library came in.
 */
#ifndef CA_COMMON_H
#define CA_COMMON_H

#include "cache_aside.h"

/* ---- init.c: settings and start ---- */
extern void ca_common_init(void);

/* ---- preload.c ---- */
extern bool ca_preload_done(void);    /* did shared_preload_libraries load us? */
extern void ca_preload_require(void); /* ERROR with HINT otherwise */
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

/* ---- text.c: bytes that may be no text of this database ---- */
extern bool ca_text_is_valid(const char *str);
extern char *ca_text_show(const char *str); /* palloc'd; printable if it is not valid */
/* ERROR 22021 unless it is valid. */
extern void ca_text_require(const char *str, const char *what);
extern void ca_text_require_all(int n, char **strs, const char *what);

/* ---- message.c: writes the WAL message ---- */
#define CA_ENTRY_KEY 'k'     /* data: the key */
#define CA_ENTRY_PATTERN 'p' /* data: the glob pattern */
#define CA_ENTRY_STICK 's'   /* data: uint32 ttl in ms, not 0, then the name */

#define CA_ENTRY_PREFIXES 'w' /* data: a packed keyspace; the prefixes of this transaction's keys */
#define CA_KEYSPACE_PREFIXES 8 /* that are named, each by its hash; more have one hash of all */
#define CA_KEYSPACE_PACKED (1 + 4 * CA_KEYSPACE_PREFIXES) /* bytes, at most */

#define CA_ENTRY_RESYNC 'r' /* no data: resync() was called */
#define CA_ENTRY_CENSUS 'x' /* no data: the extension or a database that had it was dropped */
#define CA_ENTRY_CRASH 'c'  /* no data: the server recovered from a crash */

#define CA_ENTRY_HEADER_SIZE 5       /* kind (1 byte) and length (uint32) before the data */
#define CA_MESSAGE_ASYNC_COMMIT 0x01 /* flag: the writer ran with synchronous_commit = off */
#define CA_MESSAGE_KEY_DDL 0x02      /* flag: it has DDL that may change what keys are called */
#define CA_MESSAGE_MAX (CA_MESSAGE_CHUNK + CA_ENTRY_HEADER_SIZE + CA_MAX_KEY)

/* Appends one entry to a buffer of entries; ca_message_log writes such a buffer as one message. */
extern void ca_message_append(StringInfo entries, char kind, const char *data, Size len);
extern XLogRecPtr ca_message_log(char flags, const char *entries, Size len);
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
	bool key_ddl;
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

/* ---- glob.c: Redis glob patterns ---- */
extern Size ca_glob_prefix(const char *pattern, Size len, char *out);
extern Size ca_glob_cut(const char *pattern, Size len, Size most); /* cuts no unit in two */
extern bool ca_glob_begins(const char *pattern, Size len, const char *literal, Size literal_len);
extern void ca_glob_escape(StringInfo out, const char *text, Size len);
extern bool ca_glob_match(const char *pattern, Size pattern_len, const char *text, Size text_len);

#endif
