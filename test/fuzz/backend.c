/*
 * backend.c: what the parsers call in the server, for programs that are none.
 *
 * Memory: each palloc is a malloc, so that AddressSanitizer sees one byte too many; contexts are lists
 * of them. A chunk that grows always moves, so that whoever keeps the old place is seen. Errors:
 * ereport formats its texts, as the server would, and an ERROR jumps to fuzz_run or to a PG_TRY.
 * A failed assertion aborts.
 *
 * Nothing here is tried itself; functions do as little as their callers can tell.
 */
#include "fuzz.h"

#include <sanitizer/asan_interface.h>

#include "access/htup_details.h"
#include "mb/pg_wchar.h"
#include "nodes/memnodes.h"
#include "utils/guc.h"
#include "utils/memutils.h"

/* ---- memory ---- */

typedef struct Chunk
{
	struct Chunk *next;
	struct Chunk *prev;
	Size size;
	char gap[16];          /* poisoned: who reads before the data is seen too */
	MemoryContext context; /* directly before the data, as core's macros want it */
} Chunk;

typedef struct Context
{
	MemoryContextData base;
	Chunk chunks; /* list head */
} Context;

static Context top = {.base = {.type = T_AllocSetContext, .name = "TopMemoryContext"},
					  .chunks = {.next = &top.chunks, .prev = &top.chunks}};
MemoryContext TopMemoryContext = &top.base;
MemoryContext CurrentMemoryContext = &top.base;
MemoryContext CacheMemoryContext = &top.base;
MemoryContext TopTransactionContext = &top.base;
MemoryContext CurTransactionContext = &top.base;

static Chunk *
chunk_of(void *pointer)
{
	Chunk *chunk = (Chunk *) pointer - 1;

	FUZZ_CHECK(chunk->next->prev == chunk && chunk->prev->next == chunk);
	return chunk;
}

static void
link_chunk(Chunk *head, Chunk *chunk)
{
	chunk->next = head->next;
	chunk->prev = head;
	head->next->prev = chunk;
	head->next = chunk;
}

