/*
 * version_settings.c: what a row_version trigger's arguments mean for one table, and its errors.
 *
 * Input: an open relation and its trigger. Nothing is cached here; callers keep the result only while
 * they hold the relation's lock.
 *
 * The conflict error names table and column in the error fields, so that a client needs no message
 * parsing, and says in DETAIL which row, what was expected and what was found. As PostgreSQL does for
 * unique violations, values appear only if the caller may read them: nothing under row security, no
 * column without SELECT. A partition's rows are also readable through its ancestors, so a right on any
 * of them will do.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "rows/row_version.h"
#include "rows/rows.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/partition.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/rls.h"

/* What clients' libraries call this error when they find it themselves, so that one handler does. */
#define RETRY                                                                                      \
	"Read the row again and retry, as after StaleObjectError (Rails), OptimisticLockException "    \
	"(JPA, Hibernate), StaleDataError (SQLAlchemy), DbUpdateConcurrencyException (EF)."

AttrNumber
ca_version_settings_column(Relation rel, const char *name)
{
	AttrNumber attnum = get_attnum(RelationGetRelid(rel), name);

	return attnum > 0 ? attnum : InvalidAttrNumber;
}

bool
ca_version_settings_is(Oid function)
{
	char *name = get_func_name(function);
	char *schema = name ? get_namespace_name(get_func_namespace(function)) : NULL;

	return schema && strcmp(name, "row_version") == 0 && strcmp(schema, "cache_aside") == 0;
}

/* A copy: the relation's own triggers are freed when a catalog access hears of a change to it. */
Trigger *
ca_version_settings_trigger(Relation rel)
{
	TriggerDesc *triggers;

	if (rel->trigdesc == NULL || !rel->trigdesc->trig_update_before_row)
		return NULL;
	triggers = CopyTriggerDesc(rel->trigdesc);
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_BEFORE(trigger->tgtype) &&
			TRIGGER_FOR_UPDATE(trigger->tgtype) && ca_version_settings_is(trigger->tgfoid))
			return trigger;
	}
	return NULL;
}

bool
ca_version_settings_active(const Trigger *trigger)
{
	if (guc_import_mode)
		return false;
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return trigger->tgenabled == TRIGGER_FIRES_ALWAYS ||
			   trigger->tgenabled == TRIGGER_FIRES_ON_REPLICA;
	return trigger->tgenabled == TRIGGER_FIRES_ALWAYS ||
		   trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN;
}

static int64
highest(Oid type)
{
	switch (type)
	{
		case INT2OID:
			return PG_INT16_MAX;
		case INT4OID:
			return PG_INT32_MAX;
		case INT8OID:
			return PG_INT64_MAX;
		default:
			return 0;
	}
}

/* "next", "read" or "echo"; nothing, ", sequence" or ", unused". */
static bool
parse_word(const char *word, CaVersioning *versioning)
{
	if (strncmp(word, "next", 4) == 0)
		versioning->presents = CA_PRESENTS_NEXT;
	else if (strncmp(word, "read", 4) == 0)
		versioning->presents = CA_PRESENTS_READ;
	else if (strncmp(word, "echo", 4) == 0)
		versioning->presents = CA_PRESENTS_ECHO;
	else
		return false;
	if (strcmp(word + 4, ", unused") == 0)
		versioning->start = CA_START_UNUSED;
	else if (strcmp(word + 4, ", sequence") == 0)
		versioning->start = CA_START_SEQUENCE;
	else
		versioning->start = CA_START_ONE;
	return versioning->start != CA_START_ONE || word[4] == '\0';
}

static void
parse_presents(Relation rel, Trigger *trigger, CaVersioning *versioning)
{
	const char *presents = trigger->tgnargs >= 2 ? trigger->tgargs[1] : "";

	if (parse_word(presents, versioning))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("trigger \"%s\" on table \"%s\" has arguments that cache_aside.row_version does "
				"not understand",
				trigger->tgname, RelationGetRelationName(rel)),
		 errdetail("It has %d arguments; the second is \"%s\".", (int) trigger->tgnargs, presents),
		 errhint(
			 "Write row_version('column', 'next' [, counted columns...]); instead of 'next' also "
			 "'read' or 'echo', and behind it ', unused' or ', sequence'.")));
}

bool
ca_version_settings_resolve(Relation rel, Trigger *trigger, CaVersioning *versioning)
{
	Form_pg_attribute att;

	memset(versioning, 0, sizeof(CaVersioning));
	ca_text_require_all(trigger->tgnargs, trigger->tgargs, "argument of a row_version trigger");
	parse_presents(rel, trigger, versioning);
	versioning->attnum = ca_version_settings_column(rel, trigger->tgargs[0]);
	if (versioning->attnum == InvalidAttrNumber)
		return false;
	att = TupleDescAttr(RelationGetDescr(rel), versioning->attnum - 1);
	versioning->type = att->atttypid;
	versioning->max = highest(versioning->type);
	if (versioning->max == 0 || att->attgenerated)
		versioning->attnum = InvalidAttrNumber;
	return versioning->attnum != InvalidAttrNumber;
}

