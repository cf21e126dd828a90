/*
 * driver.c: runs a target on mutated inputs; what libFuzzer does, for machines that have gcc alone.
 *
 *	target [-seconds=N] [-runs=N] [-seed=N] [-artifact=file] folder    mutates what is in the folder
 *	target file ...                                                   runs these inputs, once each
 *
 * An input that reaches code, or a number of repetitions of it, that none before it reached joins the
 * corpus (in memory) and is mutated further: gcc calls __sanitizer_cov_trace_pc at each edge. Numbers
 * that the target compares are put into inputs, and so are the words of folder.dict. The same seed and
 * the same build try the same inputs in the same order; time, of the processor, only says when to stop.
 *
 * An input that crashes, or runs for HANG_SECONDS of processor time, is written to the artifact.
 */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

#define MAP_SIZE 65536
#define MOST_BYTES 20000
#define MAX_CORPUS 20000
#define MAX_WORDS 256
#define SEEN_NUMBERS 256 /* a power of two */
#define HANG_SECONDS 5

typedef struct Input
{
	uint8_t *data;
	size_t size;
} Input;

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern void __sanitizer_set_death_callback(void (*callback)(void));
extern const char *__asan_default_options(void);
extern const char *__ubsan_default_options(void);

static uint8_t counters[MAP_SIZE]; /* of this run, by edge */
static uint8_t reached[MAP_SIZE];  /* ever: one bit for each power of two */
static uint32_t touched[MAP_SIZE]; /* edges of this run */
static uint32_t ntouched;
static uint64_t numbers[SEEN_NUMBERS];
static uint32_t nnumbers;
static Input corpus[MAX_CORPUS];
static int ncorpus;
static Input words[MAX_WORDS];
static int nwords;
static uint8_t buffer[MOST_BYTES];
static const uint8_t *current; /* the input that runs */
static size_t current_size;
static const char *artifact = "crash";
static uint64_t random_state;
static uint64_t runs;

/* ---- when it goes wrong ---- */

const char *
__asan_default_options(void)
{
	return "handle_abort=1:detect_leaks=0:detect_stack_use_after_return=1:"
		   "allocator_may_return_null=1:max_allocation_size_mb=512:quarantine_size_mb=64";
}

const char *
__ubsan_default_options(void)
{
	return "print_stacktrace=1";
}

