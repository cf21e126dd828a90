/*
 * routing.h: what the files of replica routing share. A token is an LSN; wait_for.c waits for one,
 * stick.c leaves one for others, replicas.c keeps the registry, progress.c knows how far each
 * replica has replayed, routing.c chooses, publish.c tells Redis.
 */
#ifndef CA_ROUTING_H
#define CA_ROUTING_H

#include "cache_aside.h"

/* ---- wait_for.c ---- */
extern int64 ca_routing_interval_ms(const Interval *interval, const char *argument);

#endif
