/*
 * init.c: shared memory of reads.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "reads/reads.h"

void
ca_reads_init(void)
{
	if (!ca_preload_done())
		return;
	ca_preload_shmem(ca_warm_progress_shmem_request, ca_warm_progress_shmem_init);
}
