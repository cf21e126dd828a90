/*
 * redis_tls_files.c: certificates and keys, read and made into a context of OpenSSL's.
 *
 * Every file is read into memory once, from one descriptor, on which type, size, owner and rights are
 * checked (those of a key by the rules of ssl_key_file), so that what was checked is what is used. A
 * FIFO blocks nobody. A key that asks for a passphrase is refused: nobody is there to enter it.
 *
 * What was made of them last is kept, as PostgreSQL keeps its own: files that cannot be used later, half written
 * or refused at a reload, are no reason to fail. The postmaster keeps what each start and reload gave, and whoever it
 * forks has that too; every process keeps what it read itself. One that has not looked since it was forked may go on with
 * what was replaced in between.
 *
 * Nothing raises, so that the check hooks of settings may come here, in the postmaster too. A reason is
 * the end of a sentence that begins with the file's name; it lasts until the next one.
 *
 * Memory: malloc, freed before return, but for the context that is kept; keys are wiped. OpenSSL's queue of errors is left empty.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_private.h"
#include "redis/redis_tls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "storage/fd.h"

#define CA_LONGEST_FILE (4 * 1024 * 1024) /* the stores of systems have 300 kB */

typedef struct Contents
{
	char *bytes;
	Size len;
} Contents;

static void
forget(Contents *file)
{
	if (file->bytes)
		explicit_bzero(file->bytes, file->len);
	free(file->bytes);
	file->bytes = NULL;
}

static const char *
check_kind(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if (st->st_size == 0)
		return "is empty";
	return st->st_size > CA_LONGEST_FILE ? "is too large" : NULL;
}

/* As for ssl_key_file: ours and for us alone, or root's, which our group may read. */
static const char *
check_rights_of_key(const struct stat *st)
{
	if (st->st_uid != geteuid() && st->st_uid != 0)
		return "must be owned by the database user or root";
	if ((st->st_uid == geteuid() && st->st_mode & (S_IRWXG | S_IRWXO)) ||
		(st->st_uid == 0 && st->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)))
		return "has group or world access: chmod 0600 if it is owned by the database user, 0640 or "
			   "less if by root";
	return NULL;
}

static const char *
read_open_file(int fd, bool is_key, Contents *file)
{
	struct stat st;
	const char *reason = fstat(fd, &st) != 0 ? "cannot be read" : check_kind(&st);

	if (reason == NULL && is_key)
		reason = check_rights_of_key(&st);
	if (reason)
		return reason;
	file->bytes = malloc(st.st_size);
	if (file->bytes == NULL)
		return "cannot be read: out of memory";
	while (file->len < (Size) st.st_size)
	{
		ssize_t n = read(fd, file->bytes + file->len, st.st_size - file->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return "cannot be read";
		if (n == 0)
			break;
		file->len += n;
	}
	return NULL;
}

/* NULL: it is in `file`, to be forgotten. Otherwise why not, as the end of a sentence. */
static const char *
read_file(const char *path, bool is_key, Contents *file)
{
	const char *reason;
	int fd;

	memset(file, 0, sizeof(*file));
	if (strlen(path) >= MAXPGPATH)
		return "has too long a name";
	fd = BasicOpenFile(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | PG_BINARY);
	if (fd < 0)
		return errno == ENOENT   ? "does not exist"
			   : errno == EACCES ? "may not be read by the server"
								 : "cannot be opened";
	reason = read_open_file(fd, is_key, file);
	close(fd);
	if (reason)
		forget(file);
	return reason;
}

#ifdef CA_WITH_OPENSSL

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

/* With OpenSSL's own words for what it refused last */
static const char *
refused(const char *what)
{
	static char said[256];
	unsigned long code = ERR_peek_last_error();
	const char *words = code ? ERR_reason_error_string(code) : NULL;

	snprintf(said, sizeof(said), "%s: %s", what, words ? words : "unknown error");
	return said;
}

/* ---- certificates ---- */

static bool
trust(SSL_CTX *context, X509 *certificate, int n)
{
	return X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate) == 1;
}

/* The first is ours, the others lead to whom Redis trusts. */
static bool
present(SSL_CTX *context, X509 *certificate, int n)
{
	return n == 0 ? SSL_CTX_use_certificate(context, certificate) == 1
				  : SSL_CTX_add1_chain_cert(context, certificate) == 1;
}

static const char *
use_each(SSL_CTX *context, BIO *bio, bool (*use)(SSL_CTX *, X509 *, int))
{
	X509 *certificate;
	int n = 0;

	while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
	{
		bool used = use(context, certificate, n++);

		X509_free(certificate);
		if (!used)
			return refused("holds a certificate that cannot be used");
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return refused("holds a certificate that cannot be read");
	return n == 0 ? "holds no certificate in PEM format" : NULL;
}

static const char *
use_certificates(SSL_CTX *context, const char *path, bool (*use)(SSL_CTX *, X509 *, int))
{
	Contents file;
	const char *reason = read_file(path, false, &file);
	BIO *bio;

	if (reason)
		return reason;
	bio = BIO_new_mem_buf(file.bytes, (int) file.len);
	reason = bio ? use_each(context, bio, use) : "cannot be read: out of memory";
	BIO_free(bio);
	forget(&file);
	return reason;
}

/* ---- the key ---- */

static int
no_passphrase(char *buffer, int size, int writes, void *asked)
{
	*(bool *) asked = true;
	return -1;
}

static const char *
use_key_of(SSL_CTX *context, BIO *bio)
{
	bool asked = false;
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked);
	const char *reason = NULL;

	if (key == NULL)
		return asked ? "is protected by a passphrase, which nobody could enter"
					 : "holds no private key in PEM format";
	/* compares it with the certificate, if there is one already */
	if (SSL_CTX_use_PrivateKey(context, key) != 1)
		reason = SSL_CTX_get0_certificate(context) ? "holds a key that is not the certificate's"
												   : refused("holds a key that cannot be used");
	EVP_PKEY_free(key);
	return reason;
}

