/*
 * warm_progress.h: what a run of warm() tells of itself.
 */
#ifndef CA_WARM_PROGRESS_H
#define CA_WARM_PROGRESS_H

#include "cache_aside.h"

struct CaWarmSlot;

extern struct CaWarmSlot *
ca_warm_progress_take(void); /* NULL: it is not shown; so the others take NULL */
extern void ca_warm_progress_show(struct CaWarmSlot *slot, uint64 rows, uint64 stored,
								  uint64 refused);
extern void
ca_warm_progress_release(struct CaWarmSlot *slot); /* also after an error, and at exit */

#endif
