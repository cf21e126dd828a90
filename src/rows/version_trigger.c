/*
 * version_trigger.c: the trigger that keeps a row's version, so that no writer can skip it.
 *
 * Input: BEFORE INSERT OR UPDATE [OR DELETE] FOR EACH ROW, row_version('version', presents [, counted
 * columns...]), presents being 'next', 'read' or 'echo', followed by ', unused' or ', sequence' when the
 * column owns a sequence that says where new rows start. Output: the row to store. Everything is read from the trigger's arguments; the
 * resolved form lives as long as the executor's state for this relation (fn_extra), during which the
 * relation is locked against ALTER TABLE, so it cannot go stale.
 *
 *	INSERT	a version that is supplied stays (ORMs insert 0 or 1 and remember it); NULL becomes 1, or what
 *			the sequence says.
 *	UPDATE	the statement does not assign the column: old + 1 if a counted column changed, else old,
 *			whatever earlier triggers left there.
 *			The statement assigns it: it presents a version, unless it counts the row's own one up
 *			(version_increment.c). 'next' wants exactly old + 1, 'read' exactly old; old + 1 is stored, and
 *			everything else is refused. One of the two, never both: writers A and B who read 5 would both
 *			send 6 and both be believed. 'echo' is for ORMs that write every
 *			column back without knowing which of them is a version, and keep the number they read once
 *			however often they save: old + 1 as with 'next', or exactly old, which is taken for a write
 *			that presents nothing and *stays*, or else their next save would be refused. A save of what
 *			somebody else has bumped is refused; two such savers overwrite each other, as they do
 *			without versions, and A and B above are both believed: hence never by default.
 *
 * Concurrency: before the trigger runs, PostgreSQL locks the row and, under READ COMMITTED, follows it
 * to its newest version and evaluates the statement again (EvalPlanQual); under stricter levels it
 * raises 40001 itself. So OLD is the row that NEW replaces, and nobody can change it in between. A row
 * that moves to another partition passes here as an UPDATE on the old partition and then as an INSERT
 * that supplies the version. Who dies here leaves nothing behind: there is no state beyond the tuple,
 * except a sequence that has moved on, which is harmless.
 *
 * A key that is used again: whoever read the row that was deleted must not match the one inserted since.
 * With ', unused' the sequence remembers the highest version that a key ever lost, by DELETE or by an
 * UPDATE of the primary key; a new row starts one above it, hence at 1 while nothing was deleted. With
 * ', sequence' no stored version is higher than the sequence's last value, and a new row takes the next.
 * Neither covers a version that the INSERT supplies, TRUNCATE, nor a key that another session deletes
 * in the microseconds between this trigger and the index's check for duplicates.
 *
 * A sequence cannot be rolled back, and is shared: what one session supplies may not use it up for the
 * others, nor make them wait (version_sequence.c). So DELETE and UPDATE push it a bounded way and go on,
 * INSERT with ', sequence' refuses a version that is further ahead.
 *
 * Fails with: 40001 on a conflict; 22003 when the column's type is exhausted, or a supplied version is
 * too far ahead. A column that was renamed, dropped or given another type, and a lost sequence, are
 * warned of once per session, and rows are written as they come: a migration must not stop every
 * writer. The view `gaps` shows it.
 */
#include "cache_aside.h"
#include "rows/row_version.h"
#include "rows/rows.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/bitmapset.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(cache_aside_row_version);

static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("cache_aside.row_version was not called by the trigger manager"),
						errdetail("It is a trigger function."),
						errhint("Use cache_aside.enable_versioning() or CREATE TRIGGER.")));
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_BEFORE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on table \"%s\" has the wrong timing for "
						"cache_aside.row_version",
						data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
				 errdetail("It changes the row before it is stored."),
				 errhint("Create it BEFORE INSERT OR UPDATE OR DELETE ... FOR EACH ROW.")));
}

static CaVersioning *
settings(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	CaVersioning *versioning = fcinfo->flinfo->fn_extra;
	MemoryContext caller;

	if (versioning)
		return versioning;
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	versioning = palloc(sizeof(CaVersioning));
	ca_version_columns_prepare(data->tg_relation, data->tg_trigger, versioning);
	MemoryContextSwitchTo(caller);
	fcinfo->flinfo->fn_extra = versioning;
	return versioning;
}

