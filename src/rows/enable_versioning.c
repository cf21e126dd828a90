/*
 * enable_versioning.c: enable_versioning, disable_versioning: DDL on behalf of the caller.
 *
 * Input: a table, names, choices. Output: a column (if the table has none), a sequence (if asked for),
 * and ordinary triggers: the catalog is the configuration, so pg_dump, DROP and partitions need nothing
 * of ours. Partitions get a clone from PostgreSQL; inheritance children do not, so each gets its own.
 *
 * Everything runs as the caller, who must own the table, with quoted and qualified names. The table is
 * locked ACCESS EXCLUSIVE first: adding the column needs it, and upgrading a weaker lock invites
 * deadlocks. Adding the column rewrites nothing (constant default). On ERROR the transaction takes
 * everything back.
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "rows/row_version.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

/* BEFORE triggers fire in the order of their names: ours must see what the others did. */
#define TRIGGER_NAME "zzz_cache_aside_row_version"

PG_FUNCTION_INFO_V1(cache_aside_enable_versioning);
PG_FUNCTION_INFO_V1(cache_aside_disable_versioning);

typedef struct Request
{
	Oid relid;
	const char *column;
	ArrayType *counted;   /* name[] or NULL */
	const char *start;    /* "unused", "one" or "sequence" */
	const char *presents; /* "next", "read" or "echo" */
} Request;

static const char *const start_words[] = {"unused", "one", "sequence"};
static const char *const presents_words[] = {"next", "read", "echo"};

static bool
starts(const Request *request, const char *word)
{
	return strcmp(request->start, word) == 0;
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* Runs one command as the caller. */
static void
run(const char *sql)
{
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run: %s", sql);
}

static void
require(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be NULL", name),
						errdetail("Only \"columns\" may be NULL, which counts every column."),
						errhint("Leave the argument out for its default.")));
}

/* One of three words, ERROR for any other. */
static const char *
read_word(FunctionCallInfo fcinfo, int argument, const char *name, const char *const words[3])
{
	char *word;

	require(fcinfo, argument, name);
	word = text_to_cstring(PG_GETARG_TEXT_PP(argument));
	for (int i = 0; i < 3; i++)
		if (strcmp(word, words[i]) == 0)
			return words[i];
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"%s\" has an unknown value", name), errdetail("It is '%s'.", word),
			 errhint("Use '%s', '%s' or '%s'.", words[0], words[1], words[2])));
}

static void
check_table(Relation rel)
{
	char kind = rel->rd_rel->relkind;

	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) || IsSystemRelation(rel))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" cannot have row versions", RelationGetRelationName(rel)),
						errdetail("It is not an ordinary or partitioned table of a user."),
						errhint("Name the table that stores the rows.")));
	if (!has_privs_of_role(GetUserId(), rel->rd_rel->relowner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", RelationGetRelationName(rel)),
				 errdetail("The owner is %s.", GetUserNameFromId(rel->rd_rel->relowner, false)),
				 errhint("%s", ca_catalog_owner_hint(rel->rd_rel->relowner))));
}

static void
check_counted(Relation rel, const Request *request)
{
	Datum *names;
	bool *nulls;
	int count;

	if (request->counted == NULL)
		return;
	deconstruct_array(request->counted, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, &nulls,
					  &count);
	for (int i = 0; i < count; i++)
	{
		const char *name = nulls[i] ? "NULL" : NameStr(*DatumGetName(names[i]));

		if (!nulls[i] && strcmp(name, request->column) != 0 &&
			ca_version_settings_column(rel, name) != InvalidAttrNumber)
			continue;
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of table \"%s\" cannot count for its version", name,
							   RelationGetRelationName(rel)),
						errdetail("It does not exist, or is the version itself."),
						errhint("List columns of the table whose change gives a new version.")));
	}
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"columns\" is empty"),
				 errdetail("Then no change would give a new version."),
				 errhint("Leave it out, or NULL, to count every column.")));
}

/* What else the column is for, so that its value cannot be ours; NULL if nothing. */
static const char *
other_use(Relation rel, Form_pg_attribute att)
{
	Bitmapset *column = bms_make_singleton(att->attnum - FirstLowInvalidHeapAttributeNumber);
	ListCell *cell;

	if (att->attidentity)
		return "an identity";
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && has_partition_attrs(rel, column, NULL))
		return "part of the partition key";
	foreach (cell, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;
		bool used = false;

		for (int i = 0; i < form->indnkeyatts; i++)
			used |= form->indkey.values[i] == att->attnum &&
					(form->indisunique || form->indisexclusion);
		index_close(index, AccessShareLock);
		if (used)
			return form->indisprimary ? "part of the primary key" : "part of a unique key";
	}
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *info = lfirst(cell);

		for (int i = 0; i < info->nkeys; i++)
			if (info->conkey[i] == att->attnum)
				return "part of a foreign key";
	}
	return NULL;
}