void *
MemoryContextAllocExtended(MemoryContext context, Size size, int flags)
{
	Chunk *chunk;

	if (size > ((flags & MCXT_ALLOC_HUGE) ? MaxAllocHugeSize : MaxAllocSize))
		elog(ERROR, "invalid memory alloc request size %zu", size);
	chunk = malloc(sizeof(Chunk) + size);
	if (chunk == NULL)
	{
		if (flags & MCXT_ALLOC_NO_OOM)
			return NULL;
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	chunk->size = size;
	chunk->context = context;
	link_chunk(&((Context *) context)->chunks, chunk);
	ASAN_POISON_MEMORY_REGION(chunk->gap, sizeof(chunk->gap));
	if (flags & MCXT_ALLOC_ZERO)
		memset(chunk + 1, 0, size);
	else
		memset(chunk + 1, 0x7f, Min(size, 4096)); /* what nobody has written is no text */
	return chunk + 1;
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return MemoryContextAllocExtended(context, size, 0);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return MemoryContextAllocExtended(context, size, MCXT_ALLOC_ZERO);
}

void *
MemoryContextAllocZeroAligned(MemoryContext context, Size size)
{
	return MemoryContextAllocExtended(context, size, MCXT_ALLOC_ZERO);
}

void *
MemoryContextAllocHuge(MemoryContext context, Size size)
{
	return MemoryContextAllocExtended(context, size, MCXT_ALLOC_HUGE);
}

void *
palloc(Size size)
{
	return MemoryContextAlloc(CurrentMemoryContext, size);
}

void *
palloc0(Size size)
{
	return MemoryContextAllocZero(CurrentMemoryContext, size);
}

void *
palloc_extended(Size size, int flags)
{
	return MemoryContextAllocExtended(CurrentMemoryContext, size, flags);
}

void
pfree(void *pointer)
{
	Chunk *chunk = chunk_of(pointer);

	chunk->next->prev = chunk->prev;
	chunk->prev->next = chunk->next;
	free(chunk);
}

static void *
move_chunk(void *pointer, Size size, int flags)
{
	Chunk *old = chunk_of(pointer);
	void *moved;

	ASAN_UNPOISON_MEMORY_REGION(pointer, old->size);
	moved = MemoryContextAllocExtended(old->context, size, flags);

	memcpy(moved, pointer, Min(size, old->size));
	pfree(pointer);
	return moved;
}

void *
repalloc(void *pointer, Size size)
{
	return move_chunk(pointer, size, 0);
}

void *
repalloc_huge(void *pointer, Size size)
{
	return move_chunk(pointer, size, MCXT_ALLOC_HUGE);
}

#if PG_VERSION_NUM >= 160000
MemoryContext
GetMemoryChunkContext(void *pointer)
{
	return chunk_of(pointer)->context;
}
#endif

char *
MemoryContextStrdup(MemoryContext context, const char *string)
{
	Size len = strlen(string) + 1;

	return memcpy(MemoryContextAlloc(context, len), string, len);
}

char *
pstrdup(const char *in)
{
	return MemoryContextStrdup(CurrentMemoryContext, in);
}

char *
pnstrdup(const char *in, Size len)
{
	Size n = strnlen(in, len);
	char *out = palloc(n + 1);

	memcpy(out, in, n);
	out[n] = '\0';
	return out;
}

MemoryContext
AllocSetContextCreateInternal(MemoryContext parent, const char *name, Size min_size,
							  Size initial_size, Size max_size)
{
	Context *context = calloc(1, sizeof(Context));

	context->base.type = T_AllocSetContext;
	context->base.name = name;
	context->base.parent = parent;
	context->chunks.next = context->chunks.prev = &context->chunks;
	context->base.nextchild = parent->firstchild;
	if (parent->firstchild)
		parent->firstchild->prevchild = &context->base;
	parent->firstchild = &context->base;
	return &context->base;
}

void
MemoryContextRegisterResetCallback(MemoryContext context, MemoryContextCallback *callback)
{
	callback->next = context->reset_cbs;
	context->reset_cbs = callback;
}

void
MemoryContextReset(MemoryContext context)
{
	Context *own = (Context *) context;

	while (context->reset_cbs)
	{
		MemoryContextCallback *callback = context->reset_cbs;

		context->reset_cbs = callback->next;
		callback->func(callback->arg);
	}
	while (context->firstchild)
		MemoryContextDelete(context->firstchild);
	while (own->chunks.next != &own->chunks)
		pfree(own->chunks.next + 1);
}

void
MemoryContextDelete(MemoryContext context)
{
	MemoryContextReset(context);
	if (context->prevchild)
		context->prevchild->nextchild = context->nextchild;
	else
		context->parent->firstchild = context->nextchild;
	if (context->nextchild)
		context->nextchild->prevchild = context->prevchild;
	free(context);
}

/* ---- errors ---- */

int fuzz_encoding = PG_UTF8;
bool fuzz_texts_checked;
int fuzz_sqlstate;
static char texts[4][65536]; /* message, detail, hint, formatted for a setting */
const char *fuzz_message = texts[0];
sigjmp_buf *PG_exception_stack;
ErrorContextCallback *error_context_stack;
static int level;

static char *
format_text(int which, const char *fmt, va_list args)
{
	vsnprintf(texts[which], sizeof(texts[which]), fmt, args);
	if (fuzz_texts_checked)
		FUZZ_CHECK(
			fuzz_encoding == PG_SQL_ASCII ||
			pg_encoding_verifymbstr(fuzz_encoding, texts[which], (int) strlen(texts[which])) ==
				(int) strlen(texts[which]));
	return texts[which];
}

#define TEXT_FUNCTION(name, which)                                                                 \
	int name(const char *fmt, ...)                                                                 \
	{                                                                                              \
		va_list args;                                                                              \
                                                                                                   \
		va_start(args, fmt);                                                                       \
		format_text(which, fmt, args);                                                             \
		va_end(args);                                                                              \
		return 0;                                                                                  \
	}

TEXT_FUNCTION(errmsg, 0)
TEXT_FUNCTION(errmsg_internal, 0)
TEXT_FUNCTION(errdetail, 1)
TEXT_FUNCTION(errdetail_internal, 1)
TEXT_FUNCTION(errdetail_log, 1)
TEXT_FUNCTION(errhint, 2)

char *
format_elog_string(const char *fmt, ...)
{
	va_list args;
	char *text;

	va_start(args, fmt);
	text = format_text(3, fmt, args);
	va_end(args);
	return text;
}

char *GUC_check_errmsg_string;
char *GUC_check_errdetail_string;
char *GUC_check_errhint_string;

void
pre_format_elog_string(int errnumber, const char *domain)
{
}

void
GUC_check_errcode(int sqlerrcode)
{
}

bool
errstart(int elevel, const char *domain)
{
	level = elevel;
	fuzz_sqlstate = ERRCODE_INTERNAL_ERROR;
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

int
errcode(int sqlerrcode)
{
	fuzz_sqlstate = sqlerrcode;
	return 0;
}

int
errhidestmt(bool hide)
{
	return 0;
}

int
errcode_for_file_access(void)
{
	return 0;
}

ErrorData *
CopyErrorData(void)
{
	return palloc0(sizeof(ErrorData));
}

void
FlushErrorState(void)
{
}

void
ReThrowError(ErrorData *error)
{
	pg_re_throw();
}

void
pg_re_throw(void)
{
	FUZZ_CHECK(PG_exception_stack != NULL);
	siglongjmp(*PG_exception_stack, 1);
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	if (level > ERROR)
		fuzz_fail(texts[0], filename, lineno); /* the parsers have no FATAL, no PANIC */
	if (level == ERROR)
		pg_re_throw();
}

void
ExceptionalCondition(const char *condition,
#if PG_VERSION_NUM < 160000
					 const char *errorType,
#endif
					 const char *file, int line)
{
	fuzz_fail(condition, file, line);
}

void
fuzz_fail(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
	abort();
}

bool
fuzz_run(void (*function)(void *), void *arg)
{
	static MemoryContext own;
	sigjmp_buf here;
	volatile bool done = false;

	if (own == NULL)
		own = AllocSetContextCreate(TopMemoryContext, "input", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(own);
	if (sigsetjmp(here, 0) == 0)
	{
		PG_exception_stack = &here;
		function(arg);
		done = true;
	}
	PG_exception_stack = NULL;
	error_context_stack = NULL;
	MemoryContextReset(own);
	MemoryContextSwitchTo(TopMemoryContext);
	fuzz_encoding = PG_UTF8;
	return done;
}

/* ---- strings ---- */

void
initStringInfo(StringInfo str)
{
	str->data = palloc(1024);
	str->maxlen = 1024;
	resetStringInfo(str);
}

StringInfo
makeStringInfo(void)
{
	StringInfo str = palloc(sizeof(StringInfoData));

	initStringInfo(str);
	return str;
}

void
resetStringInfo(StringInfo str)
{
	str->data[0] = '\0';
	str->len = 0;
	str->cursor = 0;
}

/* Room for exactly as much as is asked for: what is allocated beyond it is poisoned. */
void
enlargeStringInfo(StringInfo str, int needed)
{
	Size most;

	if (needed < 0)
		elog(ERROR, "invalid string enlargement request size: %d", needed);
	if ((Size) needed >= MaxAllocSize - (Size) str->len)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("out of memory")));
	if (str->len + needed + 1 <= str->maxlen)
		return;
	str->maxlen = str->len + needed + 1;
	if (str->maxlen > chunk_of(str->data)->size)
		str->data = repalloc(str->data, 2 * (Size) str->maxlen);
	most = chunk_of(str->data)->size;
	ASAN_UNPOISON_MEMORY_REGION(str->data, str->maxlen);
	ASAN_POISON_MEMORY_REGION(str->data + str->maxlen, most - str->maxlen);
}

#if PG_VERSION_NUM >= 160000
typedef const void *AppendedBytes;
#else
typedef const char *AppendedBytes;
#endif

void
appendBinaryStringInfoNT(StringInfo str, AppendedBytes data, int len)
{
	enlargeStringInfo(str, len);
	memcpy(str->data + str->len, data, len);
	str->len += len;
}

void
appendBinaryStringInfo(StringInfo str, AppendedBytes data, int len)
{
	appendBinaryStringInfoNT(str, data, len);
	str->data[str->len] = '\0';
}

void
appendStringInfoChar(StringInfo str, char ch)
{
	appendBinaryStringInfo(str, &ch, 1);
}

void
appendStringInfoString(StringInfo str, const char *s)
{
	appendBinaryStringInfo(str, s, (int) strlen(s));
}

void
appendStringInfo(StringInfo str, const char *fmt, ...)
{
	char buffer[4096];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(buffer, sizeof(buffer), fmt, args);
	va_end(args);
	FUZZ_CHECK(n < (int) sizeof(buffer)); /* ours format numbers this way */
	appendBinaryStringInfo(str, buffer, n);
}

char *
psprintf(const char *fmt, ...)
{
	char buffer[65536];
	va_list args;

	va_start(args, fmt);
	vsnprintf(buffer, sizeof(buffer), fmt, args);
	va_end(args);
	return pstrdup(buffer);
}

/*
 * ---- encodings: UTF-8, SQL_ASCII and LATIN1; the latter without its last character, because other
 * encodings have some that UTF-8 lacks ----
 */

int
GetDatabaseEncoding(void)
{
	return fuzz_encoding;
}

bool
pg_verify_mbstr(int encoding, const char *mbstr, int len, bool noError)
{
	int good = pg_encoding_verifymbstr(encoding, mbstr, len);

	if (good != len && !noError)
		ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
						errmsg("invalid byte sequence for encoding")));
	return good == len;
}