/* Do two values have the same bytes, apart from how they are stored? */
static bool
same_image(Form_pg_attribute att, Datum a, bool a_null, Datum b, bool b_null)
{
	if (a_null || b_null)
		return a_null && b_null;
	if (att->attlen == -1)
	{
		struct varlena *va = (struct varlena *) DatumGetPointer(a);
		struct varlena *vb = (struct varlena *) DatumGetPointer(b);

		/* An untouched TOASTed value keeps its pointer: no need to fetch it. */
		if (VARATT_IS_EXTERNAL_ONDISK(va) && VARATT_IS_EXTERNAL_ONDISK(vb) &&
			memcmp(va, vb, VARSIZE_EXTERNAL(va)) == 0)
			return true;
	}
	return datum_image_eq(a, b, att->attbyval, att->attlen);
}

static bool
column_changed(TriggerData *data, AttrNumber attnum)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(data->tg_relation), attnum - 1);
	bool old_null;
	bool new_null;
	Datum old_value = slot_getattr(data->tg_trigslot, attnum, &old_null);
	Datum new_value = slot_getattr(data->tg_newslot, attnum, &new_null);

	return !same_image(att, old_value, old_null, new_value, new_null);
}

/* Assigned columns first, they almost always decide; then all, as triggers before us assign too. */
static bool
counted_changed(TriggerData *data, CaVersioning *versioning)
{
	int member = -1;

	while ((member = bms_next_member(data->tg_updatedcols, member)) >= 0)
	{
		AttrNumber attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum > 0 && bms_is_member(attnum, versioning->counted) &&
			column_changed(data, attnum))
			return true;
	}
	member = -1;
	while ((member = bms_next_member(versioning->counted, member)) >= 0)
		if (column_changed(data, member))
			return true;
	return false;
}

static HeapTuple
with_version(TriggerData *data, CaVersioning *versioning, HeapTuple tuple, int64 version)
{
	int column = versioning->attnum;
	bool isnull = false;
	Datum value = ca_version_settings_datum(versioning, version);

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(data->tg_relation), 1, &column, &value,
									 &isnull);
}

/* An error at the end of the type's range, a warning when fifteen sixteenths of it are used. */
static void
check_range(TriggerData *data, CaVersioning *versioning, int64 version)
{
	if (version > versioning->max)
		ca_version_settings_overflow(data->tg_relation, versioning);
	if (version > versioning->max - versioning->max / 16 &&
		!ca_version_columns_warned(data->tg_trigger))
		ca_version_settings_warn_high(data->tg_relation, versioning, version);
}

static bool
has_sequence(TriggerData *data, CaVersioning *versioning)
{
	return ca_version_columns_has_sequence(data->tg_relation, data->tg_trigger, versioning);
}

/* A row that brings its version. */
static void
accept_supplied(TriggerData *data, CaVersioning *versioning, int64 version)
{
	if (versioning->start != CA_START_SEQUENCE || !has_sequence(data, versioning))
		return;
	if (guc_import_mode)
		ca_version_sequence_jump(versioning->sequence, version);
	else if (!ca_version_sequence_push(versioning->sequence, version))
		ereport(
			ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("row version %lld supplied to table \"%s\" is too far ahead",
					(long long) version, RelationGetRelationName(data->tg_relation)),
			 errdetail("New rows of the table take their version from a sequence, which it would "
					   "use up for everybody."),
			 errhint("Leave the version out. A load that must keep versions sets "
					 "cache_aside.import_mode (a superuser's)."),
			 errtablecol(data->tg_relation, versioning->attnum)));
}

/* At least `version`, and above every version that a key lost. */
static int64
above_buried(CaVersioning *versioning, int64 version)
{
	int64 buried = ca_version_sequence_last(versioning->sequence);

	return buried < version || buried == PG_INT64_MAX ? version : buried + 1;
}

static int64
first_version(TriggerData *data, CaVersioning *versioning)
{
	int64 version = 1;

	if (!has_sequence(data, versioning))
		return version;
	if (versioning->start == CA_START_SEQUENCE)
	{
		if (ca_version_sequence_last(versioning->sequence) >= versioning->max)
			ca_version_settings_overflow(data->tg_relation, versioning);
		version = ca_version_sequence_next(versioning->sequence);
	}
	else
		version = above_buried(versioning, 1);
	check_range(data, versioning, version);
	return version;
}

