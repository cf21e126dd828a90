/*
 * credential.c: any text as what redis_credential_command prints and says (credential_output.c), and as the setting itself
 * (credential_words.c).
 *
 * Input: a byte, which of them; the rest. Holds: no part is longer than its buffer; what is accepted has a password and
 * ends in the future; what is said is printable, short, and without the password; words fill no more than they may.
 * Bites: `end - at >= size` in keep_value() made `>` is found within seconds.
 */
#include "fuzz.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "redis/credential.h"
#include "redis/redis.h"

char *guc_redis_url = "";
char *guc_redis_password_file = "";
char *guc_redis_credential_command = "";

bool
IsTransactionState(void)
{
	return true;
}

static const char *
try_output(FuzzInput *input, CaCredential *credential)
{
	TimestampTz now = 700000000 * USECS_PER_SEC;
	Size len;
	char *printed = fuzz_rest(input, &len);
	const char *reason = ca_credential_output_parse(printed, len, now, credential);

	FUZZ_CHECK(strlen(credential->user) < sizeof(credential->user));
	FUZZ_CHECK(strlen(credential->password) < sizeof(credential->password));
	if (reason == NULL)
	{
		FUZZ_CHECK(credential->password[0] != '\0');
		FUZZ_CHECK(credential->expires == 0 || credential->expires > now);
		FUZZ_CHECK(memchr(printed, '\0', len) == NULL);
	}
	return reason;
}

/* Standard error says what was printed, and something of it again. */
static void
try_said(FuzzInput *input, CaCredential *credential)
{
	const CaCredential *secrets[] = {credential};
	FuzzInput again = *input;
	Size len;
	char *rest;
	char *said;

	(void) try_output(input, credential);
	rest = fuzz_rest(&again, &len);
	said = palloc(len + 1);
	memcpy(said, rest, len);
	ca_credential_output_clean(said, &len, false, secrets, 1);
	FUZZ_CHECK(len <= CA_CREDENTIAL_SAID && said[len] == '\0');
	for (Size i = 0; i < len; i++)
		FUZZ_CHECK(said[i] >= ' ' && said[i] <= '~');
	/* Letters and digits alone, for asterisks and what became printable may look like it. */
	if (strspn(credential->password, "abcdefghijklmnopqrstuvwxyz0123456789") ==
			strlen(credential->password) &&
		strlen(credential->password) > 3)
		FUZZ_CHECK(strstr(said, credential->password) == NULL);
}

static void
try_words(FuzzInput *input)
{
	char *setting = fuzz_rest_text(input);
	Size room = strlen(setting) + 1;
	char *words = palloc(room);
	int n = ca_credential_words_split(setting, words);
	Size used = 0;

	for (int i = 0; i < n; i++)
		used += strlen(words + used) + 1;
	FUZZ_CHECK(used <= room);
	FUZZ_CHECK(ca_credential_words_check(&setting, NULL, PGC_S_FILE) ==
			   (setting[0] == '\0' || (n > 0 && words[0] != '\0')));
}

static void
try(void *arg)
{
	CaCredential *credential = palloc(sizeof(CaCredential)); /* alone, so that its end is seen */

	switch (fuzz_byte(arg) % 3)
	{
		case 0:
			(void) try_output(arg, credential);
			break;
		case 1:
			try_said(arg, credential);
			break;
		default:
			try_words(arg);
			break;
	}
}

const FuzzTarget fuzz_target = {try, .raises = false};
