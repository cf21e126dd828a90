/*
 * credential_command.c: redis_credential_command: when it is run, and what becomes of what it prints. Of the
 * worker alone; child.c runs it.
 *
 * It runs when a connection wants to be made and there is no credential that is good, and before the present one
 * expires: after 70 to 80 % of its life, at most an hour before its end, so that servers that began together do not ask
 * together. One that does not say when it expires is good for a minute of new connections, and for as long as it
 * likes on those that are open. One that Redis refused is replaced once at once; should the next be refused too, the
 * pauses double up to a minute. So do those after a command that failed; meanwhile the present credential is
 * used, whatever is wrong with it, for Redis may know better.
 *
 * Nothing waits for the command but a connection that lacks a credential. It gets redis_credential_timeout.
 *
 * What it says on stderr is logged when it fails, printable, shortened, and without the password that it printed and
 * that it replaces; what it prints never is. A failure is logged again when its words change, and its end once.
 *
 * If the worker dies, its successor finds the credential in shared memory.
 */
#include "cache_aside.h"
#include "common/child.h"
#include "redis/credential.h"
#include "redis/redis.h"

#include <sys/wait.h>

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define GOOD_WITHOUT_EXPIRY_MS 60000
#define LONGEST_MARGIN (3600.0 * USECS_PER_SEC) /* before it expires */
#define FIRST_PAUSE 1000                        /* ms */
#define LONGEST_PAUSE 60000

static CaChild child;
static char *command; /* as it is in force; NULL: none yet */
static char *words;
static TimestampTz begun_at;
static bool asked;  /* a connection needs one */
static bool in_use; /* somebody may connect */

static uint64 number; /* of the present credential; 0: none */
static TimestampTz got_at;
static TimestampTz expires;
static TimestampTz renew_at; /* 0: never */

static TimestampTz not_before; /* after failures and refusals */
static int pause_ms;
static char failure[256]; /* of the last run; empty: it went well */
static char told[256];

/* ---- the present credential ---- */

static void
note_present(const CaCredential *credential)
{
	double share = 0.2 + 0.1 * pg_prng_double(&pg_global_prng_state);
	double margin = (double) (credential->expires - credential->got_at) * share;

	number = credential->number;
	got_at = credential->got_at;
	expires = credential->expires;
	renew_at = expires ? expires - (TimestampTz) Min(margin, LONGEST_MARGIN * share / 0.3) : 0;
}

static bool
is_good(TimestampTz now)
{
	if (number == 0 || ca_credential_is_refused(number))
		return false;
	return expires ? now < expires
				   : !TimestampDifferenceExceeds(got_at, now, GOOD_WITHOUT_EXPIRY_MS);
}

static bool
is_due(TimestampTz now)
{
	if (now < not_before)
		return false;
	return asked || number == 0 || ca_credential_is_refused(number) ||
		   (renew_at != 0 && now >= renew_at);
}

static void
lengthen_pause(TimestampTz now)
{
	pause_ms = pause_ms == 0 ? FIRST_PAUSE : Min(pause_ms * 2, LONGEST_PAUSE);
	not_before = TimestampTzPlusMilliseconds(now, pause_ms);
}

/* ---- a run ---- */

static void
fail(const char *what)
{
	strlcpy(failure, what, sizeof(failure));
	lengthen_pause(GetCurrentTimestamp());
}

/* `printed`: as far as it was understood */
static void
tell_failure(const CaCredential *printed)
{
	CaCredential present;
	const CaCredential *secrets[] = {printed, &present};

	if (strcmp(told, failure) == 0)
		return;
	strlcpy(told, failure, sizeof(told));
	(void) ca_credential_copy(&present);
	ca_credential_output_clean(child.err, &child.err_len, child.err_cut, secrets, 2);
	ca_credential_wipe(&present);
	ereport(LOG, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				  errmsg("cache_aside.redis_credential_command failed: %s", failure),
				  child.err_len > 0 ? errdetail("It said: %s", child.err) : 0,
				  errhint("It is run again after pauses of a second to a minute. It prints lines "
						  "that begin with user, password and expires; see docs/credentials.md.")));
}

static void
begin_run(void)
{
	int n = ca_credential_words_split(command, words);

	asked = false;
	begun_at = GetCurrentTimestamp();
	if (n > 0 && ca_child_begin(&child, words, n))
		return;
	child.err_len = 0;
	fail(psprintf("could not start it: %s", strerror(errno)));
	tell_failure(&(CaCredential){0});
}

static void
take(CaCredential *credential)
{
	/* The one before was refused, or lasted a moment only: the next waits. */
	if (number != 0 && ca_credential_is_refused(number) &&
		!TimestampDifferenceExceeds(got_at, begun_at, LONGEST_PAUSE))
		lengthen_pause(begun_at);
	else
		pause_ms = 0;
	ca_credential_store(credential);
	note_present(credential);
	failure[0] = '\0';
	if (told[0])
		ereport(LOG, (errmsg("cache_aside.redis_credential_command works again")));
	told[0] = '\0';
}

