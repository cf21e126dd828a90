/*
 * redis_login.c: what is said first on a new connection, and what must never be said.
 *
 *	AUTH [user] password     when the address has credentials
 *	SELECT db                unless 0
 *	CLIENT SETNAME name
 *	PING                     so that READY means "answers": LOADING and MASTERDOWN show up here
 *
 * All four go out in one write. An error ends the connection with the server's reason; only what a
 * restricted user or a proxy may lack (CLIENT SETNAME, PING) is allowed to be refused.
 *
 * Secrets: a server may quote a command that it does not know, with its arguments, so an answer to
 * AUTH is reduced to its error code, and from anything else that a server says before the login is
 * over the password is cut out. Texts are made printable ASCII: they reach the log, and an SQL
 * result in whatever encoding.
 *
 * What a command gives (credential.c) is taken from shared memory at each connection, and logs an open one in anew
 * when there is a newer one: AUTH goes into the pipeline between other commands, none of which waits. A credential
 * that is refused is noted, so that the worker gets another.
 *
 * The password file is read at each connection (a rotated password needs no reload). It must be a
 * regular file: opening a FIFO could block.
 */
#include "cache_aside.h"
#include "redis/credential.h"
#include "redis/redis.h"
#include "redis/redis_private.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

/* Reads at most size - 1 bytes; -1 with errno. */
static ssize_t
read_start(int fd, char *buffer, Size size)
{
	Size n = 0;

	while (n < size - 1)
	{
		ssize_t rc = read(fd, buffer + n, size - 1 - n);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc < 0)
			return -1;
		if (rc == 0)
			break;
		n += rc;
	}
	buffer[n] = '\0';
	return (ssize_t) n;
}

static const char *
keep_first_line(char *buffer, ssize_t n, Size size)
{
	Size len = strcspn(buffer, "\n");

	if (len == size - 1)
		return "the first line of the password file is too long";
	if (len > 0 && buffer[len - 1] == '\r')
		len--;
	buffer[len] = '\0';
	if (len == 0)
		return n > 0 && buffer[0] == '\0' ? "the password file begins with an empty line"
										  : "the password file is empty";
	return NULL;
}

/* The present one, if there is one. */
static bool
take_credential(CaRedisAddress *address)
{
	CaCredential credential;
	bool there = ca_credential_copy(&credential);

	if (there)
	{
		if (credential.user[0])
			strlcpy(address->user, credential.user, sizeof(address->user));
		strlcpy(address->password, credential.password, sizeof(address->password));
		address->credential = credential.number;
	}
	ca_credential_wipe(&credential);
	return there;
}

