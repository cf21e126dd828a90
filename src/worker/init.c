/*
 * init.c: the setting of the worker, and its start.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "worker/worker.h"

void
ca_worker_init(void)
{
	if (!ca_preload_done())
		return;
	ca_worker_register();
}