static const char *
use_key(SSL_CTX *context, const char *path)
{
	Contents file;
	const char *reason = read_file(path, true, &file);
	BIO *bio;

	if (reason)
		return reason;
	bio = BIO_new_mem_buf(file.bytes, (int) file.len);
	reason = bio ? use_key_of(context, bio) : "cannot be read: out of memory";
	BIO_free(bio);
	forget(&file);
	return reason;
}

/* Before its rights are judged: a certificate alone may be read by anybody. */
static bool
names_a_key(const char *path)
{
	static const char mark[] = "PRIVATE KEY-----";
	Contents file;
	bool found = false;

	if (read_file(path, false, &file) != NULL)
		return false;
	for (Size i = 0; !found && i + sizeof(mark) - 1 <= file.len; i++)
		found = memcmp(file.bytes + i, mark, sizeof(mark) - 1) == 0;
	forget(&file);
	return found;
}

/* ---- all of them ---- */

static const char *
use_files(SSL_CTX *context, const CaTlsFiles *files, const char **culprit)
{
	const char *reason = NULL;

	*culprit = files->ca;
	if (files->ca)
		reason = use_certificates(context, files->ca, trust);
	if (reason)
		return reason;
	*culprit = files->certificate;
	if (files->certificate)
		reason = use_certificates(context, files->certificate, present);
	if (reason || files->key == NULL)
		return reason;
	if (files->key == files->certificate && !names_a_key(files->key))
		return "holds no private key, and redis_tls_key_file is not set";
	*culprit = files->key;
	return use_key(context, files->key);
}

const char *
ca_redis_tls_files_check(const CaTlsFiles *files, const char **culprit)
{
	SSL_CTX *context;
	const char *reason = "cannot be checked: out of memory";

	if (files->ca == NULL && files->certificate == NULL && files->key == NULL)
		return NULL;
	ERR_clear_error();
	context = SSL_CTX_new(TLS_client_method());
	if (context)
		reason = use_files(context, files, culprit);
	SSL_CTX_free(context);
	ERR_clear_error();
	return reason;
}

static SSL_CTX *
new_context(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
	{
		SSL_CTX_free(context);
		return NULL;
	}
	SSL_CTX_set_options(context,
						SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	/* what is sent again may lie elsewhere by then: the buffer grows */
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(context, 1);
	return context;
}

static SSL_CTX *
make_context(const CaTlsFiles *files, char *reason, Size size)
{
	const char *culprit = "";
	const char *why = NULL;
	SSL_CTX *context = new_context();

	if (context == NULL)
		snprintf(reason, size, "TLS: it cannot be set up: %s", refused("OpenSSL"));
	else if ((why = use_files(context, files, &culprit)) != NULL)
		snprintf(reason, size, "TLS: the file \"%s\" %s", culprit, why);
	else if (files->ca || SSL_CTX_set_default_verify_paths(context) == 1)
		return context;
	else
		snprintf(reason, size, "TLS: the system's store of authorities: %s", refused("OpenSSL"));
	SSL_CTX_free(context);
	return NULL;
}

/* ---- the last one that could be made ---- */

static SSL_CTX *kept;
static uint64 kept_for; /* the names of its files */

static uint64
hash_names(const CaTlsFiles *files)
{
	const char *const names[] = {files->ca, files->certificate, files->key};
	uint64 hash = 0;

	for (int i = 0; i < lengthof(names); i++)
	{
		const char *name = names[i] ? names[i] : "";

		hash = hash_combine64(
			hash, hash_bytes_extended((const unsigned char *) name, (int) strlen(name), i));
	}
	return hash;
}

/* The store of the system alone is not kept: nothing of it is refused, and it takes megabytes. */
static void
keep(SSL_CTX *context, const CaTlsFiles *files)
{
	SSL_CTX_free(kept);
	kept = NULL;
	if (files->ca || files->certificate || files->key)
	{
		SSL_CTX_up_ref(context);
		kept = context;
		kept_for = hash_names(files);
	}
}

void
ca_redis_tls_files_accept(const CaTlsFiles *files)
{
	char ignored[256];
	SSL_CTX *context;

	ERR_clear_error();
	context = make_context(files, ignored, sizeof(ignored));
	if (context)
		keep(context, files);
	SSL_CTX_free(context);
	ERR_clear_error();
}

SSL_CTX *
ca_redis_tls_files_context(const CaTlsFiles *files, char *reason, Size size)
{
	SSL_CTX *context = make_context(files, reason, size);

	if (context)
	{
		reason[0] = '\0';
		keep(context, files);
	}
	else if (kept && kept_for == hash_names(files))
	{
		SSL_CTX_up_ref(kept);
		context = kept;
	}
	return context;
}

#else

const char *
ca_redis_tls_files_check(const CaTlsFiles *files, const char **culprit)
{
	const char *const paths[] = {files->ca, files->certificate, files->key};
	const char *reason = NULL;

	for (int i = 0; i < lengthof(paths) && reason == NULL; i++)
	{
		Contents file;

		*culprit = paths[i];
		if (paths[i] && (reason = read_file(paths[i], i == 2, &file)) == NULL)
			forget(&file);
	}
	return reason;
}

void
ca_redis_tls_files_accept(const CaTlsFiles *files)
{
}

#endif
