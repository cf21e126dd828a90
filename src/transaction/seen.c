/*
 * seen.c: is an entry in the pending set already?
 *
 * Input: the buffer of the set and the offset of an entry in it. Entries are compared whole, header and data. A few are
 * compared one by one: most transactions have a few, and neither fill a hash table nor have to empty one. From one
 * more than SMALL on, a table has the offsets of all; it is kept for the next transaction unless it grew.
 *
 * What the table has is exactly the entries of the buffer, once there is one. Memory: the context that was given first.
 * Errors: out of memory; what is missing in the table then is at worst there twice.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "transaction/transaction.h"

#include "common/hashfn.h"

#define SMALL 8
#define LARGE 4096 /* places in a table that does not outlive its transaction */

typedef struct SeenEntry
{
	uint32 offset; /* of the entry in the buffer */
	uint32 hash;
	char status;
} SeenEntry;

static Size
entry_size(const char *entry)
{
	uint32 len;

	memcpy(&len, entry + 1, sizeof(len));
	return CA_ENTRY_HEADER_SIZE + len;
}

static uint32
hash_entry(const StringInfoData *buffer, uint32 offset)
{
	const char *entry = buffer->data + offset;

	return hash_bytes((const unsigned char *) entry, (int) entry_size(entry));
}

static bool
equal_entries(const StringInfoData *buffer, uint32 a, uint32 b)
{
	const char *left = buffer->data + a;
	const char *right = buffer->data + b;

	return memcmp(left, right, CA_ENTRY_HEADER_SIZE) == 0 &&
		   memcmp(left + CA_ENTRY_HEADER_SIZE, right + CA_ENTRY_HEADER_SIZE,
				  entry_size(left) - CA_ENTRY_HEADER_SIZE) == 0;
}

/* Core's template shadows a local of its own. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#define SH_PREFIX seen
#define SH_ELEMENT_TYPE SeenEntry
#define SH_KEY_TYPE uint32
#define SH_KEY offset
#define SH_HASH_KEY(tb, key) hash_entry((tb)->private_data, key)
#define SH_EQUAL(tb, a, b) equal_entries((tb)->private_data, a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"
#pragma GCC diagnostic pop

static seen_hash *table; /* NULL: none was needed yet */
static int count;        /* entries of the buffer */
static bool hashed;      /* they are in the table */

static bool
is_among_few(const StringInfoData *buffer, uint32 offset)
{
	for (uint32 at = 0; at < offset; at += (uint32) entry_size(buffer->data + at))
		if (equal_entries(buffer, at, offset))
			return true;
	return false;
}

/* All that stand before `end`. */
static void
fill_table(StringInfoData *buffer, uint32 end, MemoryContext context)
{
	bool found;

	if (table == NULL)
		table = seen_create(context, 64, buffer);
	hashed = true; /* and if memory ends before all are in, some key is there twice */
	for (uint32 at = 0; at < end; at += (uint32) entry_size(buffer->data + at))
		(void) seen_insert(table, at, &found);
}

/* The entry at `offset` is the last. True: there is one like it; else it counts from now on. */
bool
ca_seen_before(StringInfoData *buffer, uint32 offset, MemoryContext context)
{
	bool found;

	if (!hashed && count >= SMALL)
		fill_table(buffer, offset, context);
	if (hashed)
		(void) seen_insert(table, offset, &found);
	else
		found = is_among_few(buffer, offset);
	if (!found)
		count++;
	return found;
}

/* Those from `offset` on are about to be taken back. */
void
ca_seen_forget_from(const StringInfoData *buffer, uint32 offset)
{
	for (; offset < (uint32) buffer->len; offset += (uint32) entry_size(buffer->data + offset))
	{
		if (hashed)
			(void) seen_delete(table, offset);
		count--;
	}
}

void
ca_seen_forget_all(void)
{
	if (hashed)
		seen_reset(table);
	hashed = false;
	count = 0;
}

bool
ca_seen_is_large(void)
{
	return table != NULL && table->size > LARGE;
}

/* With the context it was made in. */
void
ca_seen_is_gone(void)
{
	table = NULL;
	hashed = false;
	count = 0;
}
