/*
 * replacing.c: this transaction has DDL that replaces what keys are worked out with.
 *
 * Input: reach.c, at each object that such DDL changes, and whoever commits a prepared transaction. Output: the counts of
 * key_ddl.c, and a flag on its messages, by which the worker knows it. Why, is in computed.c.
 *
 * It counts as begun when it is about to log its patterns; before that nobody can see what it did. There are none if no rule
 * is concerned, and then it does not count. DDL that another library runs once that is over counts at once. It ends
 *
 *	rolled back		with the abort
 *	prepared		with PREPARE: nobody sees it. A lock goes with it, by which COMMIT PREPARED knows to count again, in the
 *					session that runs it
 *	committed		once its invalidation messages are sent: the last phase of resource release (commit.c). Whatever ends the process
 *					between commit and there takes the counts, in shared memory, with it
 *
 * A savepoint that is rolled back leaves it what it is: others delete a pattern too many.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "shared/shared.h"
#include "transaction/transaction.h"

static bool any;       /* there is such DDL */
static bool written;   /* the pending set was logged: what comes now is logged at once */
static bool preparing; /* PREPARE TRANSACTION runs */
static bool counted;   /* as begun, and not as ended */
static bool committed; /* others see it, and may not have its invalidation messages */

static void
count(void)
{
	if (counted)
		return;
	ca_key_ddl_begin();
	counted = true;
	if (preparing)
		ca_key_ddl_prepare();
}

void
ca_replacing_note(void)
{
	any = true;
	if (written)
		count();
}

void
ca_replacing_before_commit_prepared(void)
{
	if (ca_key_ddl_is_prepared())
		count();
}

char
ca_replacing_flag(void)
{
	return any ? CA_MESSAGE_KEY_DDL : 0;
}

void
ca_replacing_before_log(bool concerns_rules, bool prepares)
{
	preparing = prepares;
	written = true;
	if (any && concerns_rules)
		count();
}

void
ca_replacing_committed(void)
{
	committed = counted;
	any = written = false;
}

void
ca_replacing_ended(void)
{
	if (counted)
		ca_key_ddl_end();
	any = written = preparing = counted = committed = false;
}

void
ca_replacing_sent(void)
{
	if (committed)
		ca_replacing_ended();
}
