/*
 * row_version.h: what the version trigger, its administration and the items share.
 *
 *	row_version.c		the trigger
 *	version_settings.c	trigger arguments to CaVersioning; conflict and overflow errors
 *	version_sequence.c	the sequence that a version column may own
 *	versioning.c		enable_versioning, disable_versioning
 */
#ifndef CA_ROW_VERSION_H
#define CA_ROW_VERSION_H

#include "access/htup.h"
#include "commands/trigger.h"
#include "nodes/bitmapset.h"
#include "utils/relcache.h"

typedef struct CaVersioning
{
	AttrNumber attnum;  /* the version column */
	Oid type;           /* int2, int4 or int8 */
	int64 max;          /* highest value of that type */
	bool presents_read; /* a writer presents the version it read, not the next one */
	bool from_sequence; /* new rows start from the sequence the column owns */
	Bitmapset *counted; /* attribute numbers whose change bumps; the trigger only */
	Oid sequence;       /* that sequence, or InvalidOid; the trigger only */
} CaVersioning;

/* ---- version_settings.c ---- */
/* The column's number, or InvalidAttrNumber when the relation has no such (user) column. */
extern AttrNumber ca_row_version_column(Relation rel, const char *name);
/* Is this the row_version function of this extension? */
extern bool ca_row_version_is(Oid function);
/* The row_version trigger of a relation (a copy), or NULL. */
extern Trigger *ca_row_version_trigger(Relation rel);
/* Would that trigger fire for a statement of this session? */
extern bool ca_row_version_active(const Trigger *trigger);
/* Reads a trigger's arguments; ERROR when they do not fit the table. Not counted, sequence. */
extern void ca_row_version_resolve(Relation rel, Trigger *trigger, CaVersioning *versioning);
/* A tuple's version, 0 when it is NULL. */
extern int64 ca_row_version_get(const CaVersioning *versioning, HeapTuple tuple, TupleDesc desc,
								bool *isnull);
extern Datum ca_row_version_datum(const CaVersioning *versioning, int64 version);
pg_noreturn extern void ca_row_version_overflow(Relation rel, const CaVersioning *versioning);
/* ERROR 40001 of the trigger; `found` is what the statement presents, NULL for SQL NULL. */
pg_noreturn extern void ca_row_version_refuse(TriggerData *data, const CaVersioning *versioning,
											  int64 old_version, const int64 *found);

/* ---- version_sequence.c ---- */
/* The sequence that the column owns, here or in a parent; InvalidOid when there is none. */
extern Oid ca_version_sequence_find(Oid relid, const char *column);
extern Oid ca_version_sequence_require(Relation rel, const char *column); /* ERROR instead */
extern int64 ca_version_sequence_next(Oid sequence);
extern void ca_version_sequence_keep_ahead(Oid sequence, int64 version);

#endif
