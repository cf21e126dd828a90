/*
 * item.h: rows of any table with a primary key, as jsonb.
 *
 *	items.c			put_if_absent, get_item, update_item, update_item_if, delete_item
 *	item_query.c	query_items, query_page
 *	item_table.c	the table: name, key, version and bookkeeping columns; jsonb to typed values
 *	item_plan.c		statements under construction, and their cached plans
 */
#ifndef CA_ITEM_H
#define CA_ITEM_H

#include "cache_aside.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "tcop/dest.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

typedef struct CaItemTable
{
	Relation rel; /* open, AccessShareLock */
	TupleDesc desc;
	const char *name;      /* quoted and qualified */
	Bitmapset *key;        /* attribute numbers of the primary key */
	bool exclusive;        /* the primary key is WITHOUT OVERLAPS */
	AttrNumber version;    /* column of an active version trigger, or InvalidAttrNumber */
	AttrNumber created_at; /* columns of these names, or InvalidAttrNumber */
	AttrNumber updated_at;
} CaItemTable;

typedef struct CaItemValue
{
	AttrNumber attnum;
	Datum value;
	bool isnull;
	bool json_null; /* null for a json or jsonb column: value is JSON's null, isnull is false */
} CaItemValue;

/* A statement and its parameters: values go into the parameters, never into the text. */
typedef struct CaStatement
{
	Oid relid;
	StringInfoData sql;
	bool generic; /* one plan fits every value: equality on a primary key */
	int nparams;
	int capacity;
	Oid *types;
	Datum *values;
	bool *nulls;
} CaStatement;

/* ---- item_table.c ---- */
extern void ca_item_table_open(FunctionCallInfo fcinfo, CaItemTable *table);
extern void ca_item_table_close(CaItemTable *table);
/* A jsonb argument that must be an object; ERROR when it is NULL or something else. */
extern Jsonb *ca_item_table_object(FunctionCallInfo fcinfo, int argument, const char *name);
/*
 * List of CaItemValue, in the object's order; ERROR 42703, 22xxx on columns that do not fit. What is to be
 * `stored` has no use for generated columns: they are left out, whatever they hold.
 */
extern List *ca_item_table_read(CaItemTable *table, Jsonb *object, bool stored);
/* The same for a key: exactly the primary key's columns, none NULL. */
extern List *ca_item_table_read_key(CaItemTable *table, Jsonb *object);
/* The name of the primary key's constraint, quoted. */
extern const char *ca_item_table_key_constraint(CaItemTable *table);
/* One typed value; sets *isnull. */
extern Datum ca_item_table_value(CaItemTable *table, AttrNumber attnum, JsonbValue *json,
								 bool *isnull);
extern AttrNumber ca_item_table_column(CaItemTable *table, const char *name, int len);
extern char *ca_item_table_key_list(CaItemTable *table); /* quoted names of the primary key */
extern bool ca_item_table_is_timestamp(CaItemTable *table, AttrNumber attnum);

/* ---- item_plan.c ---- */
extern const char *ca_item_plan_column_name(CaItemTable *table, AttrNumber attnum); /* quoted */
extern void ca_item_plan_init(CaStatement *statement, Oid relid, bool generic);
/* Appends $n. */
extern void ca_item_plan_param(CaStatement *statement, Oid type, Datum value, bool isnull);
/* Appends `i."column" operator $n`; strategy is one of the btree strategies. */
extern void ca_item_plan_compare(CaStatement *statement, CaItemTable *table, AttrNumber attnum,
								 int strategy, Datum value);
/*
 * Runs it through the plan cache, inside SPI_connect; rows go to `dest`, or to SPI_tuptable when it is
 * NULL. Returns the number of rows. read_only: the caller's snapshot, else a new one.
 */
extern uint64 ca_item_plan_run(CaStatement *statement, bool read_only, DestReceiver *dest);

#endif
