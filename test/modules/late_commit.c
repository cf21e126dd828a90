/*
 * late_commit.c: holds a commit between its becoming visible and the release of its locks, as long as
 * the file named by late_commit.file exists. Only for tests: LOAD it in the session.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

static char *guc_file;

void _PG_init(void);

static void
at_commit(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT || guc_file[0] == '\0')
		return;
	while (access(guc_file, F_OK) == 0)
	{
		ResetLatch(MyLatch);
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
	}
}

void
_PG_init(void)
{
	DefineCustomStringVariable("late_commit.file", "Commits wait while it exists.", NULL, &guc_file,
							   "", PGC_USERSET, 0, NULL, NULL, NULL);
	RegisterXactCallback(at_commit, NULL);
}