int64
ca_version_settings_get(const CaVersioning *versioning, HeapTuple tuple, TupleDesc desc,
						bool *isnull)
{
	Datum value = heap_getattr(tuple, versioning->attnum, desc, isnull);

	if (*isnull)
		return 0;
	switch (versioning->type)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

Datum
ca_version_settings_datum(const CaVersioning *versioning, int64 version)
{
	switch (versioning->type)
	{
		case INT2OID:
			return Int16GetDatum((int16) version);
		case INT4OID:
			return Int32GetDatum((int32) version);
		default:
			return Int64GetDatum(version);
	}
}

void
ca_version_settings_overflow(Relation rel, const CaVersioning *versioning)
{
	const char *name =
		NameStr(TupleDescAttr(RelationGetDescr(rel), versioning->attnum - 1)->attname);

	ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					errmsg("row version in column \"%s\" of table \"%s\" cannot grow any further",
						   name, RelationGetRelationName(rel)),
					errdetail("The highest version of type %s, %lld, is in use.",
							  format_type_be(versioning->type), (long long) versioning->max),
					versioning->type == INT8OID
						? errhint("Set it to a lower version under cache_aside.import_mode.")
						: errhint("Change the column's type: ALTER TABLE ... ALTER COLUMN ... TYPE "
								  "bigint."),
					errtablecol(rel, versioning->attnum)));
}

void
ca_version_settings_warn_high(Relation rel, const CaVersioning *versioning, int64 version)
{
	const char *name =
		NameStr(TupleDescAttr(RelationGetDescr(rel), versioning->attnum - 1)->attname);

	ereport(WARNING, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					  errmsg("row versions in column \"%s\" of table \"%s\" come to their end",
							 name, RelationGetRelationName(rel)),
					  errdetail("Version %lld is in use; the highest of type %s is %lld.",
								(long long) version, format_type_be(versioning->type),
								(long long) versioning->max),
					  errhint("Change the column's type before writes fail: ALTER TABLE ... ALTER "
							  "COLUMN ... TYPE bigint, and ALTER SEQUENCE ... AS bigint of the "
							  "sequence it owns.")));
}

/* May the caller read this column, in the table or in one of the tables it is a partition of? */
static bool
may_read(List *relids, const char *column)
{
	ListCell *cell;

	foreach (cell, relids)
	{
		Oid relid = lfirst_oid(cell);
		AttrNumber attnum = get_attnum(relid, column);

		if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
			return true;
		if (attnum > 0 &&
			pg_attribute_aclcheck(relid, attnum, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
			return true;
	}
	return false;
}

static bool
row_security_hides(List *relids)
{
	ListCell *cell;

	foreach (cell, relids)
		if (check_enable_rls(lfirst_oid(cell), InvalidOid, true) == RLS_ENABLED)
			return true;
	return false;
}

/* "Key (a, b)=(1, x)" of the primary key, or NULL when there is none or it may not be shown. */
static char *
describe_key(Relation rel, HeapTuple tuple, List *relids)
{
	TupleDesc desc = RelationGetDescr(rel);
	Bitmapset *key = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	StringInfoData names;
	StringInfoData values;
	int member = -1;

	initStringInfo(&names);
	initStringInfo(&values);
	while ((member = bms_next_member(key, member)) >= 0)
	{
		AttrNumber attnum = member + FirstLowInvalidHeapAttributeNumber;
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);
		const char *separator = names.len > 0 ? ", " : "";
		bool isnull;
		Datum value = heap_getattr(tuple, attnum, desc, &isnull);
		Oid output;
		bool is_varlena;

		if (!may_read(relids, NameStr(att->attname)))
			return NULL;
		getTypeOutputInfo(att->atttypid, &output, &is_varlena);
		appendStringInfo(&names, "%s%s", separator, NameStr(att->attname));
		appendStringInfo(&values, "%s%s", separator,
						 isnull ? "null" : OidOutputFunctionCall(output, value));
	}
	if (names.len == 0)
		return NULL;
	return psprintf("Key (%s)=(%s)", names.data, values.data);
}

/* What the caller may know of a conflict; what it presents it knows already. */
static char *
describe_conflict(TriggerData *data, const CaVersioning *versioning, int64 old_version,
				  const int64 *found)
{
	Relation rel = data->tg_relation;
	const char *column =
		NameStr(TupleDescAttr(RelationGetDescr(rel), versioning->attnum - 1)->attname);
	const char *presented = found ? psprintf("%lld", (long long) *found) : "null";
	List *relids = list_make1_oid(RelationGetRelid(rel));
	const char *key = NULL;

	if (rel->rd_rel->relispartition)
		relids = list_concat(relids, get_partition_ancestors(RelationGetRelid(rel)));
	if (row_security_hides(relids))
		return psprintf("The version that is presented, %s, is not the one expected.", presented);
	key = describe_key(rel, data->tg_trigtuple, relids);
	if (!may_read(relids, column))
		return psprintf("%s: the version that is presented, %s, is not the one expected.",
						key ? key : "A row", presented);
	return psprintf(
		"%s: expected version %lld, found %s; the row is at version %lld.", key ? key : "A row",
		(long long) (versioning->presents == CA_PRESENTS_NEXT ? old_version + 1 : old_version),
		presented, (long long) old_version);
}

void
ca_version_settings_refuse(TriggerData *data, const CaVersioning *versioning, int64 old_version,
						   const int64 *found)
{
	Relation rel = data->tg_relation;

	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("row version conflict in table \"%s\"", RelationGetRelationName(rel)),
			 errdetail_internal("%s", describe_conflict(data, versioning, old_version, found)),
			 versioning->presents == CA_PRESENTS_NEXT
				 ? errhint(RETRY " A statement that sets the column sets it to the version it "
								 "read plus one.")
				 : errhint(RETRY " A statement that sets the column sets it to the version it "
								 "read."),
			 errtablecol(rel, versioning->attnum)));
}
