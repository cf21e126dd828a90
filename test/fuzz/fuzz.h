/*
 * fuzz.h: what the fuzz targets share. One target is one file of targets/, linked with the parsers it
 * names (Makefile), with backend.c in the server's place, and with driver.c or libFuzzer.
 */
#ifndef CA_FUZZ_H
#define CA_FUZZ_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "common/compat.h"

/*
 * The target: what is done with any bytes (a FuzzInput). It must return, or raise an ERROR where that is allowed,
 * of valid text then; whatever else happens is a find.
 */
typedef struct FuzzTarget
{
	void (*function)(void *input);
	bool raises;
} FuzzTarget;

extern const FuzzTarget fuzz_target;

/* ---- input.c: pieces of the input ---- */
typedef struct FuzzInput
{
	const uint8 *at;
	const uint8 *end;
} FuzzInput;

extern uint8 fuzz_byte(FuzzInput *input);
extern uint32 fuzz_number(FuzzInput *input);
/* Up to a line feed or the end; in memory of exactly that length, so that one byte more is seen. */
extern char *fuzz_bytes(FuzzInput *input, Size *len);
extern char *fuzz_rest(FuzzInput *input, Size *len);
/* Likewise, but ends with a NUL and holds no other. */
extern char *fuzz_text(FuzzInput *input);
extern char *fuzz_rest_text(FuzzInput *input);

/* ---- backend.c: the server's place ---- */
extern int fuzz_encoding;        /* of the database; UTF-8 after fuzz_run began */
extern bool fuzz_texts_checked;  /* messages must be valid text of that encoding */
extern int fuzz_sqlstate;        /* of the last error */
extern const char *fuzz_message; /* likewise */
/* Calls it with memory of its own, freed afterwards; false when it raised an ERROR. */
extern bool fuzz_run(void (*function)(void *arg), void *arg);
/* Raises unless the text is valid in the database's encoding, as the server does for arguments. */
extern void fuzz_require_text(const char *text);

#define FUZZ_CHECK(condition)                                                                      \
	do                                                                                             \
	{                                                                                              \
		if (!(condition))                                                                          \
			fuzz_fail(#condition, __FILE__, __LINE__);                                             \
	} while (0)
pg_noreturn extern void fuzz_fail(const char *condition, const char *file, int line);

#endif