bool
pg_verifymbstr(const char *mbstr, int len, bool noError)
{
	return pg_verify_mbstr(fuzz_encoding, mbstr, len, noError);
}

void
fuzz_require_text(const char *text)
{
	pg_verifymbstr(text, (int) strlen(text), false);
}

int
pg_database_encoding_max_length(void)
{
	return fuzz_encoding == PG_UTF8 ? 4 : 1;
}

int
pg_mblen(const char *mbstr)
{
	return pg_encoding_mblen(fuzz_encoding, mbstr);
}

/* As in the server since a security fix: an incomplete character at the end is an error. */
int
pg_mbstrlen_with_len(const char *mbstr, int limit)
{
	int characters = 0;

	for (int at = 0; at < limit && mbstr[at]; characters++)
	{
		int len = pg_encoding_mblen(fuzz_encoding, mbstr + at);

		if (at + len > limit)
			elog(ERROR, "incomplete character");
		at += len;
	}
	return characters;
}

/* Returns how many bytes were converted; dest has room for twice as many and a NUL. */
static int
latin1_to_utf8(const unsigned char *s, int len, unsigned char *dest)
{
	int done = 0;

	for (; done < len && s[done] != 0xff; done++)
	{
		if (s[done] >= 0x80)
			*dest++ = 0xc0 | s[done] >> 6;
		*dest++ = s[done] >= 0x80 ? 0x80 | (s[done] & 0x3f) : s[done];
	}
	*dest = '\0';
	return done;
}

