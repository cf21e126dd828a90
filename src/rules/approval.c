/*
 * approval.c: who may make a rule's triggers, and the proof that a query may run as the owner.
 *
 * A rule deletes keys, and the query of a query rule runs with the rights of the table's owner. The
 * TRIGGER privilege on somebody's table is not enough for either:
 *
 *	creation	A trigger that calls one of our functions is refused unless its creator has the rights of
 *				the table's owner, as attach() demands. Checked on the catalog's row, in the object access
 *				hook, and so for CREATE TRIGGER in every form: by hand, OR REPLACE, in CREATE SCHEMA, in a
 *				restore; no name is looked up twice. The copies that partitions get of a parent's trigger
 *				were its owner's decision.
 *	firing		pg_trigger does not know who made a trigger, and the hook may not have been loaded then. The
 *				proof that lasts is tgenabled = 'A': ENABLE ALWAYS needs ownership, CREATE TRIGGER and
 *				CREATE OR REPLACE TRIGGER leave 'O', and nothing short of ownership sets 'A' (15 to 18:
 *				ALTER TABLE on the table itself; a parent's ALTER TABLE reaches clones only, which no
 *				statement trigger has). pg_dump writes it after the trigger. Without it the query neither
 *				runs nor is analysed: the rule gives its pattern.
 *	new owner	ALTER TABLE OWNER TO and REASSIGN OWNED would hand the old owner's query the new owner's
 *				rights. The hook takes the approval back, in the same transaction, and says so. A dump sets
 *				the owner before it makes triggers.
 *
 * A firing reads the approval from the relation as it is now, under the lock of the write, which
 * excludes a change of owner by others, and not from the executor's copy: REASSIGN OWNED inside the
 * very statement is seen too.
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "common/compat.h"
#include "rules/rules.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

bool
ca_approval_is(char enabled)
{
	return enabled == TRIGGER_FIRES_ALWAYS;
}

bool
ca_approval_given(Relation relation, Oid trigger)
{
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (triggers->triggers[i].tgoid == trigger)
			return ca_approval_is(triggers->triggers[i].tgenabled);
	}
	return false;
}

char *
ca_approval_statement(Oid relid, const char *trigger)
{
	const char *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												   get_rel_name(relid));

	return psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s;", table, quote_identifier(trigger));
}

/* ---- creation ---- */

void
ca_approval_check_created(Oid trigger)
{
	CaTriggerFacts facts;
	const char *owner;

	if (!ca_rule_trigger_find(trigger, SnapshotSelf, &facts) || facts.kind == CA_TRIGGER_NONE ||
		OidIsValid(facts.parent) || ca_owns_relation(facts.relid, GetUserId()))
		return;
	owner = GetUserNameFromId(ca_catalog_owner(facts.relid), true);
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("must be owner of table \"%s\" to give it a cache rule", get_rel_name(facts.relid)),
		 errdetail("Trigger \"%s\" deletes cache keys%s. The table belongs to \"%s\".", facts.name,
				   ca_rule_name_is_query(facts.nargs)
					   ? ", and its query runs with the rights of the owner"
					   : "",
				   owner ? owner : "?"),
		 errhint("%s", ca_catalog_owner_hint(ca_catalog_owner(facts.relid)))));
}

/* ---- a new owner ---- */

/* Before the command counter moves on, the cache has the old row. */
static bool
owner_changed(Oid relid, Oid *owner)
{
	Relation catalog = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, ClassOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	*owner = HeapTupleIsValid(tuple) ? ((Form_pg_class) GETSTRUCT(tuple))->relowner : InvalidOid;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return OidIsValid(*owner) && *owner != ca_catalog_owner(relid);
}

static void
notice_revoked(const CaTriggerFacts *facts, Oid owner)
{
	ereport(
		NOTICE,
		(errmsg("query of cache rule \"%s\" of table \"%s\" does not run until its new owner "
				"approves it",
				ca_rule_name_of(facts->nargs, facts->args), get_rel_name(facts->relid)),
		 errdetail("The table belongs to \"%s\" now, with whose rights the query would run. Until "
				   "then every write deletes all keys that match \"%s\".",
				   GetUserNameFromId(owner, true), facts->args[0]),
		 errhint("Read the query in cache_aside.rules, then: %s",
				 ca_approval_statement(facts->relid, facts->name))));
}

/* As ALTER TABLE ... ENABLE TRIGGER would do it, whose lock is held. */
static void
revoke_one(Relation catalog, HeapTuple tuple)
{
	HeapTuple changed = heap_copytuple(tuple);

	((Form_pg_trigger) GETSTRUCT(changed))->tgenabled = TRIGGER_FIRES_ON_ORIGIN;
	CatalogTupleUpdate(catalog, &changed->t_self, changed);
	heap_freetuple(changed);
}

typedef struct Revocation
{
	Oid owner; /* the new one */
	bool any;
} Revocation;

static void
take_back(Relation catalog, HeapTuple tuple, CaTriggerFacts *facts, void *arg)
{
	Revocation *revocation = arg;

	if (facts->kind == CA_TRIGGER_NONE || !ca_rule_name_is_query(facts->nargs) ||
		!ca_approval_is(facts->enabled))
		return;
	revoke_one(catalog, tuple);
	revocation->any = true;
	if (facts->kind == CA_TRIGGER_STATEMENT)
		notice_revoked(facts, revocation->owner);
}

void
ca_approval_after_alter(Oid relid)
{
	Revocation revocation = {InvalidOid, false};

	if (!owner_changed(relid, &revocation.owner))
		return;
	ca_rule_trigger_each(relid, RowExclusiveLock, take_back, &revocation);
	if (revocation.any)
		CacheInvalidateRelcacheByRelid(relid);
}
