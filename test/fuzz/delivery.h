/*
 * delivery.h: see delivery.c.
 */
#ifndef FUZZ_DELIVERY_H
#define FUZZ_DELIVERY_H

extern void fuzz_delivery_wait(void); /* time passes */

#endif