static void
keep_input(void)
{
	int fd = open(artifact, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (current == NULL || fd < 0)
		return;
	if (write(fd, current, current_size) != (ssize_t) current_size)
		perror(artifact);
	close(fd);
	fprintf(stderr, "input %llu, of %zu bytes, is in %s\n", (unsigned long long) runs, current_size,
			artifact);
}

static void
hang(int signal_number)
{
	abort(); /* the sanitizer shows where, and calls keep_input */
}

static void
set_timer(int seconds)
{
	struct itimerval timer = {.it_value = {.tv_sec = seconds}};

	setitimer(ITIMER_PROF, &timer, NULL);
}

/* ---- what the compiler calls ---- */

void __sanitizer_cov_trace_pc(void);

/* The address relative to this function's: the same in every process. */
void
__sanitizer_cov_trace_pc(void)
{
	uintptr_t pc = (uintptr_t) __builtin_return_address(0) - (uintptr_t) &__sanitizer_cov_trace_pc;
	uint32_t edge = (uint32_t) ((pc * 0x9e3779b97f4a7c15ULL) >> 48) % MAP_SIZE;

	if (counters[edge] == 0)
		touched[ntouched++] = edge;
	if (counters[edge] < 255)
		counters[edge]++;
}

static inline void
note_number(uint64_t a, uint64_t b)
{
	if (a != b)
	{
		numbers[nnumbers++ % SEEN_NUMBERS] = a;
		numbers[nnumbers++ % SEEN_NUMBERS] = b;
	}
}

#define TRACE(name, type)                                                                          \
	void name(type a, type b);                                                                     \
	void name(type a, type b)                                                                      \
	{                                                                                              \
		note_number((uint64_t) a, (uint64_t) b);                                                   \
	}

TRACE(__sanitizer_cov_trace_cmp1, uint8_t)
TRACE(__sanitizer_cov_trace_cmp2, uint16_t)
TRACE(__sanitizer_cov_trace_cmp4, uint32_t)
TRACE(__sanitizer_cov_trace_cmp8, uint64_t)
TRACE(__sanitizer_cov_trace_const_cmp1, uint8_t)
TRACE(__sanitizer_cov_trace_const_cmp2, uint16_t)
TRACE(__sanitizer_cov_trace_const_cmp4, uint32_t)
TRACE(__sanitizer_cov_trace_const_cmp8, uint64_t)

void __sanitizer_cov_trace_cmpf(float a, float b);
void __sanitizer_cov_trace_cmpd(double a, double b);
void __sanitizer_cov_trace_switch(uint64_t value, void *cases);

void
__sanitizer_cov_trace_cmpf(float a, float b)
{
}

void
__sanitizer_cov_trace_cmpd(double a, double b)
{
}

void
__sanitizer_cov_trace_switch(uint64_t value, void *cases)
{
	const uint64_t *count = cases; /* then the width, then the cases */

	for (uint64_t i = 0; i < *count && i < 16; i++)
		note_number(count[2 + i], value);
}

/* ---- chance ---- */

static uint64_t
next_random(void)
{
	uint64_t z = (random_state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static size_t
below(size_t n)
{
	return n == 0 ? 0 : (size_t) (next_random() % n);
}

/* ---- mutations: of `buffer`, which holds `size` bytes; each returns the new size ---- */

static size_t
insert(size_t size, size_t at, const uint8_t *data, size_t len)
{
	if (size + len > MOST_BYTES)
		return size;
	memmove(buffer + at + len, buffer + at, size - at);
	memcpy(buffer + at, data, len);
	return size + len;
}

static size_t
overwrite(size_t size, size_t at, const uint8_t *data, size_t len)
{
	if (at + len > size)
		len = size - at;
	memcpy(buffer + at, data, len);
	return size;
}

static size_t
change_byte(size_t size)
{
	static const uint8_t odd[] = {0,    1,   0x7f, 0x80, 0xff, ' ', '\n',
								  '\r', '*', '\\', 'a',  '0',  '-'};

	if (size == 0)
		return size;
	switch (below(4))
	{
		case 0:
			buffer[below(size)] ^= (uint8_t) (1 << below(8));
			break;
		case 1:
			buffer[below(size)] = odd[below(sizeof(odd))];
			break;
		case 2:
			buffer[below(size)] += (uint8_t) (below(2) ? 1 : -1);
			break;
		default:
			buffer[below(size)] = (uint8_t) next_random();
	}
	return size;
}

static size_t
erase(size_t size)
{
	size_t at = below(size);
	size_t len = 1 + below(below(4) ? 4 : size - at);

	if (size == 0 || len > size - at)
		return size;
	memmove(buffer + at, buffer + at + len, size - at - len);
	return size - len;
}

/* A piece of the input again, once or many times. */
static size_t
repeat(size_t size)
{
	static uint8_t piece[64];
	size_t at = below(size);
	size_t len = 1 + below(below(3) ? 4 : sizeof(piece));
	size_t times = below(8) ? 1 + below(4) : 1 + below(300);

	if (len > size - at)
		return size;
	memcpy(piece, buffer + at, len);
	while (times-- > 0)
		size = insert(size, at, piece, len);
	return size;
}

static size_t
add_word(size_t size)
{
	const Input *word;

	if (nwords == 0)
		return change_byte(size);
	word = &words[below(nwords)];
	if (below(2) && size > 0)
		return overwrite(size, below(size), word->data, word->size);
	return insert(size, below(size + 1), word->data, word->size);
}

/* A number that was compared: its bytes in either order, or its digits. */
static size_t
add_number(size_t size)
{
	char digits[32];
	uint8_t bytes[8];
	uint64_t number = numbers[below(nnumbers < SEEN_NUMBERS ? nnumbers : SEEN_NUMBERS)];
	size_t width = (size_t) 1 << below(4);
	size_t at = below(size + 1);

	if (below(4) == 0)
		number += below(2) ? 1 : (uint64_t) -1;
	if (below(3) == 0)
	{
		int n = snprintf(digits, sizeof(digits), "%lld", (long long) number);

		return insert(size, at, (uint8_t *) digits, (size_t) n);
	}
	for (size_t i = 0; i < width; i++)
		bytes[i] = (uint8_t) (number >> 8 * i);
	if (below(4) == 0)
	{
		for (size_t i = 0; i < width; i++)
			bytes[i] = (uint8_t) (number >> 8 * (width - 1 - i));
	}
	return below(2) ? overwrite(size, at, bytes, width) : insert(size, at, bytes, width);
}

static size_t
join(size_t size)
{
	const Input *other = &corpus[below(ncorpus)];
	size_t from = below(other->size);
	size_t len = below(other->size - from + 1);

	return insert(size, below(size + 1), other->data + from, len);
}

/* Digits are lengths and counts in most texts we parse. */
static size_t
change_digits(size_t size)
{
	static const char *const odd[] = {"0",
									  "-1",
									  "1",
									  "2",
									  "2147483647",
									  "2147483648",
									  "4294967295",
									  "9223372036854775807",
									  "18446744073709551616",
									  "1048577"};
	size_t at = below(size);

	for (size_t i = 0; i < size; i++, at = (at + 1) % size)
	{
		if (buffer[at] < '0' || buffer[at] > '9')
			continue;
		if (below(2))
			buffer[at] = (uint8_t) ('0' + below(10));
		else
		{
			const char *text = odd[below(sizeof(odd) / sizeof(odd[0]))];

			memmove(buffer + at, buffer + at + 1, size - at - 1);
			size = insert(size - 1, at, (const uint8_t *) text, strlen(text));
		}
		break;
	}
	return size;
}

static size_t
mutate(size_t size)
{
	size_t (*const ways[])(size_t) = {change_byte, change_byte, erase, repeat,
									  add_word,    add_number,  join,  change_digits};

	for (size_t n = 1 + below(below(4) ? 3 : 12); n > 0; n--)
		size = ways[below(sizeof(ways) / sizeof(ways[0]))](size);
	return size;
}

/* ---- running ---- */

/* Did this run reach what none before it did? */
static int
look_at_coverage(void)
{
	int news = 0;

	for (uint32_t i = 0; i < ntouched; i++)
	{
		uint32_t edge = touched[i];
		uint8_t bit = (uint8_t) (1 << (31 - __builtin_clz(counters[edge])));

		news |= (reached[edge] & bit) == 0;
		reached[edge] |= bit;
		counters[edge] = 0;
	}
	ntouched = 0;
	return news;
}

/* In memory of exactly its size: who reads one byte too many is seen. */
static void
run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size);

	memcpy(copy, data, size);
	current = copy;
	current_size = size;
	runs++;
	set_timer(HANG_SECONDS);
	LLVMFuzzerTestOneInput(copy, size);
	set_timer(0);
	current = NULL;
	free(copy);
}

static void
keep(const uint8_t *data, size_t size)
{
	if (ncorpus == MAX_CORPUS)
		return;
	corpus[ncorpus].data = malloc(size + 1);
	memcpy(corpus[ncorpus].data, data, size);
	corpus[ncorpus++].size = size;
}

static size_t
read_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	size_t size;

	if (file == NULL)
	{
		perror(path);
		exit(2);
	}
	size = fread(buffer, 1, sizeof(buffer), file);
	fclose(file);
	return size;
}

