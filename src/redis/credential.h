/*
 * credential.h: user and password that a command gives; see credential.c and credential_command.c.
 */
#ifndef CA_CREDENTIAL_H
#define CA_CREDENTIAL_H

#include "cache_aside.h"
#include "redis/redis.h"

typedef struct CaCredential
{
	uint64 number;                /* counts those that the command gave; 0: none */
	char user[CA_REDIS_MAX_USER]; /* empty: it names none */
	char password[CA_REDIS_MAX_PASSWORD];
	TimestampTz got_at;
	TimestampTz expires; /* 0: it does not say */
} CaCredential;

/* ---- credential.c: the present one, in shared memory ---- */
extern void ca_credential_shmem_request(void);
extern void ca_credential_shmem_init(void);
/* A copy, to be wiped by the caller; false: there is none. */
extern bool ca_credential_copy(CaCredential *credential);
extern void ca_credential_store(CaCredential *credential); /* of the worker; numbers it */
extern void ca_credential_forget(void);                    /* likewise */
extern void ca_credential_wipe(CaCredential *credential);
extern bool ca_credential_is_refused(uint64 number);

/* ---- credential_words.c: the setting to an argument vector ---- */
/*
 * Splits `command`: blanks between words, single and double quotes, a backslash. `words` gets the words, one NUL
 * behind each, and must have room for strlen(command) + 1 bytes. Their number, or -1: a quote is not closed, or
 * a backslash is last.
 */
extern int ca_credential_words_split(const char *command, char *words);
extern bool ca_credential_words_check(char **newval, void **extra, GucSource source);
extern bool ca_credential_words_check_file(char **newval, void **extra, GucSource source);

/* ---- credential_output.c: what the command printed ---- */
/* NULL, or what is wrong, which quotes nothing; also then the password is there if it was read. */
extern const char *ca_credential_output_parse(const char *text, Size len, TimestampTz now,
											  CaCredential *credential);
#define CA_CREDENTIAL_SAID 1000 /* bytes of it that are shown */
/*
 * What it said on stderr, for the log: printable, one line, shortened, without these secrets. `cut`: not all of it
 * was kept. There is room for a NUL behind `len`.
 */
extern void ca_credential_output_clean(char *said, Size *len, bool cut,
									   const CaCredential *secrets[], int nsecrets);

#endif
