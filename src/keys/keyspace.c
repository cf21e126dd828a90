/*
 * keyspace.c: which keys a position speaks for: those of one database under the prefixes of key_prefix.
 *
 * A position says that everything was deleted up to an LSN. Of another database of the same Redis it says
 * nothing, nor of keys under a prefix that was not in the setting then: nobody deleted those. So it names
 * the database's number and its prefixes, each by a hash; more than CA_KEYSPACE_PREFIXES of them by one
 * hash of all. A prefix that leaves the setting leaves the position with its next writing, so that it is
 * new when it comes back. resume.c compares, and has deleted what nobody vouches for.
 *
 * A transaction says likewise under which prefixes its keys are in the log (entries.c): a long statement, a
 * procedure that commits as it goes, or a prepared transaction knows less of them than the worker when
 * key_prefix was changed meanwhile, and names no key under the new one. The worker then deletes what that
 * prefix holds, when the transaction is delivered (batch.c). Without a prefix nothing is said.
 *
 * Two hashes of 32 bits that are equal by chance make a new prefix look known: one in four billion.
 *
 * Text: "<database> <hash>,<hash>..." or "<database> *<hash>", hashes ascending, 8 hexadecimal digits.
 * Nothing here raises but palloc, for the list of prefixes.
 */
#include "cache_aside.h"
#include "keys/keys.h"

#include "common/hashfn.h"

static int
compare_hashes(const void *a, const void *b)
{
	uint32 x = *(const uint32 *) a;
	uint32 y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

static uint32
hash_prefix(const char *prefix)
{
	return hash_bytes((const unsigned char *) prefix, (int) strlen(prefix));
}

/* As the settings have it now; `database`: the one that the connection selected. */
void
ca_keyspace_current(int database, CaKeyspace *keyspace)
{
	int count = ca_prefix_count();
	uint32 *hashes = palloc(count * sizeof(uint32));
	int n = 0;

	for (int i = 0; i < count; i++)
		hashes[i] = hash_prefix(ca_prefix_get(i));
	qsort(hashes, count, sizeof(uint32), compare_hashes);
	for (int i = 0; i < count; i++)
		if (i == 0 || hashes[i] != hashes[n - 1])
			hashes[n++] = hashes[i];
	memset(keyspace, 0, sizeof(*keyspace));
	keyspace->database = database;
	keyspace->combined = n > CA_KEYSPACE_PREFIXES;
	if (keyspace->combined)
		hashes[0] = hash_bytes((unsigned char *) hashes, n * (int) sizeof(uint32));
	keyspace->count = keyspace->combined ? 1 : n;
	memcpy(keyspace->hashes, hashes, keyspace->count * sizeof(uint32));
	pfree(hashes);
}

static bool
has(const CaKeyspace *keyspace, uint32 hash)
{
	for (int i = 0; i < keyspace->count; i++)
		if (keyspace->hashes[i] == hash)
			return true;
	return false;
}

bool
ca_keyspace_has(const CaKeyspace *keyspace, const char *prefix)
{
	return !keyspace->combined && has(keyspace, hash_prefix(prefix));
}

/* Is every prefix of `now` among those of `known`? */
bool
ca_keyspace_covers(const CaKeyspace *known, const CaKeyspace *now)
{
	if (known->combined != now->combined)
		return false;
	for (int i = 0; i < now->count; i++)
		if (!has(known, now->hashes[i]))
			return false;
	return true;
}

/* Leaves those that are in both. */
void
ca_keyspace_intersect(CaKeyspace *keyspace, const CaKeyspace *other)
{
	int n = 0;

	for (int i = 0; i < keyspace->count; i++)
		if (keyspace->combined == other->combined && has(other, keyspace->hashes[i]))
			keyspace->hashes[n++] = keyspace->hashes[i];
	keyspace->count = n;
	keyspace->combined &= n > 0;
}

void
ca_keyspace_format(const CaKeyspace *keyspace, char *out)
{
	int n = snprintf(out, CA_KEYSPACE_TEXT, "%d ", keyspace->database);

	if (keyspace->count == 0)
		snprintf(out + n, CA_KEYSPACE_TEXT - n, "-");
	for (int i = 0; i < keyspace->count; i++)
		n += snprintf(out + n, CA_KEYSPACE_TEXT - n, "%s%08x",
					  i > 0                ? ","
					  : keyspace->combined ? "*"
										   : "",
					  keyspace->hashes[i]);
}

/* `prefixes`: the text behind the database. What does not format to the same again is refused there. */
void
ca_keyspace_parse(int database, const char *prefixes, CaKeyspace *keyspace)
{
	const char *at = prefixes;
	unsigned int hash;

	memset(keyspace, 0, sizeof(*keyspace));
	keyspace->database = database;
	keyspace->combined = *at == '*';
	at += keyspace->combined;
	while (keyspace->count < CA_KEYSPACE_PREFIXES && sscanf(at, "%8x", &hash) == 1)
	{
		keyspace->hashes[keyspace->count++] = hash;
		at += strcspn(at, ",");
		at += *at == ',';
	}
}

static Size
pack(const CaKeyspace *keyspace, char *out)
{
	if (keyspace->count == 1 && !keyspace->combined && keyspace->hashes[0] == hash_prefix(""))
		return 0;
	out[0] = keyspace->combined ? '*' : ',';
	memcpy(out + 1, keyspace->hashes, keyspace->count * sizeof(uint32));
	return 1 + keyspace->count * sizeof(uint32);
}

/* Asked for with every key: made once for each setting. */
const char *
ca_keyspace_packed(Size *len)
{
	static char packed[CA_KEYSPACE_PACKED];
	static Size packed_len;
	static uint64 packed_generation; /* of the prefixes */

	if (packed_generation != ca_prefix_generation())
	{
		CaKeyspace keyspace;

		ca_keyspace_current(0, &keyspace);
		packed_len = pack(&keyspace, packed);
		packed_generation = ca_prefix_generation();
	}
	*len = packed_len;
	return packed;
}

/* `len` 0: as packed, one that is empty */
void
ca_keyspace_unpack(const char *data, Size len, CaKeyspace *keyspace)
{
	memset(keyspace, 0, sizeof(*keyspace));
	keyspace->count = 1;
	keyspace->hashes[0] = hash_prefix("");
	if (len == 0)
		return;
	keyspace->combined = data[0] == '*';
	keyspace->count = (int) ((len - 1) / sizeof(uint32));
	memcpy(keyspace->hashes, data + 1, len - 1);
}
