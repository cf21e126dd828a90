/*
 * findings.c: what check_redis() finds wrong, for check(). SQL: redis_findings()
 *
 * Input: who asks, and what the worker says. Output: the rows of check_redis() that are not as they should be. None for those
 * who may not call that function, and none while the worker cannot deliver: that check() has from the worker, and asking would only
 * wait for the same.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "reads/check.h"
#include "shared/status.h"

#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/acl.h"

PG_FUNCTION_INFO_V1(cache_aside_redis_findings);

static bool
may_look(void)
{
	List *name = list_make2(makeString("cache_aside"), makeString("check_redis"));
	Oid function = LookupFuncName(name, 0, NULL, true);

	return OidIsValid(function) && ca_may_execute(function, GetUserId());
}

Datum
cache_aside_redis_findings(PG_FUNCTION_ARGS)
{
	if (ca_preload_done() && may_look() &&
		pg_atomic_read_u32(&ca_status_shared->worker_proc) != 0 &&
		pg_atomic_read_u32(&ca_status_shared->trouble) == CA_TROUBLE_NONE)
		return ca_check_redis_run(fcinfo, true);
	InitMaterializedSRF(fcinfo, 0);
	return (Datum) 0;
}