static void
check_not_a_key(Relation rel, Form_pg_attribute att)
{
	const char *use = other_use(rel, att);

	if (use)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("column \"%s\" of table \"%s\" cannot be a row version",
							   NameStr(att->attname), RelationGetRelationName(rel)),
						errdetail("It is %s; a version changes with each update.", use),
						errhint("Name another column; one that does not exist is added."),
						errtablecol(rel, att->attnum)));
}

/* The existing column must be usable; false when there is none. */
static bool
check_column(Relation rel, const char *name)
{
	AttrNumber attnum = get_attnum(RelationGetRelid(rel), name);
	Form_pg_attribute att;

	if (attnum == InvalidAttrNumber)
		return false;
	att = attnum > 0 ? TupleDescAttr(RelationGetDescr(rel), attnum - 1) : NULL;
	if (att == NULL || att->attgenerated ||
		(att->atttypid != INT2OID && att->atttypid != INT4OID && att->atttypid != INT8OID))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of table \"%s\" cannot be a row version", name,
							   RelationGetRelationName(rel)),
						errdetail("A version is a plain smallint, integer or bigint column."),
						errhint("Name another column; one that does not exist is added.")));
	check_not_a_key(rel, att);
	return true;
}

static void
check_not_versioned(Relation rel)
{
	Trigger *trigger = ca_version_settings_trigger(rel);

	if (trigger)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("table \"%s\" has row versions already", RelationGetRelationName(rel)),
				 errdetail("Trigger \"%s\" keeps them.", trigger->tgname),
				 errhint("Use cache_aside.disable_versioning() first to change how.")));
}

/* A trigger that fires after ours could change what we decided. */
static void
warn_later_triggers(Relation rel)
{
	if (rel->trigdesc == NULL)
		return;
	for (int i = 0; i < rel->trigdesc->numtriggers; i++)
	{
		Trigger *trigger = &rel->trigdesc->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_BEFORE(trigger->tgtype) &&
			(TRIGGER_FOR_UPDATE(trigger->tgtype) || TRIGGER_FOR_INSERT(trigger->tgtype)) &&
			strcmp(trigger->tgname, TRIGGER_NAME) > 0)
			ereport(WARNING,
					(errmsg("trigger \"%s\" of table \"%s\" fires after row versions are set",
							trigger->tgname, RelationGetRelationName(rel)),
					 errdetail("What it changes is not counted, and it could change the version."),
					 errhint("Rename it: BEFORE triggers fire in the order of their names.")));
	}
}

static void
create_trigger(Oid relid, const Request *request)
{
	StringInfoData arguments;

	initStringInfo(&arguments);
	if (request->counted)
	{
		Datum *names;
		int count;

		deconstruct_array(request->counted, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names,
						  NULL, &count);
		for (int i = 0; i < count; i++)
			appendStringInfo(&arguments, ", %s",
							 quote_literal_cstr(NameStr(*DatumGetName(names[i]))));
	}
	run(psprintf("CREATE TRIGGER %s BEFORE INSERT OR UPDATE%s ON %s FOR EACH ROW "
				 "EXECUTE FUNCTION cache_aside.row_version(%s, '%s%s%s'%s)",
				 TRIGGER_NAME, starts(request, "unused") ? " OR DELETE" : "", qualified_name(relid),
				 quote_literal_cstr(request->column), request->presents,
				 starts(request, "one") ? "" : ", ", starts(request, "one") ? "" : request->start,
				 arguments.data));
}

/*
 * Without DEFAULT: what the trigger sees must be what the client supplied, and a default of nextval()
 * would ask every writer for a right on the sequence. And without NOT NULL, which the trigger sees to:
 * when it is gone, or no longer finds the column after a rename, INSERTs must not fail.
 */
static void
create_sequence(const Request *request)
{
	char *table = qualified_name(request->relid);
	const char *column = quote_identifier(request->column);
	Oid type = get_atttype(request->relid, get_attnum(request->relid, request->column));
	char *name;

	run(psprintf("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT, ALTER COLUMN %s DROP NOT NULL",
				 table, column, column));
	if (OidIsValid(ca_version_sequence_find(request->relid, request->column)))
		return; /* the user's */
	name = ChooseRelationName(get_rel_name(request->relid), request->column, "seq",
							  get_rel_namespace(request->relid), false);
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(request->relid)), name);
	run(psprintf("CREATE SEQUENCE %s AS %s OWNED BY %s.%s", name, format_type_be(type), table,
				 column));
}

