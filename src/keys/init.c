/*
 * init.c: the setting of keys.
 */
#include "cache_aside.h"
#include "keys/keys.h"

char *guc_key_prefix;

/* A key is its prefix and its text, together no longer than CA_MAX_KEY, and not one of ours. */
static bool
check_key_prefix(char **newval, void **extra, GucSource source)
{
	for (const char *at = *newval ? *newval : ""; *at; at += *at == ',')
	{
		const char *prefix = at += strspn(at, " \t");
		Size len = 0; /* in a pattern, where its glob characters are escaped */

		for (; *at && *at != ','; at++)
			len += strchr("*?[]\\", *at) ? 2 : 1;
		if (len <= CA_MAX_KEY / 2 && !ca_prefix_is_reserved(prefix, at - prefix))
			continue;
		GUC_check_errmsg("invalid value for parameter \"cache_aside.key_prefix\"");
		if (len > CA_MAX_KEY / 2)
			GUC_check_errdetail("One of its prefixes is %zu bytes long; %d are allowed.", len,
								CA_MAX_KEY / 2);
		else
			GUC_check_errdetail("One of its prefixes begins with \"" CA_RESERVED
								"\"; such keys hold positions, guards, leases and sticks.");
		GUC_check_errhint("Choose another one; several prefixes are separated by commas.");
		return false;
	}
	return true;
}

static void
define_settings(void)
{
	DefineCustomStringVariable(
		"cache_aside.key_prefix",
		"Prefix of every key that is invalidated; several are separated by "
		"commas.",
		"Applied when the key is logged, so that a change leaves what is "
		"already in the log as it was. List both during a deploy that changes "
		"it.",
		&guc_key_prefix, "", PGC_SIGHUP, 0, check_key_prefix, ca_prefix_assign, NULL);
}

void
ca_keys_init(void)
{
	define_settings();
}
