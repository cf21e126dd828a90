/*
 * credential_words.c: redis_credential_command, the setting: split into words, checked when it is set.
 *
 * No shell reads it. Words are separated by blanks, tabs and ends of lines; between single quotes everything stands
 * for itself; between double quotes a backslash takes the next character as it is, as it does outside of quotes; quotes
 * may stand in the middle of a word, and '' is an empty one. Nothing else has a meaning: no variables, no
 * patterns, no redirection. Who wants a shell writes sh -c '...'.
 *
 * One place to log in from: a command, a file, or the URL. ALTER SYSTEM refuses what contradicts the settings in
 * force. Lines in a file are not compared with each other, because settings are checked one by one, before the
 * others of the same file are in force: a file that moves from one to the other would be refused by the order of its
 * lines. The command counts then, and the file before the URL; what does not is said in the log, by `status` and by
 * check_redis().
 */
#include "cache_aside.h"
#include "redis/credential.h"
#include "redis/redis.h"
#include "redis/redis_private.h"

#include "access/xact.h"

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One word from `at`, which is none of the blanks; NULL: not closed. */
static const char *
copy_word(const char *at, char **to)
{
	char quote = '\0';

	for (; *at && (quote || !is_blank(*at)); at++)
	{
		if (*at == '\\' && quote != '\'')
		{
			if (*++at == '\0')
				return NULL;
			*(*to)++ = *at;
		}
		else if (*at == quote)
			quote = '\0';
		else if (quote == '\0' && (*at == '\'' || *at == '"'))
			quote = *at;
		else
			*(*to)++ = *at;
	}
	*(*to)++ = '\0';
	return quote ? NULL : at;
}

int
ca_credential_words_split(const char *command, char *words)
{
	int n = 0;

	for (;;)
	{
		while (is_blank(*command))
			command++;
		if (*command == '\0')
			return n;
		command = copy_word(command, &words);
		if (command == NULL)
			return -1;
		n++;
	}
}

/*
 * Is somebody changing one setting? A file is read between transactions, whole; the view pg_file_settings checks it
 * within one, and may show a contradiction that a reload ends.
 */
static bool
one_is_set(GucSource source)
{
	return source == PGC_S_FILE && IsTransactionState();
}

static bool
is_set(const char *setting)
{
	return setting && setting[0];
}

static bool
url_has_password(void)
{
	CaRedisAddress address;
	bool has = ca_redis_url_parse(guc_redis_url, &address) == NULL && address.password[0];

	explicit_bzero(address.password, sizeof(address.password));
	return has;
}

const char *
ca_credential_words_source(const char **unused)
{
	bool file = is_set(guc_redis_password_file);
	bool url = url_has_password();

	*unused = NULL;
	if (is_set(guc_redis_credential_command))
	{
		*unused = file ? "password file" : url ? "URL" : NULL;
		return "command";
	}
	*unused = file && url ? "URL" : NULL;
	return file ? "password file" : url ? "URL" : "none";
}

/* NULL, or what is wrong with it */
static const char *
judge_words(const char *setting)
{
	char *words = malloc(strlen(setting) + 1);
	const char *problem = NULL;
	int n;

	if (words == NULL)
		return "There is no memory to look at it.";
	n = ca_credential_words_split(setting, words);
	if (n < 0)
		problem = "A quote is not closed, or a backslash is last.";
	else if (n == 0 || words[0] == '\0')
		problem = "It names no program.";
	free(words);
	return problem;
}

bool
ca_credential_words_check(char **newval, void **extra, GucSource source)
{
	const char *problem = is_set(*newval) ? judge_words(*newval) : NULL;

	if (problem)
	{
		GUC_check_errdetail("%s", problem);
		GUC_check_errhint(
			"Write a program and its arguments, quoted as for a shell, or sh -c '...'.");
		return false;
	}
	if (!is_set(*newval))
		return true;
	if (!one_is_set(source) || (!is_set(guc_redis_password_file) && !url_has_password()))
		return true;
	GUC_check_errdetail("%s has the password.", is_set(guc_redis_password_file)
													? "cache_aside.redis_password_file"
													: "cache_aside.redis_url");
	GUC_check_errhint("Take it out there, reload the configuration, and set this then.");
	return false;
}

bool
ca_credential_words_check_file(char **newval, void **extra, GucSource source)
{
	if (!is_set(*newval) || !one_is_set(source) || !is_set(guc_redis_credential_command))
		return true;
	GUC_check_errdetail("cache_aside.redis_credential_command gives the password.");
	GUC_check_errhint("Reset that, reload the configuration, and set this then.");
	return false;
}
