/*
 * child.h: a program that the worker runs and reads from; see child.c.
 */
#ifndef CA_CHILD_H
#define CA_CHILD_H

#include "cache_aside.h"

#define CA_CHILD_OUT (16 * 1024)
#define CA_CHILD_ERR (20 * 1024)

typedef enum CaChildState
{
	CA_CHILD_RUNNING,
	CA_CHILD_EXITED,  /* `status` is what waitpid says */
	CA_CHILD_FLOODED, /* it wrote more than CA_CHILD_OUT; it is ended */
	CA_CHILD_UNBORN   /* it could not be started: `error` is the errno */
} CaChildState;

typedef struct CaChild
{
	pid_t pid;  /* 0: there is none */
	int fds[3]; /* our ends: stdout, stderr, and whether exec succeeded; -1: closed */
	int status;
	int error;
	Size out_len;
	Size err_len;
	bool err_cut; /* there was more */
	char out[CA_CHILD_OUT];
	char err[CA_CHILD_ERR + 1];
} CaChild;

/* What it may write into just now. The generation changes when these do: descriptors come back. */
typedef struct CaChildPipes
{
	int n;
	pgsocket fds[2];
	uint32 generation;
} CaChildPipes;

/* False with errno: it could not be started. `words`: its arguments, one NUL behind each. */
extern bool ca_child_begin(CaChild *child, const char *words, int nwords);
/* Reads what there is, without blocking. Once it is not RUNNING the child is gone. */
extern CaChildState ca_child_step(CaChild *child);
extern void ca_child_kill(CaChild *child); /* it and whatever it began; may be repeated */
extern void ca_child_reap(void);           /* whoever has ended, of those that were killed */
/* When to step again: one of these can be read, the latch is set (it has ended), so many ms passed (-1: never). */
extern void ca_child_pipes(const CaChild *child, CaChildPipes *pipes);
extern long ca_child_timeout(const CaChild *child);

#endif
