/*
 * init.c: the library is loaded.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"

void
ca_common_init(void)
{
	ca_preload_begin();
	CA_DEBUG_INIT();
}
