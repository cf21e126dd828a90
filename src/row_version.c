/*
 * row_version.c: the trigger that keeps a row's version, so that no writer can skip it.
 *
 * Input: BEFORE INSERT OR UPDATE FOR EACH ROW, row_version('version', presents [, counted columns...]),
 * presents being 'next' or 'read', or 'next, sequence' or 'read, sequence' when new rows start from the
 * sequence the column owns. Output: the row to store. Everything is read from the trigger's arguments; the
 * resolved form lives as long as the executor's state for this relation (fn_extra), during which the
 * relation is locked against ALTER TABLE, so it cannot go stale.
 *
 *	INSERT	a version that is supplied stays (ORMs insert 0 or 1 and remember it); NULL becomes 1, or the
 *			sequence's next value.
 *	UPDATE	the statement does not assign the column: old + 1 if a counted column changed, else old,
 *			whatever earlier triggers left there.
 *			The statement assigns it: it presents a version. 'next' wants exactly old + 1, 'read' exactly
 *			old; old + 1 is stored, and everything else is refused. One of the two, never both: writers A
 *			and B who read 5 would both send 6 and both be believed.
 *
 * Concurrency: before the trigger runs, PostgreSQL locks the row and, under READ COMMITTED, follows it
 * to its newest version and evaluates the statement again (EvalPlanQual); under stricter levels it
 * raises 40001 itself. So OLD is the row that NEW replaces, and nobody can change it in between. A row
 * that moves to another partition passes here as an UPDATE on the old partition and then as an INSERT
 * that supplies the version. Who dies here leaves nothing behind: there is no state beyond the tuple,
 * except a sequence that has moved on, which is harmless.
 *
 * Sequence: no stored version may be higher than the sequence's last value, so that a row deleted and
 * inserted again never meets a number its key had before. Each UPDATE adds one, hence at most one
 * nextval() keeps it true; see keep_sequence_ahead for versions that arrive from outside.
 *
 * Fails with: 40001 on a conflict; 22003 when the column's type is exhausted; 42703 or 42804 when the
 * column is gone or of another type (a table that silently lost its protection would be worse).
 */
#include "cache_aside.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/bitmapset.h"
#include "nodes/nodes.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "row_version.h"

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
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" on table \"%s\" has the wrong timing for "
						"cache_aside.row_version",
						data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
				 errdetail("It changes the row before it is stored."),
				 errhint("Create it BEFORE INSERT OR UPDATE ... FOR EACH ROW.")));
}

/* The columns whose change can change generated column `attnum`: it is computed after us. */
static Bitmapset *
add_generated_inputs(Bitmapset *counted, Relation rel, AttrNumber attnum)
{
	Bitmapset *inputs = NULL;
	int member = -1;

	pull_varattnos(build_column_default(rel, attnum), 1, &inputs);
	while ((member = bms_next_member(inputs, member)) >= 0)
		counted = bms_add_member(counted, member + FirstLowInvalidHeapAttributeNumber);
	return counted;
}

/* Every column but the version itself and what is computed from the others. */
static Bitmapset *
all_columns(Relation rel, AttrNumber version)
{
	TupleDesc desc = RelationGetDescr(rel);
	Bitmapset *counted = NULL;

	for (AttrNumber attnum = 1; attnum <= desc->natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);

		if (!att->attisdropped && !att->attgenerated && attnum != version)
			counted = bms_add_member(counted, attnum);
	}
	return counted;
}

/* A column that counts was dropped or renamed: count all of them, which can only bump too often. */
static void
warn_missing_column(Relation rel, Trigger *trigger, const char *name)
{
	static Oid warned = InvalidOid;

	if (warned == trigger->tgoid)
		return;
	warned = trigger->tgoid;
	ereport(
		WARNING,
		(errcode(ERRCODE_UNDEFINED_COLUMN),
		 errmsg("column \"%s\" counted by trigger \"%s\" of table \"%s\" does not exist", name,
				trigger->tgname, RelationGetRelationName(rel)),
		 errdetail("Every column counts as long as it is missing."),
		 errhint("Use cache_aside.disable_versioning() and enable_versioning() with the columns "
				 "that exist.")));
}

static Bitmapset *
counted_columns(Relation rel, Trigger *trigger, AttrNumber version)
{
	Bitmapset *counted = NULL;

	if (trigger->tgnargs == 2)
		return all_columns(rel, version);
	for (int i = 2; i < trigger->tgnargs; i++)
	{
		AttrNumber attnum = ca_row_version_column(rel, trigger->tgargs[i]);

		if (attnum == InvalidAttrNumber)
		{
			warn_missing_column(rel, trigger, trigger->tgargs[i]);
			return all_columns(rel, version);
		}
		if (TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attgenerated)
			counted = add_generated_inputs(counted, rel, attnum);
		else
			counted = bms_add_member(counted, attnum);
	}
	return bms_del_member(counted, version);
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
	ca_row_version_resolve(data->tg_relation, data->tg_trigger, versioning);
	versioning->counted = counted_columns(data->tg_relation, data->tg_trigger, versioning->attnum);
	if (versioning->from_sequence)
		versioning->sequence =
			ca_version_sequence_require(data->tg_relation, data->tg_trigger->tgargs[0]);
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
	Datum value = ca_row_version_datum(versioning, version);

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(data->tg_relation), 1, &column, &value,
									 &isnull);
}

static HeapTuple
stamp_insert(TriggerData *data, CaVersioning *versioning)
{
	HeapTuple tuple = data->tg_trigtuple;
	bool isnull;
	int64 version =
		ca_row_version_get(versioning, tuple, RelationGetDescr(data->tg_relation), &isnull);

	if (!isnull)
	{
		if (OidIsValid(versioning->sequence))
			ca_version_sequence_keep_ahead(versioning->sequence, version);
		return tuple;
	}
	version = 1;
	if (OidIsValid(versioning->sequence))
		version = ca_version_sequence_next(versioning->sequence);
	if (version > versioning->max)
		ca_row_version_overflow(data->tg_relation, versioning);
	return with_version(data, versioning, tuple, version);
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
	int64 old_version = ca_row_version_get(versioning, data->tg_trigtuple, desc, &old_null);
	int64 new_version = ca_row_version_get(versioning, tuple, desc, &new_null);
	int64 stored = old_version;

	if (guc_import_mode && !new_null)
		stored = new_version;
	else if (presented || counted_changed(data, versioning))
	{
		if (old_version >= versioning->max)
			ca_row_version_overflow(data->tg_relation, versioning);
		stored = old_version + 1;
		if (presented &&
			(new_null || new_version != (versioning->presents_read ? old_version : stored)))
			ca_row_version_refuse(data, versioning, old_version, new_null ? NULL : &new_version);
	}
	else if (old_null)
		return tuple; /* nothing counted changed in a row that has no version yet */
	if (OidIsValid(versioning->sequence))
		ca_version_sequence_keep_ahead(versioning->sequence, stored);
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
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		return PointerGetDatum(stamp_insert(data, versioning));
	return PointerGetDatum(stamp_update(data, versioning));
}
