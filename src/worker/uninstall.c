/*
 * uninstall.c: uninstall(): delivery ends here, and what is left of it is told. Not undone by ROLLBACK.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "redis/redis.h"
#include "shared/status.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(cache_aside_uninstall);

static void
drop_slot(void)
{
	PG_TRY();
	{
		ReplicationSlotDrop("cache_aside", false);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_UNDEFINED_OBJECT)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
}

static bool
has_parted(uint64 unused)
{
	return pg_atomic_read_u32(&ca_status_shared->parted) != 0;
}

/*
 * cache_aside.uninstall(): told first to stop, the worker does not make the slot anew; it may drop it
 * before we do. If it holds the slot at this moment, dropping waits for it, which takes no longer
 * than moving a pointer. Meanwhile it says farewell to Redis (farewell.c), which takes command_timeout at
 * most. Returns what is left there.
 */
Datum
cache_aside_uninstall(PG_FUNCTION_ARGS)
{
	char left[sizeof(ca_status_shared->left)];
	bool parted;

	ca_preload_require();
	pg_atomic_write_u32(&ca_status_shared->uninstalled, 1);
	parted =
		ca_wait_delivered_until(has_parted, 0, (guc_command_timeout + 3000) * INT64CONST(1000));
	drop_slot();
	SpinLockAcquire(&ca_status_shared->mutex);
	strlcpy(left, ca_status_shared->left, sizeof(left));
	SpinLockRelease(&ca_status_shared->mutex);
	if (!parted)
		strlcpy(left, "everything of this system, for its worker did not answer", sizeof(left));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("Left in Redis: %s. Sticks and the lists of replicas "
											  "expire. Cached values stay, and nothing "
											  "invalidates them any more: flush them, or "
											  "let them expire.",
											  left[0] ? left : "nothing of the extension")));
}