static const char *
judge_exit(CaCredential *credential)
{
	static char said[64];
	const char *reason =
		ca_credential_output_parse(child.out, child.out_len, GetCurrentTimestamp(), credential);

	if (WIFEXITED(child.status) && WEXITSTATUS(child.status) == 0)
		return reason;
	snprintf(said, sizeof(said), WIFEXITED(child.status) ? "exit status %d" : "ended by signal %d",
			 WIFEXITED(child.status) ? WEXITSTATUS(child.status) : WTERMSIG(child.status));
	return said;
}

static void
advance_run(void)
{
	CaCredential credential = {0};
	CaChildState state = ca_child_step(&child);
	const char *reason = NULL;

	if (state == CA_CHILD_RUNNING &&
		!TimestampDifferenceExceeds(begun_at, GetCurrentTimestamp(), guc_redis_credential_timeout))
		return;
	if (state == CA_CHILD_RUNNING)
	{
		ca_child_kill(&child);
		(void) ca_credential_output_parse(child.out, child.out_len, begun_at, &credential);
		reason = psprintf("it did not end within %d ms", guc_redis_credential_timeout);
	}
	else if (state == CA_CHILD_UNBORN)
		reason = psprintf("could not execute it: %s", strerror(child.error));
	else if (state == CA_CHILD_FLOODED)
	{
		(void) ca_credential_output_parse(child.out, child.out_len, begun_at, &credential);
		reason = "it printed more than 16 kB";
	}
	else
		reason = judge_exit(&credential);
	if (reason == NULL)
		take(&credential);
	else
	{
		fail(reason);
		tell_failure(&credential);
	}
	ca_credential_wipe(&credential);
	explicit_bzero(child.out, sizeof(child.out));
	explicit_bzero(child.err, sizeof(child.err));
}

/* ---- the setting ---- */

static void
stop(void)
{
	ca_child_kill(&child);
	explicit_bzero(child.out, sizeof(child.out));
	asked = false;
}

/* Another command: what the one before gave is not asked for any more. */
static void
follow_setting(void)
{
	CaCredential present;

	if (command && strcmp(command, guc_redis_credential_command) == 0)
		return;
	stop();
	if (command == NULL && ca_credential_copy(&present))
		note_present(&present); /* of the worker before */
	else
	{
		ca_credential_forget();
		number = 0;
		renew_at = 0;
	}
	ca_credential_wipe(&present);
	if (command)
		pfree(command);
	if (words)
		pfree(words);
	command = MemoryContextStrdup(TopMemoryContext, guc_redis_credential_command);
	words = MemoryContextAlloc(TopMemoryContext, strlen(command) + 1);
	not_before = 0;
	pause_ms = 0;
	failure[0] = told[0] = '\0';
}

/* ---- for the worker ---- */

bool
ca_credential_command_is_set(void)
{
	return guc_redis_credential_command && guc_redis_credential_command[0];
}

void
ca_credential_command_step(bool wanted)
{
	ca_child_reap();
	follow_setting();
	in_use = wanted && ca_credential_command_is_set();
	if (!in_use)
		stop();
	else if (child.pid != 0)
		advance_run();
	else if (is_due(GetCurrentTimestamp()))
		begin_run();
}

/* For the run under way. Its output and its end are events. */
static long
time_left(TimestampTz now)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(begun_at, guc_redis_credential_timeout);
	long left = TimestampDifferenceMilliseconds(now, deadline);
	long look = ca_child_timeout(&child);

	return look >= 0 ? Min(look, left) : left;
}

void
ca_credential_command_pipes(CaChildPipes *pipes)
{
	ca_child_pipes(&child, pipes);
}

long
ca_credential_command_timeout(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = renew_at;

	if (child.pid != 0)
		return time_left(now);
	if (!in_use)
		return -1;
	if (asked || number == 0 || ca_credential_is_refused(number))
		next = now;
	return next == 0 ? -1 : TimestampDifferenceMilliseconds(now, Max(next, not_before));
}

CaCredentialState
ca_credential_command_ready(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!ca_credential_command_is_set())
		return CA_CREDENTIAL_READY;
	if (command == NULL || strcmp(command, guc_redis_credential_command) != 0)
		return CA_CREDENTIAL_AWAITED; /* the next step sees it */
	if (is_good(now))
		return CA_CREDENTIAL_READY;
	if (child.pid == 0 && now < not_before)
		return number != 0 ? CA_CREDENTIAL_READY : CA_CREDENTIAL_LACKING;
	asked = child.pid == 0;
	return CA_CREDENTIAL_AWAITED;
}

const char *
ca_credential_command_error(void)
{
	static char error[sizeof(failure) + 64];

	snprintf(error, sizeof(error), CA_CREDENTIAL_LACKS ": %s", failure);
	return error;
}
