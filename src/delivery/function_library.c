/*
 * function_library.c: the text of what runs inside Redis, and how it gets there.
 *
 * Compiled in, so that the worker can load it without a file. What the library's calls do and why the guard
 * holds is said in library/ (ORDER tells its parts); guard.c makes the calls. Nothing here waits or raises.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "delivery/delivery.h"

#include "delivery/lua_text.h"

const char ca_function_library_plain[] = CA_APPLY_PLAIN_LUA;
static const char library[] = CA_CACHE_ASIDE_LUA;

/* A worker that expects a newer one than it loads would load it for ever; one that expects an older, never. */
StaticAssertDecl(CA_LUA_REVISION == CA_LIBRARY_REVISION,
				 "cache_aside.h and library/common.lua differ");
StaticAssertDecl(CA_LUA_PROTOCOL == CA_LIBRARY_PROTOCOL_NUMBER,
				 "cache_aside.h and library/common.lua differ");

static void
send_load(CaRedis *redis, bool replace, const char *code, size_t len, CaReplyHandler handler,
		  void *arg)
{
	const char *words[] = {"FUNCTION", "LOAD", "REPLACE", code};
	size_t lens[] = {strlen("FUNCTION"), strlen("LOAD"), strlen("REPLACE"), len};

	if (!replace)
	{
		words[2] = code;
		lens[2] = len;
	}
	ca_redis_send(redis, replace ? 4 : 3, words, lens, handler, arg);
}

/* The library under a name of its own, without the names that it shares with other protocols. */
static void
load_beside(CaRedis *redis, CaReplyHandler handler, void *arg)
{
	const char *body = strchr(library, '\n');
	const char *end = strstr(library, "-- plain names\n");
	StringInfoData code;

	initStringInfo(&code);
	appendStringInfoString(&code, "#!lua name=cache_aside_" CA_LIBRARY_PROTOCOL);
	appendBinaryStringInfo(&code, body, end - body);
	send_load(redis, true, code.data, code.len, handler, arg);
	pfree(code.data);
}

/*
 * Redis takes a library only if none of its names is another's, so of two attempts the right one
 * succeeds. Ours is missing: under the plain name, unless another protocol has it; then beside it. Ours is
 * older: it gives way where it is.
 */
void
ca_function_library_load(CaRedis *redis, bool older, CaReplyHandler handler, void *arg)
{
	if (older)
		load_beside(redis, handler, arg);
	send_load(redis, older, library, sizeof(library) - 1, handler, arg);
	if (!older)
		load_beside(redis, handler, arg);
}
