/*
 * version.c: any arguments of a row_version trigger, on one table (version_settings.c).
 *
 * Input: a byte, how many arguments; then each on a line. They need not be text: somebody may have
 * written them into the catalog by hand.
 *
 * Holds: what is accepted names a column of the table that can hold a version; messages are text.
 * Bites: `trigger->tgnargs >= 2` made `>= 1` in parse_presents(); ca_text_require_all() left out.
 */
#include "fuzz.h"

#include "access/tupdesc.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "cache_aside.h"
#include "rows/row_version.h"
#include "rows/rows.h"

static const char *const names[] = {"id", "version", "name", "v\xc3\xa9rsion"};
static const Oid types[] = {INT4OID, INT8OID, TEXTOID, INT2OID};

bool guc_import_mode;

/* ---- what version_settings.c calls in the server ---- */

AttrNumber
get_attnum(Oid relid, const char *attname)
{
	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(names[i], attname) == 0)
			return (AttrNumber) (i + 1);
	return strcmp(attname, "ctid") == 0 ? -1 : InvalidAttrNumber;
}

char *
format_type_be(Oid type_oid)
{
	return psprintf("type %u", type_oid);
}

int
errtablecol(Relation rel, int attnum)
{
	FUZZ_CHECK(attnum > 0 && attnum <= lengthof(names));
	return 0;
}

/* ---- the table ---- */

static Relation
make_table(void)
{
	Relation rel = palloc0(sizeof(RelationData));
	Size size =
		offsetof(struct TupleDescData, attrs) + lengthof(names) * sizeof(FormData_pg_attribute);

	rel->rd_rel = palloc0(sizeof(FormData_pg_class));
	strlcpy(NameStr(rel->rd_rel->relname), "t", NAMEDATALEN);
	rel->rd_att = palloc0(size);
	rel->rd_att->natts = lengthof(names);
	for (int i = 0; i < lengthof(names); i++)
	{
		strlcpy(NameStr(TupleDescAttr(rel->rd_att, i)->attname), names[i], NAMEDATALEN);
		TupleDescAttr(rel->rd_att, i)->atttypid = types[i];
	}
	return rel;
}

static void
try(void *arg)
{
	FuzzInput *input = arg;
	Trigger *trigger = palloc0(sizeof(Trigger));
	CaVersioning versioning;

	trigger->tgname = pstrdup("it");
	trigger->tgnargs = fuzz_byte(input) % 6;
	trigger->tgargs = palloc(trigger->tgnargs * sizeof(char *));
	for (int i = 0; i < trigger->tgnargs; i++)
		trigger->tgargs[i] = fuzz_text(input);
	if (!ca_version_settings_resolve(make_table(), trigger, &versioning))
	{
		FUZZ_CHECK(versioning.attnum == InvalidAttrNumber);
		return;
	}
	FUZZ_CHECK(trigger->tgnargs >= 2);
	FUZZ_CHECK(versioning.attnum > 0 && versioning.attnum <= lengthof(names));
	FUZZ_CHECK(versioning.type == types[versioning.attnum - 1] && versioning.type != TEXTOID);
	FUZZ_CHECK(strcmp(names[versioning.attnum - 1], trigger->tgargs[0]) == 0);
	FUZZ_CHECK(versioning.max > 0);
}

const FuzzTarget fuzz_target = {try, .raises = true};
