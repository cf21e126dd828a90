/*
 * visitor.c: a short-lived background worker in somebody's database.
 *
 * The worker is connected to no database; what it must know about one, a visitor looks up there
 * (visit_rules.c, visit_registries.c) and leaves. A visitor has a superuser's session, and the database may be a
 * stranger's: its owner can give sessions there any setting with ALTER DATABASE ... SET, a role or a
 * time limit among them, which would stop every visit, and with it resync for the whole server. So
 * the settings that could are overridden, as autovacuum does, and what a visitor runs, it runs with
 * the rights of the owner of the relation that it reads: a view somebody else has put there does not
 * get a superuser's. Of other people's things it reads names and trigger arguments as bytes; a rule's
 * query is neither parsed nor analysed here. A background worker loads no session_preload_libraries
 * and fires no login event trigger (read in 15 and 18: normal backends only).
 */
#include "cache_aside.h"
#include "shared/visitor.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static const char *const settings[][2] = {
	{"search_path", "pg_catalog, pg_temp"},
	{"default_transaction_isolation", "read committed"},
	{"role", "none"},
	{"row_security", "off"},
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"transaction_timeout", "0"},             /* since 17 */
	{"max_parallel_workers_per_gather", "0"}, /* one background worker for a visit is enough */
	{"force_parallel_mode", "off"},
	{"debug_parallel_query", "off"}, /* its name since 16 */
};

void
ca_visitor_connect(Oid database)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true); /* ... SET session_authorization */
	for (int i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

bool
ca_visitor_become_owner(const char *name)
{
	Oid schema = get_namespace_oid("cache_aside", true);
	Oid relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
	Relation relation = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;

	if (relation == NULL)
		return false;
	/* The lock stays: under this name nothing else can be found before the transaction ends. */
	SetUserIdAndSecContext(relation->rd_rel->relowner,
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	relation_close(relation, NoLock);
	return true;
}