static const char *
read_password_file(CaRedisAddress *address)
{
	struct stat st;
	const char *reason = NULL;
	ssize_t n;
	int fd;

	fd = BasicOpenFile(address->password_file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT   ? "the password file does not exist"
			   : errno == EACCES ? "no permission to read the password file"
								 : "the password file cannot be opened";
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		reason = "the password file is not a regular file";
	else
	{
		n = read_start(fd, address->password, sizeof(address->password));
		reason = n < 0 ? "the password file cannot be read"
					   : keep_first_line(address->password, n, sizeof(address->password));
	}
	close(fd);
	return reason;
}

const char *
ca_redis_login_password(CaRedisAddress *address)
{
	if (address->credentials == CA_CREDENTIALS_FILE)
		return read_password_file(address);
	if (address->credentials == CA_CREDENTIALS_COMMAND && !take_credential(address))
		return CA_CREDENTIAL_LACKS " has given nothing yet";
	return NULL;
}

void
ca_redis_login_quote(const CaRedisAddress *address, const char *said, Size len, char *quoted,
					 Size size)
{
	Size secret = strlen(address->password);
	Size n = 0;

	for (Size i = 0; i < len && n < size - 4;)
	{
		if (secret > 0 && len - i >= secret && memcmp(said + i, address->password, secret) == 0)
		{
			memcpy(quoted + n, "***", 3);
			n += 3;
			i += secret;
			continue;
		}
		quoted[n++] = said[i] >= ' ' && said[i] < 0x7f ? said[i] : '?';
		i++;
	}
	quoted[n] = '\0';
}

bool
ca_redis_login_parting_words(int fd, const CaRedisAddress *address, char *quoted, Size size)
{
	char words[512];
	ssize_t n = recv(fd, words, sizeof(words), MSG_DONTWAIT);
	Size len = 1;

	if (n < 2 || words[0] != '-')
		return false;
	while (len < n && words[len] != '\r' && words[len] != '\n')
		len++;
	ca_redis_login_quote(address, words + 1, len - 1, quoted, size);
	return true;
}

static void
fail_with_reply(CaRedis *redis, const char *command, const CaReply *reply)
{
	char quoted[CA_REDIS_QUOTE];
	Size len;
	const char *said = ca_redis_reply_text(reply, &len);

	ca_redis_login_quote(ca_redis_connection_address(redis), said, len, quoted, sizeof(quoted));
	ca_redis_connection_fail(redis, "%s was refused: %s", command, quoted);
}

static bool
is_error(const CaReply *reply)
{
	return ca_redis_reply_type(reply) == CA_REPLY_ERROR;
}

static bool
begins_with(const CaReply *reply, const char *prefix)
{
	Size len;
	const char *said = ca_redis_reply_text(reply, &len);

	return len >= strlen(prefix) && memcmp(said, prefix, strlen(prefix)) == 0;
}

/* Would another credential do? Not if Redis is what is in the way. */
static bool
is_of_credential(const char *code)
{
	return strcmp(code, "LOADING") != 0 && strcmp(code, "MASTERDOWN") != 0 &&
		   strcmp(code, "DENIED") != 0 && strcmp(code, "BUSY") != 0 && strncmp(code, "ERR", 3) != 0;
}

static void
on_auth(void *arg, const CaReply *reply)
{
	static const char *const known[] = {
		"WRONGPASS",  "NOAUTH", "NOPERM", "LOADING",
		"MASTERDOWN", "DENIED", "BUSY",   "ERR max number of clients"};
	CaRedis *redis = arg;
	uint64 credential = ca_redis_connection_address(redis)->credential;

	if (reply == NULL || !is_error(reply))
		return;
	if (begins_with(reply, "ERR AUTH <password> called without any password") ||
		begins_with(reply, "ERR Client sent AUTH, but no password is set"))
	{
		ca_redis_connection_fail(redis, "AUTH was refused: the server has no password configured");
		return;
	}
	for (int i = 0; i < lengthof(known); i++)
	{
		if (begins_with(reply, known[i]))
		{
			if (is_of_credential(known[i]))
				ca_credential_refuse(credential);
			ca_redis_connection_fail(redis, "AUTH was refused: %s", known[i]);
			return;
		}
	}
	ca_credential_refuse(credential);
	ca_redis_connection_fail(redis,
							 "AUTH was refused (the server's words may contain the password)");
}

static void
on_select(void *arg, const CaReply *reply)
{
	if (reply && is_error(reply))
		fail_with_reply(arg, "SELECT", reply);
}

/* May the server do without? An unknown or forbidden command, but not a missing login. */
static bool
is_optional_failure(const CaReply *reply)
{
	return begins_with(reply, "NOPERM") || ca_redis_reply_forbids(reply) ||
		   begins_with(reply, "ERR Unknown") || begins_with(reply, "ERR syntax");
}

static void
on_setname(void *arg, const CaReply *reply)
{
	if (reply && is_error(reply) && !is_optional_failure(reply))
		fail_with_reply(arg, "CLIENT SETNAME", reply);
}

static void
on_ping(void *arg, const CaReply *reply)
{
	if (reply == NULL)
		return;
	if (is_error(reply) && !is_optional_failure(reply))
		fail_with_reply(arg, "PING", reply);
	else
		ca_redis_connection_ready(arg);
}

static void
say(CaRedis *redis, int argc, const char **argv, CaReplyHandler handler)
{
	size_t argvlen[3];

	for (int i = 0; i < argc; i++)
		argvlen[i] = strlen(argv[i]);
	ca_redis_connection_queue(redis, argc, argv, argvlen, handler, redis);
}

static void
say_auth(CaRedis *redis, const CaRedisAddress *address)
{
	if (address->user[0])
		say(redis, 3, (const char *[]){"AUTH", address->user, address->password}, on_auth);
	else if (address->password[0])
		say(redis, 2, (const char *[]){"AUTH", address->password}, on_auth);
}

void
ca_redis_login_again(CaRedis *redis)
{
	CaRedisAddress *address = ca_redis_connection_login(redis);

	if (address == NULL || address->credentials != CA_CREDENTIALS_COMMAND ||
		ca_credential_number() <= address->credential)
		return;
	if (take_credential(address))
		say_auth(redis, address);
	explicit_bzero(address->password, sizeof(address->password));
}

void
ca_redis_login_begin(CaRedis *redis)
{
	const CaRedisAddress *address = ca_redis_connection_address(redis);
	char db[12];

	say_auth(redis, address);
	if (address->db != 0)
	{
		snprintf(db, sizeof(db), "%d", address->db);
		say(redis, 2, (const char *[]){"SELECT", db}, on_select);
	}
	say(redis, 3, (const char *[]){"CLIENT", "SETNAME", ca_redis_connection_client_name(redis)},
		on_setname);
	say(redis, 1, (const char *[]){"PING"}, on_ping);
}