/* Lines of the form "text", with \xNN, \\ and \" inside, as libFuzzer reads them too. */
static void
read_words(const char *folder)
{
	char path[1024];
	char line[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s.dict", folder);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file) && nwords < MAX_WORDS)
	{
		uint8_t word[256];
		size_t len = 0;

		if (line[0] != '"')
			continue;
		for (const char *at = line + 1; *at != '"' && *at != '\0'; at++)
		{
			unsigned int byte = (unsigned char) *at;

			if (*at == '\\' && at[1] == 'x' && sscanf(at + 2, "%2x", &byte) == 1)
				at += 3;
			else if (*at == '\\')
				byte = (unsigned char) *++at;
			word[len++] = (uint8_t) byte;
		}
		words[nwords].data = malloc(len + 1);
		memcpy(words[nwords].data, word, len);
		words[nwords++].size = len;
	}
	if (file)
		fclose(file);
}

static int
not_hidden(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void
read_corpus(const char *folder)
{
	struct dirent **entries;
	int n = scandir(folder, &entries, not_hidden, alphasort);

	for (int i = 0; i < n; i++)
	{
		char path[1024];
		size_t size;

		snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
		size = read_file(path);
		run(buffer, size);
		look_at_coverage();
		keep(buffer, size);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	run((const uint8_t *) "", 0);
	look_at_coverage();
	keep((const uint8_t *) "", 0);
}

static void
fuzz(const char *folder, double seconds, uint64_t most)
{
	struct timespec used;
	size_t size;

	read_words(folder);
	read_corpus(folder);
	do
	{
		/* the latest finds lead on; the others must have their turn */
		const Input *seed =
			&corpus[below(2) ? below(ncorpus) : ncorpus - 1 - below(ncorpus / 4 + 1)];

		size = seed->size;
		memcpy(buffer, seed->data, size);
		size = mutate(size);
		run(buffer, size);
		if (look_at_coverage())
			keep(buffer, size);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	} while (runs < most && used.tv_sec + used.tv_nsec / 1e9 < seconds);
	printf("%llu inputs, %d kept, nothing found\n", (unsigned long long) runs, ncorpus);
}

int
main(int argc, char **argv)
{
	double seconds = 10;
	uint64_t most = UINT64_MAX;
	int i;

	__sanitizer_set_death_callback(keep_input);
	signal(SIGPROF, hang);
	for (i = 1; i < argc && argv[i][0] == '-'; i++)
	{
		if (strncmp(argv[i], "-seconds=", 9) == 0)
			seconds = atof(argv[i] + 9);
		else if (strncmp(argv[i], "-runs=", 6) == 0)
			most = strtoull(argv[i] + 6, NULL, 10);
		else if (strncmp(argv[i], "-seed=", 6) == 0)
			random_state = strtoull(argv[i] + 6, NULL, 10);
		else if (strncmp(argv[i], "-artifact=", 10) == 0)
			artifact = argv[i] + 10;
		else
			fprintf(stderr, "unknown option %s\n", argv[i]);
	}
	if (i < argc)
	{
		DIR *dir = opendir(argv[i]);

		if (dir != NULL)
		{
			closedir(dir);
			fuzz(argv[i], seconds, most);
			return 0;
		}
	}
	for (; i < argc; i++)
	{
		size_t size = read_file(argv[i]);

		run(buffer, size);
		printf("%s: nothing found\n", argv[i]);
	}
	return 0;
}
