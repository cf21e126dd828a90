/*
 * redis_tls_settings.c: the settings of TLS, checked when they are set.
 *
 *	redis_tls_ca_file       who may sign Redis's certificate; none: the system's store
 *	redis_tls_cert_file     ours, with its chain, if Redis asks for one
 *	redis_tls_key_file      its key; none: it stands in the certificate's file
 *	redis_tls_verify        full, ca, none
 *	redis_tls_server_name   instead of the host: asked for by SNI, and looked for in the certificate
 *
 * A value is refused by ALTER SYSTEM and by a reload, with the reason; the old one stays. That a key is
 * the certificate's is a matter of two settings. The hook of one cannot see the value that the other is
 * about to get, in whatever order they come, so it reads the configuration files, as a reload does: at a
 * reload both are refused, or neither. ALTER SYSTEM sets one after the other; there only a certificate
 * without any key is refused, so the key comes first.
 *
 * A file that is refused when the server starts leaves its setting empty, which would mean something
 * else than was asked for; ca_redis_tls_settings_lacking then says why there is no Redis to connect to.
 *
 * Nothing raises but for want of memory. Every process that reloads comes here: one whose value does not change looks at no
 * file, except for the postmaster, who thus reports what has become of them.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_tls.h"

#include <sys/stat.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

enum
{
	CA_FILE,
	CERT_FILE,
	KEY_FILE,
	FILES
};

#define KEY "cache_aside.redis_tls_key_file"

static const char *const names[FILES] = {"cache_aside.redis_tls_ca_file",
										 "cache_aside.redis_tls_cert_file", KEY};
static char refused_at_start[FILES][320]; /* why; empty: it was not */

static const char *
unless_empty(const char *path)
{
	return path && path[0] ? path : NULL;
}

/* A certificate without a key of its own file has it in the same. */
static CaTlsFiles
make_pair(const char *certificate, const char *key)
{
	CaTlsFiles files = {.certificate = unless_empty(certificate), .key = unless_empty(key)};

	if (files.key == NULL)
		files.key = files.certificate;
	return files;
}

void
ca_redis_tls_settings_files(CaTlsFiles *files)
{
	*files = make_pair(guc_tls_cert_file, guc_tls_key_file);
	files->ca = unless_empty(guc_tls_ca_file);
}

/* ---- checking ---- */

/* What the configuration files say of a setting, else what is in force; malloc'd, NULL: out of memory */
static char *
pending_value(const char *name, const char *in_force)
{
	static const char *const files[] = {NULL, PG_AUTOCONF_FILENAME};
	ConfigVariable *head = NULL;
	ConfigVariable *tail = NULL;
	const char *value = in_force ? in_force : "";
	char *copy;

	for (int i = 0; i < lengthof(files); i++)
	{
		const char *file = files[i] ? files[i] : ConfigFileName;

		if (file)
			(void) ParseConfigFile(file, true, NULL, 0, 0, DEBUG5, &head, &tail);
	}
	for (ConfigVariable *item = head; item; item = item->next)
		if (!item->ignore && item->errmsg == NULL && pg_strcasecmp(item->name, name) == 0)
			value = item->value;
	copy = strdup(value);
	FreeConfigVariables(head);
	return copy;
}

/* A statement sets one setting; a reload, or a start, sets all. */
static bool
is_set_alone(void)
{
	return ActivePortal != NULL;
}

static bool
refuse(int which, const char *culprit, const char *reason)
{
	bool no_key = which == CERT_FILE && strstr(reason, "no private key") != NULL;

	if (process_shared_preload_libraries_in_progress)
		snprintf(refused_at_start[which], sizeof(refused_at_start[which]), "the file \"%s\" %s",
				 culprit, reason);
	GUC_check_errdetail("The file \"%s\" %s.", culprit, reason);
	if (no_key)
		GUC_check_errhint("Set " KEY " first, or put the key into the same file.");
	else
		GUC_check_errhint("A relative name is one in the data directory; the file must be in PEM "
						  "format, and the server's user able to read it.");
	return false;
}

static bool
check_files(int which, const CaTlsFiles *files)
{
	const char *culprit = "";
	const char *reason = ca_redis_tls_files_check(files, &culprit);

	if (reason)
		return refuse(which, culprit, reason);
	refused_at_start[which][0] = '\0';
	return true;
}

static bool
is_no_news(const char *newval, const char *in_force)
{
	return IsUnderPostmaster && !is_set_alone() && unless_empty(in_force) &&
		   strcmp(newval, in_force) == 0;
}

bool
ca_redis_tls_settings_check_ca(char **newval, void **extra, GucSource source)
{
	CaTlsFiles files = {.ca = unless_empty(*newval)};

	return is_no_news(*newval, guc_tls_ca_file) || check_files(CA_FILE, &files);
}

