/*
 * keys.h: templates and rows to the text of keys.
 */
#ifndef CA_KEYS_H
#define CA_KEYS_H

#include "cache_aside.h"
#include "common/common.h"

/* ---- init.c: settings and start ---- */
extern char *guc_key_prefix; /* prefix of every key, or several separated by commas */
extern void ca_keys_init(void);

/* ---- template.c: the text of a template ---- */
typedef struct CaTemplate CaTemplate;
struct TupleDescData;

/*
 * Parses `text` against the columns of a relation; the result lives in the current memory context.
 * A malformed template raises 22023. A column that is not there raises 42703, or, with `missing`,
 * is reported there (its name) and the template can only give its pattern.
 */
extern CaTemplate *ca_template_parse(const char *text, struct TupleDescData *columns,
									 const char *relname, const char **missing);
/* ERROR 22023 for "user:${id}". */
extern void ca_template_refuse_shell(const char *str);
/* What became of such a column: "is gone", ... */
extern const char *ca_template_missing(struct TupleDescData *columns, const char *name);
/* Does making its keys run nothing but output functions that are known? */
extern bool ca_template_is_plain(const CaTemplate *template);
extern bool ca_template_is_computed(const CaTemplate *template);
extern Bitmapset *ca_template_columns(const CaTemplate *template);  /* attribute numbers */
extern const char *ca_template_pattern(const CaTemplate *template); /* without prefix */
/* The pattern of a template's text, columns unchecked; NULL when it is malformed. */
extern const char *ca_template_text_pattern(const char *str);

/* ---- key.c: rows to the text of keys ---- */
struct TupleTableSlot;
typedef void (*CaKeyHandler)(void *arg, const char *key, Size len);

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
extern bool ca_prefix_is_none(void); /* the setting is the empty one alone, as far as it was read */
extern int ca_prefix_count(void);    /* of the setting, at least 1, which may be the empty one */
extern const char *ca_prefix_get(int i);
extern uint64 ca_prefix_generation(void); /* of the list: another one after the setting changed */
extern void ca_prefix_escape(StringInfo target, const char *text, Size len); /* glob characters */

/* ---- keyspace.c: which keys a position, or a transaction, speaks for ---- */
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
/* The prefixes in force, as an entry of the log has them; 0 bytes for none. Valid until the setting changes. */
extern const char *ca_keyspace_packed(Size *len);
extern void ca_keyspace_unpack(const char *data, Size len, CaKeyspace *keyspace);

#endif
