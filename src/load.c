/*
 * load.c: the library is loaded; the only file that knows all folders.
 *
 * Each folder declares its settings, asks for its shared memory and sets its hooks in its own init.c, in the
 * order of LAYERS. Transaction callbacks run last-registered first: that of pending.c must be the first.
 * cache_aside is reserved as a prefix behind all of them: what is set under it and not declared is refused.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "shared/shared.h"
#include "transaction/transaction.h"
#include "rows/rows.h"
#include "rules/rules.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "routing/routing.h"
#include "worker/worker.h"

#include "fmgr.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void
_PG_init(void)
{
	ca_common_init();
	ca_keys_init();
	ca_redis_init();
	ca_shared_init();
	ca_transaction_init();
	ca_rows_init();
	ca_rules_init();
	ca_log_init();
	ca_resync_init();
	ca_delivery_init();
	ca_routing_init();
	ca_worker_init();
	MarkGUCPrefixReserved("cache_aside");
}
