/*
 * mishap.h: steps of the worker's loop that may raise; see mishap.c.
 */
#ifndef CA_MISHAP_H
#define CA_MISHAP_H

#include "cache_aside.h"

#include "datatype/timestamp.h"

typedef struct CaMishap
{
	const char *what;                        /* it rests from */
	int longest;                             /* rest, ms */
	void (*abandon)(const ErrorData *error); /* clears what the step left half done */
	int rest;                                /* ms; 0: it never raised */
	TimestampTz until;
	int ended;
	char told[128];
} CaMishap;

extern void ca_mishap_guard(CaMishap *mishap, void (*step)(void));
extern long ca_mishap_rest(CaMishap *mishap); /* ms */
extern void ca_mishap_end_rests(void);

#endif
