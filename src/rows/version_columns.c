/*
 * version_columns.c: which columns a row_version trigger looks at, once per statement.
 *
 * Input: a table and its trigger, whose arguments name columns. Output: attribute numbers. What the names
 * no longer fit (a migration dropped, renamed or altered a column, or dropped the sequence) is warned of
 * once per session and trigger, and never fails the write; the view gaps shows it with the statement
 * that repairs it. Nothing makes PostgreSQL refuse such a migration, and nothing should: names in
 * arguments are no dependency.
 *
 * Allocations: the caller's context.
 */
#include "cache_aside.h"
#include "rows/row_version.h"

#include "access/sysattr.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#define MOST_WARNINGS 100 /* of one session: it remembers each, and its log is not endless */

/* Once per session and trigger is enough; the view gaps goes on showing it. */
bool
ca_version_columns_warned(Trigger *trigger)
{
	static List *warned = NIL; /* in TopMemoryContext */
	MemoryContext caller;

	if (list_member_oid(warned, trigger->tgoid) || list_length(warned) >= MOST_WARNINGS)
		return true;
	caller = MemoryContextSwitchTo(TopMemoryContext);
	warned = lappend_oid(warned, trigger->tgoid);
	MemoryContextSwitchTo(caller);
	return false;
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
	if (ca_version_columns_warned(trigger))
		return;
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
		AttrNumber attnum = ca_version_settings_column(rel, trigger->tgargs[i]);

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

static void
warn_no_versions(Relation rel, Trigger *trigger)
{
	if (ca_version_columns_warned(trigger))
		return;
	ereport(
		WARNING,
		(errcode(ERRCODE_UNDEFINED_COLUMN),
		 errmsg("rows of table \"%s\" are written without a version", RelationGetRelationName(rel)),
		 errdetail("Trigger \"%s\" keeps it in column \"%s\", which is not an integer column of "
				   "the table any more.",
				   trigger->tgname, trigger->tgargs[0]),
		 errhint("cache_aside.gaps has the statement; after a rename give "
				 "cache_aside.enable_versioning() the new name.")));
}

static void
warn_no_sequence(Relation rel, Trigger *trigger)
{
	if (ca_version_columns_warned(trigger))
		return;
	ereport(WARNING,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("version column \"%s\" of table \"%s\" owns no sequence", trigger->tgargs[0],
					RelationGetRelationName(rel)),
			 errdetail("New rows start at 1, also those whose key was used before."),
			 errhint("Give it one with ALTER SEQUENCE ... OWNED BY, or use the statement in "
					 "cache_aside.gaps.")));
}

/* The sequence is looked up in catalogs, which costs more than all else: only when it is needed. */
bool
ca_version_columns_has_sequence(Relation rel, Trigger *trigger, CaVersioning *versioning)
{
	if (versioning->start == CA_START_ONE || OidIsValid(versioning->sequence))
		return versioning->start != CA_START_ONE;
	versioning->sequence = ca_version_sequence_find(RelationGetRelid(rel), trigger->tgargs[0]);
	if (OidIsValid(versioning->sequence))
		return true;
	warn_no_sequence(rel, trigger);
	versioning->start = CA_START_ONE;
	return false;
}

void
ca_version_columns_prepare(Relation rel, Trigger *trigger, CaVersioning *versioning)
{
	if (!ca_version_settings_resolve(rel, trigger, versioning))
	{
		warn_no_versions(rel, trigger);
		return;
	}
	versioning->counted = counted_columns(rel, trigger, versioning->attnum);
	if (versioning->start == CA_START_UNUSED)
		versioning->key = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
}
