/*
 * long_work.h: what takes long tells how far it is; see the view progress.
 */
#ifndef CA_LONG_WORK_H
#define CA_LONG_WORK_H

#include "cache_aside.h"

typedef enum CaLongWorkKind
{
	CA_LONG_WORK_WARM,
	CA_LONG_WORK_AUDIT,
	CA_LONG_WORK_ATTACH
} CaLongWorkKind;

struct CaLongWork;

extern void ca_long_work_shmem_request(void);
extern void ca_long_work_shmem_init(void);
/*
 * Begins; `total`: so much there is to do, as far as is known, or 0. NULL, which the others take: it is not shown. It ends with
 * ca_long_work_end, with the (sub)transaction that it began in if that fails, as it does when the session ends.
 */
extern struct CaLongWork *ca_long_work_begin(CaLongWorkKind kind, Oid relid, uint64 total);
extern void ca_long_work_phase(struct CaLongWork *work,
							   const char *phase); /* a constant, in ASCII */
extern void ca_long_work_show(struct CaLongWork *work, uint64 done);
extern void ca_long_work_show_fills(struct CaLongWork *work, uint64 stored, uint64 refused);
extern void ca_long_work_end(struct CaLongWork *work);
/* One more is done of what this session is doing, if it is of this kind; serves interrupts then. */
extern void ca_long_work_step(CaLongWorkKind kind);

#endif
