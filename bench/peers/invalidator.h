/*
 * invalidator.h: what the three consumers share: keys are gathered and deleted by one UNLINK, again and again until
 * Redis says that it did. A consumer that loses the database ends, and is started again by whoever supervises it.
 */
#ifndef PEERS_INVALIDATOR_H
#define PEERS_INVALIDATOR_H

#include <stddef.h>

/* The path of Redis's socket. */
extern void invalidator_open(const char *path);
extern void invalidator_add(const char *key, size_t length);
extern void invalidator_flush(void);

#endif
