/*
 * row_version.h: what the version trigger, its administration and the items share.
 *
 *	version_trigger.c		the trigger
 *	version_settings.c	trigger arguments to CaVersioning; conflict and overflow errors
 *	version_columns.c	the columns the trigger looks at, as far as they are still there
 *	version_sequence.c	the sequence that a version column may own
 *	enable_versioning.c		enable_versioning, disable_versioning
 */
#ifndef CA_ROW_VERSION_H
#define CA_ROW_VERSION_H

#include "cache_aside.h"
#include "common/compat.h"

#include "access/htup.h"
#include "commands/trigger.h"
#include "nodes/bitmapset.h"
#include "utils/relcache.h"

/* What a writer that assigns the column must put there. */
typedef enum CaPresents
{
	CA_PRESENTS_NEXT, /* the version it read plus one */
	CA_PRESENTS_READ, /* the version it read */
	CA_PRESENTS_ECHO  /* either; the version as it is stands for "I know nothing", and stays */
} CaPresents;

/* Where a row begins that brings no version. */
typedef enum CaStart
{
	CA_START_UNUSED,  /* above every version of a row that was deleted, else 1 */
	CA_START_ONE,     /* 1 */
	CA_START_SEQUENCE /* the next number of the sequence */
} CaStart;

typedef struct CaVersioning
{
	AttrNumber attnum; /* the version column */
	Oid type;          /* int2, int4 or int8 */
	int64 max;         /* highest value of that type */
	CaPresents presents;
	CaStart start;
	Bitmapset *counted; /* attribute numbers whose change bumps; the trigger only */
	Bitmapset
		*key; /* of the primary key, as the relcache has it; CA_START_UNUSED, the trigger only */
	Oid sequence; /* that the column owns, or InvalidOid: not looked up yet; the trigger only */
	int64 buried; /* it was seen this far; the trigger only */
} CaVersioning;

/* ---- version_settings.c ---- */
/* The column's number, or InvalidAttrNumber when the relation has no such (user) column. */
extern AttrNumber ca_version_settings_column(Relation rel, const char *name);
/* Is this the row_version function of this extension? */
extern bool ca_version_settings_is(Oid function);
/* The row_version trigger of a relation (a copy), or NULL. */
extern Trigger *ca_version_settings_trigger(Relation rel);
/* Would that trigger fire for a statement of this session? */
extern bool ca_version_settings_active(const Trigger *trigger);
/*
 * Reads a trigger's arguments, ERROR when they make no sense; not counted, key, sequence. False when
 * the column is gone or cannot hold a version any more: there are no versions then, and no error.
 */
extern bool ca_version_settings_resolve(Relation rel, Trigger *trigger, CaVersioning *versioning);
/* A tuple's version, 0 when it is NULL. */
extern int64 ca_version_settings_get(const CaVersioning *versioning, HeapTuple tuple,
									 TupleDesc desc, bool *isnull);
extern Datum ca_version_settings_datum(const CaVersioning *versioning, int64 version);
pg_noreturn extern void ca_version_settings_overflow(Relation rel, const CaVersioning *versioning);
extern void ca_version_settings_warn_high(Relation rel, const CaVersioning *versioning,
										  int64 version);
/* ERROR 40001 of the trigger; `found` is what the statement presents, NULL for SQL NULL. */
pg_noreturn extern void ca_version_settings_refuse(TriggerData *data,
												   const CaVersioning *versioning,
												   int64 old_version, const int64 *found);

/* ---- version_columns.c ---- */
/* All of a CaVersioning, without versions (InvalidAttrNumber) where the column is gone. */
extern void ca_version_columns_prepare(Relation rel, Trigger *trigger, CaVersioning *versioning);
/* Has it one, as its `start` demands? Else it starts at 1 from now on. */
extern bool ca_version_columns_has_sequence(Relation rel, Trigger *trigger,
											CaVersioning *versioning);
/* Was this trigger's table warned of in this session? It counts as warned from now on. */
extern bool ca_version_columns_warned(Trigger *trigger);

/* ---- version_sequence.c ---- */
/* The sequence that the column owns, here or in a parent; InvalidOid when there is none. */
extern Oid ca_version_sequence_find(Oid relid, const char *column);
extern int64 ca_version_sequence_next(Oid sequence);
extern int64 ca_version_sequence_last(Oid sequence);
/* Moves it towards `version` if it is below; false when it is too far away to get there. */
extern bool ca_version_sequence_push(Oid sequence, int64 version);
/* Moves it to `version` however far that is. Waits for its users: for loads and DDL. */
extern void ca_version_sequence_jump(Oid sequence, int64 version);

#endif
