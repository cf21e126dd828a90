/*
 * check_commands.c: the commands that worker and SQL functions need, each tried without an effect.
 *
 * An ACL, or a service that forbids or renames a command, shows only when the command comes; ACL DRYRUN
 * may be forbidden itself, and knows nothing of what a proxy does. So each is sent in a form that changes
 * nothing: on a key that is not there, with XX, with a library or a script that is none. HSET alone leaves
 * something, for as long as it takes until the UNLINK behind it, in the same pipeline, has taken it away; a
 * connection that breaks in between leaves it there for a minute, by the PEXPIRE before it.
 *
 * An error that shows that the command was understood is the good answer of some of them.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "reads/check.h"

#define OWN "\001"   /* stands for a key of ours, */
#define OTHER "\002" /* and for one of the application's */
#define MOST_WORDS 6

typedef struct Command
{
	const char *name;
	const char *words[MOST_WORDS];
	const char *fine[2]; /* how an error begins that says: understood */
	const char *use;
} Command;

#define DELIVERY "Nothing is delivered without it."
#define FILLS "Without it deliveries go on in plain mode, and guarded fills are refused."
#define PLAIN "A Redis without functions cannot be delivered to without it."
#define READS "get(), fetch() and warm() fail without it."
#define SCANS                                                                                      \
	"TRUNCATE, patterns and resyncs delete nothing without it, and deliveries wait for them."
#define PUBLISHED "Replicas are not published without it."
#define TOLD "Status does not know the version, and a Redis that comes back costs a resync."

static const Command commands[] = {
	{"ping", {"PING"}, {NULL}, "ping() does not answer."},
	{"info", {"INFO", "server"}, {NULL}, TOLD},
	{"time", {"TIME"}, {NULL}, FILLS},
	{"client|setname",
	 {"CLIENT", "SETNAME", "cache_aside_check"},
	 {NULL},
	 "CLIENT LIST does not say whose connections these are."},
	{"get", {"GET", OWN}, {NULL}, DELIVERY},
	{"set", {"SET", OWN, "", "XX"}, {NULL}, DELIVERY},
	{"unlink", {"UNLINK", OTHER}, {NULL}, DELIVERY},
	{"exists", {"EXISTS", OTHER}, {NULL}, READS},
	{"strlen", {"STRLEN", OTHER}, {NULL}, READS},
	{"getrange", {"GETRANGE", OTHER, "0", "0"}, {NULL}, READS},
	{"pttl", {"PTTL", OTHER}, {NULL}, READS},
	{"scan", {"SCAN", "0", "COUNT", "1"}, {NULL}, SCANS},
	{"hgetall", {"HGETALL", OWN}, {NULL}, PUBLISHED},
	{"hdel", {"HDEL", OWN, "f"}, {NULL}, PUBLISHED},
	{"hset", {"HSET", OWN, "f", "v"}, {NULL}, PUBLISHED},
	{"pexpire", {"PEXPIRE", OWN, "60000"}, {NULL}, PUBLISHED},
	{"fcall",
	 {"FCALL", CA_LIBRARY_CALL("get"), "1", OTHER, "0"},
	 {"ERR Function not found", "CA_"},
	 FILLS},
	{"function|load",
	 {"FUNCTION", "LOAD", "#!none name=cache_aside_check\n"},
	 {"ERR Engine ", "ERR Could not find "},
	 "The library must be loaded by somebody else. " FILLS},
	{"script|load", {"SCRIPT", "LOAD", "return 1"}, {NULL}, PLAIN},
	{"eval", {"EVAL", "return 1", "0"}, {NULL}, PLAIN},
	{"evalsha", {"EVALSHA", "ffffffffffffffffffffffffffffffffffffffff", "0"}, {"NOSCRIPT"}, PLAIN},
	{"wait",
	 {"WAIT", "0", "1"},
	 {NULL},
	 "With redis_min_replicas, synchronous commits end with the warning of their time-out."},
	{NULL, {"UNLINK", OWN}, {NULL}, NULL},
};

int
ca_check_commands_count(void)
{
	return lengthof(commands);
}

static void
keep(void *arg, const CaReply *reply)
{
	CaCheckAnswer *answer = arg;
	Size len;

	if (reply == NULL)
		return;
	answer->given = true;
	answer->type = ca_redis_reply_type(reply);
	if (answer->type == CA_REPLY_ERROR)
		strlcpy(answer->text, ca_redis_reply_text(reply, &len), sizeof(answer->text));
}

void
ca_check_commands_send(CaRedis *redis, const char *own, const char *other, CaCheckAnswer *answers)
{
	for (int i = 0; i < lengthof(commands); i++)
	{
		const char *words[MOST_WORDS];
		size_t lens[MOST_WORDS];
		int n = 0;

		for (; n < MOST_WORDS && commands[i].words[n]; n++)
		{
			words[n] = commands[i].words[n];
			if (words[n][0] == OWN[0] || words[n][0] == OTHER[0])
				words[n] = words[n][0] == OWN[0] ? own : other;
			lens[n] = strlen(words[n]);
		}
		ca_redis_send(redis, n, words, lens, keep, &answers[i]);
	}
}

const char *
ca_check_commands_name(int i)
{
	return commands[i].name;
}

const char *
ca_check_commands_use(int i)
{
	return commands[i].use;
}

const char *
ca_check_commands_refusal(int i, const CaCheckAnswer *answer)
{
	if (!answer->given)
		return "no answer";
	if (answer->type != CA_REPLY_ERROR)
		return NULL;
	for (int f = 0; f < lengthof(commands[i].fine); f++)
	{
		const char *fine = commands[i].fine[f];

		if (fine && strncmp(answer->text, fine, strlen(fine)) == 0)
			return NULL;
	}
	return answer->text;
}