static HeapTuple
stamp_insert(TriggerData *data, CaVersioning *versioning)
{
	HeapTuple tuple = data->tg_trigtuple;
	bool isnull;
	int64 version =
		ca_version_settings_get(versioning, tuple, RelationGetDescr(data->tg_relation), &isnull);

	if (isnull)
		return with_version(data, versioning, tuple, first_version(data, versioning));
	accept_supplied(data, versioning, version);
	return tuple;
}

/* Its key may be used again: by a row that starts above. */
static void
bury(TriggerData *data, CaVersioning *versioning, int64 version)
{
	if (versioning->start == CA_START_UNUSED && version > versioning->buried &&
		has_sequence(data, versioning) && ca_version_sequence_push(versioning->sequence, version))
		versioning->buried = version;
}

static HeapTuple
stamp_delete(TriggerData *data, CaVersioning *versioning)
{
	bool isnull;
	int64 version = ca_version_settings_get(versioning, data->tg_trigtuple,
											RelationGetDescr(data->tg_relation), &isnull);

	bury(data, versioning, version);
	return data->tg_trigtuple;
}

static bool
key_changed(TriggerData *data, CaVersioning *versioning)
{
	int member = -1;

	while ((member = bms_next_member(versioning->key, member)) >= 0)
		if (column_changed(data, member + FirstLowInvalidHeapAttributeNumber))
			return true;
	return false;
}

static bool
is_expected(CaVersioning *versioning, int64 old_version, int64 presented)
{
	if (versioning->presents == CA_PRESENTS_NEXT)
		return presented == old_version + 1;
	if (versioning->presents == CA_PRESENTS_READ)
		return presented == old_version;
	return presented == old_version || presented == old_version + 1;
}

/* One more; or, for an ORM that must find the number it sent, the same. */
static int64
next_version(TriggerData *data, CaVersioning *versioning, int64 old_version, bool presented,
			 int64 new_version)
{
	if (presented && versioning->presents == CA_PRESENTS_ECHO && new_version == old_version)
		return old_version;
	if (old_version >= versioning->max)
		ca_version_settings_overflow(data->tg_relation, versioning);
	return old_version + 1;
}

static HeapTuple
stamp_update(TriggerData *data, CaVersioning *versioning)
{
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	HeapTuple tuple = data->tg_newtuple;
	bool presented = bms_is_member(versioning->attnum - FirstLowInvalidHeapAttributeNumber,
								   data->tg_updatedcols);
	bool old_null;
	bool new_null;
	int64 old_version = ca_version_settings_get(versioning, data->tg_trigtuple, desc, &old_null);
	int64 new_version = ca_version_settings_get(versioning, tuple, desc, &new_null);
	int64 stored = old_version;

	if (guc_import_mode && !new_null)
		stored = new_version;
	else if (presented || counted_changed(data, versioning))
	{
		stored = next_version(data, versioning, old_version, presented && !new_null, new_version);
		if (presented && (new_null || !is_expected(versioning, old_version, new_version)))
			ca_version_settings_refuse(data, versioning, old_version,
									   new_null ? NULL : &new_version);
	}
	else if (old_null)
		return tuple; /* nothing counted changed in a row that has no version yet */
	if (versioning->start == CA_START_SEQUENCE && has_sequence(data, versioning))
		(void) ca_version_sequence_push(versioning->sequence, stored);
	else if (key_changed(data, versioning) && has_sequence(data, versioning))
	{
		/* It leaves one key and takes another, which some row may have had before. */
		stored = above_buried(versioning, stored);
		bury(data, versioning, old_version);
	}
	check_range(data, versioning, stored);
	if (!new_null && new_version == stored)
		return tuple;
	return with_version(data, versioning, tuple, stored);
}

Datum
cache_aside_row_version(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	CaVersioning *versioning;

	check_call(fcinfo);
	versioning = settings(fcinfo);
	if (versioning->attnum == InvalidAttrNumber)
		return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple
																	   : data->tg_trigtuple);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		return PointerGetDatum(stamp_insert(data, versioning));
	if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		return PointerGetDatum(stamp_delete(data, versioning));
	return PointerGetDatum(stamp_update(data, versioning));
}
