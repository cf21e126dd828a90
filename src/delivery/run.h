/*
 * run.h: one reading of the log and its delivery to every sink, as the worker calls it.
 */
#ifndef CA_RUN_H
#define CA_RUN_H

#include "delivery/run_state.h"

extern bool ca_run_step(CaRun *run);   /* true: there is more to do at once */
extern void ca_run_listen(CaRun *run); /* takes answers; the next step judges what came */
extern void ca_run_hurry(CaRun *run);  /* the position is to be written now */
extern void ca_run_close(CaRun *run);  /* with every connection; begins again at the next step */
extern bool ca_run_lasts(CaRun *run);
extern bool ca_run_settled(CaRun *run);    /* everything flushed so far is delivered */
extern bool ca_run_unanswered(CaRun *run); /* something was sent that is */
extern bool ca_run_full(CaRun *run);       /* nothing can be sent before an answer */
extern long ca_run_timeout(CaRun *run);    /* ms until ca_run_step has something to do */

#endif
