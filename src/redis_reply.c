/*
 * redis_reply.c: what a reply holds, in our own terms.
 *
 * A CaReply is hiredis's reply object, valid while a handler runs. Only the outermost type has been
 * checked: an element of a type that RESP2 does not have reads as an error. An accessor that does
 * not fit the type gives an empty value, so that a lying server meets no undefined behaviour.
 */
#include "redis_private.h"

#include <hiredis/hiredis.h>

CaReplyType
ca_reply_type(const CaReply *reply)
{
	switch (((const redisReply *) reply)->type)
	{
		case REDIS_REPLY_NIL:
			return CA_REPLY_NIL;
		case REDIS_REPLY_STATUS:
			return CA_REPLY_STATUS;
		case REDIS_REPLY_STRING:
			return CA_REPLY_STRING;
		case REDIS_REPLY_INTEGER:
			return CA_REPLY_INTEGER;
		case REDIS_REPLY_ARRAY:
			return CA_REPLY_ARRAY;
		default:
			return CA_REPLY_ERROR;
	}
}

const char *
ca_reply_text(const CaReply *reply, Size *len)
{
	const redisReply *r = (const redisReply *) reply;

	*len = r->str ? r->len : 0;
	return r->str ? r->str : "";
}

int64
ca_reply_integer(const CaReply *reply)
{
	const redisReply *r = (const redisReply *) reply;

	return r->type == REDIS_REPLY_INTEGER ? r->integer : 0;
}

Size
ca_reply_count(const CaReply *reply)
{
	const redisReply *r = (const redisReply *) reply;

	return r->type == REDIS_REPLY_ARRAY ? r->elements : 0;
}

const CaReply *
ca_reply_element(const CaReply *reply, Size i)
{
	Assert(i < ca_reply_count(reply));
	return (const CaReply *) ((const redisReply *) reply)->element[i];
}