/* Rows that are there already must not be ahead of the sequence. */
static void
advance_sequence(const Request *request)
{
	Oid sequence = ca_version_sequence_find(request->relid, request->column);
	int level = NewGUCNestLevel();
	bool isnull;
	Datum highest;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT pg_catalog.max(t.%s)::pg_catalog.int8 FROM %s AS t",
					 quote_identifier(request->column), qualified_name(request->relid));
	/* A policy that hid rows from the owner would make it too low: an error instead. */
	set_config_option("row_security", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
					  false);
	if (SPI_execute(sql.data, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not run: %s", sql.data);
	highest = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		ca_version_sequence_jump(sequence, DatumGetInt64(highest));
	AtEOXact_GUC(true, level);
}

/* The table and its inheritance children; partitions get their trigger from PostgreSQL. */
static List *
tables_to_cover(Oid relid)
{
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(relid);
	return find_all_inheritors(relid, AccessExclusiveLock, NULL);
}

/* Checks, under lock, everything that CREATE TRIGGER and ALTER TABLE would not. */
static bool
check_request(const Request *request)
{
	Relation rel = table_open(request->relid, AccessExclusiveLock);
	bool exists;

	check_table(rel);
	check_not_versioned(rel);
	exists = check_column(rel, request->column);
	check_counted(rel, request);
	warn_later_triggers(rel);
	table_close(rel, NoLock);
	return exists;
}

static void
add_column(const Request *request)
{
	run(psprintf("ALTER TABLE %s ADD COLUMN %s pg_catalog.int4 NOT NULL DEFAULT 1",
				 qualified_name(request->relid), quote_identifier(request->column)));
}

static bool
has_version_trigger(Oid relid)
{
	Relation rel = table_open(relid, NoLock);
	bool result = ca_version_settings_trigger(rel) != NULL;

	table_close(rel, NoLock);
	return result;
}

Datum
cache_aside_enable_versioning(PG_FUNCTION_ARGS)
{
	Request request;
	List *tables;
	ListCell *cell;

	require(fcinfo, 0, "relation");
	require(fcinfo, 1, "version");
	request.relid = PG_GETARG_OID(0);
	request.column = NameStr(*PG_GETARG_NAME(1));
	request.counted = PG_ARGISNULL(2) ? NULL : PG_GETARG_ARRAYTYPE_P(2);
	request.start = read_word(fcinfo, 3, "start", start_words);
	request.presents = read_word(fcinfo, 4, "presents", presents_words);
	SPI_connect();
	if (!check_request(&request))
		add_column(&request);
	if (!starts(&request, "one"))
		create_sequence(&request);
	if (starts(&request, "sequence"))
		advance_sequence(&request);
	tables = tables_to_cover(request.relid);
	foreach (cell, tables)
		if (!has_version_trigger(lfirst_oid(cell)))
			create_trigger(lfirst_oid(cell), &request);
	SPI_finish();
	PG_RETURN_VOID();
}

/* Drops a table's version triggers; returns the name of the version column, or NULL. */
static char *
drop_triggers(Oid relid)
{
	char *column = NULL;

	for (;;)
	{
		Relation rel = table_open(relid, AccessExclusiveLock);
		Trigger *trigger = ca_version_settings_trigger(rel);
		char *name = trigger ? pstrdup(trigger->tgname) : NULL;

		if (trigger && trigger->tgnargs > 0)
			column = pstrdup(trigger->tgargs[0]);
		table_close(rel, NoLock);
		if (name == NULL)
			return column;
		run(psprintf("DROP TRIGGER %s ON %s", quote_identifier(name), qualified_name(relid)));
	}
}

/* Writers that leave the column out must still be able to insert once the trigger is gone. */
static void
keep_column_usable(Oid relid, const char *column)
{
	char *table = qualified_name(relid);
	Oid sequence = ca_version_sequence_find(relid, column);
	AttrNumber attnum = get_attnum(relid, column);
	Relation rel;
	Form_pg_attribute att;
	bool needs_default;

	if (attnum <= 0)
		return;
	rel = table_open(relid, NoLock);
	att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);
	needs_default = !att->atthasdef && !att->attidentity;
	table_close(rel, NoLock);
	if (!needs_default)
		return;
	if (OidIsValid(sequence))
		run(psprintf("DROP SEQUENCE %s", qualified_name(sequence)));
	run(psprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT 1", table, quote_identifier(column)));
}

Datum
cache_aside_disable_versioning(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	bool drop_column = PG_GETARG_BOOL(1);
	Relation rel = table_open(relid, AccessExclusiveLock);
	List *tables;
	ListCell *cell;
	char *column;

	check_table(rel);
	table_close(rel, NoLock);
	SPI_connect();
	column = drop_triggers(relid);
	if (column == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table \"%s\" has no row versions", get_rel_name(relid)),
						errdetail("No trigger of it calls cache_aside.row_version."),
						errhint("cache_aside.versioned lists the tables that have them.")));
	tables = tables_to_cover(relid);
	foreach (cell, tables)
		(void) drop_triggers(lfirst_oid(cell));
	if (!drop_column)
		keep_column_usable(relid, column);
	else if (get_attnum(relid, column) > 0)
		run(psprintf("ALTER TABLE %s DROP COLUMN %s", qualified_name(relid),
					 quote_identifier(column)));
	SPI_finish();
	PG_RETURN_VOID();
}