Oid
FindDefaultConversionProc(int32 for_encoding, int32 to_encoding)
{
	FUZZ_CHECK(for_encoding == PG_LATIN1 && to_encoding == PG_UTF8);
	return 1;
}

int
pg_do_encoding_conversion_buf(Oid proc, int src_encoding, int dest_encoding, unsigned char *src,
							  int srclen, unsigned char *dest, int destlen, bool noError)
{
	FUZZ_CHECK(destlen > 2 * srclen && noError);
	return latin1_to_utf8(src, srclen, dest);
}

static char *
server_to_utf8(const char *s, int len)
{
	char *out = palloc(2 * (Size) len + 1);

	if (latin1_to_utf8((const unsigned char *) s, len, (unsigned char *) out) < len)
		ereport(ERROR, (errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
						errmsg("character has no equivalent in encoding UTF8")));
	return out;
}

char *
pg_server_to_any(const char *s, int len, int encoding)
{
	if (fuzz_encoding == PG_LATIN1 && encoding == PG_UTF8)
		return server_to_utf8(s, len);
	if (fuzz_encoding == PG_SQL_ASCII)
		pg_verify_mbstr(encoding, s, len, false);
	return unconstify(char *, s);
}

char *
pg_any_to_server(const char *s, int len, int encoding)
{
	char *out;
	char *to;

	pg_verify_mbstr(encoding, s, len, false);
	if (fuzz_encoding != PG_LATIN1)
		return unconstify(char *, s);
	to = out = palloc(len + 1);
	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) s[i];

		if (c >= 0xc4)
			ereport(ERROR, (errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
							errmsg("character has no equivalent in encoding LATIN1")));
		*to++ = (char) (c < 0x80 ? c : (c & 0x03) << 6 | ((unsigned char) s[++i] & 0x3f));
	}
	*to = '\0';
	return out;
}
