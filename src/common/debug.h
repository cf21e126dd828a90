/*
 * debug.h: named points at which a test stops or kills a process, or makes it skip a remedy.
 *
 * Compiled in only with -DCA_DEBUG_POINTS (make COPT=-DCA_DEBUG_POINTS); nothing is left of them
 * otherwise. The setting cache_aside.debug_point, SIGHUP, names what is to happen:
 *
 *	name=stop    the process sends itself SIGSTOP there, each time it comes by
 *	name=kill    it sends itself SIGKILL
 *	name=segv    ... SIGSEGV
 *	name=error   it raises an ERROR
 *	name=skip    CA_DEBUG_SKIP("name") is true: the build is broken on purpose
 *
 * several separated by commas. See debug.c for the names.
 */
#ifndef CA_DEBUG_H
#define CA_DEBUG_H

#ifdef CA_DEBUG_POINTS

extern void ca_debug_init(void);
extern bool ca_debug_reach(const char *name); /* true: skip */
extern void ca_debug_poison(const char *name, const char *data, size_t len);

#define CA_DEBUG_INIT() ca_debug_init()
#define CA_DEBUG_POINT(name) ((void) ca_debug_reach(name))
#define CA_DEBUG_SKIP(name) ca_debug_reach(name)
/* Before memory is freed, so that whoever still uses it is found out. */
#define CA_DEBUG_WIPE(pointer) memset(pointer, 0x7f, sizeof(*(pointer)))
#define CA_DEBUG_POISON(name, data, len) ca_debug_poison(name, data, len)

#else

#define CA_DEBUG_INIT() ((void) 0)
#define CA_DEBUG_POINT(name) ((void) 0)
#define CA_DEBUG_SKIP(name) false
#define CA_DEBUG_WIPE(pointer) ((void) 0)
#define CA_DEBUG_POISON(name, data, len) ((void) 0)

#endif

#endif
