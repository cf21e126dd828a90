/*
 * install.c: is it safe to create the extension's objects here?
 *
 * CREATE EXTENSION makes the schema cache_aside when there is none. When there is one, whoever owns
 * it, or may create in it, could have put something there first, or could do so later: an operator
 * or function that a name of ours then means, or a view that the worker's visitors read. So it must
 * belong to a superuser (who needs no such way in), be empty but for us, and let nobody else create.
 *
 * Not asked when a dump of pg_upgrade makes the members one by one: the script does not run then.
 * A superuser can ask again at any time: SELECT cache_aside.check_installation().
 *
 * Who may act between this check and the end of the script? Nobody whom the check would not have
 * named: the owner and superusers only.
 */
#include "cache_aside.h"
#include "common/catalog.h"
#include "common/common.h"
#include "redis/redis.h"
#include "shared/status.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(cache_aside_check_installation);

#define SCHEMA "cache_aside"

static void
refuse(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("schema \"%s\" is not safe for the extension", SCHEMA), errdetail("%s", detail),
			 errhint("Rename or drop that schema; CREATE EXTENSION makes its own. A schema that a "
					 "superuser owns, that is empty, and in which nobody else may create, will "
					 "do.")));
}

/* Roles other than the owner that may create; a superuser is no stranger. */
static void
check_rights(HeapTuple tuple, Oid owner)
{
	bool isnull;
	Datum datum = SysCacheGetAttr(NAMESPACEOID, tuple, Anum_pg_namespace_nspacl, &isnull);
	Acl *acl;

	if (isnull)
		return;
	acl = DatumGetAclPCopy(datum);
	for (int i = 0; i < ACL_NUM(acl); i++)
	{
		AclItem *item = &ACL_DAT(acl)[i];

		if ((ACLITEM_GET_PRIVS(*item) & ACL_CREATE) == 0 || item->ai_grantee == owner)
			continue;
		if (item->ai_grantee == ACL_ID_PUBLIC)
			refuse("Everybody may create objects in it.");
		if (!superuser_arg(item->ai_grantee))
			refuse(psprintf("Role \"%s\" may create objects in it.",
							GetUserNameFromId(item->ai_grantee, false)));
	}
}

static void
check_schema(Oid schema)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for schema %u", schema);
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	if (!superuser_arg(owner))
		refuse(psprintf("It belongs to role \"%s\", which is not a superuser.",
						GetUserNameFromId(owner, false)));
	check_rights(tuple, owner);
	ReleaseSysCache(tuple);
}

/* Whatever lies in a schema depends on it in pg_depend, rights by default in it too. */
static void
check_contents(Oid schema, Oid extension)
{
	CaCatalogScan scan;
	HeapTuple tuple;

	ca_catalog_begin_dependents(&scan, NamespaceRelationId, schema);
	while (HeapTupleIsValid(tuple = ca_catalog_next(&scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress object = {form->classid, form->objid, form->objsubid};

		if (form->classid == ExtensionRelationId && form->objid == extension)
			continue;
		if (getExtensionOfObject(form->classid, form->objid) != extension)
			refuse(psprintf("It holds %s.", getObjectDescription(&object, false)));
	}
	ca_catalog_end(&scan);
}

Datum
cache_aside_check_installation(PG_FUNCTION_ARGS)
{
	Oid schema = get_namespace_oid(SCHEMA, false);

	ca_preload_require();
	check_schema(schema);
	check_contents(schema, creating_extension ? CurrentExtensionObject
											  : get_extension_oid("cache_aside", false));
	if (creating_extension && ca_redis_url_lacking())
		ereport(WARNING,
				(errmsg("%s", ca_redis_url_lacking()),
				 errdetail("Nothing is delivered until it is."), errhint("%s", CA_REDIS_URL_HINT)));
	if (creating_extension && !ca_status_worker_began())
		ereport(WARNING,
				(errmsg("cache_aside's worker is not running"),
				 errdetail("Without it nothing is delivered, and no slot keeps the log."),
				 errhint("If the server log says that there are too many background workers, raise "
						 "max_worker_processes and restart the server.")));
	PG_RETURN_VOID();
}
