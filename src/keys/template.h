/*
 * template.h: a parsed template, between template.c, which makes it, and key.c, which uses it.
 */
#ifndef CA_TEMPLATE_H
#define CA_TEMPLATE_H

#include "cache_aside.h"

#include "fmgr.h"

typedef struct CaTemplatePart
{
	AttrNumber attnum; /* 0: literal text only */
	int copies;        /* 0: not sharded */
	bool by_value;     /* with `length`, to compare values */
	int16 length;
	int pins; /* CA_PIN_* that the output function depends on */
	FmgrInfo output;
	char *literal; /* UTF-8, follows the value */
	int literal_len;
} CaTemplatePart;

struct CaTemplate
{
	char *text;
	char *relname;
	char *pattern;
	int combinations; /* product of all copies */
	int pins;
	int part_count;
	CaTemplatePart *parts; /* the first has no value, only literal text */
};

#endif
