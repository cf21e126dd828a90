/*
 * cache_aside.h: the vocabulary that every file knows.
 *
 *	capture -> key -> pending -> message -> (commit) -> WAL -> tap -> delivery -> redis
 *
 * key       text of one cache entry's name in Redis, UTF-8, no NUL, at most CA_MAX_KEY bytes
 * template  "user:{id}"; rules carry it in their triggers' arguments, those of materialized views in a row
 * pattern   Redis glob (SCAN MATCH) that covers every key a rule can produce
 * pending   the keys the open transaction will invalidate
 * message   the WAL record that carries pending keys to the worker
 * position  (system identifier, timeline, confirmed LSN, restart LSN), kept in Redis
 *
 * Which folder may use which is in LAYERS; each has a header of its own name, its table of contents.
 */
#ifndef CACHE_ASIDE_H
#define CACHE_ASIDE_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "storage/latch.h"
#include "utils/snapshot.h"
#include "utils/guc.h"

#define CA_RELEASE "1.1.0"         /* of the library; META.json has it, too */
#define CA_MAX_KEY 8192            /* bytes; a longer key fails the write */
#define CA_RESERVED "cache_aside:" /* begins the keys that are ours: positions, guards, ... */
#define CA_STICK_PREFIX CA_RESERVED "stick:"
#define CA_MAX_STICK 1024 /* bytes of a stick's name: ids of users or sessions */
#define CA_LONGEST_STICK INT64CONST(86400000) /* ms */
#define CA_MESSAGE_PREFIX "cache_aside"       /* of our logical messages, as others see it */
#define CA_MESSAGE_MARK                                                                            \
	"cache_aside\0"                                                                                \
	"1"                              /* and all of it: a NUL, the format, a NUL */
#define CA_MESSAGE_CHUNK (64 * 1024) /* entries of one message, unless it is a single one */

/* The function library in Redis; delivery/library/common.lua says the same. */
#define CA_LIBRARY_PROTOCOL_NUMBER 1
#define CA_LIBRARY_PROTOCOL CppAsString2(CA_LIBRARY_PROTOCOL_NUMBER)
#define CA_LIBRARY_REVISION 6
#define CA_LIBRARY_CALL(verb) "cache_aside_" verb "_" CA_LIBRARY_PROTOCOL

typedef struct CaSlice
{
	Size offset;
	Size len;
} CaSlice;

#define CA_REDIS_URL_HINT                                                                          \
	"Set cache_aside.redis_url in the configuration, for example to redis://host:6379/0, and "     \
	"reload it. SELECT * FROM pg_file_settings WHERE error IS NOT NULL shows the line of a value " \
	"that was refused."

#endif