bool
ca_redis_tls_settings_check_cert(char **newval, void **extra, GucSource source)
{
	CaTlsFiles files = {0};
	char *key;
	bool good;

	if (is_no_news(*newval, guc_tls_cert_file))
		return true;
	key = pending_value(KEY, guc_tls_key_file);
	if ((*newval)[0])
		files = make_pair(*newval, key);
	if (is_set_alone() && unless_empty(key))
		files.key = NULL; /* the other half of a new pair may be set after this one */
	good = check_files(CERT_FILE, &files);
	free(key);
	return good;
}

bool
ca_redis_tls_settings_check_key(char **newval, void **extra, GucSource source)
{
	CaTlsFiles files;
	char *certificate;
	bool good;

	if (source == PGC_S_DEFAULT || is_no_news(*newval, guc_tls_key_file))
		return true; /* the certificate's own hook looks for a key in its file */
	certificate = is_set_alone() ? NULL : pending_value(names[CERT_FILE], guc_tls_cert_file);
	files = make_pair(certificate, *newval);
	good = check_files(KEY_FILE, &files);
	free(certificate);
	return good;
}

/* ---- what was accepted ---- */

/* The postmaster keeps it for those it will fork. While a pair changes, one half after the other, what is kept stays. */
static void
accept_files(const char *ca, const char *certificate, const char *key)
{
	CaTlsFiles files = make_pair(certificate, key);

	files.ca = unless_empty(ca);
	if (!IsUnderPostmaster && (files.ca || files.key))
		ca_redis_tls_files_accept(&files);
}

void
ca_redis_tls_settings_assign_ca(const char *newval, void *extra)
{
	accept_files(newval, guc_tls_cert_file, guc_tls_key_file);
}

void
ca_redis_tls_settings_assign_cert(const char *newval, void *extra)
{
	accept_files(guc_tls_ca_file, newval, guc_tls_key_file);
}

void
ca_redis_tls_settings_assign_key(const char *newval, void *extra)
{
	accept_files(guc_tls_ca_file, guc_tls_cert_file, newval);
}

/* A name only: an address has no SNI. */
bool
ca_redis_tls_settings_check_name(char **newval, void **extra, GucSource source)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:";

	if (strlen(*newval) < CA_REDIS_MAX_HOST - 1 && strspn(*newval, letters) == strlen(*newval))
		return true;
	GUC_check_errdetail("It is too long, or contains a character that host names do not have.");
	return false;
}

/* ---- what follows ---- */

/* No hook is called for a setting that is taken out of the files and never had a value. */
static void
forgive_those_taken_out(void)
{
	static TimestampTz looked;

	if (looked == PgReloadTime)
		return;
	looked = PgReloadTime;
	for (int i = 0; i < FILES; i++)
	{
		char *value = refused_at_start[i][0] ? pending_value(names[i], NULL) : NULL;

		if (value && value[0] == '\0')
			refused_at_start[i][0] = '\0';
		free(value);
	}
}

const char *
ca_redis_tls_settings_lacking(void)
{
	static char why[400];

	for (int i = 0; i < FILES; i++)
	{
		if (refused_at_start[i][0])
			forgive_those_taken_out();
		if (refused_at_start[i][0] == '\0')
			continue;
		snprintf(why, sizeof(why), "the value of %s was refused: %s", names[i],
				 refused_at_start[i]);
		return why;
	}
	return NULL;
}

const char *
ca_redis_tls_settings_problem(void)
{
	static char problem[400];
	CaTlsFiles files;
	const char *culprit = "";
	const char *reason;

	ca_redis_tls_settings_files(&files);
	reason = ca_redis_tls_files_check(&files, &culprit);
	if (reason == NULL)
		return NULL;
	snprintf(problem, sizeof(problem), "the file \"%s\" %s", culprit, reason);
	return problem;
}

static uint64
add_file(uint64 state, const char *path)
{
	struct stat st;
	uint64 seen[7] = {0};

	if (path == NULL)
		return hash_combine64(state, 0);
	if (stat(path, &st) == 0)
	{
		seen[0] = st.st_dev;
		seen[1] = st.st_ino;
		seen[2] = st.st_size;
		seen[3] = st.st_mtim.tv_sec;
		seen[4] = st.st_mtim.tv_nsec;
		seen[5] = st.st_mode;
		seen[6] = st.st_uid;
	}
	state = hash_combine64(
		state, hash_bytes_extended((const unsigned char *) path, (int) strlen(path), 0));
	return hash_combine64(state,
						  hash_bytes_extended((const unsigned char *) seen, sizeof(seen), 0));
}

uint64
ca_redis_tls_settings_state(void)
{
	CaTlsFiles files;
	uint64 state = guc_tls_verify;

	ca_redis_tls_settings_files(&files);
	state = add_file(state, files.ca);
	state = add_file(state, files.certificate);
	state = add_file(state, files.key);
	return hash_combine64(state, hash_bytes_extended((const unsigned char *) guc_tls_server_name,
													 (int) strlen(guc_tls_server_name), 0));
}
